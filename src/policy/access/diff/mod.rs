//! What changes for whom between two policies of a Registry.
//!
//! # Flow
//! What differs is found by comparing the maps of both snapshots, which is all that is done where nothing differs. What
//! a difference means is then asked of the matrix, for representative repositories: a snapshot knows patterns, not
//! repositories. One name stands for each pattern of a policy or a grant, and one for every other repository of a Project
//! ([`sample`]).
//!
//! # Guarantees
//! - What is said to be gained or lost is, for the name that stands for the pattern. Whether anybody loses what every user
//!   loses too is said once, of every user.
//! - The order of the answer depends on the two policies alone.
//!
//! # Assumptions
//! - Of a user only what he has himself is compared: in which groups he is the policy doesn't know.
//! - Where one of the policies could not decide in which namespaces pull secrets count, namespaces are not compared.
//! - Grants count as far as they hold now. That one will end sooner is no change.
//! - Where a pattern of one policy overlaps with another's, the name that stands for the one may be in both or not.
//! - A role in the whole Registry is taken as what it is worth in a private Project, wherever its pattern has wildcards. For
//!   a Project that differs such a pattern counts if the name that stands for it lies in that.

mod credentials;
mod logins;
mod rights;
mod sample;
mod standings;

use k8s_openapi::jiff::Timestamp;

use super::AccessChange;
use crate::policy::Snapshot;

/// What a change of policy changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Losses first.
    pub changes: Vec<AccessChange>,
    /// Whether these are all. Of more than can be told there is a part.
    pub is_whole: bool,
}

/// How much is looked at. A webhook has its time, and nobody reads more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub changes: usize,
    /// How many patterns are held against names: some seconds' work.
    pub matches: usize,
}

impl Limits {
    const USUAL: Self = Self { changes: 100_000, matches: 20_000_000 };
}

/// Who gains or loses what where, at most 100,000 changes.
pub fn diff(before: &Snapshot, after: &Snapshot, now: Timestamp) -> Difference {
    diff_within(before, after, now, Limits::USUAL)
}

pub(super) fn diff_within(before: &Snapshot, after: &Snapshot, now: Timestamp, limits: Limits) -> Difference {
    let mut changes = credentials::changes(before, after, now);
    changes.extend(logins::changes(before, after));
    let rights = rights::changes(before, after, now, limits);
    changes.extend(rights.changes);
    let is_whole = rights.is_whole && changes.len() <= limits.changes;
    changes.truncate(limits.changes);
    changes.sort_by(|one, other| {
        let key = |change: &AccessChange| change.change.rank();
        let rest = |change: &AccessChange| (change.change.pattern().to_owned(), change.principal.clone());
        key(one).cmp(&key(other)).then_with(|| rest(one).cmp(&rest(other)))
    });
    Difference { changes, is_whole }
}

/// Two of something, of the policy before and the one after.
#[derive(Clone, Copy, Debug, Default)]
struct Both<T> {
    before: T,
    after: T,
}
