//! Which Projects are accepted, and which paths are theirs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::{Inputs, Metadata, ObjectKey, Problem, Reason, name, namespace};
use crate::api::v1alpha1::{Project, Registry};
use crate::oci::RepositoryName;

type AcceptedProjects = BTreeMap<(String, String), Arc<Project>>;

/// By namespace and name.
pub(super) struct Projects<'a> {
    pub accepted: AcceptedProjects,
    /// Refused ones and other Registries' too. An index, because each Member looks one up.
    all: HashMap<(&'a str, &'a str), &'a Project>,
}

impl<'a> Projects<'a> {
    pub fn accept(inputs: &'a Inputs, problems: &mut Vec<Problem>) -> Self {
        let key = |project: &'a Arc<Project>| (namespace(&project.metadata), name(&project.metadata));
        let all = inputs.projects.iter().map(|project| (key(project), &**project)).collect();
        Self { accepted: accept_projects(inputs, problems), all }
    }

    /// The Project that an object of this kind, with this metadata, refers to.
    pub fn find(&self, inputs: &Inputs, kind: &'static str, metadata: &Metadata, project: &str) -> Lookup<'_> {
        let home = namespace(metadata);
        if let Some(project) = self.accepted.get(&(home.to_owned(), project.to_owned())) {
            return Lookup::Accepted(project);
        }
        let (reason, message) = match self.all.get(&(home, project)) {
            Some(project) if !belongs_to(project, &inputs.registry) => return Lookup::OtherRegistry,
            Some(_) => (Reason::ProjectNotAccepted, format!("Project {project} is not accepted: see its conditions")),
            None => {
                let message =
                    format!("there is no Project {project} in namespace {home}: create it, or correct projectRef");
                (Reason::ProjectNotFound, message)
            }
        };
        Lookup::Problem(Problem { object: ObjectKey::new(kind, metadata), reason, message })
    }
}

/// Whether the Project names this Registry.
pub fn belongs_to(project: &Project, registry: &Registry) -> bool {
    let reference = &project.spec.registry_ref;
    let namespace_of_reference = reference.namespace.as_deref().unwrap_or(namespace(&project.metadata));
    reference.name == name(&registry.metadata) && namespace_of_reference == namespace(&registry.metadata)
}

/// Age first, then namespace and name: the order in which Projects claim a path.
fn claim_order(project: &Project) -> (Option<Timestamp>, String, String) {
    let metadata = &project.metadata;
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, namespace(metadata).to_owned(), name(metadata).to_owned())
}

fn accept_projects(inputs: &Inputs, problems: &mut Vec<Problem>) -> AcceptedProjects {
    let mut candidates: Vec<_> =
        inputs.projects.iter().filter(|project| belongs_to(project, &inputs.registry)).collect();
    candidates.sort_by_cached_key(|project| claim_order(project));
    let mut owners: BTreeMap<&str, &Project> = BTreeMap::new();
    let mut accepted = AcceptedProjects::new();
    for project in candidates {
        let refusal = refuse_project(inputs, project).or_else(|| {
            let owner = rival(&owners, project)?;
            let (namespace, name) = (namespace(&owner.metadata), name(&owner.metadata));
            let message = format!(
                "path {:?} is or lies within the path {:?} of the older Project {namespace}/{name}, or the other way round: choose another path",
                project.path(),
                owner.path()
            );
            Some((Reason::PathConflict, message))
        });
        match refusal {
            Some((reason, message)) => {
                problems.push(Problem { object: ObjectKey::new("Project", &project.metadata), reason, message });
            }
            None => {
                owners.insert(project.path(), project);
                let key = (namespace(&project.metadata).to_owned(), name(&project.metadata).to_owned());
                accepted.insert(key, Arc::clone(project));
            }
        }
    }
    accepted
}

/// An older Project that has the path, or one above or below it in another namespace. Nested paths are for one team to
/// divide: otherwise a new Project would take over what others have pushed below theirs.
fn rival<'a>(owners: &BTreeMap<&str, &'a Project>, project: &Project) -> Option<&'a Project> {
    let path = project.path();
    let foreign = |owner: &&&'a Project| owner.metadata.namespace != project.metadata.namespace;
    let mut above = std::iter::successors(path.rsplit_once('/'), |(parent, _)| parent.rsplit_once('/'));
    let inside = format!("{path}/");
    let mut below = owners.range(inside.as_str()..).take_while(|(other, _)| other.starts_with(&inside));
    owners
        .get(path)
        .or_else(|| above.find_map(|(parent, _)| owners.get(parent).filter(foreign)))
        .or_else(|| below.find_map(|(_, owner)| Some(owner).filter(foreign)))
        .copied()
}

/// Whether the acceptance of one of two paths can depend on the other.
pub fn paths_touch(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    one == other || within(one, other) || within(other, one)
}

/// What is wrong with a Project, other Projects aside.
fn refuse_project(inputs: &Inputs, project: &Project) -> Option<(Reason, String)> {
    let registry = &inputs.registry;
    let (own, candidate) = (namespace(&registry.metadata), namespace(&project.metadata));
    let no_labels = BTreeMap::new();
    let labels = inputs.namespaces.as_ref().and_then(|all| all.get(candidate)).unwrap_or(&no_labels);
    if !registry.spec.project_namespaces.contains(own, candidate, labels) {
        let message = format!(
            "Registry {own}/{} takes no Projects from namespace {candidate}: ask for it in its spec.projectNamespaces",
            name(&registry.metadata)
        );
        return Some((Reason::NamespaceNotAllowed, message));
    }
    if project.spec.official && own != candidate {
        let message = format!(
            "an official Project must live in the namespace of its Registry, {own}: move it, or set official to false"
        );
        return Some((Reason::OfficialNotAllowed, message));
    }
    if let Err(error) = project.path().parse::<RepositoryName>() {
        return Some((Reason::InvalidPath, format!("path {:?} can't be used: {error}", project.path())));
    }
    None
}

pub(super) enum Lookup<'a> {
    Accepted(&'a Project),
    OtherRegistry,
    Problem(Problem),
}
