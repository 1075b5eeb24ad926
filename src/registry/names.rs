//! Sorted sets of names in memory, each a copy of what is stored under one heading: a folder's entries, say.
//!
//! # Flow
//! Nothing is read until somebody asks for a set ([`Names::with`]) and finds that it is not known. He then
//! [begins](Names::begin) to read it from where it is stored; whoever changes what is stored says so with
//! [`Names::change`], and what he says meanwhile is kept and applied to what was read.
//!
//! # Guarantees
//! - A known set is exact, up to changes of which the one who makes them has not been told yet that they are done.
//! - Memory is bounded: beyond the limit, what was not used for longest is forgotten, and what is being read and still
//!   has no room is given up. A set larger than the limit is never known.
//! - A change of a set that nobody has asked for costs one look into a map.
//!
//! # Assumptions
//! - Every change is reported, after it was made and before it is acknowledged, and changes of one name are reported in
//!   the order in which they are made. When it is unclear whether one was made, [`Names::forget`] is called.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a name costs besides its bytes: its place in the tree, its length, the allocator's own.
const NAME_OVERHEAD: usize = 48;
/// What a set costs besides its names and its heading.
const SET_OVERHEAD: usize = 256;
/// Changes that are kept while a set is being read. If there are more it stays unknown.
const MAX_CHANGES: usize = 4096;

pub struct Names {
    sets: Mutex<HashMap<Box<str>, Arc<Set>>>,
    /// What the known sets, and those that are being read, cost together.
    bytes: AtomicUsize,
    limit: usize,
    /// Counts uses, to tell older ones from younger.
    uses: AtomicU64,
}

struct Set {
    last_use: AtomicU64,
    state: Mutex<State>,
}

enum State {
    /// Somebody is reading it. What has changed since he began: whether the name is there now.
    Reading(Vec<(Box<str>, bool)>),
    Known {
        names: BTreeSet<Box<str>>,
        bytes: usize,
    },
    /// No longer in the map.
    Forgotten,
}

/// A set that is being read. If it is dropped before it is finished the set stays unknown.
pub struct Reading<'a> {
    owner: &'a Names,
    heading: &'a str,
    set: Arc<Set>,
    names: BTreeSet<Box<str>>,
    bytes: usize,
}

impl Names {
    /// Remembers up to `limit` bytes; with 0, nothing.
    pub fn new(limit: usize) -> Self {
        Self { sets: Mutex::default(), bytes: AtomicUsize::new(0), limit, uses: AtomicU64::new(0) }
    }

    /// Looks at a set, if it is known. Changes of it wait meanwhile.
    pub fn with<T>(&self, heading: &str, look: impl FnOnce(&BTreeSet<Box<str>>) -> T) -> Option<T> {
        let set = lock(&self.sets).get(heading).cloned()?;
        set.last_use.store(self.next_use(), Ordering::Relaxed);
        match &*lock(&set.state) {
            State::Known { names, .. } => Some(look(names)),
            State::Reading(_) | State::Forgotten => None,
        }
    }

    /// Begins to read a set; nothing if it is known, or somebody else is reading it, or nothing is remembered.
    ///
    /// What is read from where the set is stored has to be read after this.
    pub fn begin<'a>(&'a self, heading: &'a str) -> Option<Reading<'a>> {
        if self.limit == 0 {
            return None;
        }
        let mut sets = lock(&self.sets);
        if sets.contains_key(heading) {
            return None;
        }
        let state = Mutex::new(State::Reading(Vec::new()));
        let set = Arc::new(Set { last_use: AtomicU64::new(self.next_use()), state });
        sets.insert(heading.into(), set.clone());
        let bytes = SET_OVERHEAD + heading.len();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(Reading { owner: self, heading, set, names: BTreeSet::new(), bytes })
    }

    /// Says that a name has come, or that it has gone.
    pub fn change(&self, heading: &str, name: &str, there: bool) {
        // A set that begins to be read after this look is read after the change was made.
        let Some(set) = lock(&self.sets).get(heading).cloned() else { return };
        let mut state = lock(&set.state);
        match &mut *state {
            State::Reading(changes) if changes.len() < MAX_CHANGES => changes.push((name.into(), there)),
            State::Reading(_) => {
                drop(state);
                self.forget_set(heading, &set);
            }
            State::Known { names, bytes } => {
                let (before, cost) = (*bytes, cost(name));
                if there && names.insert(name.into()) {
                    *bytes += cost;
                    self.bytes.fetch_add(cost, Ordering::Relaxed);
                } else if !there && names.remove(name) {
                    *bytes -= cost;
                    self.bytes.fetch_sub(cost, Ordering::Relaxed);
                }
                let grown = *bytes > before;
                drop(state);
                if grown {
                    self.make_room();
                }
            }
            State::Forgotten => {}
        }
    }

    /// Forgets a set: it has ended, or it is unclear what is in it.
    pub fn forget(&self, heading: &str) {
        let set = lock(&self.sets).get(heading).cloned();
        if let Some(set) = set {
            self.forget_set(heading, &set);
        }
    }

    fn forget_set(&self, heading: &str, set: &Arc<Set>) {
        let mut sets = lock(&self.sets);
        if sets.get(heading).is_some_and(|current| Arc::ptr_eq(current, set)) {
            sets.remove(heading);
        }
        self.invalidate(set);
    }

    fn invalidate(&self, set: &Set) {
        if let State::Known { bytes, .. } = std::mem::replace(&mut *lock(&set.state), State::Forgotten) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Forgets what was not used for longest, and some more, so that this isn't needed again at once.
    fn make_room(&self) {
        if self.bytes.load(Ordering::Relaxed) <= self.limit {
            return;
        }
        let mut sets = lock(&self.sets);
        let mut oldest: Vec<_> =
            sets.iter().map(|(heading, set)| (set.last_use.load(Ordering::Relaxed), heading.clone())).collect();
        oldest.sort_unstable();
        for (_, heading) in oldest {
            if self.bytes.load(Ordering::Relaxed) <= self.limit / 4 * 3 {
                break;
            }
            // Forgetting one that is being read makes no room: its reader holds what it has read.
            if sets.get(&heading).is_some_and(|set| matches!(*lock(&set.state), State::Known { .. }))
                && let Some(set) = sets.remove(&heading)
            {
                self.invalidate(&set);
            }
        }
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }
}

impl Reading<'_> {
    /// Adds a name that was read. False if there is no room for so much, also beside what else is being read.
    pub fn add(&mut self, name: &str) -> bool {
        if self.names.insert(name.into()) {
            self.bytes += cost(name);
            self.owner.bytes.fetch_add(cost(name), Ordering::Relaxed);
            self.owner.make_room();
        }
        self.owner.bytes.load(Ordering::Relaxed) <= self.owner.limit
    }

    /// What was read so far.
    pub fn names(&self) -> &BTreeSet<Box<str>> {
        &self.names
    }

    /// Everything has been read: from now on the set is known, unless it was forgotten meanwhile.
    pub fn finish(mut self) {
        let mut state = lock(&self.set.state);
        let State::Reading(changes) = &mut *state else { return };
        let (mut names, counted) = (std::mem::take(&mut self.names), std::mem::take(&mut self.bytes));
        let mut bytes = counted;
        for (name, there) in changes.drain(..) {
            let cost = cost(&name);
            match there {
                true if names.insert(name.clone()) => bytes += cost,
                false if names.remove(&name) => bytes -= cost,
                _ => {}
            }
        }
        *state = State::Known { names, bytes };
        self.owner.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.owner.bytes.fetch_sub(counted, Ordering::Relaxed);
        drop(state);
        self.owner.make_room();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let unfinished = matches!(*lock(&self.set.state), State::Reading(_));
        if unfinished {
            self.owner.forget_set(self.heading, &self.set);
        }
        self.owner.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn cost(name: &str) -> usize {
    name.len() + NAME_OVERHEAD
}

/// What these locks guard is valid at every moment, so a panic under one leaves nothing broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &Names, heading: &str) -> Option<Vec<String>> {
        names.with(heading, |set| set.iter().map(|name| name.to_string()).collect())
    }

    fn read(names: &Names, heading: &str, stored: &[&str]) {
        let mut reading = names.begin(heading).unwrap();
        stored.iter().for_each(|name| assert!(reading.add(name)));
        reading.finish();
    }

    #[test]
    fn changes_are_seen_in_what_is_known_only() {
        let names = Names::new(1 << 20);
        names.change("a/", "early", true);
        assert_eq!(known(&names, "a/"), None);
        read(&names, "a/", &["b", "a"]);
        names.change("a/", "c", true);
        names.change("a/", "b", false);
        names.change("b/", "a", false);
        assert_eq!(known(&names, "a/").unwrap(), ["a", "c"]);
        names.forget("a/");
        assert_eq!(known(&names, "a/"), None);
        assert_eq!(names.bytes.load(Ordering::Relaxed), 0);
    }

    /// It is unclear whether the reader has seen them; the last one counts.
    #[test]
    fn changes_made_while_a_set_is_read_are_applied_to_it() {
        let names = Names::new(1 << 20);
        let mut reading = names.begin("a/").unwrap();
        assert!(names.begin("a/").is_none());
        reading.add("stays");
        reading.add("goes");
        reading.add("comes back");
        names.change("a/", "comes", true);
        names.change("a/", "goes", false);
        names.change("a/", "comes back", false);
        names.change("a/", "comes back", true);
        reading.finish();
        assert_eq!(known(&names, "a/").unwrap(), ["comes", "comes back", "stays"]);
    }

    #[test]
    fn a_set_that_is_not_finished_stays_unknown() {
        let names = Names::new(1 << 20);
        drop(names.begin("a/").unwrap());
        let reading = names.begin("a/").unwrap();
        names.forget("a/");
        let second = names.begin("a/").unwrap();
        reading.finish();
        assert_eq!(known(&names, "a/"), None);
        second.finish();
        assert_eq!(known(&names, "a/").unwrap(), [""; 0]);
    }

    #[test]
    fn a_set_that_changes_too_much_while_it_is_read_stays_unknown() {
        let names = Names::new(1 << 20);
        let reading = names.begin("a/").unwrap();
        (0..=MAX_CHANGES).for_each(|n| names.change("a/", &n.to_string(), true));
        reading.finish();
        assert_eq!(known(&names, "a/"), None);
    }

    #[test]
    fn what_was_not_used_for_longest_is_forgotten_first() {
        let names = Names::new(4 * (SET_OVERHEAD + 2 + cost("x")));
        for heading in ["a/", "b/", "c/", "d/"] {
            read(&names, heading, &["x"]);
        }
        known(&names, "a/").unwrap();
        names.change("d/", "y", true);
        assert_eq!(known(&names, "b/"), None);
        assert!(known(&names, "a/").is_some());
        assert!(names.bytes.load(Ordering::Relaxed) <= names.limit);
    }

    #[test]
    fn a_set_larger_than_the_limit_is_not_remembered() {
        let names = Names::new(SET_OVERHEAD + 2 + cost("x"));
        let mut reading = names.begin("a/").unwrap();
        assert!(reading.add("x") && !reading.add("y"));
        reading.finish();
        assert_eq!(known(&names, "a/"), None);
        read(&names, "a/", &["x"]);
        names.change("a/", "y", true);
        assert_eq!(known(&names, "a/"), None);
        assert_eq!(names.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn sets_that_are_read_at_the_same_time_share_the_limit() {
        let set = SET_OVERHEAD + 2 + cost("x");
        let names = Names::new(2 * set);
        read(&names, "old/", &[]);
        let [mut one, mut two] = ["a/", "b/"].map(|heading| names.begin(heading).unwrap());
        assert!(one.add("x") && two.add("x"), "what is known makes room");
        assert_eq!(known(&names, "old/"), None);
        assert!(!two.add("y"));
        drop(two);
        assert!(one.add("y"), "what was given up makes room");
        one.finish();
        assert_eq!(known(&names, "a/").unwrap(), ["x", "y"]);
        names.forget("a/");
        assert_eq!(names.bytes.load(Ordering::Relaxed), 0);
    }
}
