//! Why, and why not.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;

use crate::policy::access::{explain, identify};
use crate::policy::tests::{NOW, actions, everything, identities, repositories};
use crate::policy::{
    Action, Decision, Glob, Grant, Group, ObjectKey, Operation, PolicyRule, ProjectEntry, PullGrant, RegistryFacts,
    RobotGrant, Role, Scope, Snapshot, Visibility, authorize,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn says_what_a_registry_does(
        all in everything(), identity in identities(), action in actions(), repository in repositories(),
    ) {
        let (snapshot, operation) = (all.snapshot(), Operation { action, repository });
        let explanation = explain(&snapshot, &identity, &operation, NOW);
        let allowed = authorize(&snapshot, &identity, &operation, NOW) == Decision::Allow;
        prop_assert_eq!(explanation.allowed(), allowed, "{:#?}", explanation);
        prop_assert_eq!(explanation.advice().is_none(), explanation.is_possible(), "{:#?}", explanation);
        prop_assert!(!explanation.because().is_empty());
    }
}

fn key(kind: &'static str, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: "team".to_owned(), name: name.to_owned() }
}

fn grant(member: &str, scope: Scope, role: Role, glob: Option<&str>, end: Option<i64>) -> Grant {
    Grant {
        repositories: glob.map(Glob::new).into_iter().collect(),
        expires_at: end.map(|end| Timestamp::from_second(end).unwrap()),
        source: Arc::new(key("Member", member)),
        ..Grant::new(scope, role)
    }
}

fn snapshot() -> Snapshot {
    let team = || Scope::Project("team".to_owned());
    let project = |path: &str, official, policies| {
        let entry = ProjectEntry {
            official,
            policies,
            source: key("Project", path),
            ..ProjectEntry::new(path, Visibility::Private)
        };
        (path.to_owned(), entry)
    };
    let open =
        PolicyRule { visibility: Some(Visibility::Public), ..PolicyRule::new("open", vec![Glob::new("open-*")]) };
    let user = |name: &str, grants: Vec<Grant>| (name.parse().unwrap(), grants);
    let robots = RobotGrant {
        grant: grant("ci", team(), Role::Developer, None, None),
        robots: vec!["builder".to_owned()],
        generation: 3,
    };
    let pull = PullGrant {
        grant: Grant { source: Arc::new(key("Project", "team")), ..Grant::new(team(), Role::Guest) },
        namespaces: Some(["prod".to_owned()].into()),
        generation: 0,
    };
    Snapshot {
        projects: HashMap::from([project("team", false, vec![open]), project("library", true, vec![])]),
        users: HashMap::from([
            user("htpasswd:alice", vec![grant("alice", team(), Role::Developer, Some("app-*"), Some(500))]),
            user("htpasswd:bob", vec![grant("guests", team(), Role::Guest, None, None)]),
            user("htpasswd:carl", vec![grant("past", team(), Role::Developer, None, Some(50))]),
            user("htpasswd:lia", vec![grant("library", Scope::Project("library".to_owned()), Role::Admin, None, None)]),
            user("kubernetes:kim", vec![grant("kim", team(), Role::Developer, None, None)]),
            user("oidc:corp:olga", vec![grant("olga", team(), Role::Developer, None, None)]),
        ]),
        groups: HashMap::from([(
            "oidc:corp:devs".parse::<Group>().unwrap(),
            vec![grant("devs", team(), Role::Developer, Some("app-*"), None)],
        )]),
        robots: HashMap::from([("uid-ci".to_owned(), robots)]),
        pull_secrets: HashMap::from([("uid-team".to_owned(), pull)]),
        ..Snapshot::new(RegistryFacts::new("r", "hub/main"))
    }
}

/// The answer, all of it in one text.
fn told(asker: &str, groups: &[&str], action: Action, repository: &str) -> String {
    let groups: Vec<Group> = groups.iter().map(|group| group.parse().unwrap()).collect();
    let identity = identify(&snapshot(), asker, &groups).unwrap();
    let operation = Operation { action, repository: repository.parse().unwrap() };
    let explanation = explain(&snapshot(), &identity, &operation, NOW);
    let answer = if explanation.is_possible() { "yes" } else { "no" };
    let advice = explanation.advice().map(|advice| format!("do: {advice}"));
    [answer.to_owned()].into_iter().chain(explanation.because()).chain(advice).collect::<Vec<_>>().join("; ")
}

const PRIVATE: &str = "Project team/team owns team/**; Project team/team makes team/app-1 Private; ";

#[rstest]
#[case::own_grant("htpasswd:alice", &[], Action::Push, "team/app-1",
    "yes; {private}push needs the role Developer there; Member team/alice: role Developer on team/app-*, until 1970-01-01T00:08:20Z")]
#[case::through_a_group_of_an_issuer_that_is_not_trusted("oidc:corp:x", &["oidc:corp:devs"], Action::Push, "team/app-1",
    "no; {private}push needs the role Developer there; Member team/devs: role Developer on team/app-*, through group oidc:corp:devs; the Registry trusts no OIDC issuer named corp; do: add an issuer named corp to spec.authentication.oidc of Registry hub/main")]
#[case::policy("anonymous", &[], Action::Pull, "team/open-1",
    "yes; Project team/team owns team/**; RepositoryPolicy team/open makes team/open-1 Public; pull needs no login there")]
#[case::who_cannot_log_in_is_anybody_still("oidc:corp:x", &[], Action::Pull, "team/open-1",
    "yes; Project team/team owns team/**; RepositoryPolicy team/open makes team/open-1 Public; pull needs no login there")]
#[case::official("anonymous", &[], Action::Pull, "library/app",
    "yes; Project team/library owns library/**; Project team/library makes library/app official; pull needs no login there")]
#[case::anonymous("anonymous", &[], Action::Pull, "team/app-1",
    "no; {private}pull needs the role Guest there; nobody is logged in; do: log in")]
#[case::small_role("htpasswd:bob", &[], Action::Push, "team/app-1",
    "no; {private}push needs the role Developer there; Member team/guests: role Guest on team/**: not enough; do: set spec.role of Member team/guests to Developer")]
#[case::expired("htpasswd:carl", &[], Action::Push, "team/app-1",
    "no; {private}push needs the role Developer there; Member team/past: role Developer on team/**, expired at 1970-01-01T00:00:50Z; do: set spec.expiresAt of Member team/past to a later time, or remove it")]
#[case::other_repositories("htpasswd:alice", &[], Action::Push, "team/other",
    "no; Project team/team owns team/**; Project team/team makes team/other Private; push needs the role Developer there; Member team/alice: role Developer on team/app-*, until 1970-01-01T00:08:20Z: not this repository; do: add a pattern to spec.repositories of Member team/alice")]
#[case::membership_of_an_official_project("htpasswd:lia", &[], Action::Push, "library/app",
    "no; Project team/library owns library/**; Project team/library makes library/app official; push needs the role Developer in the whole Registry there; Member team/library: role Admin on library/**: membership of an official Project gives nothing; do: add a Member in namespace hub with registryRef main and role Developer")]
#[case::nothing("htpasswd:zoe", &[], Action::Pull, "team/app-1",
    "no; {private}pull needs the role Guest there; htpasswd:zoe has no role there; do: add a Member in namespace team with projectRef team and role Guest")]
#[case::no_project("htpasswd:alice", &[], Action::Push, "nowhere/app",
    "no; no Project owns nowhere/app; do: create a Project of Registry hub/main whose path is the beginning of the name, such as nowhere")]
#[case::robot("robot:team/ci/builder", &[], Action::Push, "team/app-1",
    "yes; {private}push needs the role Developer there; Member team/ci: role Developer on team/**")]
#[case::no_robot("robot:team/ci/other", &[], Action::Push, "team/app-1",
    "no; {private}push needs the role Developer there; Member team/ci has no such robot: its credential is not valid; do: add the robot to spec.subjects of Member team/ci")]
#[case::no_member("robot:team/gone/builder", &[], Action::Push, "team/app-1",
    "no; {private}push needs the role Developer there; there is no Member with such a robot: its credential is not valid; do: create the Member, and take the credential from its Secret")]
#[case::pull_secret_elsewhere("pull-secret:team/team@dev", &[], Action::Pull, "team/app-1",
    "no; {private}pull needs the role Guest there; Project team/team has no pull secret in namespace dev: such a one is not valid; do: have spec.pullSecrets.namespaces of Project team/team and spec.pullSecretNamespaces of its Registry select namespace dev")]
#[case::objects_are_changed_without_a_login(
    "kubernetes:kim", &[], Action::ChangeDescription, "team/app-1",
    "yes; {private}change-description needs the role Developer there; Member team/kim: role Developer on team/**"
)]
#[case::service_account("serviceaccount:team/ci", &[], Action::Pull, "team/app-1",
    "no; {private}pull needs the role Guest there; kubernetes:system:serviceaccount:team:ci has no role there; the Registry takes no ServiceAccounts; do: add a Member in namespace team with projectRef team and role Guest")]
fn tells_why(
    #[case] asker: &str,
    #[case] groups: &[&str],
    #[case] action: Action,
    #[case] repository: &str,
    #[case] expected: &str,
) {
    assert_eq!(told(asker, groups, action, repository), expected.replace("{private}", PRIVATE));
}
