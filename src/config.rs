//! Configuration of `serve`: one schema, rendered by the operator, parsed by the registry.

mod proxies;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::proxies::{Cidr, CidrError, ForwardingHeaders, Proxies};

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("can't read configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {path} is not valid: {source}")]
    Parse { path: PathBuf, source: Box<serde_saphyr::Error> },
}

/// The configuration of one `serve` process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeConfig {
    /// Address that serves the registry.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Address that serves `/livez`, `/readyz` and `/metrics`, in plain HTTP.
    #[serde(default = "default_health_listen")]
    pub health_listen: SocketAddr,
    /// Certificate and key. Absent: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Where images are kept.
    pub storage: StorageConfig,
    /// Where the policy comes from.
    pub policy: PolicySource,
    /// How long open requests may go on after the process has been asked to stop, in seconds.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: u64,
    /// Who may log in besides those that the policy names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authentication: AuthenticationSettings,
    /// The proxies in front of the registry.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxies: Proxies,
}

/// Who may log in besides those that the policy names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthenticationSettings {
    /// File with users and passwords as `htpasswd -B` writes it, read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<PathBuf>,
}

/// PEM files, read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate and its intermediates.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where images are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum StorageConfig {
    /// A folder.
    Filesystem {
        /// The folder. It is made if it is missing.
        root: PathBuf,
    },
}

/// Where the policy comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PolicySource {
    /// The API server: the Registry of this name and what belongs to it.
    Kube {
        /// Namespace of the Registry.
        namespace: String,
        /// Name of the Registry.
        registry: String,
    },
    /// A folder of YAML files with one Registry and what belongs to it.
    Manifests {
        /// The folder. Its files are read again when they change.
        directory: PathBuf,
        /// Folder for signing keys and generated credentials.
        state: PathBuf,
        /// Addresses (`host:port`) at which clients reach the registry; the credentials' files name them.
        #[serde(default)]
        hosts: Vec<String>,
    },
}

/// What says nothing is left out of the file.
fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 5000))
}

fn default_health_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8080))
}

fn default_drain_seconds() -> u64 {
    25
}

impl ServeConfig {
    /// Reads a configuration file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        serde_saphyr::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// The configuration as a file.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_else(|error| unreachable!("a configuration is plain data: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let config = ServeConfig {
            listen: default_listen(),
            health_listen: default_health_listen(),
            tls: Some(TlsFiles { certificate: "/tls/tls.crt".into(), key: "/tls/tls.key".into() }),
            storage: StorageConfig::Filesystem { root: "/data".into() },
            policy: PolicySource::Kube { namespace: "ns".to_owned(), registry: "main".to_owned() },
            drain_seconds: 25,
            authentication: AuthenticationSettings { htpasswd: Some("/users".into()) },
            proxies: Proxies { trusted: vec!["10.0.0.0/8".parse().unwrap()], ..Proxies::default() },
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, config.to_yaml()).unwrap();
        assert_eq!(ServeConfig::from_file(&path).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(
            &path,
            "storage: {filesystem: {root: /d}}\npolicy: {manifests: {directory: /m, state: /s}}\nlisen: x\n",
        )
        .unwrap();
        let error = ServeConfig::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("lisen"), "{error}");
    }
}
