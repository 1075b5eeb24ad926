//! What the objects of a Registry are called and labelled, and the addresses at which it is reached.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::api::v1alpha1::Registry;

/// Label and annotation that name the Registry an object belongs to: the label by its name, the annotation, on objects
/// that outlive it or live outside of its namespace, by `namespace/name`.
pub const REGISTRY: &str = "landfast.dev/registry";
/// Annotation of the pods: a hash of their configuration.
pub const CONFIG_HASH: &str = "landfast.dev/config-hash";
/// Annotation of the pods: a hash of their ServiceAccount's annotations.
pub const SERVICE_ACCOUNT_HASH: &str = "landfast.dev/service-account-hash";
/// The ClusterRole that lets a registry read its policy. Like those below it is shipped with the operator.
pub const POLICY_CLUSTER_ROLE: &str = "landfast-registry";
/// The ClusterRole that lets a registry ask the API server about tokens.
pub const TOKEN_REVIEW_CLUSTER_ROLE: &str = "landfast-registry-tokenreview";
/// The ClusterRole that lets a registry read the labels of namespaces.
pub const NAMESPACES_CLUSTER_ROLE: &str = "landfast-registry-namespaces";
/// What a registry may have in the whole cluster.
pub const CLUSTER_ROLES: [&str; 3] = [POLICY_CLUSTER_ROLE, TOKEN_REVIEW_CLUSTER_ROLE, NAMESPACES_CLUSTER_ROLE];

/// Name of Service, Deployment, ServiceAccount, Role, RoleBinding and PodDisruptionBudget.
pub fn name(registry: &Registry) -> String {
    registry.name_any()
}

/// Namespace of the Registry and its objects.
pub fn namespace(registry: &Registry) -> String {
    registry.namespace().unwrap_or_default()
}

/// Name of the ConfigMap.
pub fn config_map(registry: &Registry) -> String {
    format!("{}-config", name(registry))
}

/// Name of the claim that is made where the Registry doesn't name one.
pub fn claim(registry: &Registry) -> String {
    format!("{}-data", name(registry))
}

/// Name of the Secret with the keys that sign credentials and tokens.
pub fn keys_secret(registry: &Registry) -> String {
    format!("{}-keys", name(registry))
}

/// Name of the Secret with the authority of self-signed certificates.
pub fn authority_secret(registry: &Registry) -> String {
    format!("{}-ca", name(registry))
}

/// Name of the Secret with the serving certificate: the operator's own or the one that was brought. `None`: no TLS.
pub fn tls_secret(registry: &Registry) -> Option<String> {
    let tls = &registry.spec.tls;
    match (&tls.disabled, &tls.secret_ref) {
        (Some(_), _) => None,
        (None, Some(provided)) => Some(provided.name.clone()),
        (None, None) => Some(format!("{}-tls", name(registry))),
    }
}

/// Name of the RoleBinding that lets the registry read its policy in its own namespace.
pub fn policy_role_binding(registry: &Registry) -> String {
    format!("{}-policy", name(registry))
}

/// Name of the ClusterRoleBinding that gives the registry one of the [`CLUSTER_ROLES`]. The colons, which no namespace and
/// no Registry may hold, keep `a-b` in `c` apart from `b` in `c-a`.
pub fn cluster_role_binding(registry: &Registry, cluster_role: &str) -> String {
    format!("{cluster_role}:{}:{}", namespace(registry), name(registry))
}

/// The labels by which Service, Deployment and PodDisruptionBudget find the pods. They can't be changed in the life of a
/// Deployment.
pub fn selector_labels(registry: &Registry) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "landfast-registry".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), name(registry)),
    ])
}

/// The labels of every object.
pub fn labels(registry: &Registry) -> BTreeMap<String, String> {
    let mut labels = selector_labels(registry);
    labels.extend([
        ("app.kubernetes.io/component".to_owned(), "registry".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "landfast".to_owned()),
        (REGISTRY.to_owned(), name(registry)),
    ]);
    labels
}

/// The annotation of objects that aren't owned by the Registry.
pub fn registry_annotation(registry: &Registry) -> BTreeMap<String, String> {
    BTreeMap::from([(REGISTRY.to_owned(), format!("{}/{}", namespace(registry), name(registry)))])
}

/// Makes the Registry the controller of an object: the object goes with it, and changes to it are noticed.
pub fn owner_reference(registry: &Registry) -> OwnerReference {
    OwnerReference {
        api_version: Registry::api_version(&()).into_owned(),
        kind: Registry::kind(&()).into_owned(),
        name: name(registry),
        // One that the API server gave out always has a UID; an empty one is refused there.
        uid: registry.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Metadata of an object in the Registry's namespace that goes with it.
pub fn owned(registry: &Registry, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace(registry)),
        labels: Some(labels(registry)),
        owner_references: Some(vec![owner_reference(registry)]),
        ..ObjectMeta::default()
    }
}

/// Port of the Service, set or by default.
pub fn service_port(registry: &Registry) -> i32 {
    registry.spec.exposure.service.port.unwrap_or(default_port(registry))
}

/// What image references start with: the first host name, or the Service's.
pub fn address(registry: &Registry) -> String {
    registry.spec.hostnames.first().cloned().unwrap_or_else(|| service_host(registry, "svc"))
}

/// The address with its scheme.
pub fn url(registry: &Registry) -> String {
    let scheme = if tls_secret(registry).is_some() { "https" } else { "http" };
    format!("{scheme}://{}", address(registry))
}

/// Every host by which image references may name this registry, in a fixed order, each once. Pull secrets cover them.
pub fn hosts(registry: &Registry) -> Vec<String> {
    let mut hosts: Vec<String> = vec![];
    let service = ["svc", "svc.cluster.local"].map(|suffix| service_host(registry, suffix));
    for host in registry.spec.hostnames.iter().chain(&service) {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    hosts
}

/// A host name without its port.
pub fn host_of(hostname: &str) -> &str {
    hostname.rsplit_once(':').map_or(hostname, |(host, _)| host)
}

fn default_port(registry: &Registry) -> i32 {
    if tls_secret(registry).is_some() { 443 } else { 80 }
}

fn service_host(registry: &Registry, suffix: &str) -> String {
    let host = format!("{}.{}.{suffix}", name(registry), namespace(registry));
    match service_port(registry) {
        port if port == default_port(registry) => host,
        port => format!("{host}:{port}"),
    }
}
