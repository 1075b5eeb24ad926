//! The compiled policy of one Registry: immutable, shared by every request, replaced whole.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::jiff::Timestamp;

use super::{CredentialSubject, Glob, Identity, User};
use crate::oci::RepositoryName;

/// What a member may do; a greater role includes the smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Guest,
    Developer,
    Admin,
}

/// Who may pull besides the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    Private,
    Internal,
    Public,
}

/// What the data plane needs to know of its Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryFacts {
    /// UID of the Registry: the audience of its credentials and tokens.
    pub uid: String,
    /// `namespace/name`, for logs.
    pub name: String,
    /// Life of a token, in seconds.
    pub token_ttl: u64,
    pub failures: FailureLimits,
}

/// How many failed logins are borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimits {
    /// In the long run.
    pub per_minute: u32,
    /// At once.
    pub burst: u32,
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self { per_minute: 10, burst: 20 }
    }
}

/// Where a grant holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the Project with this path.
    Project(String),
    /// In the whole Registry.
    Registry,
}

/// A role, somewhere, perhaps for some repositories only and for some time only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub scope: Scope,
    pub role: Role,
    /// Empty: all repositories. In a Project they are relative to its path.
    pub repositories: Vec<Glob>,
    pub expires_at: Option<Timestamp>,
}

impl Grant {
    /// Whether it has not expired.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }
}

/// A Member's grant to its robots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RobotGrant {
    pub grant: Grant,
    /// Names of the robots.
    pub robots: Vec<String>,
    /// Credentials of a lower generation are revoked.
    pub generation: u32,
}

/// A Project's grant to its pull secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullGrant {
    pub grant: Grant,
    /// Namespaces whose pull secrets count; `None`: that could not be decided, all do.
    pub namespaces: Option<BTreeSet<String>>,
    pub generation: u32,
}

/// What a RepositoryPolicy sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    pub name: String,
    pub repositories: Vec<Glob>,
    pub visibility: Option<Visibility>,
}

/// A Project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectEntry {
    pub path: String,
    pub official: bool,
    pub visibility: Visibility,
    /// In no particular order: the most specific pattern wins.
    pub policies: Vec<PolicyRule>,
}

impl ProjectEntry {
    /// Who may pull this repository besides the members.
    pub fn visibility_of(&self, repository: &RepositoryName) -> Visibility {
        let relative = relative_to(repository, &self.path);
        let rules = self.policies.iter().filter_map(|policy| {
            let visibility = policy.visibility?;
            let matching = policy.repositories.iter().filter(|glob| glob.matches(relative));
            let specificity = matching.map(Glob::specificity).max()?;
            Some((specificity, std::cmp::Reverse(&policy.name), visibility))
        });
        rules
            .max_by_key(|(specificity, name, _)| (*specificity, *name))
            .map_or(self.visibility, |(.., visibility)| visibility)
    }
}

/// The name of the repository below its Project.
pub(super) fn relative_to<'a>(repository: &'a RepositoryName, path: &str) -> &'a str {
    repository.as_str().strip_prefix(path).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default()
}

/// The policy of one Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub registry: RegistryFacts,
    /// By path.
    pub projects: HashMap<String, ProjectEntry>,
    /// By UID of the Member.
    pub robots: HashMap<String, RobotGrant>,
    /// By UID of the Project.
    pub pull_secrets: HashMap<String, PullGrant>,
    /// What Members grant to users. Whether there is such a user is another question.
    pub users: HashMap<User, Vec<Grant>>,
}

impl Snapshot {
    /// The Project that a repository belongs to: the one with the longest path that is a proper prefix.
    pub fn project_of(&self, repository: &RepositoryName) -> Option<&ProjectEntry> {
        repository.parents().find_map(|parent| self.projects.get(parent))
    }

    /// What this identity has been granted, or `None` if it is no longer valid: its Member or Project is gone, has
    /// expired, or has revoked it.
    ///
    /// An anonymous client is valid and has no grant. So is a user as far as the policy goes: whether his provider
    /// still knows him has to be asked there. Of a user's grants some may have expired.
    pub fn grants_of(&self, identity: &Identity, now: Timestamp) -> Option<&[Grant]> {
        let subject = match identity {
            Identity::Anonymous => return Some(&[]),
            Identity::User(user) => return Some(self.users.get(user).map(Vec::as_slice).unwrap_or_default()),
            Identity::Credential(subject) => subject,
        };
        let (grant, generation) = match subject {
            CredentialSubject::Robot { member, name, .. } => {
                let robot = self.robots.get(member)?;
                robot.robots.contains(name).then_some((&robot.grant, robot.generation))?
            }
            CredentialSubject::PullSecret { project, namespace, .. } => {
                let pull = self.pull_secrets.get(project)?;
                let entitled = pull.namespaces.as_ref().is_none_or(|entitled| entitled.contains(namespace));
                entitled.then_some(())?;
                (&pull.grant, pull.generation)
            }
        };
        (subject.generation() >= generation && grant.holds(now)).then_some(std::slice::from_ref(grant))
    }
}
