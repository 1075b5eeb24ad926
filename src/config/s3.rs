//! Storage in a bucket.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A bucket of an S3 service, and how to get at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Storage {
    /// Name of the bucket. It has to be there.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// Region of the bucket. Services other than Amazon's mostly take any.
    #[serde(default = "default_region")]
    pub region: String,
    /// Address of the service, such as `https://minio.example.com:9000`. Absent: Amazon's for the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Folder of the bucket that everything is kept in, such as `registries/main`. Absent: the whole bucket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Whether the bucket stands in the path (`https://host/bucket/key`) and not in the host name, as most services
    /// other than Amazon's want it.
    #[serde(default)]
    pub force_path_style: bool,
    /// Folder with the files `accessKeyId`, `secretAccessKey` and, if there is one, `sessionToken`, read again when
    /// they change. Absent: the environment's credentials (`AWS_ACCESS_KEY_ID`, a web identity's token, the machine's
    /// role).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// File with certificates of authorities in PEM that may vouch for the service, besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    /// Whether to refuse to start on a service without conditional writes: several processes need them.
    #[serde(default)]
    pub require_conditional_writes: bool,
    /// Whether clients fetch the content of blobs from the service itself.
    #[serde(default)]
    pub redirect: S3Redirect,
}

/// How clients are sent to the service itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3Redirect {
    /// Send clients to the service for the content of blobs. Those that are not known to follow get it from here.
    pub enabled: bool,
    /// Address of the service for clients, if they know it by another one than the registry does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How long an address that a client gets can be used, in seconds.
    #[schemars(range(min = 10, max = 604_800))]
    pub expiry_seconds: u64,
}

impl Default for S3Redirect {
    fn default() -> Self {
        Self { enabled: false, endpoint: None, expiry_seconds: 1200 }
    }
}

fn default_region() -> String {
    "us-east-1".to_owned()
}
