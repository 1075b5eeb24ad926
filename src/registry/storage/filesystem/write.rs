//! Objects come and go: under a temporary name first, then by rename.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::{Condition, DeleteCondition, Key, StorageError, Version};
use super::root::{Root, absent, sync_folder};

pub(super) fn put(root: &Root, key: &Key, content: &[u8], condition: &Condition) -> Result<Version, StorageError> {
    // Saves writing what won't be used; what counts is decided under the lock.
    if *condition == Condition::IfAbsent && version_of(&root.object(key))?.is_some() {
        let target = root.object(key);
        let folder = target.parent().unwrap_or(root.objects());
        let _folders = root.hold_folders();
        root.make_durable(folder).map_err(conflict("make a folder", key))?;
        return Err(already_there(folder, key));
    }
    let temporary = Temporary::write(root, content)?;
    let placed = place(root, key, &temporary.path, &temporary.file, condition);
    temporary.settle(placed.is_ok());
    placed
}

/// Renames the synced file at `path` to `key`, and makes that durable.
pub(super) fn place(
    root: &Root,
    key: &Key,
    path: &Path,
    file: &File,
    condition: &Condition,
) -> Result<Version, StorageError> {
    let target = root.object(key);
    let folder = target.parent().unwrap_or(root.objects());
    let _folders = root.hold_folders();
    root.make_durable(folder).map_err(conflict("make a folder", key))?;
    let version = {
        let _key = root.lock_key(key);
        let current = version_of(&target)?;
        match condition {
            Condition::Always => {}
            Condition::IfAbsent if current.is_none() => {}
            Condition::IfAbsent => return Err(already_there(folder, key)),
            Condition::IfVersion(version) if current.as_ref() == Some(version) => {}
            Condition::IfVersion(_) => return Err(StorageError::PreconditionFailed(key.to_string())),
        }
        file.set_modified(root.stamp()).map_err(StorageError::io("set a modification time"))?;
        let version = version(&file.metadata().map_err(StorageError::io("look at a file"))?);
        let renamed = fs::rename(path, &target);
        match renamed {
            Ok(()) => root.note_object(key, true),
            Err(_) => root.forget_names_beside(key),
        }
        renamed.map_err(conflict("rename a file", key))?;
        version
    };
    sync_folder(folder).map_err(StorageError::io("sync a folder"))?;
    Ok(version)
}

pub(super) fn delete(root: &Root, key: &Key, condition: &DeleteCondition) -> Result<(), StorageError> {
    let target = root.object(key);
    let folder = target.parent().unwrap_or(root.objects());
    {
        let _folders = root.hold_folders();
        {
            let _key = root.lock_key(key);
            let current = version_of(&target)?.ok_or_else(|| StorageError::NotFound(key.to_string()))?;
            if matches!(condition, DeleteCondition::IfVersion(version) if *version != current) {
                return Err(StorageError::PreconditionFailed(key.to_string()));
            }
            let removed = fs::remove_file(&target);
            match removed {
                Ok(()) => root.note_object(key, false),
                Err(_) => root.forget_names_beside(key),
            }
            removed.map_err(absent("remove a file", key))?;
        }
        sync_folder(folder).map_err(StorageError::io("sync a folder"))?;
    }
    root.prune(folder);
    Ok(())
}

/// Moves an object to the quarantine, beside whatever was set aside of the same key before.
pub(super) fn set_aside(root: &Root, key: &Key) -> Result<(), StorageError> {
    let source = root.object(key);
    let folder = source.parent().unwrap_or(root.objects());
    let mut number = 1;
    {
        let _folders = root.hold_folders();
        {
            let _key = root.lock_key(key);
            let mut target = root.quarantined(number, key);
            while fs::symlink_metadata(&target).is_ok() {
                number += 1;
                target = root.quarantined(number, key);
            }
            let made = target.parent().map_or(Ok(()), fs::create_dir_all);
            made.map_err(StorageError::io("make a folder"))?;
            let moved = fs::rename(&source, &target);
            match moved {
                Ok(()) => root.note_object(key, false),
                Err(_) => root.forget_names_beside(key),
            }
            moved.map_err(absent("rename a file", key))?;
            root.sync_quarantine(&target).map_err(StorageError::io("sync a folder"))?;
        }
        sync_folder(folder).map_err(StorageError::io("sync a folder"))?;
    }
    root.prune(folder);
    Ok(())
}

pub(super) fn version(metadata: &Metadata) -> Version {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    Version::new(format!("{seconds:x}.{nanoseconds:x}-{:x}-{:x}", metadata.ino(), metadata.size()))
}

/// The version of the object at `path`, if there is one.
fn version_of(path: &Path) -> Result<Option<Version>, StorageError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then(|| version(&metadata))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(StorageError::io("look at a file")(error)),
    }
}

/// The caller may rely on the object that is there, so it must be as durable as if it was the caller's own: whoever
/// renamed it may not have come to sync the folder.
fn already_there(folder: &Path, key: &Key) -> StorageError {
    match sync_folder(folder) {
        Ok(()) => StorageError::PreconditionFailed(key.to_string()),
        Err(error) => StorageError::io("sync a folder")(error),
    }
}

/// For `map_err` where a file in a folder's place, or the other way round, means that keys collide.
fn conflict(action: &'static str, key: &Key) -> impl FnOnce(std::io::Error) -> StorageError {
    move |error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => StorageError::KeyConflict(key.to_string()),
        _ => StorageError::io(action)(error),
    }
}

/// A file on its way. It is removed unless it was renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn write(root: &Root, content: &[u8]) -> Result<Self, StorageError> {
        let path = root.new_tmp();
        let file = File::create_new(&path).map_err(StorageError::io("create a file"))?;
        let mut temporary = Self { path, file, renamed: false };
        // An empty file has no content that could be lost: syncing the folder is enough.
        if !content.is_empty() {
            temporary.file.write_all(content).map_err(StorageError::io("write a file"))?;
            temporary.file.sync_data().map_err(StorageError::io("sync a file"))?;
        }
        Ok(temporary)
    }

    fn settle(mut self, renamed: bool) {
        self.renamed = renamed;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // If this fails, the next start cleans up.
            let _ = fs::remove_file(&self.path);
        }
    }
}
