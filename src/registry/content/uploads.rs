//! Uploads: a blob that arrives over several requests (distribution-spec, "Pushing a blob in chunks").
//!
//! # Flow
//! A session begins with an id (`sessions`); the first `append_upload` creates a staged upload of the same id;
//! `finish_upload` checks the digest, publishes, links and ends the session. A session that ends with its first
//! request, as most do, never has a staged upload if the content is small.
//!
//! # Guarantees
//! - What has arrived stays when the connection breaks off, and all but the last MiB or so of it when the process dies;
//!   `upload_status` tells how much that is.
//! - From the last look at the hash to the publication nobody else can write: the staged upload's writer is held.

use bytes::Bytes;
use futures::FutureExt;

use super::blobs::check_digest;
use super::body::{Body, hash_stream};
use super::{BodyStream, Content, ContentError, UploadId, found, keys};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};
use crate::registry::storage::{StageId, StageState, StageWriter, StorageError};

/// A staged upload that is being written to, with what is known of its hash.
struct Filled {
    writer: Box<dyn StageWriter>,
    hasher: Option<Hasher>,
}

impl Content {
    /// How many bytes have arrived: where the next request has to go on.
    pub async fn upload_status(&self, id: &UploadId) -> Result<u64, ContentError> {
        self.check_open(id)?;
        Ok(self.staged(id).await?.map_or(0, |staged| staged.length))
    }

    /// Appends a body, at `at` if that is given, and returns the new length.
    ///
    /// Errors: [`OffsetMismatch`](ContentError::OffsetMismatch), after which nothing has changed;
    /// [`Body`](ContentError::Body), after which what had arrived is there.
    pub async fn append_upload(&self, id: &UploadId, at: Option<u64>, stream: BodyStream) -> Result<u64, ContentError> {
        let id = *id;
        self.detached(move |content| {
            async move {
                let _turn = content.take_turn(&id)?;
                content.check_open(&id)?;
                let staged = content.staged(&id).await?;
                check_offset(at, &staged)?;
                // Kept to the end: the caller may have tied to it what this takes.
                let mut body = Body::new(stream);
                let filled = content.fill(&id, staged, &mut body, Algorithm::Sha256).await;
                let length = match filled {
                    Ok(filled) => set_aside(filled).await,
                    Err(error) => Err(error),
                };
                if matches!(length, Err(ContentError::Storage(StorageError::OutOfSpace))) {
                    // What is there of it takes room from others, and can't be completed without more of it.
                    content.forget_session(&id).await;
                }
                length
            }
            .boxed()
        })
        .await
    }

    /// Appends a body, which may be empty, and makes the whole a blob of the repository.
    ///
    /// A session that has ended already succeeds again if the repository holds the blob.
    ///
    /// Errors: those of [`append_upload`](Content::append_upload);
    /// [`DigestMismatch`](ContentError::DigestMismatch), after which the session is gone;
    /// [`UploadUnknown`](ContentError::UploadUnknown) also for one that has ended and left the repository without the blob,
    /// and for one that has received nothing if that is not what the digest says.
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
                let _turn = content.take_turn(&id)?;
                if content.check_open(&id).is_err() {
                    // Perhaps the client didn't get the answer to its first try.
                    let is_held = content.holds_blob(&repository, &digest).await?;
                    return if is_held { Ok(()) } else { Err(ContentError::UploadUnknown) };
                }
                let staged = content.staged(&id).await?;
                if staged.is_none()
                    && content.store.is_shared()
                    && at.is_some_and(|at| at > 0)
                    && content.holds_blob(&repository, &digest).await?
                {
                    // Ended by another process, whose answer the client didn't get.
                    return Ok(());
                }
                check_offset(at, &staged)?;
                let completed = content.complete(&repository, &id, staged, Body::new(stream), &digest).await;
                match &completed {
                    // Nothing is staged, or no longer.
                    Ok(()) => content.ended.note(&id),
                    // Without room the content can't be completed, and what is there of it takes room from others.
                    Err(ContentError::DigestMismatch { .. } | ContentError::Storage(StorageError::OutOfSpace)) => {
                        content.forget_session(&id).await;
                    }
                    Err(_) => {}
                }
                completed
            }
            .boxed()
        })
        .await
    }

    /// Nothing if the session has no staged upload yet.
    async fn staged(&self, id: &UploadId) -> Result<Option<StageState>, ContentError> {
        found(self.store.stage_state(&id.stage()).await)
    }

    async fn complete(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        staged: Option<StageState>,
        mut body: Body,
        digest: &Digest,
    ) -> Result<(), ContentError> {
        if staged.is_none()
            && let Some(small) = body.small().await
        {
            // The session may have ended in a process that died before it could answer.
            let is_repeated = small.is_empty() && self.holds_blob(repository, digest).await?;
            let is_wrong = small.is_empty() && *digest != Digest::of(digest.algorithm(), &small);
            if !is_repeated && is_wrong {
                // Or it had content, which was published when the store went away. The client has to begin anew, and is
                // not told that its content is wrong.
                return Err(ContentError::UploadUnknown);
            }
            return if is_repeated { Ok(()) } else { self.store_small(repository, digest, small).await };
        }
        let Filled { mut writer, hasher } = self.fill(id, staged, &mut body, digest.algorithm()).await?;
        if hasher.as_ref().map(Hasher::algorithm) != Some(digest.algorithm()) {
            // It has to be read again, and not all of it may be there before the writer is done.
            let length = writer.finish(Bytes::new()).await.map_err(stage_error)?;
            writer = self.store.stage_append(&id.stage(), length).await.map_err(stage_error)?;
        }
        let actual = self.digest_of_stage(&id.stage(), digest.algorithm(), hasher).await?;
        check_digest(digest, actual)?;
        self.publish(id, writer, digest).await?;
        let linked = self.link_blob(repository, digest).await;
        if linked.is_err() {
            // What was uploaded is no longer this session's, which would be taken for one that has received nothing.
            self.forget_session(id).await;
        }
        linked
    }

    /// Publishes what has this digest. If the store fails, it may have done it all the same, and the session would be
    /// taken for one that has received nothing.
    async fn publish(&self, id: &UploadId, writer: Box<dyn StageWriter>, digest: &Digest) -> Result<(), ContentError> {
        let Err(error) = writer.publish(&keys::blob(digest)).await else { return Ok(()) };
        if !self.exists(&keys::blob(digest)).await? {
            return Err(stage_error(error));
        }
        tracing::warn!(upload = %id, %error, "the content of an upload is there, though the store failed");
        self.forget_session(id).await;
        Ok(())
    }

    /// Appends `body` at the end. What arrives of a body that breaks off is kept.
    async fn fill(
        &self,
        id: &UploadId,
        staged: Option<StageState>,
        body: &mut Body,
        algorithm: Algorithm,
    ) -> Result<Filled, ContentError> {
        let writer = self.open_writer(id, staged.as_ref().map(|staged| staged.length)).await?;
        let hasher = match staged {
            None | Some(StageState { length: 0, .. }) => Some(Hasher::new(algorithm)),
            // Nothing comes of it if it is another algorithm's: then the content is read again.
            Some(StageState { memo, .. }) => memo.and_then(|memo| Hasher::restore(algorithm, &memo)),
        };
        let mut filled = Filled { writer, hasher };
        match body.pour(&mut *filled.writer, &mut filled.hasher).await {
            Ok(()) => Ok(filled),
            Err(error @ ContentError::Body(_)) => {
                set_aside(filled).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn open_writer(&self, id: &UploadId, offset: Option<u64>) -> Result<Box<dyn StageWriter>, ContentError> {
        if offset.is_none() {
            match self.store.stage_create(&id.stage()).await {
                // Another request was faster; which of them goes on is decided below.
                Ok(()) | Err(StorageError::PreconditionFailed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.store.stage_append(&id.stage(), offset.unwrap_or(0)).await {
            Err(StorageError::PreconditionFailed(_)) => {
                let staged = self.staged(id).await?.ok_or(ContentError::UploadUnknown)?;
                Err(ContentError::OffsetMismatch { expected: staged.length })
            }
            other => other.map_err(stage_error),
        }
    }

    /// The digest of all that is staged: from `hasher` if that knows it, else by reading it again.
    pub(super) async fn digest_of_stage(
        &self,
        id: &StageId,
        algorithm: Algorithm,
        hasher: Option<Hasher>,
    ) -> Result<Digest, ContentError> {
        let hasher = match hasher {
            Some(known) if known.algorithm() == algorithm => known,
            _ => hash_stream(Hasher::new(algorithm), self.store.stage_read(id).await?).await?,
        };
        Ok(hasher.finish())
    }

    pub(super) async fn discard_stage(&self, id: &StageId) -> Result<(), ContentError> {
        match self.store.stage_abort(id).await {
            Ok(()) | Err(StorageError::NotFound(_)) => Ok(()),
            Err(error) => Err(stage_error(error)),
        }
    }
}

/// Ends a request's writing, and keeps the hash for the next request.
async fn set_aside(Filled { writer, hasher }: Filled) -> Result<u64, ContentError> {
    let memo = hasher.map(|hasher| hasher.save()).unwrap_or_default();
    writer.finish(memo.into()).await.map_err(stage_error)
}

fn check_offset(at: Option<u64>, staged: &Option<StageState>) -> Result<(), ContentError> {
    let expected = staged.as_ref().map_or(0, |staged| staged.length);
    match at {
        Some(at) if at != expected => Err(ContentError::OffsetMismatch { expected }),
        _ => Ok(()),
    }
}

pub(super) fn stage_error(error: StorageError) -> ContentError {
    match error {
        StorageError::Busy(_) => ContentError::UploadBusy,
        // Finished or cancelled by another request meanwhile.
        StorageError::NotFound(_) => ContentError::UploadUnknown,
        other => other.into(),
    }
}
