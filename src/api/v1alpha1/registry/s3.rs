//! Storage in a bucket of an S3 service.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::Duration;

/// Whether a text is scheme, host and port, and nothing else.
macro_rules! is_origin {
    () => {
        r"self.matches('^https?://([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$')"
    };
}
macro_rules! origin_message {
    ($field:literal) => {
        concat!(
            $field,
            " must be scheme, host and port alone, such as https://minio.example.com:9000: leave out path, query and user; the bucket has a field of its own"
        )
    };
}
/// A bucket of an S3 service: Amazon's, or one of the many that speak its protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new(
        "self.bucket == oldSelf.bucket && has(self.prefix) == has(oldSelf.prefix) && (!has(self.prefix) || self.prefix == oldSelf.prefix)"
    )
    .message("bucket and prefix can't be changed: the images would be left behind; make a new Registry and copy them")
)]
#[serde(rename_all = "camelCase")]
pub struct S3Storage {
    /// Name of the bucket. It has to be there, and the registry is never the one to delete it.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(
        validation = Rule::new(
            "self.matches('^[a-z0-9][-.a-z0-9]*[a-z0-9]$') && !self.matches('[.][-.]|-[.]') && !self.matches('^[0-9]+([.][0-9]+){3}$')"
        )
        .message("bucket must be a bucket's name: 3 to 63 lower-case letters, digits, '-' and '.', a letter or digit first, last and next to each '.', and no IP address"),
        validation = Rule::new("!self.endsWith('--x-s3')")
            .message("a directory bucket (--x-s3) can't be used, because it lists names in no order: choose a general purpose bucket")
    )]
    pub bucket: String,
    /// Region of the bucket. Services other than Amazon's mostly take any.
    #[serde(default = "us_east_1")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-zA-Z0-9][-_a-zA-Z0-9]*$')")
            .message("region must be a region's name, such as eu-central-1: letters, digits, '-' and '_'")
    )]
    pub region: String,
    /// Address of the service, such as `https://minio.example.com:9000`. Default: Amazon's for the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 300))]
    #[x_kube(validation = Rule::new(is_origin!()).message(origin_message!("endpoint")))]
    pub endpoint: Option<String>,
    /// Folder of the bucket that everything is kept in, such as `registries/main`. Registries that share a bucket need
    /// one each, none within another's. Default: the whole bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new(
            r"self.matches('^[!-.0-Z\\[\\]^-~]{1,255}(/[!-.0-Z\\[\\]^-~]{1,255})*$') && !self.matches('(^|/)[.][.]?(/|$)')"
        )
        .message("prefix must be names separated by single '/', such as registries/main: no '/' first or last, printable ASCII without space and '\\\\', at most 255 characters each, and neither '.' nor '..'")
    )]
    pub prefix: Option<String>,
    /// Whether the bucket stands in the path (`https://host/bucket/key`) and not in the host name. Most services other
    /// than Amazon's want it.
    #[serde(default)]
    pub force_path_style: bool,
    /// The access key. Default: what the pods' environment gives, such as a role of the ServiceAccount
    /// (`pod.serviceAccountAnnotations`) or of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<S3CredentialsSecret>,
    /// Authorities that may vouch for the service's certificate, besides the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<S3CertificateAuthority>,
    /// Whether clients fetch the content of blobs from the service itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<S3Redirect>,
}

fn us_east_1() -> String {
    "us-east-1".to_owned()
}

/// An access key in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3CredentialsSecret {
    /// Name of a Secret in this namespace. A changed key is taken up without a restart; Kubernetes takes up to about a
    /// minute to bring it to the pods.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Which of its entries is what.
    #[serde(default)]
    pub keys: S3CredentialsKeys,
}

/// Names of the entries of a Secret with an access key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3CredentialsKeys {
    /// The entry with the access key's ID, such as `AWS_ACCESS_KEY_ID`. Default: `accessKeyId`.
    #[serde(default = "access_key_id")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub access_key_id: String,
    /// The entry with the secret part, such as `AWS_SECRET_ACCESS_KEY`. Default: `secretAccessKey`.
    #[serde(default = "secret_access_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub secret_access_key: String,
    /// The entry with the session token, such as `AWS_SESSION_TOKEN`. It may be missing. Default: `sessionToken`.
    #[serde(default = "session_token")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub session_token: String,
}

impl Default for S3CredentialsKeys {
    fn default() -> Self {
        Self { access_key_id: access_key_id(), secret_access_key: secret_access_key(), session_token: session_token() }
    }
}

fn access_key_id() -> String {
    "accessKeyId".to_owned()
}

fn secret_access_key() -> String {
    "secretAccessKey".to_owned()
}

fn session_token() -> String {
    "sessionToken".to_owned()
}

/// Certificates of authorities in PEM, from a Secret or a ConfigMap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.secretRef) != has(self.configMapRef)")
        .message("set exactly one of secretRef and configMapRef")
)]
#[serde(rename_all = "camelCase")]
pub struct S3CertificateAuthority {
    /// A Secret in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<CertificateEntry>,
    /// A ConfigMap in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<CertificateEntry>,
}

/// An entry with certificates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateEntry {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Which of its entries holds the certificates. Default: `ca.crt`.
    #[serde(default = "ca_crt")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}

/// How clients are sent to the service itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Redirect {
    /// Send clients to the service for the content of blobs, by an address that is signed for each request. They, the
    /// nodes among them, must be able to reach the service and must trust its certificate.
    #[serde(default)]
    pub enabled: bool,
    /// Address of the service for clients, if they know it by another one than the registry does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 300))]
    #[x_kube(validation = Rule::new(is_origin!()).message(origin_message!("redirect.endpoint")))]
    pub endpoint: Option<String>,
    /// How long an address that a client gets can be used. Default: `20m`.
    #[serde(default = "twenty_minutes")]
    #[x_kube(
        validation = Rule::new("!self.contains('d') && duration(self) >= duration('10s') && duration(self) <= duration('168h')")
            .message("redirect.expiry must lie between 10s and 168h, written in s, m or h")
    )]
    pub expiry: Duration,
}

fn twenty_minutes() -> Duration {
    "20m".parse().unwrap_or_else(|_| Duration::from_secs(1_200))
}
