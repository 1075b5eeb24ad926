//! Configuration of `serve`: one schema, read in layers.
//!
//! The structs here and in [`limits`] are the only place where a key is described: their names, types, ranges and doc
//! comments become what is read ([`layers`]), what is refused ([`keys`]) and what is documented ([`reference`]).
//!
//! # Flow
//! defaults < configuration file < environment < flags. Each layer may set any key; what a higher one sets hides what
//! a lower one says. The operator renders the file for the pods that it makes.

mod keys;
mod layers;
mod limits;
mod proxies;
mod reference;
mod s3;
mod telemetry;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::keys::ConfigError;
pub use self::layers::Layers;
pub use self::limits::Limits;
pub use self::proxies::{Cidr, CidrError, ForwardingHeaders, Proxies};
pub use self::reference::reference;
pub use self::s3::{S3Redirect, S3Storage};
pub use self::telemetry::{Telemetry, TraceSettings};

/// The configuration of one `serve` process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeConfig {
    /// Address (`IP:PORT`) that serves the registry.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Address (`IP:PORT`) that serves `/livez`, `/readyz` and `/metrics`, in plain HTTP.
    #[serde(default = "default_health_listen")]
    pub health_listen: SocketAddr,
    /// How long requests are still taken after the process has been asked to stop, in seconds, while `/readyz` says that it
    /// is not ready: for so long those in front of it may go on sending clients here.
    #[serde(default)]
    #[schemars(range(max = 3_600))]
    pub drain_delay_seconds: u64,
    /// How long open requests may go on after that, in seconds.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(max = 86_400), extend("x-answer" = "the connection is cut"))]
    pub drain_seconds: u64,
    /// Certificate and key. Absent: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Where images are kept.
    pub storage: StorageConfig,
    /// Where the policy comes from.
    pub policy: PolicySource,
    /// What one client, and all together, may take up.
    #[serde(default)]
    pub limits: Limits,
    /// Uploads that take several requests.
    #[serde(default)]
    pub uploads: UploadSettings,
    /// What is kept in memory to be served again.
    #[serde(default)]
    pub cache: CacheSettings,
    /// Who may log in besides those that the policy names.
    #[serde(default)]
    pub authentication: AuthenticationSettings,
    /// What stands between the clients and the registry.
    #[serde(default)]
    pub proxies: Proxies,
    /// What the registry tells about itself.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// PEM files, read again when they change, and what is asked of clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsSettings {
    /// File with the certificate and its intermediates in PEM, read again when it changes.
    pub certificate: PathBuf,
    /// File with the private key in PEM.
    pub key: PathBuf,
    /// The oldest version of TLS that is spoken.
    #[serde(default)]
    #[schemars(extend("x-answer" = "the handshake fails"))]
    pub minimum_version: TlsVersion,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// Where images are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum StorageConfig {
    /// A folder.
    #[serde(rename_all = "camelCase")]
    Filesystem {
        /// The folder with the images. It is made if it is missing.
        root: PathBuf,
    },
    /// A bucket of an S3 service. Any number of processes may serve it together.
    S3(S3Storage),
}

/// Where the policy comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PolicySource {
    /// The API server: the Registry of this name and what belongs to it.
    Kube {
        /// Namespace of the Registry, in the cluster.
        namespace: String,
        /// Name of the Registry.
        registry: String,
    },
    /// A folder of YAML files with one Registry and what belongs to it.
    Manifests {
        /// Folder of YAML files with one Registry and what belongs to it. They are read again when they change.
        directory: PathBuf,
        /// Folder for signing keys and generated credentials.
        state: PathBuf,
        /// Addresses (`host:port`) at which clients reach the registry; the credentials' files name them.
        #[serde(default)]
        hosts: Vec<String>,
    },
}

/// Uploads that take several requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UploadSettings {
    /// An upload that nobody has touched for so many hours is removed.
    #[schemars(range(min = 1, max = 8_760), extend("x-answer" = "404 `BLOB_UPLOAD_UNKNOWN`"))]
    pub abandoned_after_hours: u64,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self { abandoned_after_hours: 24 }
    }
}

/// What is kept in memory to be served again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Memory for manifests that are asked for often, in bytes; 0: none are kept.
    #[schemars(range(max = 17_179_869_184_u64))]
    pub manifest_bytes: u64,
    /// How long a manifest is served from memory without a look at the storage, in seconds, where other processes may
    /// change it (S3): for so long a tag that was moved there may still be what it was. 0: none are kept.
    #[schemars(range(max = 3_600))]
    pub shared_seconds: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { manifest_bytes: 16 * 1024 * 1024, shared_seconds: 1 }
    }
}

/// Who may log in besides those that the policy names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthenticationSettings {
    /// File with users and passwords as `htpasswd -B` writes it, read again when it changes. Absent: no users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<PathBuf>,
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
    /// With the defaults for all that need not be said.
    pub fn new(storage: StorageConfig, policy: PolicySource) -> Self {
        Self {
            listen: default_listen(),
            health_listen: default_health_listen(),
            drain_delay_seconds: 0,
            drain_seconds: default_drain_seconds(),
            tls: None,
            storage,
            policy,
            limits: Limits::default(),
            uploads: UploadSettings::default(),
            cache: CacheSettings::default(),
            authentication: AuthenticationSettings::default(),
            proxies: Proxies::default(),
            telemetry: Telemetry::default(),
        }
    }

    /// The whole configuration as a file, defaults included. It holds no secret, only paths of files that do.
    pub fn to_yaml(&self) -> String {
        yaml(&self.tree())
    }

    /// The configuration as a file in which sections say only what differs from the defaults: it stays the same when a
    /// key is added.
    pub fn to_minimal_yaml(&self) -> String {
        yaml(&keys::Node::schema().without_defaults(self.tree()))
    }

    fn tree(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_else(|error| unreachable!("a configuration is plain data: {error}"))
    }
}

fn yaml(tree: &serde_json::Value) -> String {
    serde_saphyr::to_string(tree).unwrap_or_else(|error| unreachable!("a configuration is plain data: {error}"))
}
