//! From custom resources to a [`Snapshot`], and to what is wrong with them.
//!
//! The operator and the registry run the same code: the one writes the problems into conditions, the other enforces the
//! snapshot. An object with a problem contributes nothing and harms no other.

pub mod claims;
mod entries;
mod grants;
mod problem;
mod projects;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use self::grants::entitled_namespaces;
pub use self::problem::{ObjectKey, Problem, Reason};
pub use self::projects::{belongs_to, paths_touch};

use self::entries::{policy_rule, project_entry, registry_facts};
use self::grants::{generation, member_grant, pull_grant, robot_grant, scope_of};
use self::projects::{Lookup, Projects};
use super::User;
use super::snapshot::Snapshot;
use crate::api::v1alpha1::{Member, Project, Registry, RepositoryPolicy};

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

/// Compiles the policy of one Registry.
pub fn compile(inputs: &Inputs) -> (Snapshot, Vec<Problem>) {
    let mut problems = Vec::new();
    let projects = Projects::accept(inputs, &mut problems);
    let mut snapshot = Snapshot {
        registry: registry_facts(&inputs.registry),
        projects: HashMap::new(),
        robots: HashMap::new(),
        pull_secrets: HashMap::new(),
        users: HashMap::new(),
    };
    for project in projects.accepted.values() {
        snapshot.projects.insert(project.path().to_owned(), project_entry(project));
        // What is being deleted keeps its path until it is gone, and gives no rights any more.
        if is_live(&project.metadata) {
            snapshot.pull_secrets.insert(uid(&project.metadata), pull_grant(inputs, project));
        }
    }
    for policy in &inputs.policies {
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
    for member in inputs.members.iter().filter(|member| is_live(&member.metadata)) {
        match scope_of(inputs, &projects, member) {
            Ok(Some(scope)) => {
                let grant = member_grant(member, scope);
                // The API server refuses a name that is none; one that comes around it is nobody's.
                for user in member.users().filter_map(|subject| subject.name.parse::<User>().ok()) {
                    snapshot.users.entry(user).or_default().push(grant.clone());
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
