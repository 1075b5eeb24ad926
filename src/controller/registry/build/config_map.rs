//! The ConfigMap with the configuration of `landfast serve`. Policy isn't in it: the registry watches that.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest as _, Sha256};

use super::{
    CONFIG_FILE, DATA_DIRECTORY, HEALTH_PORT, HTPASSWD_DIRECTORY, HTPASSWD_FILE, Inputs, REGISTRY_PORT, TLS_DIRECTORY,
    names,
};
use crate::api::v1alpha1::Registry;
use crate::config::{
    AuthenticationSettings, Cidr, PolicySource, Proxies, ServeConfig, StorageConfig, TlsSettings, TlsVersion,
};

/// Shorter than the pods' grace period, so that the process ends by itself.
const DRAIN_SECONDS: u64 = 25;

pub(super) fn build(inputs: &Inputs<'_>) -> ConfigMap {
    ConfigMap {
        metadata: names::owned(inputs.registry, names::config_map(inputs.registry)),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), config(inputs).to_minimal_yaml())])),
        ..ConfigMap::default()
    }
}

/// A hash of the configuration. Pods carry it, so that another configuration means other pods.
pub(super) fn hash(inputs: &Inputs<'_>) -> String {
    hex::encode(&Sha256::digest(config(inputs).to_minimal_yaml())[..8])
}

/// Those that can be read: a range that the CRD's rule lets through by mistake must not keep the pods from starting, and
/// a proxy that isn't trusted is the safe side.
fn trusted_proxies(registry: &Registry) -> Vec<Cidr> {
    registry.spec.exposure.trusted_proxies.iter().filter_map(|range| range.parse().ok()).collect()
}

fn config(inputs: &Inputs<'_>) -> ServeConfig {
    let registry = inputs.registry;
    let tls = names::tls_secret(registry).map(|_| TlsSettings {
        certificate: Path::new(TLS_DIRECTORY).join("tls.crt"),
        key: Path::new(TLS_DIRECTORY).join("tls.key"),
        minimum_version: TlsVersion::default(),
    });
    // Which Secret it comes from is the volume's affair: another one needs no other configuration.
    let htpasswd = registry.spec.authentication.htpasswd_secret_ref.as_ref();
    let htpasswd = htpasswd.map(|_| Path::new(HTPASSWD_DIRECTORY).join(HTPASSWD_FILE));
    let storage = StorageConfig::Filesystem { root: DATA_DIRECTORY.into() };
    let policy = PolicySource::Kube { namespace: names::namespace(registry), registry: names::name(registry) };
    ServeConfig {
        authentication: AuthenticationSettings { htpasswd },
        listen: (Ipv4Addr::UNSPECIFIED, REGISTRY_PORT).into(),
        health_listen: (Ipv4Addr::UNSPECIFIED, HEALTH_PORT).into(),
        tls,
        drain_seconds: DRAIN_SECONDS,
        proxies: Proxies { trusted: trusted_proxies(registry), ..Proxies::default() },
        ..ServeConfig::new(storage, policy)
    }
}
