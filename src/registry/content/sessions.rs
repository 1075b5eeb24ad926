//! Upload sessions: who they belong to, how they begin and end.
//!
//! A session is a record that names its repository; its content is a staged upload of the same id. So it survives
//! the process, and any process may go on with it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::records::UploadRecord;
use super::{Content, ContentError, PAGE, found, keys};
use crate::oci::RepositoryName;
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
    pub(super) fn stage(&self) -> StageId {
        self.0
    }

    fn from_stage(id: StageId) -> Self {
        Self(id)
    }
}

/// The sessions that a request is working on.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashSet<UploadId>>>);

/// One request's right to change a session, from its first look to the session's end: without it, a second request
/// could find the record of a session whose content has just been published, and take it for an empty one.
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
    pub async fn start_upload(&self, repository: &RepositoryName) -> Result<UploadId, ContentError> {
        let id = UploadId(StageId::random());
        self.put_record(&keys::upload(&id), &UploadRecord { repository: repository.clone() }).await?;
        Ok(id)
    }

    pub async fn cancel_upload(&self, repository: &RepositoryName, id: &UploadId) -> Result<(), ContentError> {
        let _turn = self.take_turn(id)?;
        self.check_session(repository, id).await?;
        self.remove_session(id).await
    }

    /// Removes the sessions to which nothing has been added for `older_than`, and staged content without a session,
    /// which a dead process left. Returns how many.
    pub async fn remove_abandoned_uploads(&self, older_than: Duration, now: SystemTime) -> Result<usize, ContentError> {
        let Some(limit) = now.checked_sub(older_than) else { return Ok(0) };
        let stages = self.store.stage_list().await?;
        let mut staged: HashMap<_, _> = stages.into_iter().map(|stage| (stage.id, stage.modified)).collect();
        let mut removed = 0;
        let mut after = None;
        loop {
            let (sessions, more) = self.list_objects(&keys::uploads(), after.as_ref(), PAGE).await?;
            for session in &sessions {
                let Some(id) = keys::upload_of(session) else { continue };
                let Some(meta) = found(self.store.head(session).await)? else { continue };
                let touched = staged.remove(&id.stage()).map_or(meta.modified, |staged| staged.max(meta.modified));
                if touched < limit {
                    removed += self.remove_unless_busy(&id).await?;
                }
            }
            match sessions.into_iter().next_back() {
                Some(last) if more => after = Some(last),
                _ => break,
            }
        }
        for (id, _) in staged.into_iter().filter(|(_, touched)| *touched < limit) {
            removed += self.remove_unless_busy(&UploadId::from_stage(id)).await?;
        }
        Ok(removed)
    }

    async fn remove_unless_busy(&self, id: &UploadId) -> Result<usize, ContentError> {
        let Ok(_turn) = self.take_turn(id) else { return Ok(0) };
        match self.remove_session(id).await {
            Ok(()) => Ok(1),
            Err(ContentError::UploadBusy) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// A session belongs to one repository: to others it is unknown.
    pub(super) async fn check_session(&self, repository: &RepositoryName, id: &UploadId) -> Result<(), ContentError> {
        let record: Option<UploadRecord> = self.read_record(&keys::upload(id)).await?;
        match record {
            Some(UploadRecord { repository: owner }) if owner == *repository => Ok(()),
            _ => Err(ContentError::UploadUnknown),
        }
    }

    pub(super) fn take_turn(&self, id: &UploadId) -> Result<Turn, ContentError> {
        self.turns.take(id).ok_or(ContentError::UploadBusy)
    }

    /// Removes a session whose outcome is decided. If that fails, it is removed later as abandoned.
    pub(super) async fn forget_session(&self, id: &UploadId) {
        if let Err(error) = self.remove_session(id).await {
            tracing::warn!(upload = %id, %error, "can't remove an upload session that has ended");
        }
    }

    async fn remove_session(&self, id: &UploadId) -> Result<(), ContentError> {
        self.discard_stage(&id.stage()).await?;
        self.hashers.invalidate(id);
        self.remove(&keys::upload(id)).await?;
        Ok(())
    }
}
