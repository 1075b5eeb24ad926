//! What the requester has.

use k8s_openapi::jiff::Timestamp;

use super::super::Requester;
use super::Privileges;
use super::needs::{EVERYTHING, Level, Need};
use super::objects::Plan;
use crate::policy::access::Principal;
use crate::policy::{Glob, Grant, Group, Identity, Needs, ProjectEntry, Provider, Role, Scope, Snapshot, User, needs};

/// The verb that makes free: on `projects` as to the Projects of a namespace, on `registries` as to a whole Registry.
const ADMINISTER: &str = "administer";

/// A requester, and where he wants to do something.
pub(super) struct Authority<'a> {
    pub plan: &'a Plan,
    pub requester: &'a Requester,
    pub privileges: &'a dyn Privileges,
    pub now: Timestamp,
}

/// The requester as Members may name him. A name that can't be one is nobody's.
fn identity_of(requester: &Requester) -> Identity {
    let groups = requester.groups.iter().filter_map(|group| Group::of(Provider::Kubernetes, group).ok()).collect();
    match User::of(Provider::Kubernetes, &requester.name) {
        Ok(user) => Identity::of(user, groups),
        Err(_) => Identity::Anonymous,
    }
}

/// As whom Members may name the requester.
pub(super) fn names_of(requester: &Requester) -> impl Iterator<Item = Principal> {
    let identity = identity_of(requester);
    let user = identity.user().cloned().map(Principal::User);
    let groups: Vec<_> = identity.groups().iter().cloned().map(Principal::Group).collect();
    user.into_iter().chain(groups)
}

impl Authority<'_> {
    /// Why the requester may not do this, if he may not.
    pub async fn lacks(&self, needs: &[Need]) -> Result<Option<String>, kube::Error> {
        let missing: Vec<&Need> = needs.iter().filter(|need| !self.has_by_role(&need.level)).collect();
        let Some(first) = missing.first() else { return Ok(None) };
        if self.is_free_in_registry().await? {
            return Ok(None);
        }
        let registry_only = missing.iter().find(|need| self.is_for_the_registry(&need.level));
        if registry_only.is_none() && self.is_free_in_namespace().await? {
            return Ok(None);
        }
        Ok(Some(self.refusal(registry_only.unwrap_or(first))))
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        self.plan.before.as_ref().map(|before| &before.snapshot)
    }

    /// The Project as it is in force.
    fn project(&self) -> Option<&ProjectEntry> {
        let (namespace, name) = self.plan.project.as_ref()?;
        let is_it = |entry: &&ProjectEntry| entry.source.namespace == *namespace && entry.source.name == *name;
        self.snapshot()?.projects.values().find(is_it)
    }

    /// Whether those who run the Registry have to decide it, and not those who run the namespace: it is about the Registry, or
    /// about what stands for the platform.
    fn is_for_the_registry(&self, level: &Level) -> bool {
        match level {
            Level::Registry => true,
            Level::Grant { .. } if self.plan.project.is_none() => true,
            Level::Namespace | Level::Grant { .. } | Level::Matrix { .. } => {
                self.project().is_some_and(|project| project.official)
            }
        }
    }

    /// Whether Members give the requester what is needed.
    fn has_by_role(&self, level: &Level) -> bool {
        let Some(snapshot) = self.snapshot() else { return false };
        let identity = identity_of(self.requester);
        let Some(grants) = snapshot.grants_of(&identity, self.now) else { return false };
        let grants: Vec<&Grant> = grants.filter(|grant| grant.holds(self.now)).collect();
        let project = self.project();
        let all = |patterns: &[String], least: Role, until: Option<Option<Timestamp>>| {
            let long_enough = |grant: &Grant| match (grant.expires_at, until) {
                (None, _) | (_, None) => true,
                (Some(end), Some(until)) => until.is_some_and(|until| until <= end),
            };
            !patterns.is_empty()
                && patterns.iter().all(|pattern| {
                    grants
                        .iter()
                        .any(|grant| grant.role >= least && long_enough(grant) && covers(grant, project, pattern))
                })
        };
        match level {
            Level::Matrix { action, patterns } => match project {
                None => false,
                Some(project) => match needs(project.kind(), *action) {
                    Needs::Role(least) => all(patterns, least, None),
                    // No change is open to everybody.
                    Needs::Anyone | Needs::User => false,
                },
            },
            Level::Grant { patterns, until } => {
                (self.plan.project.is_none() || project.is_some()) && all(patterns, Role::Admin, Some(*until))
            }
            Level::Namespace | Level::Registry => {
                let everything = |grant: &Grant| grant.scope == Scope::Registry && covers(grant, None, EVERYTHING);
                grants.iter().any(|grant| grant.role >= Role::Admin && everything(grant))
            }
        }
    }

    async fn is_free_in_registry(&self) -> Result<bool, kube::Error> {
        let Some((namespace, name)) = &self.plan.registry else { return Ok(false) };
        self.privileges.may(self.requester, ADMINISTER, "registries", namespace, Some(name)).await
    }

    async fn is_free_in_namespace(&self) -> Result<bool, kube::Error> {
        let Some((namespace, name)) = &self.plan.project else { return Ok(false) };
        self.privileges.may(self.requester, ADMINISTER, "projects", namespace, Some(name)).await
    }

    fn refusal(&self, need: &Need) -> String {
        let Need { what, level } = need;
        let who = &self.requester.name;
        let registry = match &self.plan.registry {
            Some((namespace, name)) => format!("Registry {namespace}/{name}"),
            None => "the Registry".to_owned(),
        };
        let (namespace, project) = match &self.plan.project {
            Some((namespace, name)) => (namespace.as_str(), Some(format!("Project {namespace}/{name}"))),
            None => ("", None),
        };
        let is_official = self.project().is_some_and(|project| project.official);
        match (level, project) {
            (Level::Registry, _) => {
                format!("{who} may not {what}: that is for those who may administer {registry}; ask one of them")
            }
            (Level::Namespace, Some(project)) if is_official => format!(
                "{who} may not {what}: {project} is official, so that is for those who may administer {registry}; ask one of them"
            ),
            (Level::Namespace, _) => format!(
                "{who} may not {what}: that is for those who may administer projects in namespace {namespace}, as the role admin lets; ask one of them"
            ),
            (Level::Matrix { .. } | Level::Grant { .. }, Some(project)) if self.project().is_none() => format!(
                "{who} may not {what}: {project} is not there or not in force, so nobody has a role in it; create it first, or ask somebody who may administer projects in namespace {namespace}"
            ),
            (Level::Matrix { patterns, .. } | Level::Grant { patterns, .. }, project) => {
                let place = match project {
                    Some(project) if is_official => format!("{registry}, as {project} is official"),
                    Some(project) => project,
                    None => registry,
                };
                let (role, end) = (self.role_for(level), end_of(level));
                let repositories = repositories(patterns);
                format!(
                    "{who} may not {what}: that needs the role {role} in {place}, for {repositories}{end}; ask somebody who has it"
                )
            }
        }
    }

    /// The least role that would do.
    fn role_for(&self, level: &Level) -> &'static str {
        match level {
            Level::Matrix { action, .. } => match self.project().map(|project| needs(project.kind(), *action)) {
                Some(Needs::Role(Role::Developer)) => "Developer",
                _ => "Admin",
            },
            Level::Grant { .. } | Level::Namespace | Level::Registry => "Admin",
        }
    }
}

fn repositories(patterns: &[String]) -> String {
    let everything = patterns.iter().any(|pattern| pattern == EVERYTHING);
    if everything { "all repositories".to_owned() } else { patterns.join(", ") }
}

/// For how long somebody needs to have what he grants.
fn end_of(level: &Level) -> &'static str {
    match level {
        Level::Grant { until: None, .. } => ", without an end",
        Level::Grant { until: Some(until), .. } if *until != Timestamp::MIN => ", for as long as it is to last",
        Level::Grant { .. } | Level::Matrix { .. } | Level::Namespace | Level::Registry => "",
    }
}

/// Whether a grant holds for every repository that the pattern matches: below the Project, or else anywhere.
fn covers(grant: &Grant, project: Option<&ProjectEntry>, pattern: &str) -> bool {
    let pattern = match (&grant.scope, project) {
        (Scope::Registry, None) => Glob::new(pattern),
        (Scope::Registry, Some(project)) => Glob::new(&format!("{}/{pattern}", project.path)),
        // Membership of an official project gives nothing.
        (Scope::Project(path), Some(project)) if *path == project.path && !project.official => Glob::new(pattern),
        (Scope::Project(_), _) => return false,
    };
    grant.repositories.is_empty() || grant.repositories.iter().any(|glob| glob.covers(&pattern))
}
