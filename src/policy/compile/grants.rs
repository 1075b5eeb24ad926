//! Who may do what: the Members' robots and users, and the Projects' pull secrets.

use std::sync::Arc;

use super::projects::{Lookup, Projects};
use super::{Inputs, Namespaces, Problem, name, namespace};
use crate::api::v1alpha1::{self as api, Member, Project, Registry};
use crate::policy::snapshot::{self, Grant, PullGrant, RobotGrant, Scope};
use crate::policy::{Glob, ObjectKey};

/// The namespaces that are to have a pull secret, and those that the Project selects but the Registry doesn't allow.
pub fn entitled_namespaces<'a>(
    project: &Project,
    registry: &Registry,
    namespaces: &'a Namespaces,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let settings = project.spec.pull_secrets.clone().unwrap_or_default();
    let (own, home) = (namespace(&project.metadata), namespace(&registry.metadata));
    let (selects, allows) = (settings.namespaces.matcher(own), registry.spec.pull_secret_namespaces.matcher(home));
    let selected = namespaces.iter().filter(|(name, labels)| selects(name, labels));
    let (allowed, forbidden): (Vec<_>, Vec<_>) = selected.partition(|(name, labels)| allows(name, labels));
    let names = |list: Vec<(&'a String, _)>| list.into_iter().map(|(name, _)| name.as_str()).collect();
    (names(allowed), names(forbidden))
}

pub(super) fn pull_grant(inputs: &Inputs, project: &Project) -> PullGrant {
    let namespaces = inputs.namespaces.as_ref().map(|namespaces| {
        let (allowed, _) = entitled_namespaces(project, &inputs.registry, namespaces);
        allowed.into_iter().map(str::to_owned).collect()
    });
    let settings = project.spec.pull_secrets.clone().unwrap_or_default();
    let grant = Grant {
        scope: Scope::Project(project.path().to_owned()),
        // The API server refuses Admin; objects from elsewhere are held to the same bound.
        role: role(settings.role).min(snapshot::Role::Developer),
        repositories: Vec::new(),
        expires_at: None,
        source: Arc::new(ObjectKey::new("Project", &project.metadata)),
    };
    PullGrant { grant, namespaces, generation: generation(settings.credential_generation) }
}

pub(super) fn member_grant(member: &Member, scope: Scope) -> Grant {
    Grant {
        scope,
        role: role(member.spec.role),
        repositories: member.spec.repositories.iter().map(|pattern| Glob::new(pattern)).collect(),
        expires_at: member.spec.expires_at.as_ref().map(|time| time.0),
        source: Arc::new(ObjectKey::new("Member", &member.metadata)),
    }
}

pub(super) fn robot_grant(member: &Member, grant: Grant) -> RobotGrant {
    let robots = member.robots().map(|robot| robot.name.clone()).collect();
    RobotGrant { grant, robots, generation: generation(member.spec.credential_generation) }
}

/// The schema has a lower bound of zero; what comes around it revokes nothing.
pub(super) fn generation(given: i32) -> u32 {
    u32::try_from(given).unwrap_or(0)
}

fn role(role: api::Role) -> snapshot::Role {
    match role {
        api::Role::Guest => snapshot::Role::Guest,
        api::Role::Developer => snapshot::Role::Developer,
        api::Role::Admin => snapshot::Role::Admin,
    }
}

/// Where a Member's role holds; `None` if it is another Registry's Member.
pub(super) fn scope_of(inputs: &Inputs, projects: &Projects<'_>, member: &Member) -> Result<Option<Scope>, Problem> {
    if let Some(registry) = &member.spec.registry_ref {
        let metadata = &inputs.registry.metadata;
        let is_ours = registry.name == name(metadata) && namespace(&member.metadata) == namespace(metadata);
        return Ok(is_ours.then_some(Scope::Registry));
    }
    let Some(project) = &member.spec.project_ref else { return Ok(None) };
    match projects.find(inputs, "Member", &member.metadata, &project.name) {
        Lookup::Accepted(project) => Ok(Some(Scope::Project(project.path().to_owned()))),
        Lookup::OtherRegistry => Ok(None),
        Lookup::Problem(problem) => Err(problem),
    }
}
