//! Small policies in which everything meets everything: few names, many overlaps.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::oci::RepositoryName;
use crate::policy::{
    Action, ClientCertificates, CredentialSubject, Glob, Grant, Group, Identity, NamespaceSet, ObjectKey, PolicyRule,
    ProjectEntry, Providers, PullGrant, RegistryFacts, RobotGrant, Role, Scope, ServiceAccounts, Snapshot, User,
    Visibility,
};

/// When it is. What ends at 50 is over, what ends at 150 isn't.
pub const NOW: Timestamp = Timestamp::constant(100, 0);

const PATHS: [&str; 4] = ["a", "a/b", "c", "lib"];
const GLOBS: [&str; 6] = ["x", "x-*", "*", "**", "b/*", "y/**"];
const WHOLE_GLOBS: [&str; 6] = ["a/x", "a/*", "a/**", "**", "c/**", "a/b/x-*"];
const REPOSITORIES: [&str; 11] =
    ["a/x", "a/x-1", "a/z", "a/y/z", "a/b/x", "a/b/x-1", "a/b/q/r", "c/x", "c/y/z/w", "lib/x", "nowhere/x"];
const USERS: [&str; 4] = ["htpasswd:u", "certificate:u", "oidc:corp:u", "kubernetes:system:serviceaccount:n:u"];
const GROUPS: [&str; 3] = ["certificate:g", "certificate:h", "kubernetes:system:serviceaccounts"];
const ROBOTS: [&str; 2] = ["r", "s"];
const NAMESPACES: [&str; 2] = ["n", "m"];

/// A policy as objects would say it, so that one of them can be changed or left out.
#[derive(Clone, Debug)]
pub struct Everything {
    projects: Vec<ProjectSpec>,
    pub members: Vec<MemberSpec>,
}

#[derive(Clone, Debug)]
struct ProjectSpec {
    path: &'static str,
    visibility: Visibility,
    policies: Vec<(&'static str, Option<Visibility>)>,
    pull_secrets: (Role, Option<BTreeSet<String>>, u32),
}

#[derive(Clone, Debug)]
pub struct MemberSpec {
    project: Option<&'static str>,
    pub role: Role,
    pub repositories: Vec<&'static str>,
    pub expires_at: Option<i64>,
    pub users: Vec<&'static str>,
    pub groups: Vec<&'static str>,
    pub robots: Vec<&'static str>,
    generation: u32,
}

fn visibility() -> impl Strategy<Value = Visibility> + Clone {
    select(vec![Visibility::Private, Visibility::Internal, Visibility::Public])
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Guest, Role::Developer, Role::Admin])
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: &[T], most: usize) -> impl Strategy<Value = Vec<T>> + use<T> {
    subsequence(of.to_vec(), 0..=most.min(of.len()))
}

fn project(path: &'static str) -> impl Strategy<Value = ProjectSpec> {
    let namespaces = option::of(some(&NAMESPACES.map(str::to_owned), 2).prop_map(|names| names.into_iter().collect()));
    let policies = vec((select(GLOBS.to_vec()), option::of(visibility())), 0..3);
    let spec = (visibility(), policies, (role(), namespaces, 0..2u32));
    spec.prop_map(move |(visibility, policies, pull_secrets)| ProjectSpec { path, visibility, policies, pull_secrets })
}

fn member() -> impl Strategy<Value = MemberSpec> {
    let scope = prop_oneof![
        some(&GLOBS, 2).prop_flat_map(|globs| (select(PATHS.map(Some).to_vec()), Just(globs))),
        some(&WHOLE_GLOBS, 2).prop_map(|globs| (None, globs)),
    ];
    let subjects = (some(&USERS, 2), some(&GROUPS, 2), some(&ROBOTS, 2));
    let spec = (scope, role(), option::of(select(vec![50, 150])), subjects, 0..2u32);
    spec.prop_map(|((project, repositories), role, expires_at, (users, groups, robots), generation)| MemberSpec {
        project,
        role,
        repositories,
        expires_at,
        users,
        groups,
        robots,
        generation,
    })
}

/// Any policy.
pub fn everything() -> impl Strategy<Value = Everything> {
    let projects = some(&PATHS, PATHS.len()).prop_flat_map(|paths| paths.into_iter().map(project).collect::<Vec<_>>());
    (projects, vec(member(), 0..5)).prop_map(|(projects, members)| Everything { projects, members })
}

/// Anybody, with valid credentials or not.
pub fn identities() -> impl Strategy<Value = Identity> {
    let user = (select(USERS.to_vec()), some(&GROUPS, 3)).prop_map(|(user, groups)| {
        Identity::of(user.parse().unwrap(), groups.into_iter().map(|group| group.parse().unwrap()).collect())
    });
    let robot = (0..5usize, select(ROBOTS.to_vec()), 0..2u32).prop_map(|(member, name, generation)| {
        let (member, namespace, name) = (format!("uid-m{member}"), "n".to_owned(), name.to_owned());
        Identity::Credential(CredentialSubject::Robot { member, namespace, name, generation })
    });
    let pull =
        (select(PATHS.to_vec()), select(NAMESPACES.to_vec()), 0..2u32).prop_map(|(path, namespace, generation)| {
            let (project, namespace, name) = (format!("uid-{path}"), namespace.to_owned(), path.replace('/', "-"));
            Identity::Credential(CredentialSubject::PullSecret { project, namespace, name, generation })
        });
    prop_oneof![Just(Identity::Anonymous), user, robot, pull]
}

pub fn repositories() -> impl Strategy<Value = RepositoryName> {
    select(REPOSITORIES.to_vec()).prop_map(|name| name.parse().unwrap())
}

pub fn actions() -> impl Strategy<Value = Action> {
    select(Action::ALL.to_vec())
}

impl Everything {
    /// The same without one of its Projects or Members, and whom that concerns.
    pub fn without_one(&self, which: Index) -> (Self, Vec<Identity>) {
        let mut rest = self.clone();
        let Self { projects, members } = &mut rest;
        let user = |name: &str| Identity::User(name.parse().unwrap());
        let member = |group: &&str| Identity::of("htpasswd:x".parse().unwrap(), vec![group.parse().unwrap()]);
        let all = projects.len() + members.len();
        let whose = match (all > 0).then(|| which.index(all)) {
            None => vec![],
            Some(index) if index < projects.len() => {
                projects.remove(index);
                vec![Identity::Anonymous, user("htpasswd:x")]
            }
            Some(index) => {
                // The place stays: the others keep their UIDs.
                let MemberSpec { users, groups, robots, .. } = &mut members[index - projects.len()];
                robots.clear();
                let users: Vec<_> = users.drain(..).map(user).collect();
                users.into_iter().chain(groups.drain(..).map(|group| member(&group))).collect()
            }
        };
        (rest, whose)
    }

    pub fn snapshot(&self) -> Snapshot {
        let accounts = ServiceAccounts { audiences: vec![], namespaces: NamespaceSet::These(["m".to_owned()].into()) };
        let certificates = ClientCertificates { certificate_authority: String::new() };
        let mut facts = RegistryFacts::new("r", "n/main");
        facts.providers = Providers::new(vec![], Some(accounts), Some(certificates));
        let mut snapshot = Snapshot::new(facts);
        for project in &self.projects {
            project.add_to(&mut snapshot);
        }
        for (index, member) in self.members.iter().enumerate() {
            member.add_to(&mut snapshot, index);
        }
        snapshot
    }
}

fn key(kind: &'static str, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: "n".to_owned(), name: name.replace('/', "-") }
}

impl ProjectSpec {
    fn add_to(&self, snapshot: &mut Snapshot) {
        let Self { path, visibility, policies, pull_secrets: (role, namespaces, generation) } = self;
        let policy = |(index, (glob, visibility)): (usize, &(&str, _))| PolicyRule {
            visibility: *visibility,
            ..PolicyRule::new(&format!("p{index}"), vec![Glob::new(glob)])
        };
        let entry = ProjectEntry {
            official: *path == "lib",
            policies: policies.iter().enumerate().map(policy).collect(),
            source: key("Project", path),
            ..ProjectEntry::new(path, *visibility)
        };
        snapshot.projects.insert((*path).to_owned(), entry);
        let source = Arc::new(key("Project", path));
        let grant = Grant { source, ..Grant::new(Scope::Project((*path).to_owned()), *role) };
        let pull = PullGrant { grant, namespaces: namespaces.clone(), generation: *generation };
        snapshot.pull_secrets.insert(format!("uid-{path}"), pull);
    }
}

impl MemberSpec {
    fn add_to(&self, snapshot: &mut Snapshot, index: usize) {
        let Self { project, role, repositories, expires_at, users, groups, robots, generation } = self;
        let scope = project.map_or(Scope::Registry, |path| Scope::Project(path.to_owned()));
        let grant = Grant {
            scope,
            role: *role,
            repositories: repositories.iter().map(|glob| Glob::new(glob)).collect(),
            expires_at: expires_at.map(|second| Timestamp::from_second(second).unwrap()),
            source: Arc::new(key("Member", &format!("m{index}"))),
        };
        for user in users {
            snapshot.users.entry(user.parse::<User>().unwrap()).or_default().push(grant.clone());
        }
        for group in groups {
            snapshot.groups.entry(group.parse::<Group>().unwrap()).or_default().push(grant.clone());
        }
        if !robots.is_empty() {
            let robots = robots.iter().map(|robot| (*robot).to_owned()).collect();
            let grant = RobotGrant { grant, robots, generation: *generation };
            snapshot.robots.insert(format!("uid-m{index}"), grant);
        }
    }
}
