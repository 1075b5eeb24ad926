//! Who may do what to which object, and what is refused or said whoever does it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rstest::rstest;
use serde::de::DeserializeOwned;

use super::super::{Change, Versions};
use super::*;

/// `object("Project team/a", spec)`
fn object<K: DeserializeOwned>(head: &str, spec: &str) -> K {
    let mut words = head.split([' ', '/']);
    let (kind, namespace, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let metadata = format!(
        "{{name: {name}, namespace: {namespace}, uid: {namespace}-{name}, creationTimestamp: '1970-01-01T00:00:00Z'}}"
    );
    let yaml = format!("apiVersion: landfast.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}");
    serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn change(head: &str, before: Option<&str>, after: Option<&str>) -> Change {
    fn versions<K: DeserializeOwned>(head: &str, before: Option<&str>, after: Option<&str>) -> Versions<K> {
        match (before.map(|spec| object(head, spec)), after.map(|spec| object(head, spec))) {
            (None, Some(after)) => Versions::Created(after),
            (Some(before), Some(after)) => Versions::Updated { before, after },
            (Some(before), None) => Versions::Deleted(before),
            (None, None) => unreachable!("a change has something before or after"),
        }
    }
    match head.split(' ').next().unwrap() {
        "Registry" => Change::Registry(versions(head, before, after)),
        "Project" => Change::Project(versions(head, before, after)),
        "RepositoryPolicy" => Change::RepositoryPolicy(versions(head, before, after)),
        "Member" => Change::Member(versions(head, before, after)),
        kind => unreachable!("{kind}"),
    }
}

const IN_MAIN: &str = "registryRef: {name: main, namespace: hub}";
const MAIN: &str =
    "storage: {emptyDir: {}}, projectNamespaces: {from: Selector, selector: {matchLabels: {images: 'yes'}}}";

/// In Project `team/apps`: `admin`, `dev` and `guest` by name, `lead` as Admin of `web-*`, `acting` as Admin until noon, and
/// the group `ops` and the ServiceAccount `flux/sync` as Admins. `team/other` has nobody. `hub/library` is official, with
/// `librarian` as its Admin. Of the whole Registry: `platform` is Admin, `builder` Developer.
fn objects() -> Objects {
    let member = |head: &str, reference: &str, role: &str, subject: &str, more: &str| {
        Arc::new(object(head, &format!("{{{reference}, role: {role}, subjects: [{subject}]{more}}}")))
    };
    let user = |name: &str| format!("{{kind: User, name: 'kubernetes:{name}'}}");
    let apps = |name: &str, role: &str, subject: &str, more: &str| {
        member(&format!("Member team/{name}"), "projectRef: {name: apps}", role, subject, more)
    };
    let registry = |name: &str, role: &str| {
        member(&format!("Member hub/{name}"), "registryRef: {name: main}", role, &user(name), "")
    };
    let namespaces =
        ["hub", "team"].map(|name| (name.to_owned(), BTreeMap::from([("images".to_owned(), "yes".to_owned())])));
    let mut namespaces = BTreeMap::from(namespaces);
    namespaces.insert("stranger".to_owned(), BTreeMap::new());
    Objects {
        registries: vec![
            Arc::new(object("Registry hub/main", &format!("{{{MAIN}, hostnames: [r.example]}}"))),
            Arc::new(object("Registry far/own", "{storage: {emptyDir: {}}, hostnames: [far.example]}")),
        ],
        projects: vec![
            Arc::new(object("Project team/apps", &format!("{{{IN_MAIN}}}"))),
            Arc::new(object("Project team/other", &format!("{{{IN_MAIN}}}"))),
            Arc::new(object("Project hub/library", "{registryRef: {name: main}, official: true}")),
        ],
        policies: vec![],
        members: vec![
            apps("admin", "Admin", &user("admin"), ""),
            apps("dev", "Developer", &user("dev"), ""),
            apps("guest", "Guest", &user("guest"), ""),
            apps("lead", "Admin", &user("lead"), ", repositories: ['web-*']"),
            apps("acting", "Admin", &user("acting"), ", expiresAt: '1970-01-01T12:00:00Z'"),
            apps("past", "Admin", &user("past"), ", expiresAt: '1970-01-01T01:00:00Z'"),
            apps("ops", "Admin", "{kind: Group, name: 'kubernetes:ops'}", ""),
            apps("sync", "Admin", "{kind: ServiceAccount, name: sync, namespace: flux}", ""),
            member("Member hub/librarian", "projectRef: {name: library}", "Admin", &user("librarian"), ""),
            registry("platform", "Admin"),
            registry("builder", "Developer"),
        ],
        namespaces,
    }
}

/// `root` may do everything, `steward` administer projects in `team`; nobody else anything by Kubernetes' own rights.
#[derive(Default)]
struct Rights(Mutex<Vec<String>>);

#[async_trait]
impl Privileges for Rights {
    async fn may(
        &self,
        requester: &Requester,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<bool, kube::Error> {
        self.0.lock().unwrap().push(format!("{verb} {resource} {namespace}/{}", name.unwrap_or_default()));
        Ok(verb == "administer"
            && match &*requester.name {
                "root" => true,
                "steward" => resource == "projects" && namespace == "team",
                _ => false,
            })
    }
}

fn requester(name: &str) -> Requester {
    let (name, group) = name.split_once(" of ").unwrap_or((name, "system:authenticated"));
    Requester { name: name.to_owned(), groups: vec![group.to_owned()], ..Requester::default() }
}

/// At six in the morning of the first day.
async fn judged(who: &str, change: Change) -> Judgement {
    let request = Request { requester: requester(who), change };
    let now = Timestamp::from_second(6 * 3600).unwrap();
    judge(&objects(), &Rights::default(), &request, now).await.unwrap()
}

/// Who of these may do it.
async fn who_may(change: &Change) -> Vec<&'static str> {
    let all = [
        "root",
        "steward",
        "platform",
        "builder",
        "admin",
        "a of ops",
        "system:serviceaccount:flux:sync",
        "lead",
        "acting",
        "past",
        "dev",
        "guest",
        "librarian",
        "nobody",
    ];
    let mut may = Vec::new();
    for who in all {
        if judged(who, change.clone()).await.denial.is_none() {
            may.push(who);
        }
    }
    may
}

/// Those who are Admin in all of `team/apps`, and those who are so by more than that.
const ADMINS: &[&str] = &["root", "steward", "platform", "admin", "a of ops", "system:serviceaccount:flux:sync"];
const ADMINS_FOR_NOW: &[&str] =
    &["root", "steward", "platform", "admin", "a of ops", "system:serviceaccount:flux:sync", "acting"];
const DEVELOPERS: &[&str] = &[
    "root",
    "steward",
    "platform",
    "builder",
    "admin",
    "a of ops",
    "system:serviceaccount:flux:sync",
    "acting",
    "dev",
];
const WITH_LEAD: &[&str] =
    &["root", "steward", "platform", "admin", "a of ops", "system:serviceaccount:flux:sync", "lead", "acting"];
const DEVELOPERS_WITH_LEAD: &[&str] = &[
    "root",
    "steward",
    "platform",
    "builder",
    "admin",
    "a of ops",
    "system:serviceaccount:flux:sync",
    "lead",
    "acting",
    "dev",
];
const NAMESPACE: &[&str] = &["root", "steward", "platform"];
const PLATFORM: &[&str] = &["root", "platform"];
const EVERYBODY: &[&str] = &[
    "root",
    "steward",
    "platform",
    "builder",
    "admin",
    "a of ops",
    "system:serviceaccount:flux:sync",
    "lead",
    "acting",
    "past",
    "dev",
    "guest",
    "librarian",
    "nobody",
];

#[rstest]
#[case::create(None, Some(""), NAMESPACE)]
#[case::delete(Some(""), None, NAMESPACE)]
#[case::visibility(Some(""), Some("visibility: Public"), ADMINS_FOR_NOW)]
#[case::visibility_and_description(Some(""), Some("visibility: Public, description: x"), ADMINS_FOR_NOW)]
#[case::description(Some(""), Some("description: x"), DEVELOPERS)]
#[case::pull_secrets(Some(""), Some("pullSecrets: {role: Developer}"), ADMINS)]
#[case::nothing(Some("description: x"), Some("description: x"), EVERYBODY)]
#[tokio::test]
async fn of_a_project(#[case] before: Option<&str>, #[case] after: Option<&str>, #[case] expected: &[&str]) {
    let spec = |more: &str| format!("{{{IN_MAIN}, {more}}}");
    let (before, after) = (before.map(spec), after.map(spec));
    let change = change("Project team/apps", before.as_deref(), after.as_deref());
    assert_eq!(who_may(&change).await, expected);
}

#[rstest]
#[case::create_official("Project hub/new", None, Some("official: true"), PLATFORM)]
#[case::make_official("Project hub/new", Some(""), Some("official: true"), PLATFORM)]
#[case::make_it_a_teams("Project hub/library", Some("official: true"), Some(""), PLATFORM)]
#[case::visibility_of_an_official_one(
    "Project hub/library",
    Some("official: true"),
    Some("official: true, visibility: Public"),
    PLATFORM
)]
#[case::description_of_an_official_one(
    "Project hub/library",
    Some("official: true"),
    Some("official: true, description: x"),
    &["root", "platform", "builder"]
)]
#[case::delete_an_official_one("Project hub/library", Some("official: true"), None, PLATFORM)]
#[tokio::test]
async fn of_an_official_project(
    #[case] head: &str,
    #[case] before: Option<&str>,
    #[case] after: Option<&str>,
    #[case] expected: &[&str],
) {
    let spec = |more: &str| format!("{{{IN_MAIN}, {more}}}");
    let (before, after) = (before.map(spec), after.map(spec));
    assert_eq!(who_may(&change(head, before.as_deref(), after.as_deref())).await, expected);
}

const ALL: &str = "repositories: ['**']";
const WEB: &str = "repositories: ['web-*']";

#[rstest]
#[case::image_type(None, Some("repositories: ['**'], imageType: Build"), DEVELOPERS)]
#[case::description(None, Some("repositories: ['**'], description: x"), DEVELOPERS)]
#[case::nothing_in_it(None, Some(ALL), DEVELOPERS)]
#[case::visibility(None, Some("repositories: ['**'], visibility: Public"), ADMINS_FOR_NOW)]
#[case::visibility_of_some(None, Some("repositories: ['web-*'], visibility: Public"), WITH_LEAD)]
#[case::visibility_of_fewer(None, Some("repositories: [web-shop], visibility: Public"), WITH_LEAD)]
#[case::visibility_of_others_too(None, Some("repositories: ['web-*', db], visibility: Public"), ADMINS_FOR_NOW)]
#[case::visibility_of_nested_ones(None, Some("repositories: ['web-*/**'], visibility: Public"), ADMINS_FOR_NOW)]
#[case::image_type_of_some(None, Some("repositories: ['web-*'], imageType: Build"), DEVELOPERS_WITH_LEAD)]
#[case::immutable_tags(None, Some("repositories: ['**'], immutableTags: ['v*']"), ADMINS_FOR_NOW)]
#[case::change_type_beside_visibility(
    Some("repositories: ['**'], visibility: Public"),
    Some("repositories: ['**'], visibility: Public, imageType: Build"),
    DEVELOPERS
)]
#[case::take_visibility_away(Some("repositories: ['**'], visibility: Public"), Some(ALL), ADMINS_FOR_NOW)]
#[case::take_immutable_tags_away(Some("repositories: ['**'], immutableTags: []"), Some(ALL), ADMINS_FOR_NOW)]
#[case::move_visibility(
    Some("repositories: ['web-*'], visibility: Public"),
    Some("repositories: ['**'], visibility: Public"),
    ADMINS_FOR_NOW
)]
#[case::move_type(
    Some("repositories: ['web-*'], imageType: Base"),
    Some("repositories: [db], imageType: Base"),
    DEVELOPERS
)]
#[case::delete_with_type(Some("repositories: ['**'], imageType: Build"), None, DEVELOPERS)]
#[case::delete_with_visibility(Some("repositories: ['**'], visibility: Private"), None, ADMINS_FOR_NOW)]
#[case::nothing(Some(WEB), Some(WEB), EVERYBODY)]
#[tokio::test]
async fn of_a_policy(#[case] before: Option<&str>, #[case] after: Option<&str>, #[case] expected: &[&str]) {
    let spec = |more: &str| format!("{{projectRef: {{name: apps}}, {more}}}");
    let (before, after) = (before.map(spec), after.map(spec));
    let change = change("RepositoryPolicy team/p", before.as_deref(), after.as_deref());
    assert_eq!(who_may(&change).await, expected);
}

const BOB: &str = "subjects: [{kind: User, name: 'htpasswd:bob'}]";

#[rstest]
#[case::guest(None, Some("role: Guest"), ADMINS)]
#[case::admin(None, Some("role: Admin"), ADMINS)]
#[case::admin_of_some(None, Some("role: Admin, repositories: ['web-*']"), &["root", "steward", "platform", "admin", "a of ops", "system:serviceaccount:flux:sync", "lead"])]
#[case::for_a_time(None, Some("role: Admin, expiresAt: '1970-01-01T12:00:00Z'"), ADMINS_FOR_NOW)]
#[case::for_too_long(None, Some("role: Admin, expiresAt: '1970-01-01T12:00:01Z'"), ADMINS)]
#[case::greater(Some("role: Guest"), Some("role: Admin"), ADMINS)]
#[case::smaller(Some("role: Admin"), Some("role: Guest, expiresAt: '1970-01-01T07:00:00Z'"), ADMINS_FOR_NOW)]
#[case::wider(Some("role: Guest, repositories: [web-shop]"), Some("role: Guest"), ADMINS)]
#[case::other_generation(Some("role: Guest"), Some("role: Guest, credentialGeneration: 1"), ADMINS)]
#[case::delete(Some("role: Admin"), None, ADMINS_FOR_NOW)]
#[case::delete_some(Some("role: Admin, repositories: ['web-*']"), None, WITH_LEAD)]
#[tokio::test]
async fn of_a_member(#[case] before: Option<&str>, #[case] after: Option<&str>, #[case] expected: &[&str]) {
    let spec = |more: &str| format!("{{projectRef: {{name: apps}}, {BOB}, {more}}}");
    let (before, after) = (before.map(spec), after.map(spec));
    assert_eq!(who_may(&change("Member team/m", before.as_deref(), after.as_deref())).await, expected);
}

#[rstest]
#[case::of_the_registry("Member hub/m", None, Some("registryRef: {name: main}, role: Guest"), PLATFORM)]
#[case::end_of_the_registrys("Member hub/m", Some("registryRef: {name: main}, role: Guest"), None, PLATFORM)]
#[case::of_an_official_project("Member hub/m", None, Some("projectRef: {name: library}, role: Guest"), PLATFORM)]
#[case::of_another_project("Member team/m", None, Some("projectRef: {name: other}, role: Guest"), NAMESPACE)]
#[case::of_a_project_that_is_not_there("Member team/m", None, Some("projectRef: {name: future}, role: Guest"), &["root", "steward"])]
#[case::of_a_registry_that_is_not_there("Member hub/m", None, Some("registryRef: {name: future}, role: Guest"), &["root"])]
#[case::moved(
    "Member team/m",
    Some("projectRef: {name: apps}, role: Guest"),
    Some("projectRef: {name: other}, role: Guest"),
    NAMESPACE
)]
#[case::moved_here(
    "Member team/m",
    Some("projectRef: {name: other}, role: Guest"),
    Some("projectRef: {name: apps}, role: Guest"),
    NAMESPACE
)]
#[tokio::test]
async fn of_members_elsewhere(
    #[case] head: &str,
    #[case] before: Option<&str>,
    #[case] after: Option<&str>,
    #[case] expected: &[&str],
) {
    let spec = |more: &str| format!("{{{BOB}, {more}}}");
    let (before, after) = (before.map(spec), after.map(spec));
    assert_eq!(who_may(&change(head, before.as_deref(), after.as_deref())).await, expected);
}

/// Kubernetes itself says who may write a Registry.
#[tokio::test]
async fn a_registry_is_anybodys_who_may_write_it() {
    let spec = format!("{{{MAIN}, hostnames: [r.example]}}");
    assert_eq!(who_may(&change("Registry hub/main", Some(&spec), None)).await, EVERYBODY);
}

/// Names from elsewhere are nobody's in the cluster.
#[rstest]
#[case::prefixed("kubernetes:admin")]
#[case::control_character("admin\n")]
#[case::group_as_a_user("ops")]
#[case::user_as_a_group("x of admin")]
#[tokio::test]
async fn looking_alike_is_not_enough(#[case] who: &str) {
    let description =
        change("Project team/apps", Some(&format!("{{{IN_MAIN}}}")), Some(&format!("{{{IN_MAIN}, description: x}}")));
    assert!(judged(who, description).await.denial.is_some());
}

#[rstest]
#[case::role(
    "dev",
    "RepositoryPolicy team/p",
    "{projectRef: {name: apps}, repositories: ['web-*'], visibility: Public}",
    "dev may not change visibility: that needs the role Admin in Project team/apps, for web-*; ask somebody who has it"
)]
#[case::smaller_role(
    "guest",
    "RepositoryPolicy team/p",
    "{projectRef: {name: apps}, repositories: ['**'], description: x}",
    "guest may not change description: that needs the role Developer in Project team/apps, for all repositories; ask somebody who has it"
)]
#[case::end(
    "acting",
    "Member team/m",
    "{projectRef: {name: apps}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    "acting may not create a Member: that needs the role Admin in Project team/apps, for all repositories, without an end; ask somebody who has it"
)]
#[case::namespace(
    "admin",
    "Project team/new",
    "{registryRef: {name: main, namespace: hub}}",
    "admin may not create a Project: that is for those who may administer projects in namespace team, as the role admin lets; ask one of them"
)]
#[case::official(
    "steward",
    "Project team/new",
    "{registryRef: {name: main, namespace: hub}, official: true}",
    "steward may not say whether a Project is official: that is for those who may administer Registry hub/main; ask one of them"
)]
#[case::no_project(
    "dev",
    "Member team/m",
    "{projectRef: {name: future}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    "dev may not create a Member: Project team/future is not there or not in force, so nobody has a role in it; create it first, or ask somebody who may administer projects in namespace team"
)]
#[tokio::test]
async fn a_refusal_says_what_it_needs(
    #[case] who: &str,
    #[case] head: &str,
    #[case] spec: &str,
    #[case] expected: &str,
) {
    assert_eq!(judged(who, change(head, None, Some(spec))).await.denial.as_deref(), Some(expected));
}

#[rstest]
#[case::path(
    "Project team/new",
    "{registryRef: {name: main, namespace: hub}, path: apps}",
    "of the older Project team/apps"
)]
#[case::path_of_another_namespace(
    "Project hub/new",
    "{registryRef: {name: main}, path: apps/inner}",
    "of the older Project team/apps"
)]
#[case::namespace(
    "Project stranger/new",
    "{registryRef: {name: main, namespace: hub}}",
    "ask for it in its spec.projectNamespaces"
)]
#[case::official(
    "Project team/new",
    "{registryRef: {name: main, namespace: hub}, official: true}",
    "must live in the namespace of its Registry"
)]
#[case::hostname(
    "Registry hub/new",
    "{storage: {emptyDir: {}}, hostnames: [a.example, far.example]}",
    "hostname far.example is in use by Registry far/own"
)]
#[tokio::test]
async fn what_can_never_be_in_force_is_refused_to_everybody(
    #[case] head: &str,
    #[case] spec: &str,
    #[case] expected: &str,
) {
    let denial = judged("root", change(head, None, Some(spec))).await.denial.unwrap_or_default();
    assert!(denial.contains(expected), "{denial}");
}

#[rstest]
#[case::no_project(
    "Member team/m",
    "{projectRef: {name: future}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    "there is no Project future"
)]
#[case::no_project_for_a_policy(
    "RepositoryPolicy team/p",
    "{projectRef: {name: future}, repositories: [a]}",
    "there is no Project future"
)]
#[case::no_registry(
    "Project team/new",
    "{registryRef: {name: future, namespace: hub}}",
    "there is no Registry future in namespace hub"
)]
#[case::no_registry_for_a_member(
    "Member hub/m",
    "{registryRef: {name: future}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    "there is no such Registry"
)]
#[tokio::test]
async fn what_may_come_later_is_told(#[case] head: &str, #[case] spec: &str, #[case] expected: &str) {
    let Judgement { denial, warnings } = judged("root", change(head, None, Some(spec))).await;
    assert_eq!(denial, None);
    assert!(warnings.iter().any(|warning| warning.contains(expected)), "{warnings:?}");
}

#[tokio::test]
async fn who_is_locked_out_is_told() {
    let spec = |more: &str| format!("{{storage: {{emptyDir: {{}}}}, hostnames: [r.example]{more}}}");
    let update = change("Registry hub/main", Some(&format!("{{{MAIN}, hostnames: [r.example]}}")), Some(&spec("")));
    let Judgement { denial, warnings } = judged("root", update).await;
    assert_eq!(denial, None);
    let told = |object: &str| {
        warnings.iter().any(|warning| warning.starts_with(&format!("{object} is not in force any more")))
    };
    assert!(told("Project team/apps") && told("Project team/other") && !told("Project hub/library"), "{warnings:?}");
}

/// A Project that is refused by its conditions may be mended, and deleted.
#[tokio::test]
async fn what_was_wrong_before_may_be_mended_step_by_step() {
    let spec = |more: &str| format!("{{{IN_MAIN}, path: apps, {more}}}");
    let head = "Project team/late";
    let request =
        Request { requester: requester("root"), change: change(head, Some(&spec("")), Some(&spec("description: x"))) };
    let mut objects = objects();
    let mut late: crate::api::v1alpha1::Project = object(head, &spec(""));
    late.metadata.creation_timestamp.as_mut().unwrap().0 = Timestamp::from_second(60).unwrap();
    objects.projects.push(Arc::new(late.clone()));
    let now = Timestamp::from_second(6 * 3600).unwrap();
    let judgement = judge(&objects, &Rights::default(), &request, now).await.unwrap();
    assert_eq!(judgement.denial, None);
    assert!(judgement.warnings[0].contains("is not in force"), "{judgement:?}");
}

/// Whoever has a role is not asked about at the API server: it would be asked for each object of a long list.
#[tokio::test]
async fn the_api_server_is_asked_only_where_roles_do_not_help() {
    let description = |who: &str| Request {
        requester: requester(who),
        change: change(
            "Project team/apps",
            Some(&format!("{{{IN_MAIN}}}")),
            Some(&format!("{{{IN_MAIN}, description: x}}")),
        ),
    };
    let asked = async |who: &str| {
        let rights = Rights::default();
        judge(&objects(), &rights, &description(who), Timestamp::UNIX_EPOCH).await.unwrap();
        rights.0.into_inner().unwrap()
    };
    assert_eq!(asked("dev").await, Vec::<String>::new());
    assert_eq!(asked("steward").await, ["administer registries hub/main", "administer projects team/apps"]);
}

#[rstest]
#[case::smaller_role(
    "Member team/dev",
    Some("{projectRef: {name: apps}, role: Developer, subjects: [{kind: User, name: 'kubernetes:dev'}]}"),
    Some("{projectRef: {name: apps}, role: Guest, subjects: [{kind: User, name: 'kubernetes:dev'}]}"),
    &["push", "kubernetes:dev"]
)]
#[case::end_of_a_member(
    "Member team/dev",
    Some("{projectRef: {name: apps}, role: Developer, subjects: [{kind: User, name: 'kubernetes:dev'}]}"),
    None,
    &["pull", "push", "kubernetes:dev"]
)]
#[case::end_of_a_project("Project team/apps", Some("{registryRef: {name: main, namespace: hub}}"), None, &["kubernetes:guest"])]
#[case::open(
    "Project team/apps",
    Some("{registryRef: {name: main, namespace: hub}}"),
    Some("{registryRef: {name: main, namespace: hub}, visibility: Public}"),
    &["pull", "anyone"]
)]
#[case::open_some(
    "RepositoryPolicy team/p",
    None,
    Some("{projectRef: {name: apps}, repositories: ['web-*'], visibility: Public}"),
    &["pull", "apps/web-*", "anyone"]
)]
#[tokio::test]
async fn who_gains_and_who_loses_is_told(
    #[case] head: &str,
    #[case] before: Option<&str>,
    #[case] after: Option<&str>,
    #[case] expected: &[&str],
) {
    let Judgement { denial, warnings } = judged("root", change(head, before, after)).await;
    assert_eq!(denial, None);
    let tells = |warning: &String| expected.iter().all(|word| warning.contains(word));
    assert!(warnings.iter().any(tells), "{warnings:?}");
}

/// Who has it by another Member too neither gains nor loses it.
#[tokio::test]
async fn what_changes_nothing_is_not_told() {
    let spec = "{projectRef: {name: apps}, role: Guest, subjects: [{kind: User, name: 'kubernetes:dev'}]}";
    let judgement = judged("root", change("Member team/twice", None, Some(spec))).await;
    assert_eq!(judgement, Judgement::default());
}

#[rstest]
#[case::nothing("Project team/new", "{registryRef: {name: main, namespace: hub}}", false)]
#[case::registry("Project team/new", "{registryRef: {name: future}}", true)]
#[case::project("RepositoryPolicy team/p", "{projectRef: {name: future}, repositories: [a]}", true)]
#[case::project_of_a_member(
    "Member team/m",
    "{projectRef: {name: future}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    true
)]
#[case::nothing_of_a_member(
    "Member team/m",
    "{projectRef: {name: apps}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    false
)]
#[case::registry_of_a_member(
    "Member team/m",
    "{registryRef: {name: main}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    true
)]
fn what_is_not_there_yet_is_known(#[case] head: &str, #[case] spec: &str, #[case] expected: bool) {
    assert_eq!(objects().lack_a_reference_of(&change(head, None, Some(spec))), expected);
    assert!(!objects().lack_a_reference_of(&change(head, Some(spec), None)), "what goes needs nothing");
}

#[tokio::test]
async fn who_may_not_delete_an_official_project_is_told_who_may() {
    let library = change("Project hub/library", Some("{registryRef: {name: main}, official: true}"), None);
    let expected = "librarian may not delete a Project: Project hub/library is official, so that is for those who may administer Registry hub/main; ask one of them";
    assert_eq!(judged("librarian", library).await.denial.as_deref(), Some(expected));
}

/// Below an official Project's path images have the platform's name.
#[rstest]
#[case::within("path: library/tools", PLATFORM)]
#[case::around("path: libraries", &["root", "platform"])]
#[tokio::test]
async fn nobody_takes_repositories_from_an_official_project(#[case] path: &str, #[case] expected: &[&str]) {
    let spec = format!("{{registryRef: {{name: main}}, {path}}}");
    assert_eq!(who_may(&change("Project hub/new", None, Some(&spec))).await, expected);
    // Who may administer the Projects of its namespace.
    let steward_of_hub = HubSteward;
    let request = Request { requester: requester("hub-steward"), change: change("Project hub/new", None, Some(&spec)) };
    let judgement = judge(&objects(), &steward_of_hub, &request, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(judgement.denial.is_none(), path == "path: libraries", "{judgement:?}");
}

struct HubSteward;

#[async_trait]
impl Privileges for HubSteward {
    async fn may(&self, _: &Requester, _: &str, resource: &str, _: &str, _: Option<&str>) -> Result<bool, kube::Error> {
        Ok(resource == "projects")
    }
}

/// Kubernetes deletes what is owned by nothing that is there, and keeps what has a finalizer.
#[rstest]
#[case::owner("Member team/m", "ownerReferences", ADMINS_FOR_NOW)]
#[case::finalizer("Member team/m", "finalizers", ADMINS_FOR_NOW)]
#[case::owner_of_a_policy("RepositoryPolicy team/p", "ownerReferences", ADMINS_FOR_NOW)]
#[case::owner_of_a_project("Project team/apps", "ownerReferences", NAMESPACE)]
#[case::label("Member team/m", "labels", EVERYBODY)]
#[tokio::test]
async fn who_decides_when_an_object_ends_needs_what_deleting_it_takes(
    #[case] head: &str,
    #[case] field: &str,
    #[case] expected: &[&str],
) {
    fn changed<K: DeserializeOwned + Clone + kube::Resource>(head: &str, spec: &str, field: &str) -> Versions<K> {
        let before: K = object(head, spec);
        let mut after = before.clone();
        let meta = after.meta_mut();
        match field {
            "ownerReferences" => {
                let owner = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"});
                meta.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
            }
            "finalizers" => meta.finalizers = Some(vec!["example.com/keep".to_owned()]),
            _ => meta.labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
        }
        Versions::Updated { before, after }
    }
    let change = match head.split(' ').next().unwrap() {
        "Member" => {
            Change::Member(changed(head, &format!("{{projectRef: {{name: apps}}, role: Guest, {BOB}}}"), field))
        }
        "Project" => Change::Project(changed(head, &format!("{{{IN_MAIN}}}"), field)),
        _ => {
            let spec = "{projectRef: {name: apps}, repositories: ['**'], visibility: Private}";
            Change::RepositoryPolicy(changed(head, spec, field))
        }
    };
    assert_eq!(who_may(&change).await, expected);
}

/// The schema lets neither through.
#[rstest]
#[case::both("{projectRef: {name: apps}, registryRef: {name: main}, role: Guest, subjects: [{kind: Robot, name: ci}]}")]
#[case::neither("{role: Guest, subjects: [{kind: Robot, name: ci}]}")]
#[tokio::test]
async fn a_member_of_two_places_or_none_is_no_projects_affair(#[case] spec: &str) {
    let denial = judged("admin", change("Member team/m", None, Some(spec))).await.denial;
    assert!(denial.is_some(), "an Admin of the Project grants no role in the Registry");
}

/// The people of a namespace are not told who has a role in the whole Registry.
#[tokio::test]
async fn who_has_a_role_in_the_whole_registry_is_not_told() {
    let spec = format!("{{{IN_MAIN}}}");
    for change in [change("Project team/new", None, Some(&spec)), change("Project team/apps", Some(&spec), None)] {
        let Judgement { denial, warnings } = judged("steward", change).await;
        assert_eq!(denial, None);
        let told = warnings.join("\n");
        assert!(!told.contains("platform") && !told.contains("builder"), "{told}");
    }
}
