//! How clients of a registry log in.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::{Duration, NamespaceSelection, NamespacesFrom};

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

    /// Lets ServiceAccounts of the cluster in: the token, as `kubectl create token` makes it, is the password, with any user
    /// name but `robot/…` and `pull/…`, or a bearer token. The API server is asked about it and the answer kept for a
    /// minute at most. Members name them by the kind `ServiceAccount`. It needs a cluster. Default: none are let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccounts>,

    /// OpenID Connect issuers whose ID tokens let people and workloads in: the token is the password, with any user name
    /// but `robot/…` and `pull/…`, or a bearer token. It ends with what is said here about its issuer. Members name such
    /// a user `oidc:<issuer>:<user>`, a group `oidc:<issuer>:<group>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(issuer, self.exists_one(other, other.name == issuer.name))")
            .message("two issuers can't have the same name: users of the one would be users of the other")
    )]
    pub oidc: Vec<OidcIssuer>,

    /// Lets holders of certificates in that an authority of yours has signed. Members name such a user
    /// `certificate:<common name>`, a group `certificate:<organization>`. It needs TLS that ends at the registry itself: behind a
    /// proxy that ends it, such as an Ingress, there are no client certificates. A certificate must name client
    /// authentication as its extended key usage, and exactly one common name; other credentials on a request count instead
    /// of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,

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

impl Authentication {
    /// Whether ServiceAccounts are let in by the labels of their namespaces, which somebody has to read then.
    pub fn selects_service_accounts(&self) -> bool {
        self.service_accounts.as_ref().is_some_and(|accounts| accounts.namespaces.from == NamespacesFrom::Selector)
    }
}

/// ServiceAccounts that can log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccounts {
    /// Namespaces whose ServiceAccounts can log in. Who of them is in no Member can pull what is Internal or Public.
    #[serde(default)]
    pub namespaces: NamespaceSelection,
    /// Whom a token has to be for, one of these. Default: the Registry's host names, without a port too, and its Service's
    /// name `<registry>.<namespace>.svc`. A token that was made for another service is then worth nothing here; get
    /// one with `kubectl create token <name> --audience <host name>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
}

/// An OpenID Connect issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcIssuer {
    /// What stands before the names of its users and groups, after `oidc:`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
            .message("the name of an issuer has lower-case letters, digits and '-' in between")
    )]
    pub name: String,
    /// The issuer, exactly as the claim `iss` of its tokens says it, such as `https://accounts.example.com`.
    #[serde(rename = "issuerURL")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^https://[^/?#@]+(/[^?#]*)?$')")
            .message("issuerURL must be an https:// address without user, query and fragment, exactly as the claim iss says it")
    )]
    pub issuer_url: String,
    /// Where its configuration is to be read, if that is not `<issuerURL>/.well-known/openid-configuration`.
    #[serde(default, rename = "discoveryURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^https://[^/?#@]+([/?][^#]*)?$')")
            .message("discoveryURL must be an https:// address without user and fragment")
    )]
    pub discovery_url: Option<String>,
    /// Authorities, in PEM, by which its server's certificate has to be signed. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    #[x_kube(
        validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')")
            .message("certificateAuthority must hold certificates in PEM, each between BEGIN CERTIFICATE and END CERTIFICATE")
    )]
    pub certificate_authority: Option<String>,
    /// Whom a token has to be for, one of these: the claim `aud`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
    /// The claim that names the user. With `email`, the claim `email_verified` must be true where a
    /// token has it.
    #[serde(default = "sub")]
    #[schemars(length(min = 1, max = 128))]
    pub username_claim: String,
    /// The claim that names the groups, a text or a list of them. Default: tokens tell no groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub groups_claim: Option<String>,
    /// What else a token has to say, all of it; truth values and numbers count as texts. For an issuer that serves the whole world, such as a public CI service,
    /// say here whose workloads are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<ClaimCondition>,
}

fn sub() -> String {
    "sub".to_owned()
}

/// What a claim of a token has to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimCondition {
    /// Name of the claim.
    #[schemars(length(min = 1, max = 128))]
    pub claim: String,
    /// What it has to be, one of these. `*` stands for any text without a slash, `**` between slashes for any path. Of a
    /// list one item has to match.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub values: Vec<String>,
}

/// Client certificates that let in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificates {
    /// Authorities, in PEM, that sign the certificates. Use one that signs for nothing else: each certificate of it is a
    /// login. A change ends the logins by the authorities that it takes away, at once.
    #[schemars(length(min = 1, max = 65_536))]
    #[x_kube(
        validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')")
            .message("certificateAuthority must hold certificates in PEM, each between BEGIN CERTIFICATE and END CERTIFICATE")
    )]
    pub certificate_authority: String,
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
