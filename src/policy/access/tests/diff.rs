//! Who gains and loses.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{includes, principal_of_credential};
use crate::policy::access::diff::{Limits, diff_within};
use crate::policy::access::{AccessChange, Change, Principal, diff, summarize};
use crate::policy::tests::{NOW, everything, identities};
use crate::policy::{
    Action, ClientCertificates, CredentialSubject, Decision, Glob, Grant, Group, Identity, NamespaceSet, ObjectKey,
    Operation, PolicyRule, ProjectEntry, Providers, PullGrant, RegistryFacts, RobotGrant, Role, Scope, ServiceAccounts,
    Snapshot, Visibility, authorize,
};

const PATHS: [&str; 4] = ["a", "a/b", "c", "lib"];
/// Below a Project: what stands for itself alone, for a policy's pattern, and for one of the Project around it.
const NAMES: [&str; 3] = ["some/thing", "y/thing", "some"];

fn allows(snapshot: &Snapshot, identity: &Identity, action: Action, repository: &str) -> bool {
    let operation = Operation { action, repository: repository.parse().unwrap() };
    authorize(snapshot, identity, &operation, NOW) == Decision::Allow
}

/// Whether some change says of this identity that it loses (or gains) the action in such a place.
fn is_told(
    changes: &[AccessChange],
    snapshots: [&Snapshot; 2],
    identity: &Identity,
    action: Action,
    is_loss: bool,
    repository: &str,
) -> bool {
    let whose = |principal: &Principal| snapshots.iter().any(|snapshot| includes(principal, identity, snapshot));
    let is_there = |pattern: &str| Glob::new(pattern).matches(repository);
    changes.iter().filter(|change| whose(&change.principal)).any(|change| match &change.change {
        Change::Revoked(_) => is_loss,
        Change::Loses { pattern, actions } => is_loss && actions.contains(&action) && is_there(pattern),
        Change::Gains { pattern, actions } => !is_loss && actions.contains(&action) && is_there(pattern),
        Change::NoLogin | Change::NewLogin | Change::Login => false,
    })
}

/// What somebody gains or loses in some repository, and no change says.
fn not_told(before: &Snapshot, after: &Snapshot, identity: &Identity) -> Option<String> {
    // In the groups of one: others' changes are told of them.
    if identity.groups().len() > 1
        || (!identity.groups().is_empty() && before.users.contains_key(identity.user().unwrap()))
    {
        return None;
    }
    // A credential that is not valid yet is nobody's.
    let is_new = principal_of_credential(identity, before).is_none() || before.grants_of(identity, NOW).is_none();
    if matches!(identity, Identity::Credential(_)) && is_new {
        return None;
    }
    // In which namespaces pull secrets were valid is not known of a side that could not decide it.
    if let Identity::Credential(CredentialSubject::PullSecret { project, .. }) = &identity {
        let is_decided = |snapshot: &Snapshot| snapshot.pull_secrets.get(project).map(|pull| pull.namespaces.is_some());
        if is_decided(before).zip(is_decided(after)).is_some_and(|(before, after)| before != after) {
            return None;
        }
    }
    let changes = diff(before, after, NOW).changes;
    let repositories = PATHS.iter().flat_map(|path| NAMES.iter().map(move |name| format!("{path}/{name}")));
    let mut places = repositories.flat_map(|repository| Action::ALL.map(|action| (repository.clone(), action)));
    places.find_map(|(repository, action)| {
        let (had, has) = (allows(before, identity, action, &repository), allows(after, identity, action, &repository));
        let is_missing = had != has && !is_told(&changes, [before, after], identity, action, had, &repository);
        is_missing.then(|| format!("{identity} {} {repository}, before {had}: {changes:#?}", action.name()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_changes_where_nothing_differs(all in everything()) {
        prop_assert_eq!(diff(&all.snapshot(), &all.snapshot(), NOW).changes, vec![]);
    }

    /// What any repository gives or takes is told, whoever it is.
    #[test]
    fn tells_what_changes_for_a_repository(before in everything(), after in everything(), identity in identities()) {
        prop_assert_eq!(not_told(&before.snapshot(), &after.snapshot(), &identity), None);
    }

    /// The same where nothing else differs that could tell it.
    #[test]
    fn tells_what_one_object_changes(all in everything(), which: Index) {
        let (without, whose) = all.without_one(which);
        let (all, without) = (all.snapshot(), without.snapshot());
        for identity in whose {
            prop_assert_eq!(not_told(&all, &without, &identity), None);
            prop_assert_eq!(not_told(&without, &all, &identity), None);
        }
    }

    /// What is told is so: for a user, on a repository that has no wildcards in its name.
    #[test]
    fn what_is_told_is_so(before in everything(), after in everything()) {
        let (before, after) = (before.snapshot(), after.snapshot());
        for change in diff(&before, &after, NOW).changes {
            let (pattern, actions, is_loss) = match &change.change {
                Change::Loses { pattern, actions } => (pattern, actions, true),
                Change::Gains { pattern, actions } => (pattern, actions, false),
                _ => continue,
            };
            let identity = match &change.principal {
                Principal::User(user) => Identity::User(user.clone()),
                Principal::Anyone | Principal::Anonymous => Identity::Anonymous,
                Principal::EveryUser => Identity::User("htpasswd:nobody".parse().unwrap()),
                _ => continue,
            };
            let Ok(repository) = pattern.parse::<crate::oci::RepositoryName>() else { continue };
            if before.project_of(&repository).is_none() && after.project_of(&repository).is_none() {
                continue;
            }
            for action in actions {
                let had = allows(&before, &identity, *action, repository.as_str());
                let has = allows(&after, &identity, *action, repository.as_str());
                prop_assert_eq!((had, has), (is_loss, !is_loss), "{}", change);
            }
        }
    }

    #[test]
    fn the_other_way_round_is_the_opposite(before in everything(), after in everything()) {
        let (before, after) = (before.snapshot(), after.snapshot());
        let lines = |changes: Vec<AccessChange>, from: &str, to: &str| {
            let rights = changes.iter().filter(|change| matches!(change.change, Change::Loses { .. } | Change::Gains { .. }));
            let mut lines: Vec<String> = rights
                .map(|change| change.to_string().replace(" loses ", " @ ").replace(" lose ", " @ "))
                .map(|line| line.replace(" gains ", from).replace(" gain ", from).replace(" @ ", to))
                .collect();
            lines.sort();
            lines
        };
        let there = lines(diff(&before, &after, NOW).changes, " + ", " - ");
        let back = lines(diff(&after, &before, NOW).changes, " - ", " + ");
        prop_assert_eq!(there, back);
    }

    #[test]
    fn a_summary_is_short(before in everything(), after in everything()) {
        let difference = diff(&before.snapshot(), &after.snapshot(), NOW);
        let sentences = summarize(&difference);
        prop_assert!(sentences.len() <= 8 && sentences.iter().all(|sentence| sentence.len() <= 250));
        prop_assert_eq!(sentences.is_empty(), difference.changes.is_empty());
    }
}

/// Changes as they are told.
fn told(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    diff(before, after, NOW).changes.iter().map(ToString::to_string).collect()
}

fn key(kind: &'static str, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: "n".to_owned(), name: name.to_owned() }
}

fn grant(path: Option<&str>, role: Role, globs: &[&str]) -> Grant {
    let scope = path.map_or(Scope::Registry, |path| Scope::Project(path.to_owned()));
    let repositories = globs.iter().map(|glob| Glob::new(glob)).collect();
    Grant { repositories, source: Arc::new(key("Member", "m")), ..Grant::new(scope, role) }
}

/// A private Project `team` with a Guest, a robot and a pull secret.
fn team() -> Snapshot {
    let mut snapshot = Snapshot::new(RegistryFacts::new("r", "n/main"));
    snapshot.projects.insert("team".to_owned(), ProjectEntry::new("team", Visibility::Private));
    snapshot.users.insert("htpasswd:guest".parse().unwrap(), vec![grant(Some("team"), Role::Guest, &[])]);
    let grant = grant(Some("team"), Role::Developer, &[]);
    snapshot.robots.insert("uid".to_owned(), RobotGrant { grant, robots: vec!["ci".to_owned()], generation: 0 });
    let grant = Grant { source: Arc::new(key("Project", "team")), ..self::grant(Some("team"), Role::Guest, &[]) };
    let namespaces = Some(["n".to_owned(), "prod".to_owned()].into());
    snapshot.pull_secrets.insert("uid-team".to_owned(), PullGrant { grant, namespaces, generation: 0 });
    snapshot
}

const READ: &str = "view, select-in-builds, pull, view-dockerfile";
const WRITE: &str = "push, delete, change-image-type, change-description";

#[test]
fn visibility_is_everybodys() {
    let (before, mut after) = (team(), team());
    after.projects.get_mut("team").unwrap().visibility = Visibility::Public;
    assert_eq!(told(&before, &after), [format!("anyone gains {READ} on team/**")]);
    let mut internal = team();
    internal.projects.get_mut("team").unwrap().visibility = Visibility::Internal;
    assert_eq!(told(&after, &internal), [format!("clients without a login lose {READ} on team/**")]);
    assert_eq!(told(&internal, &before), [format!("every user loses {READ} on team/**")]);
}

#[test]
fn a_policy_is_told_by_its_patterns() {
    let (before, mut after) = (team(), team());
    let policy = PolicyRule {
        visibility: Some(Visibility::Public),
        ..PolicyRule::new("open", vec![Glob::new("open-*"), Glob::new("x/**")])
    };
    after.projects.get_mut("team").unwrap().policies.push(policy);
    let expected = ["open-*", "x/**"].map(|pattern| format!("anyone gains {READ} on team/{pattern}"));
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn a_member_is_told_by_its_patterns() {
    let (before, mut after) = (team(), team());
    let bob = "oidc:corp:bob".parse().unwrap();
    after.users.insert(bob, vec![grant(Some("team"), Role::Developer, &["app-*"])]);
    assert_eq!(told(&before, &after), [format!("oidc:corp:bob gains {READ}, {WRITE} on team/app-*")]);
    assert_eq!(told(&after, &before), [format!("oidc:corp:bob loses {READ}, {WRITE} on team/app-*")]);
}

#[test]
fn what_has_expired_is_no_loss() {
    let (before, after) = (team(), team());
    let past = |mut snapshot: Snapshot| {
        let grants = snapshot.users.get_mut(&"htpasswd:guest".parse().unwrap()).unwrap();
        grants[0].expires_at = Some(Timestamp::UNIX_EPOCH);
        snapshot
    };
    assert_eq!(
        told(&past(before), &{
            let mut without = after;
            without.users.clear();
            without
        }),
        Vec::<String>::new()
    );
    assert_eq!(told(&team(), &past(team())), [format!("htpasswd:guest loses {READ} on team/**")]);
}

#[test]
fn a_role_in_the_whole_registry_is_told_as_such() {
    let (before, mut after) = (team(), team());
    let platform = "oidc:corp:platform".parse::<Group>().unwrap();
    after.groups.insert(platform.clone(), vec![grant(None, Role::Developer, &[])]);
    assert_eq!(told(&before, &after), [format!("group oidc:corp:platform gains {READ}, {WRITE} on **")]);
    after.groups.insert(platform, vec![grant(None, Role::Guest, &["team/app", "other/*"])]);
    let expected = ["other/*", "team/app"].map(|pattern| format!("group oidc:corp:platform gains {READ} on {pattern}"));
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn a_role_in_the_whole_registry_counts_where_its_pattern_is_private() {
    let mut before = team();
    before.projects.get_mut("team").unwrap().visibility = Visibility::Public;
    before.projects.insert("team/inner".to_owned(), ProjectEntry::new("team/inner", Visibility::Private));
    let mut after = before.clone();
    after.users.insert("oidc:corp:bob".parse().unwrap(), vec![grant(None, Role::Guest, &["team/**", "team/app"])]);
    assert_eq!(told(&before, &after), [format!("oidc:corp:bob gains {READ} on team/**")]);
    assert_eq!(told(&after, &before), [format!("oidc:corp:bob loses {READ} on team/**")]);
}

#[test]
fn a_project_within_another_ends_what_policies_say_there() {
    let mut before = team();
    let open =
        |glob| PolicyRule { visibility: Some(Visibility::Public), ..PolicyRule::new(glob, vec![Glob::new(glob)]) };
    before.projects.get_mut("team").unwrap().policies = vec![open("*/web"), open("inner/pub"), open("other/pub")];
    let mut after = before.clone();
    after.projects.insert("team/inner".to_owned(), ProjectEntry::new("team/inner", Visibility::Private));
    let expected = |verb: &str| ["pub", "web"].map(|name| format!("anyone {verb} {READ} on team/inner/{name}"));
    let of_anyone = |changes: Vec<String>| -> Vec<_> {
        changes.into_iter().filter(|change| change.starts_with("anyone")).collect()
    };
    assert_eq!(of_anyone(told(&before, &after)), expected("loses"));
    assert_eq!(of_anyone(told(&after, &before)), expected("gains"));
}

#[test]
fn what_is_too_much_is_told_in_part() {
    let (before, mut after) = (team(), team());
    for user in 0..20 {
        let grants = vec![grant(None, Role::Guest, &["a/*", "b/*"])];
        after.users.insert(format!("htpasswd:u{user}").parse().unwrap(), grants);
    }
    let within = |changes, matches| {
        let difference = diff_within(&before, &after, NOW, Limits { changes, matches });
        (difference.changes.len(), difference.is_whole)
    };
    assert_eq!(within(40, 1_000), (40, true));
    assert_eq!(within(39, 1_000), (39, false));
    let (told, is_whole) = within(40, 100);
    assert!(0 < told && told < 40 && !is_whole, "{told}");
}

#[test]
fn a_project_within_another_takes_its_repositories() {
    let (before, mut after) = (team(), team());
    after.projects.insert("team/inner".to_owned(), ProjectEntry::new("team/inner", Visibility::Private));
    let expected = [
        format!("htpasswd:guest loses {READ} on team/inner/**"),
        format!("robot n/m/ci loses {READ}, {WRITE} on team/inner/**"),
        format!("pull secrets of n/team lose {READ} on team/inner/**"),
    ];
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn what_is_gone_locks_out() {
    let (before, mut after) = (team(), team());
    after.robots.clear();
    after.pull_secrets.clear();
    after.projects.clear();
    after.users.clear();
    let expected = [
        "robot n/m/ci: credentials revoked, what they were made for is gone".to_owned(),
        "pull secrets of n/team: credentials revoked, what they were made for is gone".to_owned(),
        format!("htpasswd:guest loses {READ} on team/**"),
        format!("robot n/m/ci loses {READ}, {WRITE} on team/**"),
        format!("pull secrets of n/team lose {READ} on team/**"),
    ];
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn what_is_made_anew_or_raised_revokes_and_takes_no_right() {
    let before = team();
    let mut remade = team();
    let (robot, pull) = (remade.robots.remove("uid").unwrap(), remade.pull_secrets.remove("uid-team").unwrap());
    remade.robots.insert("uid-2".to_owned(), robot);
    remade.pull_secrets.insert("uid-team-2".to_owned(), pull);
    let expected =
        |why: &str| ["robot n/m/ci", "pull secrets of n/team"].map(|who| format!("{who}: credentials revoked, {why}"));
    assert_eq!(told(&before, &remade), expected("what they were made for is made anew"));
    let mut raised = team();
    raised.robots.get_mut("uid").unwrap().generation = 1;
    raised.pull_secrets.get_mut("uid-team").unwrap().generation = 1;
    assert_eq!(told(&before, &raised), expected("their generation is raised"));
    let mut elsewhere = team();
    elsewhere.pull_secrets.get_mut("uid-team").unwrap().namespaces = Some(["n".to_owned()].into());
    assert_eq!(told(&before, &elsewhere), ["pull secrets of n/team: credentials revoked, in prod"]);
}

#[test]
fn who_is_trusted_to_vouch_is_told() {
    let with = |audience: Option<&str>, namespaces: &[&str]| {
        let authority = audience.map(|text| ClientCertificates { certificate_authority: text.to_owned() });
        let namespaces = NamespaceSet::These(namespaces.iter().map(|name| (*name).to_owned()).collect());
        let accounts = ServiceAccounts { audiences: vec![], namespaces };
        let mut snapshot = team();
        snapshot.registry.providers = Providers::new(vec![], Some(accounts), authority);
        snapshot
    };
    let before = with(Some("one"), &["a", "b"]);
    let expected = [
        "users of certificate can't log in any more",
        "ServiceAccounts of a can't log in any more",
        "ServiceAccounts of c can log in",
    ];
    assert_eq!(told(&before, &with(None, &["b", "c"])), expected);
    let expected = ["users of certificate have to log in again, if they still can"];
    assert_eq!(told(&before, &with(Some("two"), &["a", "b"])), expected);
}
