//! The objects that serve a Registry: pure builders, one file per kind.
//!
//! The same inputs give the same objects. Specs are taken apart without `..` where every field must have an effect, so
//! that a forgotten field doesn't compile. Secrets aren't built here: keys need randomness, certificates a clock.

mod config_map;
mod deployment;
mod horizontal_pod_autoscaler;
pub mod names;
mod persistent_volume_claim;
mod pod_disruption_budget;
mod role;
mod s3;
mod service;
mod service_account;
#[cfg(test)]
mod tests;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};

use crate::api::v1alpha1::Registry;

pub use persistent_volume_claim::claim_name;

/// Port of the container that serves the registry.
const REGISTRY_PORT: u16 = 5000;
/// Port of the container that serves health and metrics, in plain HTTP.
const HEALTH_PORT: u16 = 8080;
/// Where the images are in the container.
const DATA_DIRECTORY: &str = "/var/lib/landfast";
/// Where the configuration is in the container.
const CONFIG_DIRECTORY: &str = "/etc/landfast/config";
/// Where certificate and key are in the container.
const TLS_DIRECTORY: &str = "/etc/landfast/tls";
/// Where the file with users and passwords is in the container.
const HTPASSWD_DIRECTORY: &str = "/etc/landfast/htpasswd";
/// Its name there, whatever the Secret calls it.
const HTPASSWD_FILE: &str = "htpasswd";
/// Where the access key for the bucket is in the container.
const S3_CREDENTIALS_DIRECTORY: &str = "/etc/landfast/s3-credentials";
/// Where the authorities of the bucket's service are in the container.
const S3_AUTHORITY_DIRECTORY: &str = "/etc/landfast/s3-authority";
/// The file with them there, whatever the Secret or ConfigMap calls it.
const S3_AUTHORITY_FILE: &str = "ca.crt";
/// Name of the configuration file.
const CONFIG_FILE: &str = "config.yaml";

/// What the objects are made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub registry: &'a Registry,
    /// The operator's own image: the registry is the same binary.
    pub image: &'a str,
}

/// All objects of a Registry but its Secrets. An absent one must not exist in the cluster either, except for the claim:
/// it stays when it is no longer wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    pub service_account: ServiceAccount,
    pub role: Role,
    pub role_binding: RoleBinding,
    pub policy_binding: Option<RoleBinding>,
    /// Each by the name of its ClusterRole; those for others must not exist.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    pub config_map: ConfigMap,
    pub persistent_volume_claim: Option<PersistentVolumeClaim>,
    pub service: Service,
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    pub deployment: Deployment,
    pub horizontal_pod_autoscaler: Option<HorizontalPodAutoscaler>,
}

/// Whether pods serve side by side: several of them, or old and new ones while they are replaced. Only a bucket can be
/// served so, and only if its service has conditional writes, which the pods then insist on. One pod alone does without.
pub fn serves_side_by_side(registry: &Registry) -> bool {
    registry.spec.storage.s3.is_some() && (registry.spec.replicas > 1 || registry.spec.autoscaling.is_some())
}

/// Builds all objects. Their order in [`Objects`] is a good one to apply them in: the pods come last.
pub fn objects(inputs: &Inputs<'_>) -> Objects {
    Objects {
        service_account: service_account::build(inputs),
        role: role::build(inputs),
        role_binding: role::build_binding(inputs),
        policy_binding: role::build_policy_binding(inputs),
        cluster_role_bindings: role::build_cluster_bindings(inputs),
        config_map: config_map::build(inputs),
        persistent_volume_claim: persistent_volume_claim::build(inputs),
        service: service::build(inputs),
        pod_disruption_budget: pod_disruption_budget::build(inputs),
        deployment: deployment::build(inputs),
        horizontal_pod_autoscaler: horizontal_pod_autoscaler::build(inputs),
    }
}
