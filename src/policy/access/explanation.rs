//! The answer to "may he, and why".

use std::fmt;

use k8s_openapi::jiff::Timestamp;

use super::{Given, NoLogin};
use crate::policy::{Identity, Kind, Needs, ObjectKey, Operation, Role};

/// Whether somebody may do something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `namespace/name` of the Registry.
    pub registry: String,
    pub identity: Identity,
    pub operation: Operation,
    /// What counts for the repository; `None` if no Project owns it.
    pub rule: Option<Rule>,
    pub reason: Reason,
    /// Why this identity can't log in at the Registry, whatever it has been granted.
    pub login: Option<NoLogin>,
}

/// What counts for a repository and an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub project: ObjectKey,
    pub path: String,
    pub kind: Kind,
    /// The RepositoryPolicy or the Project that says that it is of this kind.
    pub set_by: ObjectKey,
    pub needs: Needs,
}

/// Why somebody may do something, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Allowed: anyone may.
    Anyone,
    /// Allowed: every user may.
    EveryUser,
    /// Allowed by this.
    Granted(Given),
    /// Refused: a login would be needed.
    NotLoggedIn,
    /// Refused: what was shown is not valid any more.
    Revoked(Revocation),
    /// Refused: nobody has said whose repository this is.
    NoProject,
    /// Refused: no grant is enough. What comes nearest first, at most [`Near::MOST`].
    Insufficient(Vec<Near>),
}

/// Why a generated credential is not valid any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// There is no Member with its UID, or it has no robots.
    NoMember,
    /// The Member has no robot of this name.
    NoRobot {
        member: ObjectKey,
    },
    /// There is no Project with its UID.
    NoProject,
    /// The Project makes no pull secret for this namespace.
    Namespace {
        project: ObjectKey,
        namespace: String,
    },
    /// The generation of credentials is higher now.
    Generation {
        source: ObjectKey,
        least: u32,
    },
    Expired {
        source: ObjectKey,
        at: Timestamp,
    },
}

/// A grant that is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    pub given: Given,
    pub shortfall: Shortfall,
}

impl Near {
    /// How many of them are told.
    pub const MOST: usize = 3;
}

/// What a grant lacks. The nearest one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// It would do, had it not expired.
    Expired,
    /// Its role is too small.
    Role,
    /// None of its patterns matches.
    OtherRepositories,
    /// It is a membership of an official Project, which gives nothing.
    Official,
}

impl Explanation {
    /// What [`authorize`](crate::policy::authorize()) decides.
    pub fn allowed(&self) -> bool {
        matches!(self.reason, Reason::Anyone | Reason::EveryUser | Reason::Granted(_))
    }

    /// Whether it can be done: allowed, and by somebody who can log in. Objects are changed at the API server, where the
    /// Registry's logins don't matter.
    pub fn is_possible(&self) -> bool {
        self.allowed() && self.login_that_counts().is_none()
    }

    fn login_that_counts(&self) -> Option<&NoLogin> {
        let is_needed = self.reason != Reason::Anyone && !self.operation.action.is_about_objects();
        self.login.as_ref().filter(|_| is_needed)
    }

    /// What leads to the answer, one sentence each.
    pub fn because(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(rule) = &self.rule {
            let Rule { project, path, kind, set_by, needs } = rule;
            sentences.push(format!("{project} owns {path}/**"));
            sentences.push(format!("{set_by} makes {} {}", self.operation.repository, kind.name()));
            let action = self.operation.action.name();
            sentences.push(match needs {
                Needs::Anyone => format!("{action} needs no login there"),
                Needs::User => format!("{action} needs a login there"),
                Needs::Role(role) if *kind == Kind::Official => {
                    format!("{action} needs the role {} in the whole Registry there", role.name())
                }
                Needs::Role(role) => format!("{action} needs the role {} there", role.name()),
            });
        }
        sentences.extend(self.reason_texts());
        sentences.extend(self.login_that_counts().map(ToString::to_string));
        sentences
    }

    fn reason_texts(&self) -> Vec<String> {
        match &self.reason {
            Reason::Anyone | Reason::EveryUser => vec![],
            Reason::Granted(given) => vec![given.to_string()],
            Reason::NotLoggedIn => vec!["nobody is logged in".to_owned()],
            Reason::Revoked(revocation) => vec![revocation.to_string()],
            Reason::NoProject => vec![format!("no Project owns {}", self.operation.repository)],
            Reason::Insufficient(near) if near.is_empty() => vec![format!("{} has no role there", self.identity)],
            Reason::Insufficient(near) => near.iter().map(ToString::to_string).collect(),
        }
    }

    /// What to do for it to be possible.
    pub fn advice(&self) -> Option<String> {
        if self.allowed() {
            return self.login_that_counts().map(|login| login.advice(&self.registry));
        }
        Some(match (&self.reason, &self.rule) {
            (Reason::Revoked(revocation), _) => revocation.advice(),
            (Reason::NotLoggedIn, _) => "log in".to_owned(),
            (Reason::Insufficient(near), Some(rule)) => insufficient(near.first(), rule, &self.registry),
            _ => {
                let repository = &self.operation.repository;
                let path = repository.parents().last().unwrap_or(repository.as_str());
                format!(
                    "create a Project of Registry {} whose path is the beginning of the name, such as {path}",
                    self.registry
                )
            }
        })
    }
}

fn insufficient(nearest: Option<&Near>, rule: &Rule, registry: &str) -> String {
    let Rule { project, needs, kind, .. } = rule;
    let role = match needs {
        Needs::Role(role) => *role,
        Needs::Anyone | Needs::User => Role::Guest,
    };
    match nearest {
        Some(Near { given, shortfall: Shortfall::Expired }) => {
            format!("set spec.expiresAt of {} to a later time, or remove it", given.source)
        }
        Some(Near { given, shortfall: Shortfall::Role }) if given.source.kind == "Member" => {
            format!("set spec.role of {} to {}", given.source, role.name())
        }
        Some(Near { given, shortfall: Shortfall::OtherRepositories }) => {
            format!("add a pattern to spec.repositories of {}", given.source)
        }
        _ if *kind == Kind::Official => {
            let (namespace, name) = registry.split_once('/').unwrap_or_default();
            format!("add a Member in namespace {namespace} with registryRef {name} and role {}", role.name())
        }
        _ => format!(
            "add a Member in namespace {} with projectRef {} and role {}",
            project.namespace,
            project.name,
            role.name()
        ),
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.given.fmt(f)?;
        f.write_str(match self.shortfall {
            Shortfall::Expired => "",
            Shortfall::Role => ": not enough",
            Shortfall::OtherRepositories => ": not this repository",
            Shortfall::Official => ": membership of an official Project gives nothing",
        })
    }
}

impl Revocation {
    fn advice(&self) -> String {
        match self {
            Revocation::NoMember => "create the Member, and take the credential from its Secret".to_owned(),
            Revocation::NoRobot { member } => format!("add the robot to spec.subjects of {member}"),
            Revocation::NoProject => "create the Project, and take the pull secret that is made for it".to_owned(),
            Revocation::Namespace { project, namespace } => format!(
                "have spec.pullSecrets.namespaces of {project} and spec.pullSecretNamespaces of its Registry select namespace {namespace}"
            ),
            Revocation::Generation { .. } => "take the credential that the Secret holds now".to_owned(),
            Revocation::Expired { source, .. } => {
                format!("set spec.expiresAt of {source} to a later time, or remove it")
            }
        }
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Revocation::NoMember => f.write_str("there is no Member with such a robot: its credential is not valid"),
            Revocation::NoRobot { member } => write!(f, "{member} has no such robot: its credential is not valid"),
            Revocation::NoProject => f.write_str("there is no such Project: its pull secrets are not valid"),
            Revocation::Namespace { project, namespace } => {
                write!(f, "{project} has no pull secret in namespace {namespace}: such a one is not valid")
            }
            Revocation::Generation { source, least } => {
                write!(f, "{source} has revoked all credentials of a generation below {least}")
            }
            Revocation::Expired { source, at } => {
                write!(f, "{source} has expired at {at}: its credentials are not valid")
            }
        }
    }
}
