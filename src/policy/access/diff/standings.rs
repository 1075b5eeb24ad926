//! What somebody has been granted, before and after.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::jiff::Timestamp;

use super::Both;
use crate::policy::access::Principal;
use crate::policy::{Grant, Scope, Snapshot};

/// Grants that hold, by the path of their Project; `None` are those in the whole Registry.
pub(super) type ByScope<'a> = BTreeMap<Option<&'a str>, Both<Vec<&'a Grant>>>;

/// Somebody for whom something may have changed.
pub(super) struct Standing<'a> {
    pub principal: Principal,
    pub grants: ByScope<'a>,
}

/// Projects that differ, and whose members are concerned by that: those of the Project, and those of the ones around it,
/// from which it may take repositories or to which it may leave them.
#[derive(Default)]
pub(super) struct Concerned<'a> {
    pub projects: BTreeSet<&'a str>,
    by_scope: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Concerned<'a> {
    pub fn of(before: &'a Snapshot, after: &'a Snapshot) -> Self {
        let changed = before.projects.iter().filter(|(path, entry)| after.projects.get(*path) != Some(entry));
        let added = after.projects.keys().filter(|path| !before.projects.contains_key(*path));
        let projects: BTreeSet<&str> = changed.map(|(path, _)| path).chain(added).map(String::as_str).collect();
        let mut by_scope: HashMap<&str, Vec<&str>> = HashMap::new();
        for path in &projects {
            for scope in path_and_parents(path) {
                by_scope.entry(scope).or_default().push(path);
            }
        }
        Self { projects, by_scope }
    }

    /// The Projects that differ and concern who has a grant with this scope.
    pub fn by(&self, scope: Option<&str>) -> impl Iterator<Item = &'a str> {
        let of_project = scope.and_then(|path| self.by_scope.get(path)).into_iter().flatten();
        let of_registry = scope.is_none().then_some(&self.projects).into_iter().flatten();
        of_project.chain(of_registry).copied()
    }

    fn includes(&self, grant: &Grant) -> bool {
        match &grant.scope {
            Scope::Registry => !self.projects.is_empty(),
            Scope::Project(path) => self.by_scope.contains_key(path.as_str()),
        }
    }
}

/// A path, and each that it lies within.
pub(super) fn path_and_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(parent, _)| parent))
}

/// All whose grants differ, or who have some that concern a Project that differs.
pub(super) fn standings<'a>(
    before: &'a Snapshot,
    after: &'a Snapshot,
    concerned: &Concerned<'a>,
    now: Timestamp,
) -> Vec<Standing<'a>> {
    let mut found: BTreeMap<Principal, ByScope<'a>> = BTreeMap::new();
    let mut add = |principal: Principal, before: &'a [Grant], after: &'a [Grant]| {
        let grants = found.entry(principal).or_default();
        for grant in before.iter().filter(|grant| grant.holds(now)) {
            grants.entry(scope(grant)).or_default().before.push(grant);
        }
        for grant in after.iter().filter(|grant| grant.holds(now)) {
            grants.entry(scope(grant)).or_default().after.push(grant);
        }
    };
    let is_of_interest =
        |before: &[Grant], after: &[Grant]| before != after || before.iter().any(|grant| concerned.includes(grant));
    for_each(&before.users, &after.users, |user, before, after| {
        if is_of_interest(before, after) {
            add(Principal::User(user.clone()), before, after);
        }
    });
    for_each(&before.groups, &after.groups, |group, before, after| {
        if is_of_interest(before, after) {
            add(Principal::Group(group.clone()), before, after);
        }
    });
    // By UID they are compared, by name they are told: one that is made anew is the same robot to those who use it.
    for (snapshot, other, is_before) in [(before, after, true), (after, before, false)] {
        let sides = |grant: &'a Grant| -> (&'a [Grant], &'a [Grant]) {
            let grant = std::slice::from_ref(grant);
            if is_before { (grant, &[]) } else { (&[], grant) }
        };
        for (uid, robots) in &snapshot.robots {
            if other.robots.get(uid) == Some(robots) && !concerned.includes(&robots.grant) {
                continue;
            }
            let (before, after) = sides(&robots.grant);
            for robot in &robots.robots {
                add(Principal::robot(&robots.grant.source, robot), before, after);
            }
        }
        for (uid, pull) in &snapshot.pull_secrets {
            if other.pull_secrets.get(uid) == Some(pull) && !concerned.includes(&pull.grant) {
                continue;
            }
            if pull.namespaces.as_ref().is_none_or(|namespaces| !namespaces.is_empty()) {
                let (before, after) = sides(&pull.grant);
                add(Principal::pull_secrets(&pull.grant.source), before, after);
            }
        }
    }
    found.into_iter().map(|(principal, grants)| Standing { principal, grants }).collect()
}

fn scope(grant: &Grant) -> Option<&str> {
    match &grant.scope {
        Scope::Project(path) => Some(path),
        Scope::Registry => None,
    }
}

fn for_each<'a, K: Eq + std::hash::Hash>(
    before: &'a HashMap<K, Vec<Grant>>,
    after: &'a HashMap<K, Vec<Grant>>,
    mut visit: impl FnMut(&'a K, &'a [Grant], &'a [Grant]),
) {
    for (key, grants) in before {
        visit(key, grants, after.get(key).map(Vec::as_slice).unwrap_or_default());
    }
    for (key, grants) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        visit(key, &[], grants);
    }
}
