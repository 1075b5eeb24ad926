//! Objects in a bucket of an S3 service, which any number of processes may use at the same time.
//!
//! ```text
//! <prefix>/
//!   objects/<key>            objects
//!   uploads/<id>/state       a staged upload: its length, its chunks, its writer's memo, as JSON
//!   uploads/<id>/<chunk>     a part of its content, as an object of its own
//!   probe/<id>               written and removed again at start, to see what the service can do
//! ```
//!
//! # Flow of a staged upload
//! A writer puts what arrives into chunks, several at a time, each under a name that nobody else uses; finishing
//! replaces the state by compare-and-swap, so that of two writers in two processes one gets through and the other's
//! chunks are nobody's. Publishing puts the final object together inside of the service, from the chunks that the
//! writer knows, so that nothing of another writer can get in.
//!
//! # Guarantees
//! - Those of [`ObjectStore`], among all processes that use the bucket, if the service has conditional writes; among the
//!   tasks of one process otherwise. [`S3Store::connect`] finds out which.
//! - Two exceptions: of several processes that delete an object each may believe that it was the one, and with a service
//!   that passes over `If-Match` there, [`DeleteCondition::IfVersion`] looks first and deletes then.
//! - A writer holds one chunk in memory while it fills, and sends at most [`PARALLEL_CHUNKS`] at a time; all writers
//!   together send no more than 256 MiB at a time.
//!
//! # Assumptions
//! - Reads and listings give what was written before them, as Amazon's and all common services have it.

mod body;
mod bucket;
mod buffers;
mod chunks;
mod connect;
mod error;
mod list;
mod probe;
mod publish;
mod remains;
mod stage;

#[cfg(test)]
#[path = "../../../tests/s3_server.rs"]
pub(in crate::registry) mod server;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;

use self::bucket::Bucket;
pub use self::connect::{ConnectError, Purpose};
pub use self::probe::Conditional;
use super::{
    BodyStream, ByteRange, Condition, DeleteCondition, Key, Object, ObjectMeta, ObjectStore, Page, Prefix, Put,
    SignedUrls, Stage, StageId, StageState, StageWriter, StorageError, Version,
};
use crate::config::S3Storage;

/// A writer sends so many chunks at the same time.
const PARALLEL_CHUNKS: usize = 3;

/// A store in a bucket. Clones share their connections.
#[derive(Clone)]
pub struct S3Store {
    bucket: Arc<Bucket>,
    /// Staged uploads that have a writer in this process.
    writing: Arc<Mutex<HashSet<StageId>>>,
}

impl S3Store {
    /// Connects to the bucket and, unless it is only to be read, finds out what the service can do.
    pub async fn connect(settings: &S3Storage, purpose: Purpose) -> Result<Self, ConnectError> {
        Ok(Self { bucket: Arc::new(connect::connect(settings, purpose).await?), writing: Arc::default() })
    }

    /// What is decided by the service itself.
    #[cfg(test)]
    pub fn conditional(&self) -> Conditional {
        self.bucket.conditional
    }

    fn writable(&self) -> Result<&Arc<Bucket>, StorageError> {
        match self.bucket.purpose {
            Purpose::Read | Purpose::ReadTree => Err(StorageError::ReadOnly),
            Purpose::Write => Ok(&self.bucket),
        }
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn is_shared(&self) -> bool {
        true
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StorageError> {
        self.bucket.head(&self.bucket.object(key)).await
    }

    async fn get(&self, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError> {
        self.bucket.get(self.bucket.object(key), range).await
    }

    async fn put(&self, key: &Key, content: Bytes, condition: Condition) -> Result<Version, StorageError> {
        let bucket = self.writable()?;
        bucket.put(&bucket.object(key), content, condition).await
    }

    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StorageError> {
        let put = |Put { key, content, condition }: Put| async move {
            let is_optional = condition == Condition::IfAbsent;
            match self.put(&key, content, condition).await {
                Err(StorageError::PreconditionFailed(_)) if is_optional => Ok(()),
                other => other.map(drop),
            }
        };
        try_join_all(puts.into_iter().map(put)).await.map(drop)
    }

    async fn delete(&self, key: &Key, condition: DeleteCondition) -> Result<(), StorageError> {
        let bucket = self.writable()?;
        let name = bucket.object(key);
        // The service answers the same whether there was anything to delete or not.
        let ObjectMeta { version, .. } = bucket.head(&name).await?;
        if matches!(&condition, DeleteCondition::IfVersion(expected) if *expected != version) {
            return Err(StorageError::PreconditionFailed(key.to_string()));
        }
        let version = matches!(condition, DeleteCondition::IfVersion(_)).then_some(&version);
        bucket.delete_if(&name, version).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Page, StorageError> {
        self.bucket.list_objects(prefix, after, limit, delimiter).await
    }

    async fn stage_create(&self, id: &StageId) -> Result<(), StorageError> {
        stage::create(self.writable()?, id).await
    }

    async fn stage_state(&self, id: &StageId) -> Result<StageState, StorageError> {
        stage::state(&self.bucket, id).await
    }

    async fn stage_append(&self, id: &StageId, at: u64) -> Result<Box<dyn StageWriter>, StorageError> {
        stage::append(self.writable()?, &self.writing, id, at).await
    }

    async fn stage_read(&self, id: &StageId) -> Result<BodyStream, StorageError> {
        stage::read(&self.bucket, id).await
    }

    async fn stage_abort(&self, id: &StageId) -> Result<(), StorageError> {
        stage::abort(self.writable()?, &self.writing, id).await
    }

    async fn stage_list(&self, after: Option<&StageId>, limit: usize) -> Result<Vec<Stage>, StorageError> {
        stage::list(&self.bucket, after, limit).await
    }

    async fn remove_remains(&self, limit: SystemTime) -> Result<usize, StorageError> {
        remains::remove(self.writable()?, limit).await
    }
}

#[async_trait]
impl SignedUrls for S3Store {
    async fn signed_url(&self, key: &Key) -> Result<String, StorageError> {
        self.bucket.signed_url(&self.bucket.object(key)).await
    }
}

/// What is waited for between two tries of the same request.
fn pause_before(attempt: u32) -> Duration {
    let longest = Duration::from_millis(100 << attempt.min(4));
    longest.mul_f64(rand::random_range(0.5..=1.0))
}
