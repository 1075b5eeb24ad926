//! Upload sessions: who they belong to, how they begin and end.
//!
//! A session is a record that names its repository; its content is a staged upload of the same id. So it survives
//! the process, and any process may go on with it.

use std::collections::HashSet;
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
        let record = UploadRecord { repository: repository.clone(), checked: None };
        self.put_record(&keys::upload(&id), &record).await?;
        Ok(id)
    }

    pub async fn cancel_upload(&self, repository: &RepositoryName, id: &UploadId) -> Result<(), ContentError> {
        let _turn = self.take_turn(id)?;
        self.session(repository, id).await?;
        self.remove_session(id).await
    }

    /// Removes the sessions to which nothing has been added for `older_than`, and staged content without a session,
    /// which a dead process left. Returns how many.
    pub async fn remove_abandoned_uploads(&self, older_than: Duration, now: SystemTime) -> Result<usize, ContentError> {
        let Some(limit) = now.checked_sub(older_than) else { return Ok(0) };
        let mut removed = self.remove_staged(limit, |session| session.is_none_or(|session| session <= limit)).await?;
        let mut after = None;
        loop {
            let (sessions, more) = self.list_objects(&keys::uploads(), after.as_ref(), PAGE).await?;
            for session in &sessions {
                let Some(id) = keys::upload_of(session) else { continue };
                let begun = found(self.store.head(session).await)?.map(|meta| meta.modified);
                // Those with staged content have been looked at above.
                if begun.is_some_and(|begun| begun <= limit)
                    && found(self.store.stage_len(&id.stage()).await)?.is_none()
                {
                    removed += self.remove_unless_busy(&id).await?;
                }
            }
            match sessions.into_iter().next_back() {
                Some(last) if more => after = Some(last),
                _ => return Ok(removed),
            }
        }
    }

    /// Removes staged content that was last written to before `started` and belongs to no session: nobody can go on with
    /// it. Returns how much of it there was.
    ///
    /// Only for the process that owns the store, when it has `started`: what belongs to no session may be another's.
    pub async fn remove_orphaned_uploads(&self, started: SystemTime) -> Result<usize, ContentError> {
        self.remove_staged(started, |session| session.is_none()).await
    }

    /// Removes staged content that was last written to by `limit`, if `unwanted` says so of when its session began.
    async fn remove_staged(
        &self,
        limit: SystemTime,
        unwanted: impl Fn(Option<SystemTime>) -> bool,
    ) -> Result<usize, ContentError> {
        let (mut removed, mut after) = (0, None);
        loop {
            let stages = self.store.stage_list(after.as_ref(), PAGE).await?;
            for stage in stages.iter().filter(|stage| stage.modified <= limit) {
                let id = UploadId::from_stage(stage.id);
                let session = found(self.store.head(&keys::upload(&id)).await)?.map(|meta| meta.modified);
                if unwanted(session) {
                    removed += self.remove_unless_busy(&id).await?;
                }
            }
            match stages.last() {
                Some(last) if stages.len() == PAGE => after = Some(last.id),
                _ => return Ok(removed),
            }
        }
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
    pub(super) async fn session(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<UploadRecord, ContentError> {
        let record: Option<UploadRecord> = self.read_record(&keys::upload(id)).await?;
        record.filter(|record| record.repository == *repository).ok_or(ContentError::UploadUnknown)
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
