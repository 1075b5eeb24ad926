//! Registry: one tenant's registry, the pods that serve it and the storage behind it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, LocalReference, NamespaceSelection};

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

/// Where images are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.persistentVolumeClaim) != has(self.emptyDir)")
        .message("set exactly one of persistentVolumeClaim and emptyDir"),
    validation = Rule::new("has(self.persistentVolumeClaim) == has(oldSelf.persistentVolumeClaim)")
        .message("the kind of storage can't be changed: the images would be left behind; make a new Registry and copy them")
)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// A volume: one that is made for this registry, or an existing claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimStorage>,
    /// A folder of the node that goes with the pod: every image is lost with it. For trying things out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirStorage>,
}

/// A persistent volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.size) != has(self.existingClaim)")
        .message("set size, to have a claim made, or existingClaim, to use one, and not both"),
    validation = Rule::new("!has(self.size) || (quantity(self.size).isGreaterThan(quantity('0')))")
        .message("size must be above zero, for example 10Gi"),
    validation = Rule::new("!has(self.existingClaim) || !has(self.storageClassName)")
        .message("storageClassName belongs to a claim that is made: leave it out with existingClaim"),
    validation = Rule::new("has(self.size) == has(oldSelf.size) && (!has(self.existingClaim) || self.existingClaim == oldSelf.existingClaim)")
        .message("another claim can't be chosen later: the images would be left behind; make a new Registry and copy them"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storageClassName can't be changed: Kubernetes keeps the class of a claim for its life"),
    validation = Rule::new("self.accessModes == oldSelf.accessModes")
        .message("accessModes can't be changed: Kubernetes keeps them for the claim's life"),
    validation = Rule::new("!has(self.size) || !has(oldSelf.size) || !quantity(self.size).isLessThan(quantity(oldSelf.size))")
        .message("size can grow but not shrink")
)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaimStorage {
    /// Size of the volume to be made, for example `100Gi`. It can grow later if the storage class allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub size: Option<Quantity>,
    /// Storage class of the volume to be made. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Access modes of the volume.
    #[serde(default = "read_write_once")]
    #[schemars(length(min = 1, max = 4), inner(regex(pattern = "^(ReadWriteOnce|ReadWriteMany|ReadWriteOncePod)$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub access_modes: Vec<String>,
    /// Name of a claim in this namespace to use. It is never deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub existing_claim: Option<String>,
}

fn read_write_once() -> Vec<String> {
    vec!["ReadWriteOnce".to_owned()]
}

/// A quantity is bounded and checked by its pattern, so that the CEL rules on it can't fail and are cheap to run.
fn quantity(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        "nullable": true,
    })
}

/// Storage that goes with the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirStorage {
    /// Most that it may hold before the pod is evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub size_limit: Option<Quantity>,
}

/// How the registry is made reachable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new(
        "!has(self.trustedProxies) || self.trustedProxies.all(range, \
         range.matches('^(([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])[.]){3}([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])/([0-9]|[12][0-9]|3[0-2])$') \
         || range.matches('^(([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|(([0-9a-fA-F]{1,4}:){0,6}[0-9a-fA-F]{1,4})?::(([0-9a-fA-F]{1,4}:){0,6}[0-9a-fA-F]{1,4})?)/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])$'))"
    )
    .message("trustedProxies takes ranges of addresses: write them as 10.0.0.0/8 or fd00::/8")
)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// The Service in front of the pods.
    #[serde(default)]
    pub service: ServiceExposure,
    /// Addresses (`10.0.0.0/8`, `fd00::/8`) of the Ingress controller or other proxies in front of the Service. What they say in
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` about their clients is believed; nobody else's word
    /// is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 49)))]
    pub trusted_proxies: Vec<String>,
}

/// The Service in front of the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.nodePort) || self.type != 'ClusterIP'")
        .message("nodePort needs type NodePort or LoadBalancer"),
    validation = Rule::new("!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'")
        .message("externalTrafficPolicy needs type NodePort or LoadBalancer: without one of them nothing comes from outside")
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceExposure {
    /// Type of the Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port of the Service. Default: 443 with TLS, 80 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Port on every node, with type `NodePort` or `LoadBalancer`. Default: chosen by Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Which nodes take connections from outside of the cluster, and whether the client's address stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Annotations of the Service, for example those that a cloud's load balancer reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Type of the Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside of the cluster.
    #[default]
    ClusterIP,
    /// Also on a port of every node.
    NodePort,
    /// Also through the cloud's load balancer.
    LoadBalancer,
}

/// Which nodes take connections from outside of the cluster, with type `NodePort` or `LoadBalancer`. With `Cluster`,
/// Kubernetes' default, all do, and the registry sees the address of a node in place of the client's: limits, failed
/// logins and audit records then count against the node. With `Local` it sees the client's, and only nodes on which
/// a pod of the registry runs take connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// All of them.
    Cluster,
    /// Those on which a pod of the registry runs.
    Local,
}

/// Where the serving certificate comes from. Nothing set means `selfSigned`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("[has(self.selfSigned), has(self.secretRef), has(self.disabled)].filter(set, set).size() <= 1")
        .message("set at most one of selfSigned, secretRef and disabled")
)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// A certificate that the operator issues and renews, signed by an authority of this registry alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<Empty>,
    /// A certificate that you bring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretTls>,
    /// Plain HTTP: passwords and images can be read on the way. Only behind a proxy that terminates TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Empty>,
}

/// A choice without settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// A certificate in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTls {
    /// Name of a Secret of type `kubernetes.io/tls` in this namespace. A new certificate in it is served without a
    /// restart. Its `ca.crt`, if there is one, is published in `status.tls.caBundle`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

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

/// Settings of the registry's pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Image of the registry. Default: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When the image is pulled. Default: Kubernetes' own rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Always|IfNotPresent|Never)$"))]
    pub image_pull_policy: Option<String>,
    /// Secrets of this namespace with which the registry's own image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalReference>,
    /// CPU and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Where the pods want to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods spread over zones and nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Additional labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
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
