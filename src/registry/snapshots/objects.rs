//! Objects of however many Registries, from wherever they come.

use std::sync::Arc;

use ::kube::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::v1alpha1::{
    Member, NamespaceSelection, NamespacesFrom, Project, PullSecrets, Registry, RepositoryPolicy, ServiceAccounts,
};
use crate::policy::Inputs;
use crate::policy::compile::{Namespaces, belongs_to};

/// The four kinds, and the labels of namespaces as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub registries: Vec<Arc<Registry>>,
    pub projects: Vec<Arc<Project>>,
    pub policies: Vec<Arc<RepositoryPolicy>>,
    pub members: Vec<Arc<Member>>,
    pub namespaces: Option<Namespaces>,
}

/// Why it is not clear which Registry is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    #[error("there is no Registry")]
    None,
    #[error("there is no Registry {name}: there is {}", .there.join(", "))]
    NoSuch { name: String, there: Vec<String> },
    #[error("there are several Registries, name one with --registry: {}", .0.join(", "))]
    Several(Vec<String>),
}

/// `namespace/name`
fn full_name(metadata: &ObjectMeta) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

impl Objects {
    /// What the policy of one of the Registries is compiled from.
    pub fn inputs(&self, registry: &Arc<Registry>) -> Inputs {
        Inputs {
            registry: Arc::clone(registry),
            projects: self.projects.clone(),
            policies: self.policies.clone(),
            members: self.members.clone(),
            namespaces: self.namespaces.clone(),
        }
    }

    /// `namespace/name` of each Registry, sorted.
    pub fn registry_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.registries.iter().map(|registry| full_name(&registry.metadata)).collect();
        names.sort();
        names
    }

    pub fn registry(&self, name: &str) -> Option<&Arc<Registry>> {
        self.registries.iter().find(|registry| full_name(&registry.metadata) == name)
    }

    /// The Registry with this `namespace/name`, or the only one.
    pub fn choose(&self, name: Option<&str>) -> Result<&Arc<Registry>, ChooseError> {
        match (name, self.registries.as_slice()) {
            (_, []) => Err(ChooseError::None),
            (None, [only]) => Ok(only),
            (None, _) => Err(ChooseError::Several(self.registry_names())),
            (Some(name), _) => {
                let error = || ChooseError::NoSuch { name: name.to_owned(), there: self.registry_names() };
                self.registry(name).ok_or_else(error)
            }
        }
    }

    /// `namespace/name` of Projects whose Registry is not here, and of that.
    pub fn strays(&self) -> Vec<(String, String)> {
        let is_stray = |project: &&Arc<Project>| !self.registries.iter().any(|registry| belongs_to(project, registry));
        let told = |project: &Arc<Project>| {
            let reference = &project.spec.registry_ref;
            let namespace = reference.namespace.as_ref().or(project.metadata.namespace.as_ref());
            let registry = format!("{}/{}", namespace.cloned().unwrap_or_default(), reference.name);
            (full_name(&project.metadata), registry)
        };
        self.projects.iter().filter(is_stray).map(told).collect()
    }

    /// Whether something is chosen by labels of namespaces, which are not known.
    pub fn has_unknown_selection(&self) -> bool {
        let of_registry = |registry: &Arc<Registry>| {
            let spec = &registry.spec;
            let accounts = spec.authentication.service_accounts.as_ref();
            let accounts = accounts.map(|accounts: &ServiceAccounts| by_labels(&accounts.namespaces));
            by_labels(&spec.project_namespaces) || by_labels(&spec.pull_secret_namespaces) || accounts == Some(true)
        };
        let of_project = |project: &Arc<Project>| {
            project.spec.pull_secrets.as_ref().is_some_and(|secrets: &PullSecrets| by_labels(&secrets.namespaces))
        };
        self.namespaces.is_none() && (self.registries.iter().any(of_registry) || self.projects.iter().any(of_project))
    }

    /// These objects with others applied to them: an object of the same name gets the other's specification and stays the
    /// same object, others are made now.
    pub fn with(mut self, others: Objects, now: Timestamp) -> Self {
        let Objects { registries, projects, policies, members, namespaces } = others;
        apply(&mut self.registries, registries, now);
        apply(&mut self.projects, projects, now);
        apply(&mut self.policies, policies, now);
        apply(&mut self.members, members, now);
        if let Some(known) = &mut self.namespaces {
            known.extend(namespaces.into_iter().flatten());
        }
        self
    }
}

fn by_labels(selection: &NamespaceSelection) -> bool {
    selection.from == NamespacesFrom::Selector
}

fn apply<K: Resource + Clone>(objects: &mut Vec<Arc<K>>, others: Vec<Arc<K>>, now: Timestamp) {
    for mut other in others {
        let name = full_name(other.meta());
        let metadata = Arc::make_mut(&mut other).meta_mut();
        match objects.iter_mut().find(|object| full_name(object.meta()) == name) {
            Some(object) => {
                metadata.uid = object.meta().uid.clone();
                metadata.creation_timestamp = object.meta().creation_timestamp.clone();
                metadata.deletion_timestamp = object.meta().deletion_timestamp.clone();
                *object = other;
            }
            None => {
                metadata.creation_timestamp = Some(Time(now));
                objects.push(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str, visibility: &str, uid: &str) -> Arc<Project> {
        let yaml = format!(
            "apiVersion: landfast.dev/v1alpha1\nkind: Project\nmetadata: {{name: {name}, namespace: n, uid: {uid}, creationTimestamp: 1970-01-01T00:00:00Z}}\nspec: {{registryRef: {{name: r}}, visibility: {visibility}}}"
        );
        Arc::new(serde_saphyr::from_str(&yaml).unwrap())
    }

    fn registry(name: &str) -> Arc<Registry> {
        let yaml = format!(
            "apiVersion: landfast.dev/v1alpha1\nkind: Registry\nmetadata: {{name: {name}, namespace: n}}\nspec: {{storage: {{emptyDir: {{}}}}}}"
        );
        Arc::new(serde_saphyr::from_str(&yaml).unwrap())
    }

    #[test]
    fn the_only_registry_needs_no_name() {
        let mut objects = Objects::default();
        assert_eq!(objects.choose(None), Err(ChooseError::None));
        objects.registries.push(registry("r"));
        assert_eq!(objects.choose(None).unwrap().metadata.name.as_deref(), Some("r"));
        objects.registries.push(registry("a"));
        assert_eq!(objects.choose(None), Err(ChooseError::Several(vec!["n/a".to_owned(), "n/r".to_owned()])));
        assert_eq!(objects.choose(Some("n/a")).unwrap().metadata.name.as_deref(), Some("a"));
        assert!(matches!(objects.choose(Some("n/z")), Err(ChooseError::NoSuch { .. })));
    }

    #[test]
    fn what_is_applied_stays_the_same_object() {
        let there = Objects { projects: vec![project("a", "Private", "u")], ..Objects::default() };
        let others = Objects {
            projects: vec![project("a", "Public", "made-up"), project("b", "Private", "made-up")],
            ..Objects::default()
        };
        let now = Timestamp::from_second(100).unwrap();
        let objects = there.with(others, now);
        let told: Vec<_> = objects
            .projects
            .iter()
            .map(|project| {
                let metadata = &project.metadata;
                let created = metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
                (metadata.uid.as_deref().unwrap(), created, format!("{:?}", project.spec.visibility))
            })
            .collect();
        assert_eq!(told, [("u", Some(0), "Public".to_owned()), ("made-up", Some(100), "Private".to_owned())]);
        assert_eq!(objects.strays().len(), 2);
    }
}
