//! Where a registry keeps its images.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::S3Storage;

/// Where images are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("[has(self.persistentVolumeClaim), has(self.s3), has(self.emptyDir)].filter(set, set).size() == 1")
        .message("set exactly one of persistentVolumeClaim, s3 and emptyDir"),
    validation = Rule::new("has(self.persistentVolumeClaim) == has(oldSelf.persistentVolumeClaim) && has(self.s3) == has(oldSelf.s3)")
        .message("the kind of storage can't be changed: the images would be left behind; make a new Registry and copy them")
)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// A volume: one that is made for this registry, or an existing claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimStorage>,
    /// A bucket. Any number of pods can serve it together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
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
