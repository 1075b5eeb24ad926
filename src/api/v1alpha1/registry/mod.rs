//! Registry: one tenant's registry, the pods that serve it and the storage behind it.

mod authentication;
mod autoscaling;
mod exposure;
mod pod;
mod s3;
mod storage;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::authentication::{
    Authentication, ClaimCondition, ClientCertificates, FailureLimits, HtpasswdSecret, OidcIssuer, ServiceAccounts,
};
pub use self::autoscaling::Autoscaling;
pub use self::exposure::{Exposure, ExternalTrafficPolicy, SecretTls, ServiceExposure, ServiceType, Tls};
pub use self::pod::PodSettings;
pub use self::s3::{
    CertificateEntry, S3CertificateAuthority, S3CredentialsKeys, S3CredentialsSecret, S3Redirect, S3Storage,
};
pub use self::storage::{EmptyDirStorage, PersistentVolumeClaimStorage, Storage};
use super::NamespaceSelection;

/// What a Registry is to be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfast.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    namespaced,
    status = "RegistryStatus",
    derive = "PartialEq",
    shortname = "reg",
    category = "landfast",
    cel,
    doc = "A container registry: pods that serve it, storage behind it, an address and certificates in front of it. Projects refer to it.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".status.pods"),
    printcolumn(name = "Projects", type_ = "integer", json_path = ".status.projects", priority = 1),
    printcolumn(name = "Certificate expires", type_ = "date", json_path = ".status.tls.notAfter", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$')")
        .message("the name of a Registry becomes the name of its Service: at most 50 lower-case letters, digits and '-', starting with a letter and without '.'")
)]
#[x_kube(
    validation = Rule::new("self.replicas <= 1 || has(self.storage.s3)")
        .message("more than one replica needs storage.s3: the folder on a volume has one owner, with ReadWriteMany too; set replicas to 0 or 1"),
    validation = Rule::new("!has(self.autoscaling) || has(self.storage.s3)")
        .message("autoscaling needs storage.s3: the folder on a volume has one owner, with ReadWriteMany too; leave autoscaling out"),
    validation = Rule::new(
        "!has(self.autoscaling) || (has(self.pod.resources) && \
         ((has(self.pod.resources.requests) && 'cpu' in self.pod.resources.requests) \
         || (has(self.pod.resources.limits) && 'cpu' in self.pod.resources.limits)))"
    )
    .message("autoscaling goes by a share of the CPU that the pods ask for: set pod.resources.requests.cpu, for example to 500m"),
    validation = Rule::new("!has(self.authentication.clientCertificates) || !has(self.tls.disabled)")
        .message("authentication.clientCertificates needs TLS that ends at the registry: leave tls.disabled out; behind a proxy that ends TLS there are no client certificates"),
    validation = Rule::new("!has(self.storage.s3) || self.deletionPolicy != 'Delete'")
        .message("deletionPolicy Delete can't be had with storage.s3: leave it at Retain, delete the Registry, then the objects, with `aws s3 rm --recursive s3://<bucket>/<prefix>/` or the tool of your service")
)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySpec {
    /// Host names, each with an optional port, by which clients outside of the cluster reach this registry, such as
    /// `registry.example.com`. The first one is the registry's address in image references. Without one, the address
    /// is the Service's DNS name. Certificates and pull secrets cover all of them, and the Service's names too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*(:[1-9][0-9]{0,4})?$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,

    /// Number of pods: 0 to stop serving, 1, or with a bucket (`storage.s3`) more. A volume is served by one pod at a time.
    /// With `autoscaling` only 0 is looked at.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,

    /// Has the number of pods follow the load. It needs a bucket (`storage.s3`), and the cluster a source of metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// Where images are kept. Exactly one kind.
    pub storage: Storage,

    /// How the registry is made reachable.
    #[serde(default)]
    pub exposure: Exposure,

    /// Where the serving certificate comes from. Default: a certificate of the registry's own authority, which
    /// `status.tls.caBundle` publishes.
    #[serde(default)]
    pub tls: Tls,

    /// How clients log in.
    #[serde(default)]
    pub authentication: Authentication,

    /// Namespaces whose Projects may belong to this registry.
    #[serde(default)]
    pub project_namespaces: NamespaceSelection,

    /// Namespaces into which the Projects of this registry may put pull secrets.
    #[serde(default)]
    pub pull_secret_namespaces: NamespaceSelection,

    /// What the name of a repository ends with if its image is one to build on: it is of the type `Base` then, whatever a
    /// RepositoryPolicy says about a pattern that matches it. Empty: names say nothing.
    #[serde(default = "own_base")]
    #[schemars(length(max = 64), regex(pattern = r"^[a-z0-9._-]*$"))]
    pub base_image_suffix: String,

    /// Settings of the registry's pods.
    #[serde(default)]
    pub pod: PodSettings,

    /// What happens to the images when the Registry is deleted. `Retain` keeps the claim, and a new Registry of the
    /// same name takes it up again. An existing claim that was named is always kept, and so is what is in a bucket.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn one() -> i32 {
    1
}

fn own_base() -> String {
    "_ownbase".to_owned()
}

/// What happens to the images when the Registry is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// They are deleted too.
    Delete,
}

/// What a Registry is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the spec can be followed. `Progressing`: pods are on their way. `Ready`: clients can pull.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Address of the registry with its scheme, such as `https://registry.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Pods that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Pods that serve, of those that there are to be, such as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Projects that belong to this registry and are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<i64>,
    /// Claim that holds the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// The serving certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
}

/// The serving certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsStatus {
    /// Secret that holds certificate and key.
    pub secret_name: String,
    /// Certificates of the authorities to trust, in PEM. Absent where public authorities signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// When the certificate expires. The operator's own is renewed long before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}
