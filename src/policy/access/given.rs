//! A grant, told to a person.

use std::fmt;

use k8s_openapi::jiff::Timestamp;

use crate::policy::{Grant, Group, ObjectKey, Role, Scope};

/// What a Member, or a Project for its pull secrets, grants to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub source: ObjectKey,
    pub role: Role,
    /// Patterns of whole names, such as `team/app-*`.
    pub repositories: Vec<String>,
    /// The group that has the role, if it isn't the asker himself.
    pub through: Option<Group>,
    pub expires_at: Option<Timestamp>,
    pub has_expired: bool,
}

impl Given {
    pub(super) fn of(grant: &Grant, through: Option<&Group>, now: Timestamp) -> Self {
        Self {
            source: (*grant.source).clone(),
            role: grant.role,
            repositories: patterns(grant),
            through: through.cloned(),
            expires_at: grant.expires_at,
            has_expired: !grant.holds(now),
        }
    }
}

/// The patterns of whole names that a grant is about.
pub(super) fn patterns(grant: &Grant) -> Vec<String> {
    let prefix = match &grant.scope {
        Scope::Project(path) => format!("{path}/"),
        Scope::Registry => String::new(),
    };
    match grant.repositories.as_slice() {
        [] => vec![format!("{prefix}**")],
        globs => globs.iter().map(|glob| format!("{prefix}{glob}")).collect(),
    }
}

/// `Member team/devs: role Developer on team/app-*, through group oidc:corp:devs, until 2027-01-01T00:00:00Z`
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, role, repositories, through, expires_at, has_expired } = self;
        write!(f, "{source}: role {} on {}", role.name(), repositories.join(", "))?;
        if let Some(group) = through {
            write!(f, ", through group {group}")?;
        }
        match expires_at {
            Some(end) if *has_expired => write!(f, ", expired at {end}"),
            Some(end) => write!(f, ", until {end}"),
            None => Ok(()),
        }
    }
}
