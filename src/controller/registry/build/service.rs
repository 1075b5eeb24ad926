//! The Service in front of the pods.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{Inputs, names};
use crate::api::v1alpha1::{Exposure, ExternalTrafficPolicy, ServiceExposure, ServiceType};

pub(super) fn build(inputs: &Inputs<'_>) -> Service {
    let registry = inputs.registry;
    let Exposure { service, trusted_proxies: _ } = registry.spec.exposure.clone();
    // The default of the port depends on TLS: see `names::service_port`.
    let ServiceExposure { type_, port: _, node_port, external_traffic_policy, annotations } = service;
    let is_outside = type_ != ServiceType::ClusterIP;
    let port = ServicePort {
        name: Some("registry".to_owned()),
        port: names::service_port(registry),
        target_port: Some(IntOrString::String("registry".to_owned())),
        protocol: Some("TCP".to_owned()),
        // No appProtocol: some clouds' load balancers make a health check of `/` from it.
        app_protocol: None,
        // The API server refuses it on a ClusterIP, and the policy too.
        node_port: node_port.filter(|_| is_outside),
    };
    let spec = ServiceSpec {
        type_: Some(type_name(type_).to_owned()),
        ports: Some(vec![port]),
        selector: Some(names::selector_labels(registry)),
        external_traffic_policy: external_traffic_policy.filter(|_| is_outside).map(policy_name),
        ..ServiceSpec::default()
    };
    let metadata = ObjectMeta {
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..names::owned(registry, names::name(registry))
    };
    Service { metadata, spec: Some(spec), status: None }
}

fn policy_name(policy: ExternalTrafficPolicy) -> String {
    match policy {
        ExternalTrafficPolicy::Cluster => "Cluster".to_owned(),
        ExternalTrafficPolicy::Local => "Local".to_owned(),
    }
}

fn type_name(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}
