//! The decision on one operation.

use k8s_openapi::jiff::Timestamp;

use super::matrix::{Kind, Needs, needs};
use super::snapshot::relative_to;
use super::{Action, Grant, Identity, Operation, PolicyRule, ProjectEntry, Role, Scope, Snapshot};
use crate::oci::RepositoryName;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny(Denial),
}

/// Why not. Its text is for the client: it does not tell whether a repository exists that the client may not see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("log in first")]
    Anonymous,
    #[error("the credential has been revoked or has expired; get a new one")]
    Revoked,
    #[error("{identity} may not {} {repository}", .action.name())]
    NotPermitted { identity: String, action: Action, repository: String },
    #[error("no Project owns the path of {repository}; create one whose path is a prefix of it")]
    NoProject { repository: String },
}

/// Whether `identity` may do `operation` at the time `now`. Everything that is not allowed here is denied.
pub fn authorize(snapshot: &Snapshot, identity: &Identity, operation: &Operation, now: Timestamp) -> Decision {
    let Some(grants) = snapshot.grants_of(identity, now) else { return Decision::Deny(Denial::Revoked) };
    let mut grants = grants.filter(|grant| grant.holds(now));
    let repository = &operation.repository;
    let allowed = match Ruling::of(snapshot, repository) {
        None if grants.any(|grant| may_see_that_no_project_exists(grant, operation.action)) => {
            return Decision::Deny(Denial::NoProject { repository: repository.to_string() });
        }
        None => false,
        Some(ruling) => ruling.allows(operation.action, *identity != Identity::Anonymous, |least| {
            grants.any(|grant| role_in(grant, ruling.project, repository) >= Some(least))
        }),
    };
    match (allowed, identity) {
        (true, _) => Decision::Allow,
        (false, Identity::Anonymous) => Decision::Deny(Denial::Anonymous),
        (false, identity) => Decision::Deny(Denial::NotPermitted {
            identity: identity.to_string(),
            action: operation.action,
            repository: repository.to_string(),
        }),
    }
}

/// What counts for a repository: whose it is, and which row of the matrix it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ruling<'a> {
    pub project: &'a ProjectEntry,
    /// The policy that sets the visibility; `None`: the Project does.
    pub policy: Option<&'a PolicyRule>,
    pub kind: Kind,
}

impl<'a> Ruling<'a> {
    /// `None` if no Project owns the repository: then nobody may do anything.
    pub fn of(snapshot: &'a Snapshot, repository: &RepositoryName) -> Option<Self> {
        let project = snapshot.project_of(repository)?;
        let (kind, policy) = project.row_of(repository);
        Some(Self { project, policy, kind })
    }

    pub fn needs(&self, action: Action) -> Needs {
        needs(self.kind, action)
    }

    /// Whether somebody may do it: who is logged in or not, and has such a role or not.
    pub fn allows(&self, action: Action, is_logged_in: bool, has_role: impl FnOnce(Role) -> bool) -> bool {
        match self.needs(action) {
            Needs::Anyone => true,
            Needs::User => is_logged_in,
            Needs::Role(least) => has_role(least),
        }
    }
}

/// The clearer message is for those who may see every project: to others, the difference between the two refusals would
/// tell which private projects exist.
fn may_see_that_no_project_exists(grant: &Grant, action: Action) -> bool {
    action == Action::Push && grant.scope == Scope::Registry && grant.role >= Role::Developer
}

/// Whether a grant is about a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Covered,
    /// None of its patterns matches.
    OtherRepositories,
    /// It is a membership of an official Project, which gives nothing: only the platform's team, members of the
    /// Registry, write.
    Official,
    OtherProject,
}

pub(super) fn reach(grant: &Grant, project: &ProjectEntry, repository: &RepositoryName) -> Reach {
    let relative = match &grant.scope {
        Scope::Registry => repository.as_str(),
        Scope::Project(path) if *path != project.path => return Reach::OtherProject,
        Scope::Project(_) if project.official => return Reach::Official,
        Scope::Project(path) => relative_to(repository, path),
    };
    let covered = grant.repositories.is_empty() || grant.repositories.iter().any(|glob| glob.matches(relative));
    if covered { Reach::Covered } else { Reach::OtherRepositories }
}

/// The role that the grant gives in this repository.
pub(super) fn role_in(grant: &Grant, project: &ProjectEntry, repository: &RepositoryName) -> Option<Role> {
    (reach(grant, project, repository) == Reach::Covered).then_some(grant.role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CredentialSubject, Glob, RegistryFacts, RobotGrant, User, Visibility};
    use rstest::rstest;
    use std::collections::HashMap;

    fn project(path: &str, visibility: Visibility, official: bool) -> (String, ProjectEntry) {
        (path.to_owned(), ProjectEntry { official, ..ProjectEntry::new(path, visibility) })
    }

    fn robot(member: &str, scope: Scope, role: Role) -> (String, RobotGrant) {
        let grant = Grant::new(scope, role);
        (member.to_owned(), RobotGrant { grant, robots: vec!["ci".to_owned()], generation: 1 })
    }

    fn snapshot() -> Snapshot {
        let team = |role| (Scope::Project("team".to_owned()), role);
        let (guest, developer, admin) = (team(Role::Guest), team(Role::Developer), team(Role::Admin));
        Snapshot {
            projects: HashMap::from([
                project("team", Visibility::Private, false),
                project("team/inner", Visibility::Private, false),
                project("internal", Visibility::Internal, false),
                project("public", Visibility::Public, false),
                project("library", Visibility::Private, true),
            ]),
            robots: HashMap::from([
                robot("guest", guest.0, guest.1),
                robot("developer", developer.0, developer.1),
                robot("admin", admin.0, admin.1),
                robot("librarian", Scope::Project("library".to_owned()), Role::Admin),
                robot("platform", Scope::Registry, Role::Developer),
            ]),
            users: HashMap::from([
                user("reader", &[team(Role::Guest)]),
                user("writer", &[team(Role::Guest), team(Role::Developer), (Scope::Registry, Role::Guest)]),
            ]),
            ..Snapshot::new(RegistryFacts::new("r", "ns/main"))
        }
    }

    fn user(name: &str, grants: &[(Scope, Role)]) -> (User, Vec<Grant>) {
        let grant = |(scope, role): &(Scope, Role)| Grant::new(scope.clone(), *role);
        (User::htpasswd(name).unwrap(), grants.iter().map(grant).collect())
    }

    fn who(member: &str) -> Identity {
        if member == "anonymous" {
            return Identity::Anonymous;
        }
        if let Some(user) = member.strip_prefix("user ") {
            return Identity::User(User::htpasswd(user).unwrap());
        }
        let (namespace, name) = ("ns".to_owned(), "ci".to_owned());
        Identity::Credential(CredentialSubject::Robot { member: member.to_owned(), namespace, name, generation: 1 })
    }

    fn decide(snapshot: &Snapshot, identity: &Identity, action: Action, repository: &str) -> Decision {
        let operation = Operation { action, repository: repository.parse().unwrap() };
        authorize(snapshot, identity, &operation, Timestamp::UNIX_EPOCH)
    }

    /// Columns: pull, push, delete.
    #[rstest]
    #[case::private("team/app", "anonymous", [false, false, false])]
    #[case::private("team/app", "guest", [true, false, false])]
    #[case::private("team/app", "developer", [true, true, true])]
    #[case::private("team/app", "admin", [true, true, true])]
    #[case::private("team/app", "librarian", [false, false, false])]
    #[case::private("team/app", "platform", [true, true, true])]
    #[case::longest_path_owns("team/inner/app", "admin", [false, false, false])]
    #[case::internal("internal/app", "anonymous", [false, false, false])]
    #[case::internal("internal/app", "guest", [true, false, false])]
    #[case::internal("internal/app", "developer", [true, false, false])]
    #[case::public("public/app", "anonymous", [true, false, false])]
    #[case::public("public/app", "admin", [true, false, false])]
    #[case::official("library/app", "anonymous", [true, false, false])]
    #[case::official("library/app", "librarian", [true, false, false])]
    #[case::official("library/app", "platform", [true, true, true])]
    #[case::user_without_role("team/app", "user nobody", [false, false, false])]
    #[case::user_without_role("internal/app", "user nobody", [true, false, false])]
    #[case::user_without_role("public/app", "user nobody", [true, false, false])]
    #[case::user("team/app", "user reader", [true, false, false])]
    #[case::user_with_the_greatest_of_several_roles("team/app", "user writer", [true, true, true])]
    #[case::user_with_the_greatest_of_several_roles("team/inner/app", "user writer", [true, false, false])]
    #[case::no_project("nowhere/app", "platform", [false, false, false])]
    #[case::project_path_is_no_repository("team", "admin", [false, false, false])]
    fn matrix(#[case] repository: &str, #[case] member: &str, #[case] expected: [bool; 3]) {
        let actual = [Action::Pull, Action::Push, Action::Delete]
            .map(|action| decide(&snapshot(), &who(member), action, repository) == Decision::Allow);
        assert_eq!(actual, expected, "{member} on {repository}");
    }

    #[test]
    fn an_unknown_lower_or_expired_credential_is_revoked() {
        let mut snapshot = snapshot();
        let revoked = Decision::Deny(Denial::Revoked);
        assert_eq!(decide(&snapshot, &who("nobody"), Action::Pull, "public/app"), revoked);
        snapshot.robots.get_mut("guest").unwrap().generation = 2;
        assert_eq!(decide(&snapshot, &who("guest"), Action::Pull, "team/app"), revoked);
        snapshot.robots.get_mut("admin").unwrap().grant.expires_at = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(decide(&snapshot, &who("admin"), Action::Pull, "team/app"), revoked);
        snapshot.robots.get_mut("developer").unwrap().robots.clear();
        assert_eq!(decide(&snapshot, &who("developer"), Action::Pull, "team/app"), revoked);
    }

    #[test]
    fn a_role_of_a_user_ends_without_ending_the_others() {
        let mut snapshot = snapshot();
        let grants = snapshot.users.get_mut(&User::htpasswd("writer").unwrap()).unwrap();
        grants[1].expires_at = Some(Timestamp::UNIX_EPOCH);
        assert_ne!(decide(&snapshot, &who("user writer"), Action::Push, "team/app"), Decision::Allow);
        assert_eq!(decide(&snapshot, &who("user writer"), Action::Pull, "team/app"), Decision::Allow);
    }

    #[test]
    fn a_grant_for_some_repositories_covers_no_others() {
        let mut snapshot = snapshot();
        snapshot.robots.get_mut("developer").unwrap().grant.repositories = vec![Glob::new("app-*")];
        assert_eq!(decide(&snapshot, &who("developer"), Action::Push, "team/app-1"), Decision::Allow);
        assert_ne!(decide(&snapshot, &who("developer"), Action::Push, "team/other"), Decision::Allow);
        assert_ne!(decide(&snapshot, &who("developer"), Action::Pull, "team/other"), Decision::Allow);
    }

    #[test]
    fn the_most_specific_policy_sets_the_visibility() {
        let mut snapshot = snapshot();
        let rule = |name: &str, glob: &str, visibility| PolicyRule {
            visibility: Some(visibility),
            ..PolicyRule::new(name, vec![Glob::new(glob)])
        };
        snapshot.projects.get_mut("team").unwrap().policies = vec![
            rule("wide", "**", Visibility::Public),
            rule("narrow", "secret-*", Visibility::Private),
            rule("a-tie", "app", Visibility::Public),
            rule("b-tie", "app", Visibility::Private),
        ];
        let pull = |name| decide(&snapshot, &Identity::Anonymous, Action::Pull, name) == Decision::Allow;
        assert!(pull("team/any"));
        assert!(!pull("team/secret-1"));
        assert!(pull("team/app"));
    }

    #[test]
    fn only_a_writer_of_the_whole_registry_learns_that_a_project_is_missing() {
        let denied = |who: &Identity| decide(&snapshot(), who, Action::Push, "nowhere/app");
        assert!(matches!(denied(&who("platform")), Decision::Deny(Denial::NoProject { .. })));
        assert!(matches!(denied(&who("developer")), Decision::Deny(Denial::NotPermitted { .. })));
        assert!(matches!(denied(&who("guest")), Decision::Deny(Denial::NotPermitted { .. })));
        assert!(matches!(denied(&Identity::Anonymous), Decision::Deny(Denial::Anonymous)));
    }
}
