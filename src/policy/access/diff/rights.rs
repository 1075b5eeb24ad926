//! Who gains or loses which actions where.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use k8s_openapi::jiff::Timestamp;

use super::standings::{ByScope, Concerned, Standing, path_and_parents, standings};
use super::{Both, Difference, Limits, sample};
use crate::oci::RepositoryName;
use crate::policy::access::{AccessChange, Change, Principal, given};
use crate::policy::authorize::{Ruling, role_in};
use crate::policy::{Action, Grant, Kind, ProjectEntry, Role, Snapshot, Visibility};

/// Patterns of one Project's policies, and of one's grants in it, that are looked at. Beyond that it is told what holds for
/// every other repository: nobody reads more, and a webhook has its time.
const MOST_PATTERNS: usize = 1_024;

pub(super) fn changes(before: &Snapshot, after: &Snapshot, now: Timestamp, limits: Limits) -> Difference {
    let concerned = Concerned::of(before, after);
    let nobodys = ProjectEntry::new("", Visibility::Private);
    let both = Both { before, after };
    let mut world = World { both, nobodys: &nobodys, spots: HashMap::new(), limits, matches: Cell::new(0) };
    let mut changes = Vec::new();
    for path in &concerned.projects {
        if !world.is_spent(changes.len()) {
            changes.extend(world.everybody(path));
        }
    }
    for standing in standings(before, after, &concerned, now) {
        if world.is_spent(changes.len()) {
            break;
        }
        changes.extend(world.somebody(standing, &concerned));
    }
    Difference { is_whole: !world.is_spent(changes.len()), changes }
}

/// A pattern, the repository that stands for it, and what counts for that.
#[derive(Clone)]
struct Spot<'a> {
    pattern: String,
    sample: RepositoryName,
    rulings: Both<Option<Ruling<'a>>>,
}

impl<'a> Spot<'a> {
    fn rulings(&self) -> impl Iterator<Item = &Ruling<'a>> {
        self.rulings.before.iter().chain(&self.rulings.after)
    }

    /// Whether the pattern may match a private repository, whatever counts for the one that stands for it: the Project may
    /// have a policy, and another Project may lie within it.
    fn may_be_private(&self) -> bool {
        let is_of_several = self.pattern.contains('*');
        self.rulings().all(|ruling| is_of_several && ruling.kind != Kind::Official)
    }
}

/// What has changed for somebody at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    lost: Vec<Action>,
    gained: Vec<Action>,
}

impl Outcome {
    fn is_nothing(&self) -> bool {
        self.lost.is_empty() && self.gained.is_empty()
    }

    fn without(mut self, other: &Self) -> Self {
        self.lost.retain(|action| !other.lost.contains(action));
        self.gained.retain(|action| !other.gained.contains(action));
        self
    }

    /// What else has changed, as far as it doesn't contradict.
    fn add(&mut self, other: &Self) {
        let all = |own: &[Action], others: &[Action], opposite: &[Action]| {
            let is_added = |action: &Action| others.contains(action) && !opposite.contains(action);
            Action::ALL.into_iter().filter(|action| own.contains(action) || is_added(action)).collect()
        };
        let Self { lost, gained } = self;
        (*lost, *gained) = (all(lost, &other.lost, gained), all(gained, &other.gained, lost));
    }

    fn changes(&self, principal: &Principal, pattern: &str) -> Vec<AccessChange> {
        let Self { lost, gained } = self;
        let of = |change| AccessChange { principal: principal.clone(), change };
        let pattern = || pattern.to_owned();
        let lost = (!lost.is_empty()).then(|| of(Change::Loses { pattern: pattern(), actions: lost.clone() }));
        let gained = (!gained.is_empty()).then(|| of(Change::Gains { pattern: pattern(), actions: gained.clone() }));
        lost.into_iter().chain(gained).collect()
    }
}

struct World<'a> {
    both: Both<&'a Snapshot>,
    /// Stands for the Projects of a Registry that nobody has named.
    nobodys: &'a ProjectEntry,
    /// Of the patterns of a Project's policies, by its path.
    spots: HashMap<&'a str, Rc<Vec<Spot<'a>>>>,
    limits: Limits,
    /// How many patterns have been held against names, about.
    matches: Cell<usize>,
}

/// What somebody has been granted, and the spots of those patterns that are of the whole Registry.
struct Given<'a> {
    grants: ByScope<'a>,
    in_registry: Vec<Spot<'a>>,
    /// Which of them lie in a Project, by its path.
    by_project: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Given<'a> {
    /// Patterns of the whole Registry are looked up once, not for each Project that differs.
    fn of(grants: ByScope<'a>, world: &World<'a>) -> Self {
        let of_registry = grants.get(&None).into_iter().flat_map(|both| both.before.iter().chain(&both.after));
        let patterns: BTreeSet<String> = of_registry.flat_map(|grant| given::patterns(grant)).collect();
        let in_registry: Vec<_> =
            patterns.into_iter().take(MOST_PATTERNS).filter_map(|pattern| world.spot(pattern)).collect();
        let mut by_project: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, spot) in in_registry.iter().enumerate() {
            let owners: BTreeSet<&'a str> = spot.rulings().map(|ruling| ruling.project.path.as_str()).collect();
            for path in owners {
                by_project.entry(path).or_default().push(index);
            }
        }
        Self { grants, in_registry, by_project }
    }

    fn in_project(&self, path: &str) -> impl Iterator<Item = &Spot<'a>> {
        self.by_project.get(path).into_iter().flatten().map(|index| &self.in_registry[*index])
    }
}

impl<'a> World<'a> {
    /// What changes in a Project for those who have been granted nothing.
    fn everybody(&mut self, path: &'a str) -> Vec<AccessChange> {
        let mut changes = Vec::new();
        let mut any = None;
        for spot in self.spots(path).iter() {
            let both = (without_role(spot, false), without_role(spot, true));
            // The first one stands for every repository that no other pattern speaks of.
            let any = any.get_or_insert_with(|| both.clone());
            if spot.pattern != pattern_of_any(path) && both == *any {
                continue;
            }
            let (anonymous, user) = both;
            if anonymous == user {
                changes.extend(user.changes(&Principal::Anyone, &spot.pattern));
            } else {
                changes.extend(anonymous.changes(&Principal::Anonymous, &spot.pattern));
                changes.extend(user.changes(&Principal::EveryUser, &spot.pattern));
            }
        }
        changes
    }

    /// What changes for somebody, besides what changes for every user.
    fn somebody(&mut self, standing: Standing<'a>, concerned: &Concerned<'a>) -> Vec<AccessChange> {
        let Standing { principal, grants } = standing;
        let given = Given::of(grants, self);
        let mut projects: BTreeSet<&str> = BTreeSet::new();
        let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
        for (scope, both) in &given.grants {
            projects.extend(concerned.by(*scope));
            match scope {
                Some(path) if both.before != both.after => {
                    projects.insert(path);
                }
                None if both.before != both.after => self.in_registry(&given, &mut outcomes),
                _ => {}
            }
        }
        for path in projects {
            if self.is_spent(outcomes.len()) {
                break;
            }
            self.in_project(path, &given, &mut outcomes);
        }
        let told = outcomes.iter().flat_map(|(pattern, outcome)| outcome.changes(&principal, pattern));
        told.collect()
    }

    fn in_project(&mut self, path: &'a str, given: &Given<'a>, outcomes: &mut BTreeMap<String, Outcome>) {
        let of_project = self.spots(path);
        let own = self.own_spots(path, &given.grants);
        let mut any = None;
        for spot in of_project.iter().chain(&own).chain(given.in_project(path)) {
            let outcome = self.outcome(spot, &given.grants);
            let any = any.get_or_insert_with(|| outcome.clone());
            if !outcome.is_nothing() && (spot.pattern == pattern_of_any(path) || outcome != *any) {
                outcomes.entry(spot.pattern.clone()).or_insert(outcome);
            }
        }
    }

    /// Roles in the whole Registry: where their patterns' names are, and as in a private Project.
    fn in_registry(&self, given: &Given<'a>, outcomes: &mut BTreeMap<String, Outcome>) {
        for spot in &given.in_registry {
            let mut found = self.outcome(spot, &given.grants);
            if spot.may_be_private() {
                let ruling = Ruling { project: self.nobodys, policy: None, kind: Kind::Private };
                let rulings = Both { before: Some(ruling), after: Some(ruling) };
                found.add(&self.outcome(&Spot { rulings, ..spot.clone() }, &given.grants));
            }
            if !found.is_nothing() {
                outcomes.insert(spot.pattern.clone(), found);
            }
        }
    }

    /// Whether there is more than may be looked at or told.
    fn is_spent(&self, changes: usize) -> bool {
        let Limits { changes: most_changes, matches: most_matches } = self.limits;
        changes > most_changes || self.matches.get() > most_matches
    }

    fn count_matches(&self, matches: usize) {
        self.matches.set(self.matches.get().saturating_add(matches));
    }

    fn spot(&self, pattern: String) -> Option<Spot<'a>> {
        let sample = sample::of(&pattern)?;
        let Both { before, after } = self.both;
        let rulings = Both { before: Ruling::of(before, &sample), after: Ruling::of(after, &sample) };
        let spot = Spot { pattern, sample, rulings };
        let policies = spot.rulings().flat_map(|ruling| &ruling.project.policies);
        self.count_matches(1 + policies.map(|policy| policy.repositories.len()).sum::<usize>());
        Some(spot)
    }

    /// The patterns of the policies that set a visibility in a Project, those of both sides; before them the one for every
    /// other repository. On the side where the Project is not there they are those of the one around it.
    fn spots(&mut self, path: &'a str) -> Rc<Vec<Spot<'a>>> {
        if let Some(spots) = self.spots.get(path) {
            return Rc::clone(spots);
        }
        let owner = |snapshot: &'a Snapshot| path_and_parents(path).find_map(|path| snapshot.projects.get(path));
        let owners = [self.both.before, self.both.after].into_iter().filter_map(owner);
        let globs: BTreeSet<String> = owners
            .flat_map(|owner| {
                let policies = owner.policies.iter().filter(|policy| policy.visibility.is_some());
                let globs = policies.flat_map(|policy| &policy.repositories);
                globs.flat_map(|glob| glob.within(below(&owner.path, path))).map(|glob| glob.to_string())
            })
            .collect();
        let any = pattern_of_any(path);
        let patterns = globs.iter().map(|glob| format!("{path}/{glob}")).filter(|pattern| *pattern != any);
        let spots: Vec<_> =
            std::iter::once(any.clone()).chain(patterns).take(MOST_PATTERNS).filter_map(|p| self.spot(p)).collect();
        let spots = Rc::new(spots);
        self.spots.insert(path, Rc::clone(&spots));
        spots
    }

    /// The patterns of one's own grants in this Project and in those around it, as far as they lie in this one on either
    /// side.
    fn own_spots(&self, path: &str, grants: &ByScope<'a>) -> Vec<Spot<'a>> {
        let mut patterns = BTreeSet::new();
        for scope in path_and_parents(path) {
            let both = grants.get(&Some(scope)).into_iter().flat_map(|both| both.before.iter().chain(&both.after));
            let globs = both.flat_map(|grant| &grant.repositories).flat_map(|glob| glob.within(below(scope, path)));
            patterns.extend(globs.map(|glob| format!("{path}/{glob}")));
        }
        let is_here = |spot: &Spot<'_>| spot.rulings().any(|ruling| ruling.project.path == path);
        patterns.into_iter().take(MOST_PATTERNS).filter_map(|pattern| self.spot(pattern)).filter(is_here).collect()
    }

    /// What changes at this place for somebody with these grants, besides what changes for every user.
    fn outcome(&self, spot: &Spot<'_>, grants: &ByScope<'_>) -> Outcome {
        let role = |ruling: &Option<Ruling<'_>>, side: for<'g> fn(&'g Both<Vec<&'g Grant>>) -> &'g [&'g Grant]| {
            let ruling = ruling.as_ref()?;
            let of_project = grants.get(&Some(ruling.project.path.as_str()));
            let both = of_project.into_iter().chain(grants.get(&None));
            both.filter_map(|both| self.greatest(side(both), ruling, &spot.sample)).max()
        };
        let before = role(&spot.rulings.before, |both| &both.before);
        let roles = Both { before, after: role(&spot.rulings.after, |both| &both.after) };
        compare(spot, true, roles).without(&without_role(spot, true))
    }

    /// The greatest role that these give in a repository.
    fn greatest(&self, grants: &[&Grant], ruling: &Ruling<'_>, repository: &RepositoryName) -> Option<Role> {
        self.count_matches(grants.iter().map(|grant| 1 + grant.repositories.len()).sum());
        grants.iter().filter_map(|grant| role_in(grant, ruling.project, repository)).max()
    }
}

/// What is left of a path below another one.
fn below<'p>(outer: &str, path: &'p str) -> &'p str {
    path.strip_prefix(outer).unwrap_or_default().trim_start_matches('/')
}

/// Stands for every repository of the Project that no other pattern speaks of.
fn pattern_of_any(path: &str) -> String {
    format!("{path}/**")
}

/// What changes at this place for somebody without any role.
fn without_role(spot: &Spot<'_>, is_logged_in: bool) -> Outcome {
    compare(spot, is_logged_in, Both::default())
}

fn compare(spot: &Spot<'_>, is_logged_in: bool, roles: Both<Option<Role>>) -> Outcome {
    let may = |ruling: &Option<Ruling<'_>>, role: Option<Role>, action| {
        ruling.is_some_and(|ruling| ruling.allows(action, is_logged_in, |least| role >= Some(least)))
    };
    let mut outcome = Outcome::default();
    for action in Action::ALL {
        match (may(&spot.rulings.before, roles.before, action), may(&spot.rulings.after, roles.after, action)) {
            (true, false) => outcome.lost.push(action),
            (false, true) => outcome.gained.push(action),
            _ => {}
        }
    }
    outcome
}
