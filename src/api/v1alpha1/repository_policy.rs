//! RepositoryPolicy: what holds for some of the repositories of a Project.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalReference, Visibility};

/// What a RepositoryPolicy is to be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfast.dev",
    version = "v1alpha1",
    kind = "RepositoryPolicy",
    plural = "repositorypolicies",
    namespaced,
    status = "RepositoryPolicyStatus",
    derive = "PartialEq",
    shortname = "rpol",
    category = "landfast",
    cel,
    doc = "What holds for some of the repositories of a Project. The most specific pattern wins; among equals the policy whose name comes first.",
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.projectRef.name"),
    printcolumn(name = "Repositories", type_ = "string", json_path = ".spec.repositories"),
    printcolumn(name = "Visibility", type_ = "string", json_path = ".spec.visibility"),
    printcolumn(name = "Image type", type_ = "string", json_path = ".spec.imageType"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPolicySpec {
    /// The Project, in the same namespace, whose repositories this is about.
    pub project_ref: LocalReference,

    /// Repositories below the Project. `*` stands for any text inside of a path component, `**` for any number of
    /// components.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9*]([a-z0-9._*-]*(/[a-z0-9*][a-z0-9._*-]*)*)$"))
    )]
    pub repositories: Vec<String>,

    /// Who may pull besides the members. Default: as the Project says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,

    /// Tags that, once pushed, neither move to another manifest nor can be deleted, and with them the manifests that
    /// they point to. `*` stands for any text. An empty list: no tags, whatever a less specific policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    #[x_kube(
        validation = Rule::new("self.all(pattern, pattern.matches('^[a-zA-Z0-9_*][a-zA-Z0-9_.*-]*$'))")
            .message("a pattern of tags consists of letters, digits, '_', '.', '-' and '*', and starts with neither '.' nor '-'")
    )]
    pub immutable_tags: Option<Vec<String>>,

    /// What their images are for. Default: as the Registry's `baseImageSuffix` says, else as a less specific policy says,
    /// else `Base`. A policy that names a repository in full says more than the suffix, one with `*` less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<ImageType>,

    /// What these repositories are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageType {
    /// To be built on, by those who know it.
    Base,
    /// Offered for selection where images are built.
    Build,
}

/// What a RepositoryPolicy is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPolicyStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the policy is in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
