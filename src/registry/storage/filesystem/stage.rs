//! Staged uploads: one file each, appended to by one writer at a time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{BodyStream, Key, Stage, StageId, StageState, StageWriter, StorageError};
use super::append::Appender;
use super::root::{Root, absent, lock};
use super::{blocking, read as reader, write};

pub(super) fn create(root: &Root, id: &StageId) -> Result<(), StorageError> {
    let _change = root.change_folder(root.stages());
    // Of an earlier one of the same name that is gone, however it went.
    root.memos.invalidate(id);
    File::create_new(root.stage(id)).map(drop).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => StorageError::PreconditionFailed(id.to_string()),
        _ => StorageError::io("create a file")(error),
    })
}

pub(super) fn durable_state(root: &Root, id: &StageId) -> Result<StageState, StorageError> {
    let file = File::open(root.stage(id)).map_err(absent("open a file", id))?;
    let length = len(&file)?;
    // What a writer left behind without finishing may be in the page cache only, also after a restart.
    if !root.is_read_only() && !lock(&root.synced).contains(id) {
        sync_with_name(root, id, &file)?;
    }
    let memo = root.memos.get(id).filter(|(about, _)| *about == length).map(|(_, memo)| memo);
    Ok(StageState { length, memo })
}

pub(super) fn append(root: &Arc<Root>, id: StageId, at: u64) -> Result<Box<dyn StageWriter>, StorageError> {
    let turn = Turn::take(root, id)?;
    let path = root.stage(&id);
    let appender = Appender::open(&path).map_err(absent("open a file", id))?;
    if appender.length() != at {
        return Err(StorageError::PreconditionFailed(id.to_string()));
    }
    Ok(Box::new(Writer { open: Some(Open { path, appender, turn }) }))
}

pub(super) async fn read(root: &Arc<Root>, id: StageId) -> Result<BodyStream, StorageError> {
    let path = root.stage(&id);
    let open = move || {
        let file = File::open(path).map_err(absent("open a file", id))?;
        let length = len(&file)?;
        Ok((file, length))
    };
    let (file, length) = blocking(open).await??;
    reader::body(root, file, 0..length).await.map_err(StorageError::io("read a file"))
}

pub(super) fn abort(root: &Arc<Root>, id: StageId) -> Result<(), StorageError> {
    let _turn = Turn::take(root, id)?;
    root.memos.invalidate(&id);
    fs::remove_file(root.stage(&id)).map_err(absent("remove a file", id))
}

pub(super) fn list(root: &Root, after: Option<StageId>, limit: usize) -> Result<Vec<Stage>, StorageError> {
    let failed = || StorageError::io("list a folder");
    let mut first = BTreeSet::new();
    for entry in fs::read_dir(root.stages()).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if after.is_none_or(|after| id > after) {
            first.insert(id);
            if first.len() > limit {
                first.pop_last();
            }
        }
    }
    let modified = |id: &StageId| fs::symlink_metadata(root.stage(id)).and_then(|metadata| metadata.modified());
    let stage = |id: StageId| match modified(&id) {
        Ok(modified) => Ok(Stage { id, modified }),
        // Published or aborted meanwhile. It is listed all the same: fewer than the limit would mean the end.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Stage { id, modified: SystemTime::now() }),
        Err(error) => Err(failed()(error)),
    };
    first.into_iter().map(stage).collect()
}

fn len(file: &File) -> Result<u64, StorageError> {
    Ok(file.metadata().map_err(StorageError::io("look at a file"))?.len())
}

/// The right to change a staged upload. It is dropped on the thread that does the last of the work, so that a caller
/// that goes away does not let another one in too early.
struct Turn {
    root: Arc<Root>,
    id: StageId,
}

impl Turn {
    fn take(root: &Arc<Root>, id: StageId) -> Result<Self, StorageError> {
        if !lock(&root.writing).insert(id) {
            return Err(StorageError::Busy(id.to_string()));
        }
        lock(&root.synced).remove(&id);
        Ok(Self { root: root.clone(), id })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.root.writing).remove(&self.id);
    }
}

struct Writer {
    /// Empty while a write is on its way, and for good if its caller went away.
    open: Option<Open>,
}

struct Open {
    path: PathBuf,
    appender: Appender,
    turn: Turn,
}

impl Writer {
    fn take(&mut self) -> Result<Open, StorageError> {
        let interrupted = || StorageError::io("go on after an interrupted write")(ErrorKind::Interrupted.into());
        self.open.take().ok_or_else(interrupted)
    }
}

#[async_trait]
impl StageWriter for Writer {
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let mut open = self.take()?;
        let (open, written) = blocking(move || {
            let written = open.appender.append(&open.path, &pieces);
            (open, written)
        })
        .await?;
        self.open = Some(open);
        written.map_err(StorageError::io("write a file"))
    }

    async fn finish(mut self: Box<Self>, memo: Bytes) -> Result<u64, StorageError> {
        let mut open = self.take()?;
        blocking(move || {
            open.appender.flush().map_err(StorageError::io("write a file"))?;
            sync_with_name(&open.turn.root, &open.turn.id, open.appender.file())?;
            let (root, id, length) = (&open.turn.root, open.turn.id, open.appender.length());
            lock(&root.synced).insert(id);
            root.memos.insert(id, (length, memo));
            Ok(length)
        })
        .await?
    }

    async fn publish(mut self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let open = self.take()?;
        let key = key.clone();
        blocking(move || publish(open, &key)).await?
    }
}

/// Makes what was written durable. If that fails the staged file goes: the kernel forgets about pages that it could not
/// write, so that a second try would succeed and prove nothing.
fn sync(root: &Root, id: &StageId, file: &File) -> Result<(), StorageError> {
    file.sync_data().map_err(|error| {
        // Best effort: if this fails too, the digest check of what can be read back is all that is left.
        let _ = fs::remove_file(root.stage(id));
        root.memos.invalidate(id);
        StorageError::io("sync a file")(error)
    })
}

/// The same, and the name of the staged file too: an upload that was told how far it is goes on from there.
fn sync_with_name(root: &Root, id: &StageId, file: &File) -> Result<(), StorageError> {
    sync(root, id, file)?;
    root.sync_folder(root.stages()).map_err(StorageError::io("sync a folder"))
}

fn publish(Open { path, mut appender, turn }: Open, key: &Key) -> Result<(), StorageError> {
    appender.flush().map_err(StorageError::io("write a file"))?;
    sync(&turn.root, &turn.id, appender.file())?;
    if !write::publish(&turn.root, key, &path, appender.file())? {
        fs::remove_file(&path).map_err(StorageError::io("remove a file"))?;
    }
    Ok(())
}
