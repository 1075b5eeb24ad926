//! Blobs: content that a repository holds by a link, so that equal content is stored once.

use bytes::Bytes;
use futures::FutureExt;

use super::body::Body;
use super::{BodyStream, ByteRange, Content, ContentError, absent, found, keys};
use crate::oci::{Digest, RepositoryName};
use crate::registry::storage::StageId;

/// A blob that a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// In bytes.
    pub size: u64,
}

/// A blob, or a part of it, on its way out.
pub struct BlobBody {
    /// Where in the blob `stream` starts.
    pub start: u64,
    /// How many bytes `stream` gives.
    pub size: u64,
    /// The size of the whole blob.
    pub total: u64,
    pub stream: BodyStream,
}

impl Content {
    /// Errors: [`BlobUnknown`](ContentError::BlobUnknown) unless the repository itself holds the blob.
    pub async fn stat_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Blob, ContentError> {
        let (link, content) = (keys::blob_link(repository, digest), keys::blob(digest));
        // Side by side where the way is long. Where it is short, one that is not linked costs half as much this way.
        let (linked, meta) = if self.store.is_shared() {
            tokio::join!(self.exists(&link), self.store.head(&content))
        } else {
            let linked = self.exists(&link).await?;
            if !linked {
                return Err(ContentError::BlobUnknown);
            }
            (Ok(linked), self.store.head(&content).await)
        };
        match (linked?, found(meta)?) {
            (true, Some(meta)) => Ok(Blob { size: meta.size }),
            _ => Err(ContentError::BlobUnknown),
        }
    }

    pub(super) async fn holds_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError> {
        match self.stat_blob(repository, digest).await {
            Ok(_) => Ok(true),
            Err(ContentError::BlobUnknown) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether [`blob_address`](Content::blob_address) may give one.
    pub fn has_addresses(&self) -> bool {
        self.redirect.is_some()
    }

    /// An address at which anybody gets the blob for a time, if the store has such.
    ///
    /// Errors: [`BlobUnknown`](ContentError::BlobUnknown) unless the repository itself holds the blob.
    pub async fn blob_address(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<String>, ContentError> {
        let Some(redirect) = &self.redirect else { return Ok(None) };
        self.stat_blob(repository, digest).await?;
        self.holders.note(repository, digest);
        Ok(Some(redirect.signed_url(&keys::blob(digest)).await?))
    }

    pub async fn read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Option<ByteRange>,
    ) -> Result<BlobBody, ContentError> {
        let (link, content) = (keys::blob_link(repository, digest), keys::blob(digest));
        let (linked, object) = tokio::join!(self.exists(&link), self.store.get(&content, range));
        // The link decides first: the size of what the repository doesn't hold is nobody's business.
        if !linked? {
            return Err(ContentError::BlobUnknown);
        }
        let object = found(object)?.ok_or(ContentError::BlobUnknown)?;
        self.holders.note(repository, digest);
        let range = object.range;
        Ok(BlobBody { start: range.start, size: range.end - range.start, total: object.meta.size, stream: object.body })
    }

    /// Makes `to` hold a blob that `from` holds. False if `from` doesn't.
    pub async fn mount_blob(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, ContentError> {
        let holds = self.holds_blob(from, digest).await?;
        if holds {
            self.link_blob(to, digest).await?;
        }
        Ok(holds)
    }

    /// Makes the repository let go of a blob. Its content is garbage collection's business.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), ContentError> {
        match self.remove(&keys::blob_link(repository, digest)).await? {
            true => Ok(()),
            false => Err(ContentError::BlobUnknown),
        }
    }

    /// Takes a blob in one request (distribution-spec, "Single POST"). Nothing is left of it if it fails, and what the
    /// store can't remove then is removed later as abandoned.
    pub async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        stream: BodyStream,
    ) -> Result<(), ContentError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.detached(|content| {
            async move {
                let mut body = Body::new(stream);
                match body.small().await {
                    Some(small) => content.store_small(&repository, &digest, small).await,
                    None => {
                        content.store_large(&digest, &mut body).await?;
                        content.link_blob(&repository, &digest).await
                    }
                }
            }
            .boxed()
        })
        .await
    }

    /// Takes a blob that no repository holds yet.
    pub(super) async fn store_blob(&self, digest: &Digest, stream: BodyStream) -> Result<(), ContentError> {
        let mut body = Body::new(stream);
        match body.small().await {
            Some(small) => {
                check_digest(digest, Digest::of(digest.algorithm(), &small))?;
                Ok(self.store.put_all(vec![absent(keys::blob(digest), small)]).await?)
            }
            None => self.store_large(digest, &mut body).await,
        }
    }

    pub(super) async fn link_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), ContentError> {
        self.put_with_link(repository, digest, None).await
    }

    /// Content and link at once: a link without content stands for nothing.
    pub(super) async fn store_small(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        small: Bytes,
    ) -> Result<(), ContentError> {
        check_digest(digest, Digest::of(digest.algorithm(), &small))?;
        self.put_with_link(repository, digest, Some(small)).await
    }

    async fn put_with_link(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        content: Option<Bytes>,
    ) -> Result<(), ContentError> {
        let content = content.map(|content| absent(keys::blob(digest), content));
        let link = absent(keys::blob_link(repository, digest), Bytes::new());
        self.store.put_all(content.into_iter().chain([link]).collect()).await?;
        self.holders.note(repository, digest);
        Ok(())
    }

    async fn store_large(&self, digest: &Digest, body: &mut Body) -> Result<(), ContentError> {
        let id = StageId::random();
        let stored = self.fill_and_publish(&id, digest, body).await;
        if stored.is_err()
            && let Err(error) = self.discard_stage(&id).await
        {
            tracing::warn!(upload = %id, %error, "can't remove what is left of an upload");
        }
        stored
    }

    async fn fill_and_publish(&self, id: &StageId, digest: &Digest, body: &mut Body) -> Result<(), ContentError> {
        self.store.stage_create(id).await?;
        let mut writer = self.store.stage_append(id, 0).await?;
        let mut hasher = Some(crate::oci::Hasher::new(digest.algorithm()));
        body.pour(&mut *writer, &mut hasher).await?;
        let actual = self.digest_of_stage(id, digest.algorithm(), hasher).await?;
        check_digest(digest, actual)?;
        Ok(writer.publish(&keys::blob(digest)).await?)
    }
}

pub(super) fn check_digest(expected: &Digest, actual: Digest) -> Result<(), ContentError> {
    if actual == *expected {
        return Ok(());
    }
    Err(ContentError::DigestMismatch { expected: expected.clone(), actual })
}
