//! From custom resources to a [`Snapshot`], and to what is wrong with them.
//!
//! The operator and the registry run the same code: the one writes the problems into conditions, the other enforces the
//! snapshot. An object with a problem contributes nothing and harms no other.

pub mod claims;
mod entries;
mod grants;
mod problem;
mod projects;
mod providers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::grants::entitled_namespaces;
pub use self::problem::{Problem, Reason};
pub use self::projects::{belongs_to, paths_touch};

use self::entries::{policy_rule, project_entry, registry_facts};
use self::grants::{generation, member_grant, pull_grant, robot_grant, scope_of};
use self::projects::{Lookup, Projects};
use super::snapshot::Snapshot;
use super::{Group, ObjectKey, User};
use crate::api::v1alpha1::{Member, Project, Registry, RepositoryPolicy, Subject, SubjectKind};

/// Everything that the policy of one Registry is made of. The lists may hold objects of other Registries too: they are
/// passed over.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub registry: Arc<Registry>,
    pub projects: Vec<Arc<Project>>,
    pub policies: Vec<Arc<RepositoryPolicy>>,
    pub members: Vec<Arc<Member>>,
    /// Labels of the namespaces, by name. `None` if they can't be read: then no selector selects any, and what a pull
    /// secret's namespace is entitled to is decided as far as names go.
    pub namespaces: Option<Namespaces>,
}

/// Labels of namespaces, by name.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Compiles the policy of one Registry. The order of the objects makes no difference.
pub fn compile(inputs: &Inputs) -> (Snapshot, Vec<Problem>) {
    let mut problems = Vec::new();
    let projects = Projects::accept(inputs, &mut problems);
    let mut snapshot = Snapshot::new(registry_facts(inputs));
    for project in projects.accepted.values() {
        snapshot.projects.insert(project.path().to_owned(), project_entry(project));
        // What is being deleted keeps its path until it is gone, and gives no rights any more.
        if is_live(&project.metadata) {
            snapshot.pull_secrets.insert(uid(&project.metadata), pull_grant(inputs, project));
        }
    }
    let policies = in_order(&inputs.policies, |policy| &policy.metadata);
    // What is being deleted says nothing any more, however long others keep it.
    for policy in policies.into_iter().filter(|policy| is_live(&policy.metadata)) {
        match projects.find(inputs, "RepositoryPolicy", &policy.metadata, &policy.spec.project_ref.name) {
            Lookup::Accepted(project) => {
                if let Some(entry) = snapshot.projects.get_mut(project.path()) {
                    entry.policies.push(policy_rule(policy));
                }
            }
            Lookup::Problem(problem) => problems.push(problem),
            Lookup::OtherRegistry => {}
        }
    }
    let members = in_order(&inputs.members, |member| &member.metadata);
    for member in members.into_iter().filter(|member| is_live(&member.metadata)) {
        match scope_of(inputs, &projects, member) {
            Ok(Some(scope)) => {
                let grant = member_grant(member, scope);
                for subject in &member.spec.subjects {
                    match principal(member, subject) {
                        Some(Principal::User(user)) => snapshot.users.entry(user).or_default().push(grant.clone()),
                        Some(Principal::Group(group)) => snapshot.groups.entry(group).or_default().push(grant.clone()),
                        None => {}
                    }
                }
                if member.robots().next().is_some() {
                    snapshot.robots.insert(uid(&member.metadata), robot_grant(member, grant));
                }
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    (snapshot, problems)
}

/// Whom a subject of a Member names, robots aside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    User(User),
    Group(Group),
}

/// Whom a subject names. The API server refuses a name that is none; one that comes around it is nobody's.
pub fn principal(member: &Member, subject: &Subject) -> Option<Principal> {
    match subject.kind {
        SubjectKind::Robot => None,
        SubjectKind::User => subject.name.parse().ok().map(Principal::User),
        SubjectKind::Group => subject.name.parse().ok().map(Principal::Group),
        SubjectKind::ServiceAccount => {
            let namespace = subject.namespace.as_deref().unwrap_or(namespace(&member.metadata));
            Some(Principal::User(User::service_account(namespace, &subject.name)))
        }
    }
}

/// By namespace and name.
fn in_order<'a, K>(objects: &'a [Arc<K>], metadata: impl Fn(&K) -> &Metadata) -> Vec<&'a Arc<K>> {
    let mut objects: Vec<_> = objects.iter().collect();
    objects.sort_by(|one, other| {
        let key = |object: &'a Arc<K>| -> (&str, &str) {
            let metadata = metadata(object);
            (namespace(metadata), name(metadata))
        };
        key(one).cmp(&key(other))
    });
    objects
}

type Metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn namespace(metadata: &Metadata) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

fn name(metadata: &Metadata) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn uid(metadata: &Metadata) -> String {
    metadata.uid.clone().unwrap_or_default()
}

fn is_live(metadata: &Metadata) -> bool {
    metadata.deletion_timestamp.is_none()
}
