//! What the pods may read: their signing keys, the policy, and what else the ways to log in need.
//!
//! The policy (Registries, Projects, RepositoryPolicies, Members and namespaces) is what the ClusterRole
//! [`names::POLICY_CLUSTER_ROLE`] allows. It is bound in the Registry's own namespace where Projects can come from there
//! only, so that the registry sees nothing of other tenants, and otherwise in the whole cluster.
//!
//! Where ServiceAccounts log in the pods ask the API server about tokens, and where they are chosen by the labels of their
//! namespaces, they read these: both in the whole cluster, and nothing more.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;

use super::{Inputs, names};
use crate::api::v1alpha1::{NamespacesFrom, Registry};

const API_GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn build(inputs: &Inputs<'_>) -> Role {
    let keys = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["secrets".to_owned()]),
        // List and watch work with a field selector on this name only.
        resource_names: Some(vec![names::keys_secret(inputs.registry)]),
        verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    Role { metadata: names::owned(inputs.registry, names::name(inputs.registry)), rules: Some(vec![keys]) }
}

pub(super) fn build_binding(inputs: &Inputs<'_>) -> RoleBinding {
    let name = names::name(inputs.registry);
    RoleBinding {
        metadata: names::owned(inputs.registry, name.clone()),
        role_ref: role_ref("Role", name),
        subjects: Some(subjects(inputs.registry)),
    }
}

/// The right to read the policy in the Registry's namespace only: the pods can't list namespaces then. `None`: it is given
/// in the whole cluster.
pub(super) fn build_policy_binding(inputs: &Inputs<'_>) -> Option<RoleBinding> {
    let registry = inputs.registry;
    (!reads_everywhere(registry)).then(|| RoleBinding {
        metadata: names::owned(registry, names::policy_role_binding(registry)),
        role_ref: role_ref("ClusterRole", names::POLICY_CLUSTER_ROLE.to_owned()),
        subjects: Some(subjects(registry)),
    })
}

/// The rights in the whole cluster. These can't be owned by the Registry: a finalizer has to delete them.
pub(super) fn build_cluster_bindings(inputs: &Inputs<'_>) -> Vec<ClusterRoleBinding> {
    let registry = inputs.registry;
    let (everywhere, authentication) = (reads_everywhere(registry), &registry.spec.authentication);
    let wanted = [
        (everywhere, names::POLICY_CLUSTER_ROLE),
        (authentication.service_accounts.is_some(), names::TOKEN_REVIEW_CLUSTER_ROLE),
        (!everywhere && authentication.selects_service_accounts(), names::NAMESPACES_CLUSTER_ROLE),
    ];
    let binding = |cluster_role: &str| ClusterRoleBinding {
        metadata: ObjectMeta {
            name: Some(names::cluster_role_binding(registry, cluster_role)),
            labels: Some(names::labels(registry)),
            annotations: Some(names::registry_annotation(registry)),
            ..ObjectMeta::default()
        },
        role_ref: role_ref("ClusterRole", cluster_role.to_owned()),
        subjects: Some(subjects(registry)),
    };
    wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, cluster_role)| binding(cluster_role)).collect()
}

fn reads_everywhere(registry: &Registry) -> bool {
    match registry.spec.project_namespaces.from {
        NamespacesFrom::Same => false,
        NamespacesFrom::All | NamespacesFrom::Selector => true,
    }
}

fn role_ref(kind: &str, name: String) -> RoleRef {
    RoleRef { api_group: API_GROUP.to_owned(), kind: kind.to_owned(), name }
}

fn subjects(registry: &Registry) -> Vec<Subject> {
    vec![Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: names::name(registry),
        namespace: Some(names::namespace(registry)),
    }]
}
