//! The claim for the images, where the Registry asks for one to be made.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use kube::api::ObjectMeta;

use super::{Inputs, names};
use crate::api::v1alpha1::{PersistentVolumeClaimStorage, Registry};

/// `None`: another claim is used, or none.
pub(super) fn build(inputs: &Inputs<'_>) -> Option<PersistentVolumeClaim> {
    let registry = inputs.registry;
    let PersistentVolumeClaimStorage { size, storage_class_name, access_modes, existing_claim } =
        registry.spec.storage.persistent_volume_claim.clone()?;
    if existing_claim.is_some() {
        return None;
    }
    let requests = BTreeMap::from([("storage".to_owned(), size?)]);
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(access_modes),
        storage_class_name,
        resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
        ..PersistentVolumeClaimSpec::default()
    };
    Some(PersistentVolumeClaim { metadata: metadata(registry), spec: Some(spec), status: None })
}

/// Without an owner, so that the garbage collector of Kubernetes never takes the images away: `deletionPolicy` decides.
fn metadata(registry: &Registry) -> ObjectMeta {
    ObjectMeta {
        annotations: Some(names::registry_annotation(registry)),
        owner_references: None,
        ..names::owned(registry, names::claim(registry))
    }
}

/// Name of the claim that holds the images; `None` where no claim does.
pub fn claim_name(registry: &Registry) -> Option<String> {
    let claim = registry.spec.storage.persistent_volume_claim.as_ref()?;
    Some(claim.existing_claim.clone().unwrap_or_else(|| names::claim(registry)))
}
