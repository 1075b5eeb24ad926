//! How clients reach a registry, and the certificate that it shows them.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
