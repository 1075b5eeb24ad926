//! Project: a path of a Registry that one team owns, and the pull secrets for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, NamespaceSelection, NamespacedReference, Role};

/// What a Project is to be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfast.dev",
    version = "v1alpha1",
    kind = "Project",
    namespaced,
    status = "ProjectStatus",
    derive = "PartialEq",
    shortname = "proj",
    category = "landfast",
    cel,
    selectable = ".spec.registryRef.name",
    doc = "A path of a Registry that one team owns. Repositories live below it; Members say who may push and pull; pull secrets are made from it.",
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Visibility", type_ = "string", json_path = ".spec.visibility"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Pull secrets", type_ = "integer", json_path = ".status.pullSecrets", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("has(self.spec.path) || self.metadata.name.size() <= 200")
        .message("the name is too long for a path: set spec.path")
)]
#[x_kube(
    validation = Rule::new("has(self.path) == has(oldSelf.path) && (!has(self.path) || self.path == oldSelf.path)")
        .message("path can't be changed: images would be left behind under the old one; make a new Project and copy them")
)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSpec {
    /// The Registry that this Project belongs to. It can't be changed.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("registryRef can't be changed: images would be left behind; make a new Project and copy them")
    )]
    pub registry_ref: NamespacedReference,

    /// Path of the Project in its Registry, one or more components, such as `team` or `company/team`. Default: the
    /// name of the Project. It is unique in the Registry (the older Project keeps it), lies in no path of another
    /// namespace's Project nor the other way round, and can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 200),
        regex(pattern = r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$")
    )]
    pub path: Option<String>,

    /// Made by the platform for everybody: anyone pulls, without a login, and only a member of the Registry itself
    /// pushes or deletes. Such a Project lives in the namespace of its Registry.
    #[serde(default)]
    pub official: bool,

    /// Who may pull besides the members.
    #[serde(default)]
    pub visibility: Visibility,

    /// What the Project is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,

    /// Secrets of type `kubernetes.io/dockerconfigjson` with which pods pull the images of this Project.
    /// Default: one in the Project's own namespace, if the Registry allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secrets: Option<PullSecrets>,
}

/// Who may pull besides the members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Visibility {
    /// Nobody.
    #[default]
    Private,
    /// Everybody who is logged in.
    Internal,
    /// Everybody, without a login.
    Public,
}

/// Generated pull secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecrets {
    /// Namespaces that get a pull secret. Only those count that the Registry's `pullSecretNamespaces` allows.
    #[serde(default)]
    pub namespaces: NamespaceSelection,

    /// Names of ServiceAccounts in these namespaces whose `imagePullSecrets` get the secret, so that their pods need
    /// not name it. `*` stands for all of them. Only pods made afterwards see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,

    /// Name of the secrets. Default: `<project>-pull`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: Option<String>,

    /// What the secrets allow: `Guest` pulls, `Developer` pushes too.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("self != 'Admin'")
            .message("a pull secret can't be Admin: every pod of its namespaces can read it; use Guest or Developer")
    )]
    pub role: Role,

    /// How often the secrets are made anew. The old ones work for as long again. Default: `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("self.contains('d') ? self.matches('(^|[smh])0*[1-9][0-9]*d') : duration(self) >= duration('1h')")
            .message("rotation must be at least 1h")
    )]
    pub rotation: Option<Duration>,

    /// Raise it to revoke every pull secret made until now.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub credential_generation: i32,
}

/// What a Project is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the Registry takes the Project. `Ready`: its pull secrets are in place too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What image references of this Project start with, such as `registry.example.com/team`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Number of namespaces that hold a pull secret of this Project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secrets: Option<i64>,
    /// Name of the pull secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_name: Option<String>,
}

impl Project {
    /// The path, set or by default.
    pub fn path(&self) -> &str {
        self.spec.path.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// The name of the pull secrets, set or by default.
    pub fn pull_secret_name(&self) -> String {
        let chosen = self.spec.pull_secrets.as_ref().and_then(|secrets| secrets.secret_name.clone());
        chosen.unwrap_or_else(|| format!("{}-pull", self.metadata.name.as_deref().unwrap_or_default()))
    }
}
