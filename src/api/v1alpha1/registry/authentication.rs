//! How clients of a registry log in.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::Duration;

/// How clients log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// How long a token lives that a client gets for its credentials. Default: `5m`. A revoked credential stops
    /// working at once all the same: the token is only an upper bound.
    #[serde(default, rename = "tokenTTL", skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("!self.contains('d') && duration(self) >= duration('60s') && duration(self) <= duration('24h')")
            .message("tokenTTL must lie between 60s and 24h, written in s, m or h")
    )]
    pub token_ttl: Option<Duration>,

    /// Users with passwords, from a Secret in this namespace that holds a file as `htpasswd -B` writes it. A changed
    /// Secret is read without a restart; Kubernetes takes up to about a minute to bring it to the pods. Members name
    /// such a user as `htpasswd:<name>`. Who is in no Member can pull what is Internal or Public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub htpasswd_secret_ref: Option<HtpasswdSecret>,

    /// How many failed logins are borne.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailureLimits>,

    /// How often the key that signs credentials and tokens is replaced. The next key is trusted for a time before it
    /// signs, and the one before it for as long as a credential that it has signed can be about: no login fails on the
    /// way. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("self.contains('d') ? self.matches('(^|[smh])0*[1-9][0-9]*d') : duration(self) >= duration('24h')")
            .message("signingKeyRotation must be at least 1d")
    )]
    pub signing_key_rotation: Option<Duration>,
}

/// A file of users and passwords in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HtpasswdSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Which of its entries is the file.
    #[serde(default = "htpasswd")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn htpasswd() -> String {
    "htpasswd".to_owned()
}

/// How many failed logins are borne, for each account and each network that it is tried from (of IPv4 a /24, of IPv6 a
/// /64). An address (of IPv6 again a /64) is borne five times as many, over all accounts. Beyond that logins are
/// answered with 429 until the time that the answer names. Nobody is locked out by what others do elsewhere. Valid
/// generated credentials and tokens are never refused for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureLimits {
    /// In the long run.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 6000))]
    pub per_minute: i32,
    /// At once.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 10000))]
    pub burst: i32,
}

fn ten() -> i32 {
    10
}

fn twenty() -> i32 {
    20
}
