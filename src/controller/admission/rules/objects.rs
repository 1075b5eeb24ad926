//! The objects among which a change is judged, and the policy before and after it.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt as _};

use super::super::{Change, Request, Versions};
use super::authority::names_of;
use crate::api::v1alpha1::{Member, MemberSpec, Project, Registry, RepositoryPolicy, Subject};
use crate::controller::world::World;
use crate::policy::access::Principal;
use crate::policy::compile::{Namespaces, paths_touch};
use crate::policy::{Inputs, Problem, Snapshot, compile};

/// What is there now.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub registries: Vec<Arc<Registry>>,
    pub projects: Vec<Arc<Project>>,
    pub policies: Vec<Arc<RepositoryPolicy>>,
    pub members: Vec<Arc<Member>>,
    pub namespaces: Namespaces,
}

/// A policy and what is wrong with its objects.
pub(super) struct Policy {
    pub snapshot: Snapshot,
    pub problems: Vec<Problem>,
}

/// The policy before and after a change, as far as the change concerns it.
pub(super) struct Plan {
    /// The Registry that the object belongs to, by namespace and name, whether it is there or not; `None`: that depends on
    /// a Project that is not there.
    pub registry: Option<(String, String)>,
    /// The Project that it is about: by namespace and name, whether it is there or not.
    pub project: Option<(String, String)>,
    /// Whom Members of the Project's namespace name: of others, who have a role in the whole Registry, its people may not know.
    /// `None`: it is about the whole Registry.
    pub known: Option<HashSet<Principal>>,
    /// Whether it is a new Project that takes repositories from an official one, or would hold one.
    pub is_near_official: bool,
    pub before: Option<Policy>,
    pub after: Option<Policy>,
}

impl Objects {
    /// What the operator knows.
    pub fn of(world: &World) -> Self {
        Self {
            registries: world.registries.state(),
            projects: world.projects.state(),
            policies: world.policies.state(),
            members: world.members.state(),
            namespaces: world.labels_of_namespaces(),
        }
    }

    /// What the change amounts to. `None`: it changes nothing that is judged here.
    ///
    /// Of the Members only those count that the answer can depend on: compiling all of them for each one that is
    /// applied would take the longer, the more there are.
    pub(super) fn plan(&self, request: &Request, now: Timestamp) -> Option<Plan> {
        let (home, project, namespace) = match &request.change {
            Change::Registry(versions) if is_same(versions, |registry| &registry.spec) => return None,
            Change::Project(versions) if is_same(versions, |project| &project.spec) => return None,
            Change::RepositoryPolicy(versions) if is_same(versions, |policy| &policy.spec) => return None,
            Change::Member(versions) if is_same(versions, |member| &member.spec) => return None,
            Change::Registry(versions) => {
                let registry = versions.newest();
                (Some((namespace(registry), registry.name_any())), None, namespace(registry))
            }
            Change::Project(versions) => {
                let project = versions.newest();
                (Some(registry_of(project)), Some(project.name_any()), namespace(project))
            }
            Change::RepositoryPolicy(versions) => {
                let policy = versions.newest();
                let (namespace, name) = (namespace(policy), policy.spec.project_ref.name.clone());
                (self.registry_of_project(&namespace, &name), Some(name), namespace)
            }
            Change::Member(versions) => {
                let member = versions.newest();
                let namespace = namespace(member);
                // In the order in which the policy looks at them, should somebody get around the rule that there is one.
                match (&member.spec.registry_ref, &member.spec.project_ref) {
                    (Some(reference), _) => (Some((namespace.clone(), reference.name.clone())), None, namespace),
                    (None, Some(reference)) => {
                        let registry = self.registry_of_project(&namespace, &reference.name);
                        (registry, Some(reference.name.clone()), namespace)
                    }
                    (None, None) => (None, None, namespace),
                }
            }
        };
        let concerned = self.concerned(request, project.as_deref().map(|name| (namespace.as_str(), name)));
        let registry = home.as_ref().and_then(|(namespace, name)| self.registry(namespace, name));
        let before = registry.as_ref().map(|registry| policy(&concerned, registry));
        let before_members = concerned.members.clone();
        let mut changed = concerned;
        let mut after_registry = registry;
        match &request.change {
            Change::Registry(versions) => {
                after_registry = versions.after().map(|registry| Arc::new(registry.clone()));
                replace(&mut changed.registries, versions, now);
            }
            Change::Project(versions) => replace(&mut changed.projects, versions, now),
            Change::RepositoryPolicy(versions) => replace(&mut changed.policies, versions, now),
            Change::Member(versions) => replace(&mut changed.members, versions, now),
        }
        let after = after_registry.as_ref().map(|registry| policy(&changed, registry));
        let project = project.map(|name| (namespace, name));
        let is_near_official = match (&request.change, &before) {
            (Change::Project(Versions::Created(new)), Some(before)) => {
                let mut known = before.snapshot.projects.values();
                known.any(|known| known.official && paths_touch(&known.path, new.path()))
            }
            _ => false,
        };
        let known = project.as_ref().map(|(namespace, _)| {
            let members = changed.members.iter().chain(&before_members);
            let members = members.filter(|member| member.metadata.namespace.as_ref() == Some(namespace));
            members.flat_map(|member| principals(member)).collect()
        });
        Some(Plan { registry: home, project, known, is_near_official, before, after })
    }

    /// Whether the object that is to be refers to something that is not there.
    pub fn lack_a_reference_of(&self, change: &Change) -> bool {
        let project_lacks = |project: &Project| {
            let (namespace, name) = registry_of(project);
            self.registry(&namespace, &name).is_none()
        };
        let lacks_project = |namespace: &str, name: &str| {
            find(&self.projects, namespace, name).is_none_or(|project| project_lacks(&project))
        };
        match change {
            Change::Registry(_) => false,
            Change::Project(versions) => versions.after().is_some_and(project_lacks),
            Change::RepositoryPolicy(versions) => {
                versions.after().is_some_and(|policy| lacks_project(&namespace(policy), &policy.spec.project_ref.name))
            }
            Change::Member(versions) => versions.after().is_some_and(|member| {
                let MemberSpec { project_ref, registry_ref, .. } = &member.spec;
                let of_project = project_ref.as_ref().is_some_and(|it| lacks_project(&namespace(member), &it.name));
                let registry = |name: &str| self.registry(&namespace(member), name);
                of_project || registry_ref.as_ref().is_some_and(|it| registry(&it.name).is_none())
            }),
        }
    }

    pub(super) fn registry(&self, namespace: &str, name: &str) -> Option<Arc<Registry>> {
        find(&self.registries, namespace, name)
    }

    fn registry_of_project(&self, namespace: &str, name: &str) -> Option<(String, String)> {
        find(&self.projects, namespace, name).map(|project| registry_of(&project))
    }

    /// The objects that the answer can depend on: who the requester is in this, and whom the change is about.
    fn concerned(&self, request: &Request, project: Option<(&str, &str)>) -> Self {
        let mut objects = self.clone();
        if matches!(request.change, Change::Registry(_)) {
            return objects;
        }
        let mut names: HashSet<Principal> = names_of(&request.requester).collect();
        if let Change::Member(versions) = &request.change {
            for member in versions.before().into_iter().chain(versions.after()) {
                names.extend(principals(member));
            }
        }
        let touched = match request.change {
            Change::Project(_) | Change::RepositoryPolicy(_) => self.touched(request, project),
            Change::Registry(_) | Change::Member(_) => HashSet::new(),
        };
        objects.members.retain(|member| {
            let is_of_it = match project_of(member) {
                Some(project) => touched.contains(&project),
                None => !touched.is_empty(),
            };
            is_of_it || principals(member).any(|principal| names.contains(&principal))
        });
        // A role in the whole Registry is about all of them.
        let Some((namespace, name)) = project else { return objects };
        objects.policies.retain(|policy| {
            let named = (policy.metadata.namespace.as_deref().unwrap_or_default(), &*policy.spec.project_ref.name);
            touched.contains(&named) || named == (namespace, name)
        });
        let path = match &request.change {
            Change::Project(versions) => Some(versions.newest().path().to_owned()),
            _ => find(&self.projects, namespace, name).map(|project| project.path().to_owned()),
        };
        // Whether one is accepted depends on others only where their paths begin alike.
        let family = |path: &str| path.split('/').next().map(str::to_owned);
        let family_of_it = path.as_deref().and_then(family);
        objects.projects.retain(|project| family(project.path()) == family_of_it);
        objects
    }

    /// The Project, and those of its namespace whose repositories a nested path takes or gives back.
    fn touched<'a>(&'a self, request: &'a Request, project: Option<(&'a str, &'a str)>) -> HashSet<(&'a str, &'a str)> {
        let mut touched: HashSet<_> = project.into_iter().collect();
        if let Change::Project(versions) = &request.change {
            let path = versions.newest().path();
            let near = self.projects.iter().filter(|other| paths_touch(other.path(), path));
            touched.extend(near.map(|other| key(&**other)));
        }
        touched
    }
}

fn key<K: Resource>(object: &K) -> (&str, &str) {
    let metadata = object.meta();
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// The Registry that a Project names.
fn registry_of(project: &Project) -> (String, String) {
    let reference = &project.spec.registry_ref;
    (reference.namespace.clone().unwrap_or_else(|| namespace(project)), reference.name.clone())
}

/// The Project that a Member names.
fn project_of(member: &Member) -> Option<(&str, &str)> {
    let reference = member.spec.project_ref.as_ref()?;
    Some((member.metadata.namespace.as_deref().unwrap_or_default(), &reference.name))
}

/// Whom a Member names.
fn principals(member: &Member) -> impl Iterator<Item = Principal> {
    let of = |subject: &Subject| match compile::principal(member, subject) {
        Some(compile::Principal::User(user)) => Principal::User(user),
        Some(compile::Principal::Group(group)) => Principal::Group(group),
        None => {
            Principal::Robot { namespace: namespace(member), member: member.name_any(), robot: subject.name.clone() }
        }
    };
    member.spec.subjects.iter().map(of)
}

fn namespace<K: Resource>(object: &K) -> String {
    object.meta().namespace.clone().unwrap_or_default()
}

fn find<K: Resource>(objects: &[Arc<K>], namespace: &str, name: &str) -> Option<Arc<K>> {
    objects.iter().find(|object| key(&***object) == (namespace, name)).cloned()
}

fn is_same<K: Resource, S: PartialEq>(versions: &Versions<K>, spec: impl Fn(&K) -> &S) -> bool {
    match versions {
        Versions::Updated { before, after } => spec(before) == spec(after) && !decides_its_end(before, after),
        Versions::Created(_) | Versions::Deleted(_) => false,
    }
}

/// Whether what decides when an object ends is another now: Kubernetes deletes what is owned by nothing that is there, and
/// keeps what has a finalizer. So both are as good as deleting it, or as keeping others from that.
pub(super) fn decides_its_end<K: Resource>(before: &K, after: &K) -> bool {
    let ends = |object: &K| {
        let meta = object.meta();
        let owners: Vec<_> = meta.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect();
        (owners, meta.finalizers.clone().unwrap_or_default())
    };
    ends(before) != ends(after)
}

/// Puts the object as it is to be in the place of what it is.
fn replace<K: Resource + Clone>(objects: &mut Vec<Arc<K>>, versions: &Versions<K>, now: Timestamp) {
    objects.retain(|other| key(&**other) != key(versions.newest()));
    if let Some(after) = versions.after() {
        let mut after = after.clone();
        if versions.before().is_none() {
            // It is the youngest, also of those that were made in the same second: it takes no other's path.
            after.meta_mut().creation_timestamp = Some(Time(now + SignedDuration::from_secs(1)));
        }
        objects.push(Arc::new(after));
    }
}

fn policy(objects: &Objects, registry: &Arc<Registry>) -> Policy {
    let inputs = Inputs {
        registry: Arc::clone(registry),
        projects: objects.projects.clone(),
        policies: objects.policies.clone(),
        members: objects.members.clone(),
        namespaces: Some(objects.namespaces.clone()),
    };
    let (snapshot, problems) = compile(&inputs);
    Policy { snapshot, problems }
}
