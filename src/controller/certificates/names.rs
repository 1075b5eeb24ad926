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

/// The names by which the API server reaches a Service of the operator's namespace.
pub fn service_names(service: &str, namespace: &str) -> Names {
    let dns = ["", ".svc", ".svc.cluster.local"].map(|suffix| format!("{service}.{namespace}{suffix}"));
    Names { dns: dns.into(), ..Names::default() }
}

/// All names by which clients reach the registry: its host names, those of its Service, and this very machine, for
/// port forwarding. `cluster_ip` is the Service's; a headless one's `None` is no address and is left out.
pub fn wanted_names(registry: &Registry, cluster_ip: Option<&str>) -> Names {
    let (name, namespace) = (registry.name_any(), registry.namespace().unwrap_or_default());
    let mut names = service_names(&name, &namespace);
    names.dns.insert("localhost".to_owned());
    names.addresses.insert(Ipv4Addr::LOCALHOST.into());
    names.addresses.extend(cluster_ip.and_then(|address| address.parse::<IpAddr>().ok()));
    for hostname in &registry.spec.hostnames {
        names.insert(host_of(hostname));
    }
    names
}
