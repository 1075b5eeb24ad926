//! Upload sessions: how they begin and end.
//!
//! A session is an id and the staged upload under it, if there is one yet: one that has received nothing is nowhere, so
//! that beginning one costs nothing, and any process may go on with it. That an id was made here, and for which
//! repository, is the caller's to check: it gives out ids that can't be forged.
//!
//! A session that has ended is remembered for a while, the last ones in any case, so that it isn't taken for one that has received nothing.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{Content, ContentError, PAGE, UPLOAD_IDLE};
use crate::registry::storage::{Stage, StageId};

/// Names an upload session. It can't be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(StageId);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UploadId {
    type Err = <StageId as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl UploadId {
    pub fn random() -> Self {
        Self(StageId::random())
    }

    pub(super) fn stage(&self) -> StageId {
        self.0
    }
}

/// The last sessions that have ended.
#[derive(Clone)]
pub(super) struct Ended(Cache<UploadId, ()>);

impl Ended {
    pub(super) fn new(capacity: u64) -> Self {
        // The oldest go first. By default it would be the youngest, if older ones were asked for more often.
        let policy = EvictionPolicy::lru();
        Self(Cache::builder().max_capacity(capacity).eviction_policy(policy).time_to_live(UPLOAD_IDLE).build())
    }

    pub(super) fn note(&self, id: &UploadId) {
        self.0.insert(*id, ());
    }

    fn contains(&self, id: &UploadId) -> bool {
        self.0.contains_key(id)
    }
}

/// The sessions that a request is working on.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashSet<UploadId>>>);

/// One request's right to change a session, from its first look to the session's end: without it, a second request
/// could look for content that has just been published, and take the session for an empty one.
pub(super) struct Turn {
    turns: Turns,
    id: UploadId,
}

impl Turns {
    /// Nothing if another request has the turn.
    fn take(&self, id: &UploadId) -> Option<Turn> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*id);
        free.then(|| Turn { turns: self.clone(), id: *id })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Content {
    pub async fn cancel_upload(&self, id: &UploadId) -> Result<(), ContentError> {
        let _turn = self.take_turn(id)?;
        self.check_open(id)?;
        self.end_session(id).await
    }

    /// Removes the sessions to which nothing has been added for `older_than`. Returns how many. One that can't be removed
    /// is left for the next time.
    pub async fn remove_abandoned_uploads(&self, older_than: Duration, now: SystemTime) -> Result<usize, ContentError> {
        let Some(limit) = now.checked_sub(older_than) else { return Ok(0) };
        let (mut removed, mut after) = (0, None);
        loop {
            let stages = self.store.stage_list(after.as_ref(), PAGE).await?;
            removed += self.remove_page(&stages, after.as_ref(), limit).await?;
            match stages.last() {
                Some(last) if stages.len() == PAGE => after = Some(last.id),
                _ => break,
            }
        }
        Ok(removed + self.store.remove_remains(limit).await?)
    }

    /// Removes those of `stages` that were last written to at `limit` or before; they are listed behind `after`.
    pub(super) async fn remove_page(
        &self,
        stages: &[Stage],
        after: Option<&StageId>,
        limit: SystemTime,
    ) -> Result<usize, ContentError> {
        let old = stages.iter().filter(|stage| stage.modified <= limit);
        let turns: HashMap<StageId, Turn> =
            old.filter_map(|stage| Some((stage.id, self.turns.take(&UploadId(stage.id))?))).collect();
        if turns.is_empty() {
            return Ok(0);
        }
        // Looked at again, because somebody may have gone on with one before its turn was taken.
        let still = self.store.stage_list(after, PAGE).await?;
        let mut removed = 0;
        for stage in still.iter().filter(|stage| stage.modified <= limit && turns.contains_key(&stage.id)) {
            match self.end_session(&UploadId(stage.id)).await {
                Ok(()) => removed += 1,
                Err(ContentError::UploadBusy) => {}
                Err(error) => tracing::warn!(upload = %stage.id, %error, "can't remove an abandoned upload"),
            }
        }
        Ok(removed)
    }

    pub(super) fn check_open(&self, id: &UploadId) -> Result<(), ContentError> {
        if self.ended.contains(id) { Err(ContentError::UploadUnknown) } else { Ok(()) }
    }

    pub(super) fn take_turn(&self, id: &UploadId) -> Result<Turn, ContentError> {
        self.turns.take(id).ok_or(ContentError::UploadBusy)
    }

    /// Ends a session whose outcome is decided. What can't be removed of it now is removed later as abandoned.
    pub(super) async fn forget_session(&self, id: &UploadId) {
        if let Err(error) = self.end_session(id).await {
            tracing::warn!(upload = %id, %error, "can't remove an upload session that has ended");
        }
    }

    async fn end_session(&self, id: &UploadId) -> Result<(), ContentError> {
        self.ended.note(id);
        self.discard_stage(&id.stage()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_that_ended_last_are_remembered() {
        let ended = Ended::new(100);
        for _ in 0..1000 {
            let id = UploadId::random();
            (0..3).for_each(|_| assert!(!ended.contains(&id)));
            ended.note(&id);
            ended.0.run_pending_tasks();
            assert!(ended.contains(&id));
        }
        assert!(ended.0.entry_count() <= 100);
    }
}
