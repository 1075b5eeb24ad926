//! Upload sessions: a blob that arrives over several requests (distribution-spec, "Pushing a blob in chunks").
//!
//! # Flow
//! `start_upload` writes the session's record; the first `append_upload` creates a staged upload of the same id;
//! `finish_upload` checks the digest, publishes, links and forgets the session. A session that ends with its first
//! request, as most do, never has a staged upload if the content is small.
//!
//! # Guarantees
//! - What has arrived stays, also when the connection breaks off or the process dies, and `upload_status` tells how
//!   much that is.
//! - From the last look at the hash to the publication nobody else can write: the staged upload's writer is held.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use futures::FutureExt;

use super::blobs::check_digest;
use super::body::{Body, hash_stream};
use super::records::UploadRecord;
use super::{BodyStream, Content, ContentError, PAGE, found, keys};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};
use crate::registry::storage::{StageId, StageWriter, StorageError};

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

/// A staged upload that is being written to, with what is known of its hash.
struct Filled {
    writer: Box<dyn StageWriter>,
    hasher: Option<Hasher>,
}

impl Content {
    pub async fn start_upload(&self, repository: &RepositoryName) -> Result<UploadId, ContentError> {
        let id = UploadId(StageId::random());
        self.put_record(&keys::upload(&id), &UploadRecord { repository: repository.clone() }).await?;
        Ok(id)
    }

    /// How many bytes have arrived: where the next request has to go on.
    pub async fn upload_status(&self, repository: &RepositoryName, id: &UploadId) -> Result<u64, ContentError> {
        self.check_session(repository, id).await?;
        Ok(self.staged_len(id).await?.unwrap_or(0))
    }

    /// Appends a body, at `at` if that is given, and returns the new length.
    ///
    /// Errors: [`OffsetMismatch`](ContentError::OffsetMismatch), after which nothing has changed;
    /// [`Body`](ContentError::Body), after which what had arrived is there.
    pub async fn append_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        at: Option<u64>,
        stream: BodyStream,
    ) -> Result<u64, ContentError> {
        let (repository, id) = (repository.clone(), *id);
        self.detached(move |content| {
            async move {
                content.check_session(&repository, &id).await?;
                let offset = content.staged_len(&id).await?;
                check_offset(at, offset)?;
                let filled = content.fill(&id, offset, &mut Body::new(stream), Algorithm::Sha256).await?;
                content.set_aside(&id, filled).await
            }
            .boxed()
        })
        .await
    }

    /// Appends a body, which may be empty, and makes the whole a blob of the repository.
    ///
    /// Errors: those of [`append_upload`](Content::append_upload);
    /// [`DigestMismatch`](ContentError::DigestMismatch), after which the session is gone.
    pub async fn finish_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        at: Option<u64>,
        stream: BodyStream,
        digest: &Digest,
    ) -> Result<(), ContentError> {
        let (repository, id, digest) = (repository.clone(), *id, digest.clone());
        self.detached(move |content| {
            async move {
                content.check_session(&repository, &id).await?;
                let offset = content.staged_len(&id).await?;
                check_offset(at, offset)?;
                match content.complete(&id, offset, Body::new(stream), &digest).await {
                    Ok(()) => tokio::join!(content.link_blob(&repository, &digest), content.forget_session(&id)).0,
                    Err(error @ ContentError::DigestMismatch { .. }) => {
                        content.forget_session(&id).await;
                        Err(error)
                    }
                    Err(error) => Err(error),
                }
            }
            .boxed()
        })
        .await
    }

    pub async fn cancel_upload(&self, repository: &RepositoryName, id: &UploadId) -> Result<(), ContentError> {
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
                let touched = staged.remove(&id.0).map_or(meta.modified, |staged| staged.max(meta.modified));
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
            removed += self.remove_unless_busy(&UploadId(id)).await?;
        }
        Ok(removed)
    }

    async fn remove_unless_busy(&self, id: &UploadId) -> Result<usize, ContentError> {
        match self.remove_session(id).await {
            Ok(()) => Ok(1),
            Err(ContentError::UploadBusy) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// A session belongs to one repository: to others it is unknown.
    async fn check_session(&self, repository: &RepositoryName, id: &UploadId) -> Result<(), ContentError> {
        let record: Option<UploadRecord> = self.read_record(&keys::upload(id)).await?;
        match record {
            Some(UploadRecord { repository: owner }) if owner == *repository => Ok(()),
            _ => Err(ContentError::UploadUnknown),
        }
    }

    /// Nothing if the session has no staged upload yet.
    async fn staged_len(&self, id: &UploadId) -> Result<Option<u64>, ContentError> {
        found(self.store.stage_len(&id.0).await)
    }

    async fn complete(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        mut body: Body,
        digest: &Digest,
    ) -> Result<(), ContentError> {
        if offset.is_none()
            && let Some(small) = body.small().await
        {
            return self.store_small(digest, small).await;
        }
        let Filled { writer, hasher } = self.fill(id, offset, &mut body, digest.algorithm()).await?;
        let actual = self.digest_of_stage(&id.0, digest.algorithm(), hasher).await?;
        check_digest(digest, actual)?;
        writer.publish(&keys::blob(digest)).await.map_err(stage_error)
    }

    /// Appends `body` at the end. What arrives of a body that breaks off is kept.
    async fn fill(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        body: &mut Body,
        algorithm: Algorithm,
    ) -> Result<Filled, ContentError> {
        let writer = self.open_writer(id, offset).await?;
        let known = self.hashers.remove(id).filter(|(_, length)| Some(*length) == offset).map(|(hasher, _)| hasher);
        let hasher = match offset {
            None | Some(0) => Some(Hasher::new(algorithm)),
            Some(_) => known,
        };
        let mut filled = Filled { writer, hasher };
        match body.pour(&mut *filled.writer, &mut filled.hasher).await {
            Ok(()) => Ok(filled),
            Err(error @ ContentError::Body(_)) => {
                self.set_aside(id, filled).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn open_writer(&self, id: &UploadId, offset: Option<u64>) -> Result<Box<dyn StageWriter>, ContentError> {
        if offset.is_none() {
            match self.store.stage_create(&id.0).await {
                // Another request was faster; which of them goes on is decided below.
                Ok(()) | Err(StorageError::PreconditionFailed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.store.stage_append(&id.0, offset.unwrap_or(0)).await {
            Err(StorageError::PreconditionFailed(_)) => {
                let expected = self.staged_len(id).await?.ok_or(ContentError::UploadUnknown)?;
                Err(ContentError::OffsetMismatch { expected })
            }
            other => other.map_err(stage_error),
        }
    }

    /// Ends a request's writing, and keeps the hash for the next request.
    async fn set_aside(&self, id: &UploadId, Filled { writer, hasher }: Filled) -> Result<u64, ContentError> {
        let length = writer.finish().await.map_err(stage_error)?;
        if let Some(hasher) = hasher {
            self.hashers.insert(*id, (hasher, length));
        }
        Ok(length)
    }

    /// The digest of all that is staged: from `hasher` if that knows it, else by reading it again.
    pub(super) async fn digest_of_stage(
        &self,
        id: &StageId,
        algorithm: Algorithm,
        hasher: Option<Hasher>,
    ) -> Result<Digest, ContentError> {
        let hasher = match (hasher, algorithm) {
            (Some(known @ Hasher::Sha256(_)), Algorithm::Sha256) => known,
            (Some(known @ Hasher::Sha512(_)), Algorithm::Sha512) => known,
            _ => hash_stream(Hasher::new(algorithm), self.store.stage_read(id).await?).await?,
        };
        Ok(hasher.finish())
    }

    /// Removes a session whose outcome is decided. If that fails, it is removed later as abandoned.
    async fn forget_session(&self, id: &UploadId) {
        if let Err(error) = self.remove_session(id).await {
            tracing::warn!(upload = %id, %error, "can't remove an upload session that has ended");
        }
    }

    async fn remove_session(&self, id: &UploadId) -> Result<(), ContentError> {
        self.discard_stage(&id.0).await?;
        self.hashers.invalidate(id);
        self.remove(&keys::upload(id)).await?;
        Ok(())
    }

    pub(super) async fn discard_stage(&self, id: &StageId) -> Result<(), ContentError> {
        match self.store.stage_abort(id).await {
            Ok(()) | Err(StorageError::NotFound(_)) => Ok(()),
            Err(error) => Err(stage_error(error)),
        }
    }
}

fn check_offset(at: Option<u64>, offset: Option<u64>) -> Result<(), ContentError> {
    let expected = offset.unwrap_or(0);
    match at {
        Some(at) if at != expected => Err(ContentError::OffsetMismatch { expected }),
        _ => Ok(()),
    }
}

fn stage_error(error: StorageError) -> ContentError {
    match error {
        StorageError::Busy(_) => ContentError::UploadBusy,
        // Finished or cancelled by another request meanwhile.
        StorageError::NotFound(_) => ContentError::UploadUnknown,
        other => other.into(),
    }
}
