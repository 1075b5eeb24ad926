//! The ConfigMap with the configuration of `landfast serve`. Policy isn't in it: the registry watches that.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest as _, Sha256};

use super::{
    CONFIG_FILE, DATA_DIRECTORY, HEALTH_PORT, HTPASSWD_DIRECTORY, HTPASSWD_FILE, Inputs, REGISTRY_PORT, TLS_DIRECTORY,
    names, s3, serves_side_by_side,
};
use crate::api::v1alpha1::Registry;
use crate::config::{
    AuthenticationSettings, Cidr, PolicySource, Proxies, ServeConfig, StorageConfig, TlsSettings, TlsVersion,
};

/// How long a pod that is to end goes on.
struct Drain {
    delay_seconds: u64,
    seconds: u64,
}

/// Nobody else serves meanwhile: each second is one more without a registry.
const ALONE: Drain = Drain { delay_seconds: 0, seconds: 25 };
/// Services and proxies hear that a pod is to end while the pod does: it takes what they still send. And a large layer on a
/// slow line has time to come to its end. Not more: a namespace that is deleted waits for half of it.
const SIDE_BY_SIDE: Drain = Drain { delay_seconds: 5, seconds: 120 };

/// The same for any number of pods: one that begins alone is still there when others have come.
fn drain(registry: &Registry) -> Drain {
    if registry.spec.storage.s3.is_some() { SIDE_BY_SIDE } else { ALONE }
}

/// How long Kubernetes waits for a pod to end: longer than the process takes, so that it ends by itself.
pub(super) fn grace_period_seconds(registry: &Registry) -> i64 {
    let Drain { delay_seconds, seconds } = drain(registry);
    (delay_seconds + seconds + 5).cast_signed()
}

pub(super) fn build(inputs: &Inputs<'_>) -> ConfigMap {
    let config = config(inputs, serves_side_by_side(inputs.registry));
    ConfigMap {
        metadata: names::owned(inputs.registry, names::config_map(inputs.registry)),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), config.to_minimal_yaml())])),
        ..ConfigMap::default()
    }
}

/// A hash of the configuration. Pods carry it, so that another configuration means other pods; but another number of
/// pods doesn't: what they insist on among others they look at when they start.
pub(super) fn hash(inputs: &Inputs<'_>) -> String {
    hex::encode(&Sha256::digest(config(inputs, false).to_minimal_yaml())[..8])
}

/// Those that can be read: a range that the CRD's rule lets through by mistake must not keep the pods from starting, and
/// a proxy that isn't trusted is the safe side.
fn trusted_proxies(registry: &Registry) -> Vec<Cidr> {
    registry.spec.exposure.trusted_proxies.iter().filter_map(|range| range.parse().ok()).collect()
}

fn config(inputs: &Inputs<'_>, side_by_side: bool) -> ServeConfig {
    let registry = inputs.registry;
    let tls = names::tls_secret(registry).map(|_| TlsSettings {
        certificate: Path::new(TLS_DIRECTORY).join("tls.crt"),
        key: Path::new(TLS_DIRECTORY).join("tls.key"),
        minimum_version: TlsVersion::default(),
    });
    // Which Secret it comes from is the volume's affair: another one needs no other configuration.
    let htpasswd = registry.spec.authentication.htpasswd_secret_ref.as_ref();
    let htpasswd = htpasswd.map(|_| Path::new(HTPASSWD_DIRECTORY).join(HTPASSWD_FILE));
    let storage = match &registry.spec.storage.s3 {
        Some(storage) => StorageConfig::S3(s3::config(storage, side_by_side)),
        None => StorageConfig::Filesystem { root: DATA_DIRECTORY.into() },
    };
    let Drain { delay_seconds, seconds } = drain(registry);
    let policy = PolicySource::Kube { namespace: names::namespace(registry), registry: names::name(registry) };
    ServeConfig {
        authentication: AuthenticationSettings { htpasswd },
        listen: (Ipv4Addr::UNSPECIFIED, REGISTRY_PORT).into(),
        health_listen: (Ipv4Addr::UNSPECIFIED, HEALTH_PORT).into(),
        tls,
        drain_delay_seconds: delay_seconds,
        drain_seconds: seconds,
        proxies: Proxies { trusted: trusted_proxies(registry), ..Proxies::default() },
        ..ServeConfig::new(storage, policy)
    }
}
