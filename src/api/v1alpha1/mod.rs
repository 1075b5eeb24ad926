//! `landfast.dev/v1alpha1`: Registry, Project, RepositoryPolicy and Member.
//!
//! The Rust types are the source: CRDs (structural schema, CEL rules, defaults, columns) are generated from them by
//! `landfast crds`. The CEL rules are the whole of what one object can say wrong about itself; what is wrong only
//! together with another object is found by [`crate::policy::compile`].

mod condition;
mod duration;
mod member;
mod namespaces;
mod project;
mod registry;
mod repository_policy;

pub use condition::{ConditionType, condition};
pub use duration::{Duration, DurationError};
pub use member::{Member, MemberSpec, MemberStatus, RobotStatus, Role, Subject, SubjectKind};
pub use namespaces::{NamespaceSelection, NamespacesFrom};
pub use project::{Project, ProjectSpec, ProjectStatus, PullSecrets, Visibility};
pub use registry::{
    Authentication, Autoscaling, CertificateEntry, ClaimCondition, ClientCertificates, DeletionPolicy, EmptyDirStorage,
    Exposure, ExternalTrafficPolicy, FailureLimits, HtpasswdSecret, OidcIssuer, PersistentVolumeClaimStorage,
    PodSettings, Registry, RegistrySpec, RegistryStatus, S3CertificateAuthority, S3CredentialsKeys,
    S3CredentialsSecret, S3Redirect, S3Storage, SecretTls, ServiceAccounts, ServiceExposure, ServiceType, Storage, Tls,
    TlsStatus,
};
pub use repository_policy::{ImageType, RepositoryPolicy, RepositoryPolicySpec, RepositoryPolicyStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};

/// Reference to an object that may live in another namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object. Default: the namespace of the object that holds this reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Reference to an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// All CRDs, in the order in which `crds/` lists them.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    vec![Member::crd(), Project::crd(), Registry::crd(), RepositoryPolicy::crd()]
}
