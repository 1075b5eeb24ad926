//! What a registry keeps: blobs, uploads, manifests, tags, referrers and the catalogue, as objects in a store.
//!
//! [`Content`] is the whole of it; [`keys`] draws the layout. It decides nothing about who may do what: callers have
//! authorized before they come here.
//!
//! # Guarantees
//! - What a method reports as done is durable, and nothing half-done is visible to readers: content comes before what
//!   refers to it, the tag last.
//! - Content is stored under a digest only after it was hashed: a client can't put other content under one.
//! - Memory is bounded: bodies are streams, and only manifests and content of up to a few hundred KiB are held as
//!   a whole. What a store holds of a stream is its own to say.
//!
//! # Several processes
//! - Where one process owns the store, a deletion of a manifest excludes pushes to the same repository by a lock in
//!   memory, and knows the tags in question from what this process has read and written (`tags`).
//! - Where several share it ([`ObjectStore::is_shared`]), there is no lock: whoever pushes or deletes a manifest looks
//!   again after its last step, and repairs what another one has undone. What is in memory is trusted for a short time.

mod blobs;
mod body;
mod catalogue;
mod copy;
mod deletion;
mod detached;
mod error;
mod fsck;
mod holders;
mod hot;
pub mod keys;
mod late_indexes;
mod manifests;
mod records;
mod referrers;
mod sessions;
mod sweep;
mod tags;
mod uploads;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::RwLock;

pub use self::blobs::{Blob, BlobBody};
pub use self::copy::{CopyOptions, CopyProblem, CopyProgress, CopySource, CopySummary};
use self::detached::Detached;
pub use self::error::ContentError;
pub use self::fsck::{Finding, FsckMode, FsckObserver, FsckSummary, Problem};
use self::holders::Holders;
use self::hot::Hot;
use self::late_indexes::LateIndexes;
pub use self::manifests::{NewManifest, StoredManifest};
pub use self::referrers::{ReferrerDescriptor, ReferrersPage};
pub use self::sessions::UploadId;
use self::sessions::{Ended, Turns};
pub use self::sweep::UploadSweep;
use crate::config::CacheSettings;
use crate::oci::RepositoryName;
use crate::registry::names::Names;
pub use crate::registry::storage::{BodyStream, ByteRange};
use crate::registry::storage::{
    Condition, DeleteCondition, Entry, Key, Object, ObjectStore, Prefix, Put, SignedUrls, StorageError,
};
use crate::telemetry::carried;

/// Ended uploads that are told from those that have received nothing yet.
const MAX_ENDED: u64 = 64 * 1024;
const UPLOAD_IDLE: Duration = Duration::from_secs(60 * 60);
/// What may be remembered of tags, in bytes: about a hundred thousand of them.
const MAX_TAGGED: usize = 16 << 20;
/// Enough that repositories seldom wait for each other.
const REPOSITORY_LOCKS: usize = 64;
/// Small objects that one request reads at the same time.
const CONCURRENT_READS: usize = 16;
/// Entries that are asked for at once where all are wanted.
const PAGE: usize = 1000;

/// A registry's content. Clones share it.
#[derive(Clone)]
pub struct Content {
    store: Arc<dyn ObjectStore>,
    ended: Ended,
    hot: Hot,
    turns: Turns,
    /// Shared by pushes of manifests to a repository, taken alone by deletions: a tag that is being pushed must not
    /// come to point to a manifest that is being deleted.
    repository_locks: Arc<[RwLock<()>; REPOSITORY_LOCKS]>,
    /// The tags that may point to a manifest, in repositories where manifests have been deleted (`tags`).
    tagged: Arc<Names>,
    holders: Holders,
    late_indexes: LateIndexes,
    redirect: Option<Arc<dyn SignedUrls>>,
}

impl Content {
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self::with_cache(store, &CacheSettings::default())
    }

    pub fn with_cache(store: Arc<dyn ObjectStore>, cache: &CacheSettings) -> Self {
        let age = store.is_shared().then(|| Duration::from_secs(cache.shared_seconds));
        Self {
            hot: Hot::new(cache.manifest_bytes, age),
            store,
            ended: Ended::new(MAX_ENDED),
            turns: Turns::default(),
            repository_locks: Arc::new(std::array::from_fn(|_| RwLock::default())),
            tagged: Arc::new(Names::new(MAX_TAGGED)),
            holders: Holders::default(),
            late_indexes: LateIndexes::default(),
            redirect: None,
        }
    }

    /// With addresses at which clients can get the content of blobs without passing through this process.
    pub fn with_redirect(self, redirect: Option<Arc<dyn SignedUrls>>) -> Self {
        Self { redirect, ..self }
    }

    fn repository_lock(&self, repository: &RepositoryName) -> &RwLock<()> {
        &self.repository_locks[stripe(repository, REPOSITORY_LOCKS)]
    }

    /// Does `work` to its end even if the caller goes away, so that a lost connection leaves nothing behind.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl FnOnce(Content) -> BoxFuture<'static, Result<T, ContentError>>,
    ) -> Result<T, ContentError> {
        Detached::new(carried(work(self.clone()))).await
    }

    async fn exists(&self, key: &Key) -> Result<bool, ContentError> {
        found(self.store.head(key).await).map(|meta| meta.is_some())
    }

    /// Whether any object lies below `prefix`.
    async fn holds_any(&self, prefix: &Prefix) -> Result<bool, ContentError> {
        Ok(self.store.list(prefix, None, 0, false).await?.more)
    }

    /// Removes an object, and says whether there was one.
    async fn remove(&self, key: &Key) -> Result<bool, ContentError> {
        found(self.store.delete(key, DeleteCondition::Always).await).map(|removed| removed.is_some())
    }

    async fn read_record<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, ContentError> {
        let Some(content) = self.read_small(key).await? else { return Ok(None) };
        let record = serde_json::from_slice(&content);
        record.map(Some).map_err(|source| ContentError::Corrupt { key: key.clone(), source })
    }

    /// A whole object of which it is known that it is small.
    async fn read_small(&self, key: &Key) -> Result<Option<bytes::Bytes>, ContentError> {
        match found(self.store.get(key, None).await)? {
            Some(object) => whole(object).await.map(Some),
            None => Ok(None),
        }
    }

    /// The objects below `prefix`, after `after`, at most `limit`, and whether there are more.
    async fn list_objects(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<(Vec<Key>, bool), ContentError> {
        let page = self.store.list(prefix, after.map(Key::as_str), limit, true).await?;
        let object = |entry| match entry {
            Entry::Object(key) => Some(key),
            Entry::Prefix(_) => None,
        };
        Ok((page.entries.into_iter().filter_map(object).collect(), page.more))
    }
}

/// All of an object that is small.
async fn whole(object: Object) -> Result<bytes::Bytes, ContentError> {
    let unreadable = |source| StorageError::Io { action: "read an object", source };
    let pieces: Vec<_> = object.body.try_collect().await.map_err(unreadable)?;
    // Copied: a piece may be a small part of a large buffer, and these are kept for long.
    Ok(pieces.concat().into())
}

/// Which of `count` parts a repository falls into.
fn stripe(repository: &RepositoryName, count: usize) -> usize {
    repository.as_str().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % count
}

/// An object whose content is given by its key.
fn absent(key: Key, content: bytes::Bytes) -> Put {
    Put { key, content, condition: Condition::IfAbsent }
}

fn record(key: Key, record: &impl Serialize) -> Result<Put, ContentError> {
    let content = serde_json::to_vec(record).map_err(|source| ContentError::Corrupt { key: key.clone(), source })?;
    Ok(Put { key, content: content.into(), condition: Condition::Always })
}

/// Turns "not found" from an error into nothing.
fn found<T>(result: Result<T, StorageError>) -> Result<Option<T>, ContentError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StorageError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
