//! The ServiceAccount of the pods.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ObjectMeta;

use super::{Inputs, names};

pub(super) fn build(inputs: &Inputs<'_>) -> ServiceAccount {
    let annotations = inputs.registry.spec.pod.service_account_annotations.clone();
    let metadata = ObjectMeta {
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..names::owned(inputs.registry, names::name(inputs.registry))
    };
    ServiceAccount {
        metadata,
        // The pods ask for their token themselves; nobody else who uses the account gets one by accident.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
