//! Member: a role in a Project, or in a whole Registry, for somebody or something.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, LocalReference};

/// What a Member is to be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfast.dev",
    version = "v1alpha1",
    kind = "Member",
    namespaced,
    status = "MemberStatus",
    derive = "PartialEq",
    shortname = "mem",
    category = "landfast",
    cel,
    doc = "A role in a Project, or in a whole Registry, for one or more subjects. For a robot the operator makes a Secret with its credentials.",
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.projectRef.name"),
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registryRef.name"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".spec.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("has(self.projectRef) != has(self.registryRef)")
        .message("set exactly one of projectRef and registryRef"),
    validation = Rule::new("self.subjects.all(subject, self.subjects.exists_one(other, other.kind == subject.kind && other.name == subject.name && (has(other.__namespace__) ? other.__namespace__ : '') == (has(subject.__namespace__) ? subject.__namespace__ : '')))")
        .message("each subject may be listed once")
)]
#[serde(rename_all = "camelCase")]
pub struct MemberSpec {
    /// The Project, in the same namespace, in which the subjects have the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_ref: Option<LocalReference>,

    /// The Registry, in the same namespace, in all of whose Projects the subjects have the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_ref: Option<LocalReference>,

    /// `Guest` pulls, `Developer` pushes and deletes versions too, `Admin` deletes repositories too.
    pub role: Role,

    /// Repositories that the role is about: below the Project, or with the whole path for a Registry. `*` stands for
    /// any text inside of a path component, `**` for any number of components. Default: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9*]([a-z0-9._*-]*(/[a-z0-9*][a-z0-9._*-]*)*)$"))
    )]
    pub repositories: Vec<String>,

    /// Who has the role.
    #[schemars(length(min = 1, max = 64))]
    pub subjects: Vec<Subject>,

    /// When the role ends, and with it every credential of its robots. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// How often the credentials of robots are made anew. The old ones work for as long again. Default: never; a
    /// credential then works until the Member is deleted, expires, or gets a higher `credentialGeneration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("self.contains('d') ? self.matches('(^|[smh])0*[1-9][0-9]*d') : duration(self) >= duration('1h')")
            .message("rotation must be at least 1h")
    )]
    pub rotation: Option<Duration>,

    /// Raise it to revoke every credential made until now.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub credential_generation: i32,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// Pull.
    #[default]
    Guest,
    /// Pull, push, delete versions.
    Developer,
    /// Everything in the Project.
    Admin,
}

/// Somebody or something with a role.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.kind != 'Robot' || self.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')")
        .message("the name of a Robot has at most 63 lower-case letters, digits and '-', and begins and ends with a letter or digit"),
    validation = Rule::new("self.kind != 'User' || self.name.matches('^(htpasswd:[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}|(oidc:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|certificate|kubernetes):[^[:cntrl:][:space:]]([^[:cntrl:]]*[^[:cntrl:][:space:]])?)$')")
        .message("the name of a User begins with who knows him, for example htpasswd:alice, oidc:corp:alice@example.com for an issuer named corp, certificate:alice, or kubernetes:alice"),
    validation = Rule::new("self.kind != 'Group' || self.name.matches('^(oidc:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|certificate|kubernetes):[^[:cntrl:][:space:]]([^[:cntrl:]]*[^[:cntrl:][:space:]])?$')")
        .message("the name of a Group begins with who knows it, for example oidc:corp:developers for an issuer named corp, certificate:developers, or kubernetes:system:serviceaccounts:team"),
    validation = Rule::new("self.kind != 'ServiceAccount' || self.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("the name of a ServiceAccount is that of the object, lower-case letters, digits, '-' and '.'; its namespace goes into namespace"),
    validation = Rule::new("self.kind == 'ServiceAccount' || !has(self.__namespace__)")
        .message("namespace is for ServiceAccounts: leave it out"),
    validation = Rule::new("self.kind == 'Robot' || !has(self.secretName)")
        .message("secretName is for robots: everybody else brings a login of his own")
)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Kind of the subject.
    pub kind: SubjectKind,
    /// Name of the subject. For a robot it is freely chosen, for a ServiceAccount it is that of the object. For a user or a
    /// group it begins with who knows him: `htpasswd:alice` is the user `alice` of the file that the Registry's
    /// `spec.authentication.htpasswdSecretRef` names, `oidc:corp:developers` what its issuer `corp` calls `developers`,
    /// `certificate:alice` who has a client certificate with this common name (a group: with this organization), and
    /// `kubernetes:alice` whom the API server calls so, for what he may do to the objects of the Project.
    #[schemars(length(min = 1, max = 330))]
    pub name: String,
    /// For a ServiceAccount: its namespace. Default: the namespace of the Member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// For a robot: name of the Secret that the operator makes. Default: `<member>-<robot>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: Option<String>,
}

/// Kind of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// An account for a program. It exists through its Member alone.
    Robot,
    /// A person with an account of his own. Its name says whose: `htpasswd:alice`.
    User,
    /// All who are in a group of a provider, such as `oidc:corp:developers`.
    Group,
    /// A ServiceAccount of the cluster.
    ServiceAccount,
}

/// What a Member is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the role is in force. `Ready`: the credentials of its robots are in place too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The robots and where their credentials are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub robots: Vec<RobotStatus>,
}

/// A robot of a Member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RobotStatus {
    /// Name of the robot.
    pub name: String,
    /// Secret with `username`, `password` and `.dockerconfigjson`.
    pub secret_name: String,
    /// When the credential in the Secret ends, if it does. It is replaced before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

impl Member {
    /// The robots among the subjects.
    pub fn robots(&self) -> impl Iterator<Item = &Subject> {
        self.spec.subjects.iter().filter(|subject| subject.kind == SubjectKind::Robot)
    }

    /// The name of the Secret of one of the robots, set or by default.
    pub fn robot_secret_name(&self, robot: &Subject) -> String {
        let default = || format!("{}-{}", self.metadata.name.as_deref().unwrap_or_default(), robot.name);
        robot.secret_name.clone().unwrap_or_else(default)
    }
}
