//! What the pods may read: their signing keys, and the policy.
//!
//! The policy (Registries, Projects, RepositoryPolicies, Members and namespaces) is what the ClusterRole
//! [`names::POLICY_CLUSTER_ROLE`] allows. It is bound in the Registry's own namespace where Projects can come from there
//! only, so that the registry sees nothing of other tenants, and otherwise in the whole cluster.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;

use super::{Inputs, names};
use crate::api::v1alpha1::{NamespacesFrom, Registry};

const API_GROUP: &str = "rbac.authorization.k8s.io";

/// How the pods may read the policy.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyBinding {
    /// In the Registry's namespace. It can't list namespaces then, and needs no other than its own.
    Namespace(RoleBinding),
    /// In the whole cluster. It can't be owned by the Registry: a finalizer has to delete it.
    Cluster(ClusterRoleBinding),
}

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

pub(super) fn build_policy_binding(inputs: &Inputs<'_>) -> PolicyBinding {
    let registry = inputs.registry;
    let role_ref = role_ref("ClusterRole", names::POLICY_CLUSTER_ROLE.to_owned());
    let subjects = Some(subjects(registry));
    match registry.spec.project_namespaces.from {
        NamespacesFrom::Same => {
            let metadata = names::owned(registry, names::policy_role_binding(registry));
            PolicyBinding::Namespace(RoleBinding { metadata, role_ref, subjects })
        }
        NamespacesFrom::All | NamespacesFrom::Selector => {
            let metadata = ObjectMeta {
                name: Some(names::policy_cluster_role_binding(registry)),
                labels: Some(names::labels(registry)),
                annotations: Some(names::registry_annotation(registry)),
                ..ObjectMeta::default()
            };
            PolicyBinding::Cluster(ClusterRoleBinding { metadata, role_ref, subjects })
        }
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
