//! From custom resources to a [`Snapshot`], and to what is wrong with them.
//!
//! The operator and the registry run the same code: the one writes the problems into conditions, the other enforces the
//! snapshot. An object with a problem contributes nothing and harms no other.

pub mod claims;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::Glob;
use super::User;
use super::snapshot::{
    self, FailureLimits, Grant, ImmutableTags, PolicyRule, ProjectEntry, PullGrant, RegistryFacts, RobotGrant, Scope,
    Snapshot,
};
use crate::api::v1alpha1::{self as api, Member, Project, Registry, RepositoryPolicy};
use crate::oci::RepositoryName;

const DEFAULT_TOKEN_TTL: u64 = 300;

/// Everything that the policy of one Registry is made of. The lists may hold objects of other Registries too: they are
/// passed over.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub registry: Arc<Registry>,
    pub projects: Vec<Arc<Project>>,
    pub policies: Vec<Arc<RepositoryPolicy>>,
    pub members: Vec<Arc<Member>>,
    /// Labels of the namespaces, by name. `None` if they can't be read: then no selector selects any, and what a pull
    /// secret's namespace is entitled to is decided as far as names go.
    pub namespaces: Option<Namespaces>,
}

/// Labels of namespaces, by name.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Which object a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

/// Why an object is not accepted: the `reason` of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NamespaceNotAllowed,
    OfficialNotAllowed,
    PathConflict,
    InvalidPath,
    ProjectNotFound,
    ProjectNotAccepted,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::NamespaceNotAllowed => "NamespaceNotAllowed",
            Reason::OfficialNotAllowed => "OfficialNotAllowed",
            Reason::PathConflict => "PathConflict",
            Reason::InvalidPath => "InvalidPath",
            Reason::ProjectNotFound => "ProjectNotFound",
            Reason::ProjectNotAccepted => "ProjectNotAccepted",
        }
    }
}

/// What is wrong with an object, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub object: ObjectKey,
    pub reason: Reason,
    pub message: String,
}

/// Compiles the policy of one Registry.
pub fn compile(inputs: &Inputs) -> (Snapshot, Vec<Problem>) {
    let mut problems = Vec::new();
    let projects = Projects { accepted: accept_projects(inputs, &mut problems), all: by_name(&inputs.projects) };
    let mut snapshot = Snapshot {
        registry: registry_facts(&inputs.registry),
        projects: HashMap::new(),
        robots: HashMap::new(),
        pull_secrets: HashMap::new(),
        users: HashMap::new(),
    };
    for project in projects.accepted.values() {
        snapshot.projects.insert(project.path().to_owned(), project_entry(project));
        // What is being deleted keeps its path until it is gone, and gives no rights any more.
        if is_live(&project.metadata) {
            snapshot.pull_secrets.insert(uid(&project.metadata), pull_grant(inputs, project));
        }
    }
    for policy in &inputs.policies {
        match find_project(inputs, &projects, "RepositoryPolicy", &policy.metadata, &policy.spec.project_ref.name) {
            Lookup::Accepted(project) => {
                if let Some(entry) = snapshot.projects.get_mut(project.path()) {
                    entry.policies.push(policy_rule(policy));
                }
            }
            Lookup::Problem(problem) => problems.push(problem),
            Lookup::OtherRegistry => {}
        }
    }
    for member in inputs.members.iter().filter(|member| is_live(&member.metadata)) {
        match scope_of(inputs, &projects, member) {
            Ok(Some(scope)) => {
                let grant = member_grant(member, scope);
                // The API server refuses a name that is none; one that comes around it is nobody's.
                for user in member.users().filter_map(|subject| subject.name.parse::<User>().ok()) {
                    snapshot.users.entry(user).or_default().push(grant.clone());
                }
                if member.robots().next().is_some() {
                    snapshot.robots.insert(uid(&member.metadata), robot_grant(member, grant));
                }
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    (snapshot, problems)
}

type Metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
type AcceptedProjects = BTreeMap<(String, String), Arc<Project>>;

/// By namespace and name.
struct Projects<'a> {
    accepted: AcceptedProjects,
    /// Refused ones and other Registries' too. An index, because each Member looks one up.
    all: HashMap<(&'a str, &'a str), &'a Project>,
}

fn by_name(projects: &[Arc<Project>]) -> HashMap<(&str, &str), &Project> {
    projects.iter().map(|project| ((namespace(&project.metadata), name(&project.metadata)), &**project)).collect()
}

fn namespace(metadata: &Metadata) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

fn name(metadata: &Metadata) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn uid(metadata: &Metadata) -> String {
    metadata.uid.clone().unwrap_or_default()
}

fn is_live(metadata: &Metadata) -> bool {
    metadata.deletion_timestamp.is_none()
}

fn object_key(kind: &'static str, metadata: &Metadata) -> ObjectKey {
    ObjectKey { kind, namespace: namespace(metadata).to_owned(), name: name(metadata).to_owned() }
}

fn registry_facts(registry: &Registry) -> RegistryFacts {
    let ttl = registry.spec.authentication.token_ttl.as_ref().map(api::Duration::as_secs);
    RegistryFacts {
        uid: uid(&registry.metadata),
        name: format!("{}/{}", namespace(&registry.metadata), name(&registry.metadata)),
        token_ttl: ttl.unwrap_or(DEFAULT_TOKEN_TTL),
        failures: registry.spec.authentication.failures.as_ref().map(failure_limits).unwrap_or_default(),
    }
}

fn failure_limits(limits: &api::FailureLimits) -> FailureLimits {
    // The schema has a lower bound of one.
    let count = |given: i32| u32::try_from(given).unwrap_or(0).max(1);
    FailureLimits { per_minute: count(limits.per_minute), burst: count(limits.burst) }
}

/// Whether the Project names this Registry.
pub fn belongs_to(project: &Project, registry: &Registry) -> bool {
    let reference = &project.spec.registry_ref;
    let namespace_of_reference = reference.namespace.as_deref().unwrap_or(namespace(&project.metadata));
    reference.name == name(&registry.metadata) && namespace_of_reference == namespace(&registry.metadata)
}

/// Age first, then namespace and name: the order in which Projects claim a path.
fn claim_order(project: &Project) -> (Option<Timestamp>, String, String) {
    let metadata = &project.metadata;
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, namespace(metadata).to_owned(), name(metadata).to_owned())
}

fn accept_projects(inputs: &Inputs, problems: &mut Vec<Problem>) -> AcceptedProjects {
    let mut candidates: Vec<_> =
        inputs.projects.iter().filter(|project| belongs_to(project, &inputs.registry)).collect();
    candidates.sort_by_cached_key(|project| claim_order(project));
    let mut owners: BTreeMap<&str, &Project> = BTreeMap::new();
    let mut accepted = AcceptedProjects::new();
    for project in candidates {
        let refusal = refuse_project(inputs, project).or_else(|| {
            let owner = rival(&owners, project)?;
            let (namespace, name) = (namespace(&owner.metadata), name(&owner.metadata));
            let message = format!(
                "path {:?} is or lies within the path {:?} of the older Project {namespace}/{name}, or the other way round: choose another path",
                project.path(),
                owner.path()
            );
            Some((Reason::PathConflict, message))
        });
        match refusal {
            Some((reason, message)) => {
                problems.push(Problem { object: object_key("Project", &project.metadata), reason, message });
            }
            None => {
                owners.insert(project.path(), project);
                let key = (namespace(&project.metadata).to_owned(), name(&project.metadata).to_owned());
                accepted.insert(key, Arc::clone(project));
            }
        }
    }
    accepted
}

/// An older Project that has the path, or one above or below it in another namespace. Nested paths are for one team to
/// divide: otherwise a new Project would take over what others have pushed below theirs.
fn rival<'a>(owners: &BTreeMap<&str, &'a Project>, project: &Project) -> Option<&'a Project> {
    let path = project.path();
    let foreign = |owner: &&&'a Project| owner.metadata.namespace != project.metadata.namespace;
    let mut above = std::iter::successors(path.rsplit_once('/'), |(parent, _)| parent.rsplit_once('/'));
    let inside = format!("{path}/");
    let mut below = owners.range(inside.as_str()..).take_while(|(other, _)| other.starts_with(&inside));
    owners
        .get(path)
        .or_else(|| above.find_map(|(parent, _)| owners.get(parent).filter(foreign)))
        .or_else(|| below.find_map(|(_, owner)| Some(owner).filter(foreign)))
        .copied()
}

/// Whether the acceptance of one of two paths can depend on the other.
pub fn paths_touch(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    one == other || within(one, other) || within(other, one)
}

/// What is wrong with a Project, other Projects aside.
fn refuse_project(inputs: &Inputs, project: &Project) -> Option<(Reason, String)> {
    let registry = &inputs.registry;
    let (own, candidate) = (namespace(&registry.metadata), namespace(&project.metadata));
    let no_labels = BTreeMap::new();
    let labels = inputs.namespaces.as_ref().and_then(|all| all.get(candidate)).unwrap_or(&no_labels);
    if !registry.spec.project_namespaces.contains(own, candidate, labels) {
        let message = format!(
            "Registry {own}/{} takes no Projects from namespace {candidate}: ask for it in its spec.projectNamespaces",
            name(&registry.metadata)
        );
        return Some((Reason::NamespaceNotAllowed, message));
    }
    if project.spec.official && own != candidate {
        let message = format!(
            "an official Project must live in the namespace of its Registry, {own}: move it, or set official to false"
        );
        return Some((Reason::OfficialNotAllowed, message));
    }
    if let Err(error) = project.path().parse::<RepositoryName>() {
        return Some((Reason::InvalidPath, format!("path {:?} can't be used: {error}", project.path())));
    }
    None
}

fn project_entry(project: &Project) -> ProjectEntry {
    ProjectEntry {
        path: project.path().to_owned(),
        official: project.spec.official,
        visibility: visibility(project.spec.visibility),
        policies: Vec::new(),
    }
}

/// The namespaces that are to have a pull secret, and those that the Project selects but the Registry doesn't allow.
pub fn entitled_namespaces<'a>(
    project: &Project,
    registry: &Registry,
    namespaces: &'a Namespaces,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let settings = project.spec.pull_secrets.clone().unwrap_or_default();
    let (own, home) = (namespace(&project.metadata), namespace(&registry.metadata));
    let selected = namespaces.iter().filter(|(name, labels)| settings.namespaces.contains(own, name, labels));
    let (allowed, forbidden): (Vec<_>, Vec<_>) =
        selected.partition(|(name, labels)| registry.spec.pull_secret_namespaces.contains(home, name, labels));
    let names = |list: Vec<(&'a String, _)>| list.into_iter().map(|(name, _)| name.as_str()).collect();
    (names(allowed), names(forbidden))
}

fn pull_grant(inputs: &Inputs, project: &Project) -> PullGrant {
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
    };
    PullGrant { grant, namespaces, generation: generation(settings.credential_generation) }
}

fn policy_rule(policy: &RepositoryPolicy) -> PolicyRule {
    let immutable_tags = policy.spec.immutable_tags.as_ref();
    PolicyRule {
        name: name(&policy.metadata).to_owned(),
        repositories: policy.spec.repositories.iter().map(|pattern| Glob::new(pattern)).collect(),
        visibility: policy.spec.visibility.map(visibility),
        immutable_tags: immutable_tags.map(|patterns| ImmutableTags::new(patterns.iter().map(String::as_str))),
    }
}

fn member_grant(member: &Member, scope: Scope) -> Grant {
    Grant {
        scope,
        role: role(member.spec.role),
        repositories: member.spec.repositories.iter().map(|pattern| Glob::new(pattern)).collect(),
        expires_at: member.spec.expires_at.as_ref().map(|time| time.0),
    }
}

fn robot_grant(member: &Member, grant: Grant) -> RobotGrant {
    let robots = member.robots().map(|robot| robot.name.clone()).collect();
    RobotGrant { grant, robots, generation: generation(member.spec.credential_generation) }
}

/// The schema has a lower bound of zero; what comes around it revokes nothing.
fn generation(given: i32) -> u32 {
    u32::try_from(given).unwrap_or(0)
}

fn role(role: api::Role) -> snapshot::Role {
    match role {
        api::Role::Guest => snapshot::Role::Guest,
        api::Role::Developer => snapshot::Role::Developer,
        api::Role::Admin => snapshot::Role::Admin,
    }
}

fn visibility(visibility: api::Visibility) -> snapshot::Visibility {
    match visibility {
        api::Visibility::Private => snapshot::Visibility::Private,
        api::Visibility::Internal => snapshot::Visibility::Internal,
        api::Visibility::Public => snapshot::Visibility::Public,
    }
}

enum Lookup<'a> {
    Accepted(&'a Project),
    OtherRegistry,
    Problem(Problem),
}

fn find_project<'a>(
    inputs: &Inputs,
    projects: &'a Projects<'_>,
    kind: &'static str,
    metadata: &Metadata,
    project: &str,
) -> Lookup<'a> {
    let home = namespace(metadata);
    if let Some(project) = projects.accepted.get(&(home.to_owned(), project.to_owned())) {
        return Lookup::Accepted(project);
    }
    let (reason, message) = match projects.all.get(&(home, project)) {
        Some(project) if !belongs_to(project, &inputs.registry) => return Lookup::OtherRegistry,
        Some(_) => (Reason::ProjectNotAccepted, format!("Project {project} is not accepted: see its conditions")),
        None => {
            let message =
                format!("there is no Project {project} in namespace {home}: create it, or correct projectRef");
            (Reason::ProjectNotFound, message)
        }
    };
    Lookup::Problem(Problem { object: object_key(kind, metadata), reason, message })
}

/// Where a Member's role holds; `None` if it is another Registry's Member.
fn scope_of(inputs: &Inputs, projects: &Projects<'_>, member: &Member) -> Result<Option<Scope>, Problem> {
    if let Some(registry) = &member.spec.registry_ref {
        let metadata = &inputs.registry.metadata;
        let is_ours = registry.name == name(metadata) && namespace(&member.metadata) == namespace(metadata);
        return Ok(is_ours.then_some(Scope::Registry));
    }
    let Some(project) = &member.spec.project_ref else { return Ok(None) };
    match find_project(inputs, projects, "Member", &member.metadata, &project.name) {
        Lookup::Accepted(project) => Ok(Some(Scope::Project(project.path().to_owned()))),
        Lookup::OtherRegistry => Ok(None),
        Lookup::Problem(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, CredentialSubject, Decision, Identity, Operation, authorize};
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
        inputs.members = vec![object(
            "Member team/m",
            "{projectRef: {name: none}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
        )];
        inputs.policies = vec![object("RepositoryPolicy team/p", "{projectRef: {name: none}, repositories: ['**']}")];
        let expected =
            ["RepositoryPolicy team/p", "Member team/m"].map(|text| (text.to_owned(), Reason::ProjectNotFound));
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
        inputs.members = vec![object(
            "Member team/m",
            "{projectRef: {name: a}, role: Developer, subjects: [{kind: Robot, name: ci}]}",
        )];
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
}
