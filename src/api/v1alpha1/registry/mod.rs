//! Registry: one tenant's registry, the pods that serve it and the storage behind it.

mod authentication;
mod exposure;
mod pod;
mod storage;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::authentication::{Authentication, FailureLimits, HtpasswdSecret};
pub use self::exposure::{Exposure, SecretTls, ServiceExposure, ServiceType, Tls};
pub use self::pod::PodSettings;
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
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Projects", type_ = "integer", json_path = ".status.projects", priority = 1),
    printcolumn(name = "Certificate expires", type_ = "date", json_path = ".status.tls.notAfter", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$')")
        .message("the name of a Registry becomes the name of its Service: at most 50 lower-case letters, digits and '-', starting with a letter and without '.'")
)]
#[x_kube(
    validation = Rule::new("self.replicas <= 1")
        .message("a volume is served by one pod at a time: set replicas to 0 or 1")
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

    /// Number of pods: 1, or 0 to stop serving. A volume is served by one pod at a time.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,

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

    /// Settings of the registry's pods.
    #[serde(default)]
    pub pod: PodSettings,

    /// What happens to the images when the Registry is deleted. `Retain` keeps the claim, and a new Registry of the
    /// same name takes it up again. An existing claim that was named is always kept.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn one() -> i32 {
    1
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
