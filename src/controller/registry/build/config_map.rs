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
use crate::config::{AuthenticationSettings, PolicySource, Proxies, ServeConfig, StorageConfig, TlsFiles};

/// Shorter than the pods' grace period, so that the process ends by itself.
const DRAIN_SECONDS: u64 = 25;

pub(super) fn build(inputs: &Inputs<'_>) -> ConfigMap {
    ConfigMap {
        metadata: names::owned(inputs.registry, names::config_map(inputs.registry)),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), config(inputs).to_yaml())])),
        ..ConfigMap::default()
    }
}

/// A hash of the configuration. Pods carry it, so that another configuration means other pods.
pub(super) fn hash(inputs: &Inputs<'_>) -> String {
    hex::encode(&Sha256::digest(config(inputs).to_yaml())[..8])
}

fn config(inputs: &Inputs<'_>) -> ServeConfig {
    let registry = inputs.registry;
    let tls = names::tls_secret(registry).map(|_| TlsFiles {
        certificate: Path::new(TLS_DIRECTORY).join("tls.crt"),
        key: Path::new(TLS_DIRECTORY).join("tls.key"),
    });
    // Which Secret it comes from is the volume's affair: another one needs no other configuration.
    let htpasswd = registry.spec.authentication.htpasswd_secret_ref.as_ref();
    let htpasswd = htpasswd.map(|_| Path::new(HTPASSWD_DIRECTORY).join(HTPASSWD_FILE));
    ServeConfig {
        authentication: AuthenticationSettings { htpasswd },
        listen: (Ipv4Addr::UNSPECIFIED, REGISTRY_PORT).into(),
        health_listen: (Ipv4Addr::UNSPECIFIED, HEALTH_PORT).into(),
        tls,
        storage: StorageConfig::Filesystem { root: DATA_DIRECTORY.into() },
        policy: PolicySource::Kube { namespace: names::namespace(registry), registry: names::name(registry) },
        drain_seconds: DRAIN_SECONDS,
        proxies: Proxies::default(),
    }
}
