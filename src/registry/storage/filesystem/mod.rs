//! Objects as files below a folder that one process owns.
//!
//! ```text
//! <root>/
//!   lock               held with flock(2) while the store is open
//!   objects/<key>      one file per object, one folder per component of a key
//!   stages/<id>        staged uploads
//!   tmp/<number>       content on its way; emptied when the store is opened
//!   quarantine/<n>/<key>  damaged objects that were set aside; there only if there are any
//! ```
//!
//! # Guarantees
//! - A file appears under its final name by rename(2), after its content was synced; the folder is synced before the
//!   caller hears of it, and so is every folder above that was made for it.
//! - Conditions are decided under a lock for the key: nobody else writes to the folder.
//!
//! # Assumptions
//! - `objects`, `stages` and `tmp` lie on one file system, with rename(2) atomic, timestamps finer than a
//!   second, and an fsync(2) that tells the truth.

mod append;
mod list;
mod pieces;
mod read;
mod root;
mod settled;
mod stage;
mod write;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::root::OpenError;
use self::root::Root;
use super::{
    BodyStream, ByteRange, Condition, DeleteCondition, Key, Object, ObjectMeta, ObjectStore, Page, Prefix, Put,
    Quarantine, Stage, StageId, StageState, StageWriter, StorageError, Version,
};

/// Entries of a listing that are put together at once if they are in memory: going to another thread costs more.
const LISTED_INLINE: usize = 1024;

/// A store in a folder. Clones share it; the folder is released when the last clone, body and writer are gone.
#[derive(Clone)]
pub struct FilesystemStore {
    root: Arc<Root>,
}

impl FilesystemStore {
    /// Opens the store in `folder`, making the folder if it is missing.
    ///
    /// Blocks on the disk, for a time that does not depend on what is stored.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self { root: Arc::new(Root::open(folder.as_ref())?) })
    }

    /// Opens the store in `folder` for reading, also while another process has it open. It changes nothing in it, and
    /// refuses to.
    pub fn open_read_only(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self { root: Arc::new(Root::open_read_only(folder.as_ref())?) })
    }

    /// Opens a folder that another program keeps, for reading: each file below it is an object, under its path.
    pub fn open_tree(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self { root: Arc::new(Root::open_tree(folder.as_ref())?) })
    }

    /// Runs `work`, which changes the store.
    async fn changing<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Root>) -> Result<T, StorageError> + Send + 'static,
    {
        if self.root.is_read_only() {
            return Err(StorageError::ReadOnly);
        }
        self.blocking(work).await
    }

    /// Runs `work` where it may block. It runs to its end even if the caller goes away.
    async fn blocking<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Root>) -> Result<T, StorageError> + Send + 'static,
    {
        let root = self.root.clone();
        blocking(move || work(&root)).await?
    }
}

/// Moves `work` to a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is going away.
        Err(error) => StorageError::Io { action: "run a disk operation", source: std::io::Error::other(error) },
    })
}

#[async_trait]
impl ObjectStore for FilesystemStore {
    async fn head(&self, key: &Key) -> Result<ObjectMeta, StorageError> {
        read::head(&self.root, key).await
    }

    async fn get(&self, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError> {
        read::open(&self.root, key, range).await
    }

    async fn put(&self, key: &Key, content: Bytes, condition: Condition) -> Result<Version, StorageError> {
        let key = key.clone();
        self.changing(move |root| write::put(root, &key, &content, &condition)).await
    }

    async fn put_all(&self, mut puts: Vec<Put>) -> Result<(), StorageError> {
        puts.retain(|put| !write::is_there_for_good(&self.root, put));
        if puts.is_empty() {
            return Ok(());
        }
        self.changing(move |root| write::put_all(root, puts)).await
    }

    async fn delete(&self, key: &Key, condition: DeleteCondition) -> Result<(), StorageError> {
        let key = key.clone();
        self.changing(move |root| write::delete(root, &key, &condition)).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Page, StorageError> {
        if delimiter
            && limit <= LISTED_INLINE
            && let Some(page) = list::remembered(&self.root, prefix, after, limit)
        {
            return Ok(page);
        }
        let (prefix, after) = (prefix.clone(), after.map(str::to_owned));
        self.blocking(move |root| list::list(root, &prefix, after.as_deref(), limit, delimiter)).await
    }

    async fn stage_create(&self, id: &StageId) -> Result<(), StorageError> {
        let id = *id;
        self.changing(move |root| stage::create(root, &id)).await
    }

    async fn stage_state(&self, id: &StageId) -> Result<StageState, StorageError> {
        let id = *id;
        self.blocking(move |root| stage::durable_state(root, &id)).await
    }

    async fn stage_append(&self, id: &StageId, at: u64) -> Result<Box<dyn StageWriter>, StorageError> {
        let id = *id;
        self.changing(move |root| stage::append(root, id, at)).await
    }

    async fn stage_read(&self, id: &StageId) -> Result<BodyStream, StorageError> {
        stage::read(&self.root, *id).await
    }

    async fn stage_abort(&self, id: &StageId) -> Result<(), StorageError> {
        let id = *id;
        self.changing(move |root| stage::abort(root, id)).await
    }

    async fn stage_list(&self, after: Option<&StageId>, limit: usize) -> Result<Vec<Stage>, StorageError> {
        let after = after.copied();
        self.blocking(move |root| stage::list(root, after, limit)).await
    }
}

#[async_trait]
impl Quarantine for FilesystemStore {
    async fn set_aside(&self, key: &Key) -> Result<(), StorageError> {
        let key = key.clone();
        self.changing(move |root| write::set_aside(root, &key)).await
    }
}

#[cfg(test)]
mod tests;
