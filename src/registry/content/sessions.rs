//! Upload sessions: how they begin and end.
//!
//! A session is an id and the staged upload under it, if there is one yet: one that has received nothing is nowhere, so
//! that beginning one costs nothing, and any process may go on with it. That an id was made here, and for which
//! repository, is the caller's to check: it gives out ids that can't be forged.
//!
//! A session that has ended is remembered for a while, so that it isn't taken for one that has received nothing.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Content, ContentError, PAGE};
use crate::registry::storage::StageId;

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

    /// Removes the sessions to which nothing has been added for `older_than`. Returns how many.
    pub async fn remove_abandoned_uploads(&self, older_than: Duration, now: SystemTime) -> Result<usize, ContentError> {
        let Some(limit) = now.checked_sub(older_than) else { return Ok(0) };
        let (mut removed, mut after) = (0, None);
        loop {
            let stages = self.store.stage_list(after.as_ref(), PAGE).await?;
            for stage in stages.iter().filter(|stage| stage.modified <= limit) {
                removed += self.remove_unless_busy(&UploadId(stage.id)).await?;
            }
            match stages.last() {
                Some(last) if stages.len() == PAGE => after = Some(last.id),
                _ => return Ok(removed),
            }
        }
    }

    async fn remove_unless_busy(&self, id: &UploadId) -> Result<usize, ContentError> {
        let Ok(_turn) = self.take_turn(id) else { return Ok(0) };
        match self.end_session(id).await {
            Ok(()) => Ok(1),
            Err(ContentError::UploadBusy) => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub(super) fn check_open(&self, id: &UploadId) -> Result<(), ContentError> {
        if self.ended.contains_key(id) { Err(ContentError::UploadUnknown) } else { Ok(()) }
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
        self.ended.insert(*id, ());
        self.discard_stage(&id.stage()).await
    }
}
