//! The ServiceAccount of the pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Inputs, names};

pub(super) fn build(inputs: &Inputs<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: names::owned(inputs.registry, names::name(inputs.registry)),
        // The pods ask for their token themselves; nobody else who uses the account gets one by accident.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
