//! The names that a serving certificate must be valid for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use kube::ResourceExt as _;

use crate::api::v1alpha1::Registry;
use crate::controller::registry::build::names::host_of;

/// Subject alternative names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: BTreeSet<String>,
    pub addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// Adds a host: an IP literal or a DNS name.
    fn insert(&mut self, host: &str) {
        match host.parse() {
            Ok(address) => drop(self.addresses.insert(address)),
            Err(_) => drop(self.dns.insert(host.to_owned())),
        }
    }
}

/// All names by which clients reach the registry: its host names, those of its Service, and this very machine, for
/// port forwarding. `cluster_ip` is the Service's; a headless one's `None` is no address and is left out.
pub fn wanted_names(registry: &Registry, cluster_ip: Option<&str>) -> Names {
    let (name, namespace) = (registry.name_any(), registry.namespace().unwrap_or_default());
    let mut names = Names::default();
    names.dns.extend([
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
    ]);
    names.addresses.insert(Ipv4Addr::LOCALHOST.into());
    names.addresses.extend(cluster_ip.and_then(|address| address.parse::<IpAddr>().ok()));
    for hostname in &registry.spec.hostnames {
        names.insert(host_of(hostname));
    }
    names
}
