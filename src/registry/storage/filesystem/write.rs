//! Objects come and go: under a temporary name first, then by rename.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::{Condition, DeleteCondition, Key, Put, StorageError, Version};
use super::root::{Root, absent};

pub(super) fn put(root: &Root, key: &Key, content: &[u8], condition: &Condition) -> Result<Version, StorageError> {
    let source = Source::prepare(root, key, content, condition)?;
    let folder = root.folder_of(key);
    let _folders = root.hold_folders();
    root.make_durable(&folder).map_err(conflict("make a folder", key))?;
    let placed = place(root, key, &folder, source, condition)?;
    root.sync_folder(&folder).map_err(StorageError::io("sync a folder"))?;
    match placed {
        Placed::New(version) => Ok(version),
        Placed::There => Err(StorageError::PreconditionFailed(key.to_string())),
    }
}

/// All contents are durable before the first name appears, and each folder is synced once, at the end.
pub(super) fn put_all(root: &Root, puts: Vec<Put>) -> Result<(), StorageError> {
    let prepare = |put: Put| {
        let source = Source::prepare(root, &put.key, &put.content, &put.condition)?;
        Ok((root.folder_of(&put.key), put, source))
    };
    let prepared: Vec<_> = puts.into_iter().map(prepare).collect::<Result<_, StorageError>>()?;
    let _folders = root.hold_folders();
    let mut folders = BTreeSet::new();
    for (folder, put, source) in prepared {
        root.make_durable(&folder).map_err(conflict("make a folder", &put.key))?;
        place(root, &put.key, &folder, source, &put.condition)?;
        folders.insert(folder);
    }
    let mut synced = folders.iter().map(|folder| root.sync_folder(folder));
    synced.try_for_each(|synced| synced.map_err(StorageError::io("sync a folder")))
}

/// Whether an object was to be written only if absent, and isn't, and is known to be durable: found out without waiting.
pub(super) fn is_there_for_good(root: &Root, put: &Put) -> bool {
    put.condition == Condition::IfAbsent
        && matches!(root.open_cached(&put.key), Some(Ok(file)) if file.metadata().is_ok_and(|found| found.is_file()))
        // Looked at last: whoever wrote the object, or removes it, unsettles the folder before.
        && root.is_settled(&root.folder_of(&put.key))
}

/// Turns the synced file of a staged upload into an object. False if there is one already, which stays.
pub(super) fn publish(root: &Root, key: &Key, path: &Path, file: &File) -> Result<bool, StorageError> {
    let folder = root.folder_of(key);
    let _folders = root.hold_folders();
    root.make_durable(&folder).map_err(conflict("make a folder", key))?;
    let placed = place(root, key, &folder, Source::Staged { path, file }, &Condition::IfAbsent)?;
    root.sync_folder(&folder).map_err(StorageError::io("sync a folder"))?;
    Ok(matches!(placed, Placed::New(_)))
}

/// Where an object's content is, before the object is there.
enum Source<'a> {
    /// The object is there, and was to be written only if it wasn't.
    There,
    /// Nothing: an empty file is whole as soon as it is there.
    Empty,
    Temporary(Temporary),
    Staged {
        path: &'a Path,
        file: &'a File,
    },
}

impl Source<'_> {
    fn prepare(root: &Root, key: &Key, content: &[u8], condition: &Condition) -> Result<Self, StorageError> {
        match condition {
            // Saves writing what won't be used; what counts is decided under the lock.
            Condition::IfAbsent if version_of(&root.object(key))?.is_some() => Ok(Source::There),
            Condition::IfAbsent if content.is_empty() => Ok(Source::Empty),
            _ => Temporary::write(root, content).map(Source::Temporary),
        }
    }
}

enum Placed {
    New(Version),
    /// It was to be written only if absent, and isn't.
    There,
}

/// Makes an object appear under its key if the condition holds. That is durable once its folder has been synced, also
/// if the object was there already: whoever made it may not have come to sync the folder.
fn place(
    root: &Root,
    key: &Key,
    folder: &Path,
    source: Source<'_>,
    condition: &Condition,
) -> Result<Placed, StorageError> {
    let target = root.object(key);
    let _key = root.lock_key(key);
    match (condition, version_of(&target)?) {
        (Condition::Always, _) | (Condition::IfAbsent, None) => {}
        (Condition::IfAbsent, Some(_)) => return Ok(Placed::There),
        (Condition::IfVersion(wanted), Some(current)) if *wanted == current => {}
        (Condition::IfVersion(_), _) => return Err(StorageError::PreconditionFailed(key.to_string())),
    }
    let _change = root.change_folder(folder);
    let metadata = match source {
        // As it was at the first look.
        Source::There => return Ok(Placed::There),
        Source::Empty => {
            noted(root, key, true, File::create_new(&target)).map_err(conflict("create a file", key))?.metadata()
        }
        Source::Temporary(temporary) => temporary.rename(root, key, &target)?,
        Source::Staged { path, file } => rename(root, key, path, file, &target)?,
    };
    Ok(Placed::New(version(&metadata.map_err(StorageError::io("look at a file"))?)))
}

/// Tells listings that an object came or went, or that this is unclear. The caller holds the key.
fn noted<T>(root: &Root, key: &Key, there: bool, changed: std::io::Result<T>) -> std::io::Result<T> {
    match changed {
        Ok(_) => root.note_object(key, there),
        Err(_) => root.forget_names_beside(key),
    }
    changed
}

/// Gives the file its final name. What it returns is the look at the file, as it will be under that name.
fn rename(
    root: &Root,
    key: &Key,
    path: &Path,
    file: &File,
    target: &Path,
) -> Result<std::io::Result<Metadata>, StorageError> {
    file.set_modified(root.stamp()).map_err(StorageError::io("set a modification time"))?;
    let metadata = file.metadata();
    noted(root, key, true, fs::rename(path, target)).map_err(conflict("rename a file", key))?;
    Ok(metadata)
}

/// Also that there was nothing to delete is durable when the caller hears of it: whoever deleted it may not have come to
/// sync the folder.
pub(super) fn delete(root: &Root, key: &Key, condition: &DeleteCondition) -> Result<(), StorageError> {
    let folder = root.folder_of(key);
    let removed = {
        let _folders = root.hold_folders();
        let removed = remove(root, key, &folder, condition);
        match root.sync_folder(&folder) {
            // What was in it went before it did.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            synced => synced.map_err(StorageError::io("sync a folder"))?,
        }
        removed
    };
    removed?;
    root.prune(&folder);
    Ok(())
}

fn remove(root: &Root, key: &Key, folder: &Path, condition: &DeleteCondition) -> Result<(), StorageError> {
    let target = root.object(key);
    let _key = root.lock_key(key);
    let current = version_of(&target)?.ok_or_else(|| StorageError::NotFound(key.to_string()))?;
    if matches!(condition, DeleteCondition::IfVersion(version) if *version != current) {
        return Err(StorageError::PreconditionFailed(key.to_string()));
    }
    let _change = root.change_folder(folder);
    noted(root, key, false, fs::remove_file(&target)).map_err(absent("remove a file", key))
}

/// Moves an object to the quarantine, beside whatever was set aside of the same key before.
pub(super) fn set_aside(root: &Root, key: &Key) -> Result<(), StorageError> {
    let (source, folder) = (root.object(key), root.folder_of(key));
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
            let _change = root.change_folder(&folder);
            noted(root, key, false, fs::rename(&source, &target)).map_err(absent("rename a file", key))?;
            root.sync_quarantine(&target).map_err(StorageError::io("sync a folder"))?;
        }
        root.sync_folder(&folder).map_err(StorageError::io("sync a folder"))?;
    }
    root.prune(&folder);
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

/// For `map_err` where a file in a folder's place, or the other way round, means that keys collide.
fn conflict(action: &'static str, key: &Key) -> impl FnOnce(std::io::Error) -> StorageError {
    move |error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            StorageError::KeyConflict(key.to_string())
        }
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

    fn rename(mut self, root: &Root, key: &Key, target: &Path) -> Result<std::io::Result<Metadata>, StorageError> {
        let renamed = rename(root, key, &self.path, &self.file, target);
        self.renamed = renamed.is_ok();
        renamed
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
