//! What becomes of objects, and what is wrong with them.

use k8s_openapi::jiff::Timestamp;
use proptest::strategy::Strategy as _;

use super::*;
use crate::policy::{
    Action, CredentialSubject, Decision, Identity, ImageType, NamespaceSet, Operation, Provider, Snapshot, authorize,
};
use serde::de::DeserializeOwned;

/// `object("Project ns/name 5", spec)` was created in second 5.
fn object<K: DeserializeOwned>(head: &str, spec: &str) -> Arc<K> {
    let mut words = head.split([' ', '/']);
    let (kind, namespace, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let created = words.next().unwrap_or("0");
    let metadata = format!(
        "{{name: {name}, namespace: {namespace}, uid: {namespace}-{name}, creationTimestamp: '1970-01-01T00:00:{created:0>2}Z'}}"
    );
    let yaml = format!("apiVersion: landfast.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}");
    Arc::new(serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}")))
}

fn inputs(registry: &str) -> Inputs {
    Inputs {
        registry: object("Registry hub/main", registry),
        projects: vec![],
        policies: vec![],
        members: vec![],
        namespaces: Some(BTreeMap::from([
            ("team".to_owned(), BTreeMap::from([("images".to_owned(), "yes".to_owned())])),
            ("stranger".to_owned(), BTreeMap::new()),
        ])),
    }
}

fn all() -> Inputs {
    inputs("{storage: {emptyDir: {}}, projectNamespaces: {from: All}}")
}

fn problems(inputs: &Inputs) -> Vec<(String, Reason)> {
    let (_, problems) = compile(inputs);
    let text = |p: &Problem| format!("{} {}/{}", p.object.kind, p.object.namespace, p.object.name);
    problems.iter().map(|problem| (text(problem), problem.reason)).collect()
}

const IN_MAIN: &str = "{registryRef: {name: main, namespace: hub}}";

#[test]
fn a_project_needs_its_namespace_allowed() {
    let selector =
        "{storage: {emptyDir: {}}, projectNamespaces: {from: Selector, selector: {matchLabels: {images: 'yes'}}}}";
    let mut inputs = inputs(selector);
    inputs.projects = vec![object("Project team/a", IN_MAIN), object("Project stranger/b", IN_MAIN)];
    assert_eq!(problems(&inputs), [("Project stranger/b".to_owned(), Reason::NamespaceNotAllowed)]);
    assert_eq!(compile(&inputs).0.projects.keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn the_older_project_keeps_its_path() {
    let path = "{registryRef: {name: main, namespace: hub}, path: shared}";
    let mut inputs = all();
    inputs.projects = vec![object("Project team/young 9", path), object("Project team/old 1", path)];
    assert_eq!(problems(&inputs), [("Project team/young".to_owned(), Reason::PathConflict)]);
    inputs.projects.pop();
    assert_eq!(problems(&inputs), []);
}

#[test]
fn nested_paths_are_for_one_namespace() {
    let path = |path: &str| format!("{{registryRef: {{name: main, namespace: hub}}, path: {path}}}");
    let mut inputs = all();
    inputs.projects = vec![
        object("Project team/outer 1", &path("company/team")),
        object("Project stranger/inner 2", &path("company/team/app")),
        object("Project stranger/above 3", &path("company")),
        object("Project stranger/beside 4", &path("company/team-b")),
        object("Project team/own 5", &path("company/team/own")),
    ];
    let expected = ["Project stranger/inner", "Project stranger/above"];
    assert_eq!(problems(&inputs), expected.map(|text| (text.to_owned(), Reason::PathConflict)));
    assert!(
        paths_touch("a", "a/b") && paths_touch("a/b", "a") && !paths_touch("a", "ab") && !paths_touch("a/b", "a/c")
    );
}

#[test]
fn an_official_project_lives_with_its_registry() {
    let official = "{registryRef: {name: main, namespace: hub}, official: true}";
    let mut inputs = all();
    inputs.projects = vec![object("Project hub/library", official), object("Project team/fake", official)];
    assert_eq!(problems(&inputs), [("Project team/fake".to_owned(), Reason::OfficialNotAllowed)]);
}

#[test]
fn objects_of_other_registries_are_passed_over() {
    let mut inputs = all();
    inputs.projects = vec![object("Project team/a", "{registryRef: {name: main}}")];
    inputs.members =
        vec![object("Member team/m", "{projectRef: {name: a}, role: Guest, subjects: [{kind: Robot, name: ci}]}")];
    let (snapshot, problems) = compile(&inputs);
    assert_eq!((snapshot.projects.len(), snapshot.robots.len(), problems.len()), (0, 0, 0));
}

#[test]
fn what_refers_to_nothing_says_so() {
    let mut inputs = all();
    inputs.members =
        vec![object("Member team/m", "{projectRef: {name: none}, role: Guest, subjects: [{kind: Robot, name: ci}]}")];
    inputs.policies = vec![object("RepositoryPolicy team/p", "{projectRef: {name: none}, repositories: ['**']}")];
    let expected = ["RepositoryPolicy team/p", "Member team/m"].map(|text| (text.to_owned(), Reason::ProjectNotFound));
    assert_eq!(problems(&inputs), expected);
}

#[test]
fn a_member_of_a_refused_project_gets_nothing() {
    let mut inputs = inputs("{storage: {emptyDir: {}}}");
    inputs.projects = vec![object("Project team/a", IN_MAIN)];
    inputs.members =
        vec![object("Member team/m", "{projectRef: {name: a}, role: Guest, subjects: [{kind: Robot, name: ci}]}")];
    let (snapshot, problems) = compile(&inputs);
    assert!(snapshot.robots.is_empty());
    assert_eq!(problems.last().map(|problem| problem.reason), Some(Reason::ProjectNotAccepted));
}

#[test]
fn what_is_being_deleted_gives_no_rights() {
    let mut inputs = all();
    let member = "{projectRef: {name: a}, role: Guest, subjects: [{kind: Robot, name: ci}]}";
    let mut project: Arc<Project> = object("Project team/a", IN_MAIN);
    Arc::make_mut(&mut project).metadata.deletion_timestamp = project.metadata.creation_timestamp.clone();
    let mut going: Arc<Member> = object("Member team/going", member);
    Arc::make_mut(&mut going).metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
    inputs.projects = vec![project];
    inputs.members = vec![going];
    let (snapshot, _) = compile(&inputs);
    assert_eq!((snapshot.projects.len(), snapshot.pull_secrets.len(), snapshot.robots.len()), (1, 0, 0));
}

#[test]
fn a_user_has_the_roles_of_all_members_that_name_him() {
    let mut inputs = all();
    inputs.projects = vec![object("Project team/a", IN_MAIN), object("Project stranger/b", IN_MAIN)];
    let member = |head: &str, project: &str, role: &str, name: &str| {
        let subjects = format!("[{{kind: User, name: '{name}'}}, {{kind: Robot, name: ci}}]");
        object(head, &format!("{{projectRef: {{name: {project}}}, role: {role}, subjects: {subjects}}}"))
    };
    inputs.members = vec![
        member("Member team/m", "a", "Developer", "htpasswd:alice"),
        member("Member stranger/m", "b", "Guest", "htpasswd:alice"),
        member("Member stranger/other", "b", "Admin", "no user"),
    ];
    let (snapshot, problems) = compile(&inputs);
    assert_eq!((problems.len(), snapshot.robots.len(), snapshot.users.len()), (0, 3, 1));
    let alice = Identity::User("htpasswd:alice".parse().unwrap());
    let decide = |action, repository: &str| {
        let operation = Operation { action, repository: repository.parse().unwrap() };
        authorize(&snapshot, &alice, &operation, Timestamp::UNIX_EPOCH) == Decision::Allow
    };
    assert!(decide(Action::Push, "a/app") && decide(Action::Pull, "b/app"));
    assert!(!decide(Action::Push, "b/app"));
}

#[test]
fn a_pull_secret_ends_with_the_entitlement_of_its_namespace() {
    let mut inputs =
        inputs("{storage: {emptyDir: {}}, projectNamespaces: {from: All}, pullSecretNamespaces: {from: All}}");
    inputs.projects = vec![object("Project team/a", IN_MAIN)];
    let pulls = |inputs: &Inputs, from: &str| {
        let (project, namespace, name) = ("team-a".to_owned(), from.to_owned(), "a".to_owned());
        let subject = CredentialSubject::PullSecret { project, namespace, name, generation: 0 };
        let operation = Operation { action: Action::Pull, repository: "a/app".parse().unwrap() };
        let identity = Identity::Credential(subject);
        authorize(&compile(inputs).0, &identity, &operation, Timestamp::UNIX_EPOCH) == Decision::Allow
    };
    assert!(pulls(&inputs, "team"));
    assert!(!pulls(&inputs, "stranger"));
    inputs.namespaces = None;
    assert!(pulls(&inputs, "team"));
}

#[test]
fn a_policy_says_which_tags_stay() {
    let mut inputs = all();
    inputs.projects = vec![object("Project team/a", IN_MAIN)];
    let policy = |head: &str, more: &str| object(head, &format!("{{projectRef: {{name: a}}, {more}}}"));
    inputs.policies = vec![
        policy("RepositoryPolicy team/all", "repositories: ['**'], immutableTags: ['v*']"),
        policy("RepositoryPolicy team/free", "repositories: [free], immutableTags: []"),
        policy("RepositoryPolicy team/silent", "repositories: [app], visibility: Public"),
    ];
    let (snapshot, problems) = compile(&inputs);
    assert_eq!(problems.len(), 0);
    let stays = |repository: &str, tag: &str| {
        snapshot.immutable_tags(&repository.parse().unwrap()).contains(&tag.parse().unwrap())
    };
    assert!(stays("a/app", "v1") && !stays("a/app", "latest") && !stays("a/free", "v1"));
}

#[test]
fn a_robot_pushes_and_a_pull_secret_pulls() {
    let mut inputs =
        inputs("{storage: {emptyDir: {}}, projectNamespaces: {from: All}, pullSecretNamespaces: {from: All}}");
    inputs.projects = vec![object("Project team/a", IN_MAIN)];
    inputs.members =
        vec![object("Member team/m", "{projectRef: {name: a}, role: Developer, subjects: [{kind: Robot, name: ci}]}")];
    let (snapshot, _) = compile(&inputs);
    let robot = Identity::Credential(CredentialSubject::Robot {
        member: "team-m".to_owned(),
        namespace: "team".to_owned(),
        name: "ci".to_owned(),
        generation: 0,
    });
    let pull_secret = Identity::Credential(CredentialSubject::PullSecret {
        project: "team-a".to_owned(),
        namespace: "team".to_owned(),
        name: "a".to_owned(),
        generation: 0,
    });
    let decide = |identity: &Identity, action| {
        let operation = Operation { action, repository: "a/app".parse().unwrap() };
        authorize(&snapshot, identity, &operation, Timestamp::UNIX_EPOCH) == Decision::Allow
    };
    assert!(decide(&robot, Action::Push));
    assert!(decide(&pull_secret, Action::Pull));
    assert!(!decide(&pull_secret, Action::Push));
    assert!(!decide(&Identity::Anonymous, Action::Pull));
}

/// Who may push to `a/app` by the one Member of this test.
fn may_push(inputs: &Inputs, user: &str, groups: &[&str]) -> bool {
    let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
    let identity = Identity::of(user.parse().unwrap(), groups);
    let operation = Operation { action: Action::Push, repository: "a/app".parse().unwrap() };
    authorize(&compile(inputs).0, &identity, &operation, Timestamp::UNIX_EPOCH) == Decision::Allow
}

#[test]
fn each_kind_of_subject_has_the_role() {
    let mut inputs = all();
    inputs.projects = vec![object("Project team/a", IN_MAIN)];
    inputs.members = vec![object(
        "Member team/m",
        "{projectRef: {name: a}, role: Developer, subjects: [
            {kind: User, name: 'htpasswd:alice'}, {kind: User, name: 'oidc:corp:alice'},
            {kind: Group, name: 'oidc:corp:developers'}, {kind: ServiceAccount, name: builder},
            {kind: ServiceAccount, name: deployer, namespace: other}]}",
    )];
    let may = |user: &str, groups: &[&str]| may_push(&inputs, user, groups);
    assert!(may("htpasswd:alice", &[]) && may("oidc:corp:alice", &[]));
    assert!(may("oidc:corp:bob", &["oidc:corp:staff", "oidc:corp:developers"]));
    assert!(may("kubernetes:system:serviceaccount:team:builder", &[]));
    assert!(may("kubernetes:system:serviceaccount:other:deployer", &[]));
    assert!(!may("kubernetes:system:serviceaccount:other:builder", &[]), "of another namespace");
    assert!(!may("kubernetes:system:serviceaccount:team:deployer", &[]), "of another namespace");
    assert!(!may("certificate:alice", &[]) && !may("oidc:other:alice", &[]), "of another provider");
    assert!(!may("oidc:corp:bob", &["oidc:other:developers", "certificate:developers"]), "of another provider");
    assert!(!may("oidc:corp:developers", &[]), "a user is no group");
}

#[test]
fn who_may_log_in_is_what_the_registry_says() {
    let facts = |authentication: &str| {
        let spec =
            format!("{{storage: {{emptyDir: {{}}}}, hostnames: ['r.example:5000'], authentication: {authentication}}}");
        compile(&inputs(&spec)).0.registry.providers
    };
    let none = facts("{}");
    assert!(none.service_accounts().is_none() && none.client_certificates().is_none() && none.issuers().is_empty());
    let accounts = facts("{serviceAccounts: {}}").service_accounts().cloned().unwrap();
    assert_eq!(accounts.audiences, ["r.example:5000", "r.example", "main.hub.svc"]);
    assert_eq!(accounts.namespaces, NamespaceSet::These(["hub".to_owned()].into()));
    let selector = "{from: Selector, selector: {matchLabels: {images: 'yes'}}}";
    let accounts = facts(&format!("{{serviceAccounts: {{audiences: [x], namespaces: {selector}}}}}"));
    let accounts = accounts.service_accounts().cloned().unwrap();
    assert_eq!(accounts.audiences, ["x"]);
    assert_eq!(accounts.namespaces, NamespaceSet::These(["team".to_owned()].into()));
    let issuers = facts("{oidc: [{name: corp, issuerURL: 'https://i.example', audiences: [r]}]}");
    assert_eq!(issuers.issuers()[0].username_claim, "sub");
    assert!(issuers.stamp(&Provider::Oidc("corp".to_owned())).is_some());
}

#[test]
fn a_policy_says_what_images_are_for() {
    let mut inputs = all();
    inputs.projects = vec![object("Project team/a", IN_MAIN)];
    inputs.policies = vec![object(
        "RepositoryPolicy team/p",
        "{projectRef: {name: a}, repositories: ['**'], imageType: Build, description: Tools.}",
    )];
    let image_type = |inputs: &Inputs, name: &str| compile(inputs).0.image_type(&name.parse().unwrap());
    assert_eq!(image_type(&inputs, "a/go"), ImageType::Build);
    assert_eq!(image_type(&inputs, "a/go_ownbase"), ImageType::Base);
    let (snapshot, _) = compile(&inputs);
    assert_eq!(snapshot.projects["a"].description_of(&"a/go".parse().unwrap()), Some("Tools."));
    let registry = |suffix: &str| {
        object(
            "Registry hub/main",
            &format!("{{storage: {{emptyDir: {{}}}}, projectNamespaces: {{from: All}}, baseImageSuffix: '{suffix}'}}"),
        )
    };
    inputs.registry = registry("-base");
    assert_eq!(image_type(&inputs, "a/go_ownbase"), ImageType::Build);
    assert_eq!(image_type(&inputs, "a/go-base"), ImageType::Base);
    inputs.registry = registry("");
    assert_eq!(image_type(&inputs, "a/go-base"), ImageType::Build);
}

/// Objects of every kind, with rivals for a path, ties among policies, and several Members for the same subject.
fn many() -> Inputs {
    let mut inputs = all();
    inputs.projects = vec![
        object("Project team/a 1", IN_MAIN),
        object("Project team/b 1", "{registryRef: {name: main, namespace: hub}, path: a}"),
        object("Project team/c 2", "{registryRef: {name: main, namespace: hub}, path: a/inner}"),
        object("Project stranger/d 2", "{registryRef: {name: main, namespace: hub}, path: a/other}"),
    ];
    let policy = |name: &str, set: &str| {
        object(
            &format!("RepositoryPolicy team/{name}"),
            &format!("{{projectRef: {{name: a}}, repositories: [app], {set}}}"),
        )
    };
    inputs.policies =
        vec![policy("x", "visibility: Public"), policy("y", "visibility: Private"), policy("z", "imageType: Build")];
    let member = |name: &str, role: &str| {
        let subjects =
            "[{kind: User, name: 'htpasswd:alice'}, {kind: Group, name: 'oidc:corp:all'}, {kind: Robot, name: ci}]";
        object(
            &format!("Member team/{name}"),
            &format!("{{projectRef: {{name: a}}, role: {role}, subjects: {subjects}}}"),
        )
    };
    inputs.members = vec![member("k", "Guest"), member("l", "Admin"), member("m", "Developer")];
    inputs
}

proptest::proptest! {
    #[test]
    fn the_order_of_the_objects_makes_no_difference(
        projects in proptest::sample::subsequence(vec![0, 1, 2, 3], 4).prop_shuffle(),
        policies in proptest::sample::subsequence(vec![0, 1, 2], 3).prop_shuffle(),
        members in proptest::sample::subsequence(vec![0, 1, 2], 3).prop_shuffle(),
    ) {
        let expected = many();
        let mut inputs = many();
        inputs.projects = projects.iter().map(|index| Arc::clone(&expected.projects[*index])).collect();
        inputs.policies = policies.iter().map(|index| Arc::clone(&expected.policies[*index])).collect();
        inputs.members = members.iter().map(|index| Arc::clone(&expected.members[*index])).collect();
        let sorted = |inputs: &Inputs| -> (Snapshot, Vec<Problem>) {
            let (snapshot, mut problems) = compile(inputs);
            problems.sort_by(|one, other| one.object.cmp(&other.object));
            (snapshot, problems)
        };
        proptest::prop_assert_eq!(sorted(&inputs), sorted(&expected));
    }
}

#[test]
fn what_is_being_deleted_says_nothing_any_more() {
    let mut inputs = all();
    inputs.projects = vec![object("Project team/a", IN_MAIN)];
    let mut policy: RepositoryPolicy = (*object::<RepositoryPolicy>(
        "RepositoryPolicy team/p",
        "{projectRef: {name: a}, repositories: ['**'], visibility: Public}",
    ))
    .clone();
    let mut member: Member = (*object::<Member>(
        "Member team/m",
        "{projectRef: {name: a}, role: Developer, subjects: [{kind: User, name: 'htpasswd:alice'}]}",
    ))
    .clone();
    for live in [true, false] {
        let deleted = (!live).then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        (policy.metadata.deletion_timestamp, member.metadata.deletion_timestamp) = (deleted.clone(), deleted);
        (inputs.policies, inputs.members) = (vec![Arc::new(policy.clone())], vec![Arc::new(member.clone())]);
        let (snapshot, problems) = compile(&inputs);
        assert_eq!(
            (snapshot.projects["a"].policies.len(), snapshot.users.len()),
            (usize::from(live), usize::from(live))
        );
        assert_eq!(problems, []);
    }
}
