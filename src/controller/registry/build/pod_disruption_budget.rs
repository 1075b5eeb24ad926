//! The PodDisruptionBudget of a registry with more than one pod.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Inputs, names, serves_side_by_side};

/// `None` with one pod: a budget would then either allow its eviction or block the drain of its node for ever. An
/// autoscaler that has come down to one pod finds its eviction allowed.
pub(super) fn build(inputs: &Inputs<'_>) -> Option<PodDisruptionBudget> {
    let registry = inputs.registry;
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        min_available: None,
        selector: Some(LabelSelector {
            match_labels: Some(names::selector_labels(registry)),
            ..LabelSelector::default()
        }),
        // A pod that doesn't serve anyway must not keep a node from being drained.
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
    };
    let metadata = names::owned(registry, names::name(registry));
    serves_side_by_side(registry).then_some(PodDisruptionBudget { metadata, spec: Some(spec), status: None })
}
