//! The HorizontalPodAutoscaler of a registry whose number of pods follows the load.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};

use super::{Inputs, names};
use crate::api::v1alpha1::Autoscaling;

/// `None` too where nothing is to be served: Kubernetes takes a Deployment of no pods out of autoscaling, and so do we.
pub(super) fn build(inputs: &Inputs<'_>) -> Option<HorizontalPodAutoscaler> {
    let registry = inputs.registry;
    let settings = registry.spec.autoscaling.as_ref().filter(|_| registry.spec.replicas > 0)?;
    let Autoscaling { min_replicas, max_replicas, target_cpu_utilization_percentage } = settings;
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(*target_cpu_utilization_percentage),
        ..MetricTarget::default()
    };
    let cpu = MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..MetricSpec::default()
    };
    let spec = HorizontalPodAutoscalerSpec {
        scale_target_ref: CrossVersionObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: "Deployment".to_owned(),
            name: names::name(registry),
        },
        min_replicas: Some(*min_replicas),
        max_replicas: *max_replicas,
        metrics: Some(vec![cpu]),
        behavior: None,
    };
    let metadata = names::owned(registry, names::name(registry));
    Some(HorizontalPodAutoscaler { metadata, spec: Some(spec), status: None })
}
