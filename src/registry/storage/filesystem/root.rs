//! The folder itself: opening it, the locks, and folders that survive a power failure.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use moka::sync::Cache;
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags, flock, openat2};
use rustix::io::Errno;

use super::super::{Key, StageId, StorageError};
use super::pieces::Pieces;
use super::settled::Settled;
use crate::registry::names::Names;

/// Enough that unrelated keys seldom wait for each other.
const KEY_LOCKS: usize = 64;
/// How many folders are remembered as durable. Forgetting one costs a sync, nothing else.
const MAX_DURABLE: usize = 16 * 1024;
/// What the names of listed folders may take: some hundred thousand of them.
const MAX_NAMES: usize = 16 << 20;
/// Staged uploads whose memos are kept.
const MAX_MEMOS: u64 = 8192;
const MEMO_IDLE: Duration = Duration::from_secs(60 * 60);

/// Why a store can't be opened. What it prints is meant for the person who started the process.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "can't use {path} as the registry's storage: {source}; \
         give the user that landfast runs as write access to it, or name another folder"
    )]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another landfast process; stop that one, or name another folder")]
    Locked { path: PathBuf },
    #[error("can't read a registry's storage in {path}: {source}; is it the right folder, and may this user read it?")]
    Unreadable { path: PathBuf, source: io::Error },
}

pub(super) struct Root {
    objects: PathBuf,
    /// `objects`, to open what is below it by a short path.
    objects_folder: File,
    /// Whether the kernel can tell that opening a file would not wait for the disk: from Linux 5.12 on, unless forbidden.
    opens_cached: AtomicBool,
    pieces: Pieces,
    stages: PathBuf,
    tmp: PathBuf,
    quarantine: PathBuf,
    /// The kernel lets go of the lock when this is closed, however the process ends. Nothing if the store is only read.
    lock: Option<File>,
    next_tmp: AtomicU64,
    last_stamp: AtomicU64,
    key_locks: [Mutex<()>; KEY_LOCKS],
    key_hasher: RandomState,
    /// Shared by whoever works inside of folders; taken alone to remove an empty one.
    folders: RwLock<()>,
    /// Folders below `objects` that are known to survive a power failure.
    durable: Mutex<HashSet<PathBuf>>,
    /// Held while a folder's entries are synced.
    sync_turns: [Mutex<()>; KEY_LOCKS],
    /// Folders whose entries are known to survive one.
    settled: Mutex<Settled>,
    /// What is in folders that have been listed, under their prefixes: the names of files, and those of folders with a
    /// slash behind them. Nobody else writes to the folder, so what is said here after each change is all there is.
    pub(super) names: Names,
    /// Staged uploads that have a writer.
    pub(super) writing: Mutex<HashSet<StageId>>,
    /// Staged uploads of which every byte is known to be durable.
    pub(super) synced: Mutex<HashSet<StageId>>,
    /// Callers' memos, with the lengths that they are about. One that is forgotten costs reading the upload again.
    pub(super) memos: Cache<StageId, (u64, Bytes)>,
}

impl Root {
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(unusable)?;
        let lock_path = folder.join("lock");
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::Locked { path: folder.to_owned() }),
            other => other.map_err(|errno| unusable(errno.into()))?,
        }
        let [objects, stages, tmp] = ["objects", "stages", "tmp"].map(|name| folder.join(name));
        // Content that was on its way when the last process ended. Nobody was told that it had arrived.
        if let Err(error) = fs::remove_dir_all(&tmp)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(unusable(error));
        }
        for part in [&objects, &stages, &tmp] {
            fs::create_dir_all(part).map_err(unusable)?;
        }
        sync_folder(folder).map_err(unusable)?;
        if let Some(parent) = folder.canonicalize().map_err(unusable)?.parent() {
            // Matters only if the folder is new. A parent that may not be opened, as with a mounted volume, was
            // not made here.
            let _ = sync_folder(parent);
        }
        Self::new(folder, Some(lock), MAX_NAMES).map_err(unusable)
    }

    /// For reading what another process may be writing to: nothing can be remembered of it.
    pub(super) fn open_read_only(folder: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unreadable { path: folder.to_owned(), source };
        fs::read_dir(folder.join("objects")).map_err(unusable)?;
        Self::new(folder, None, 0).map_err(unusable)
    }

    /// The same for another program's folder, in which everything is an object.
    pub(super) fn open_tree(folder: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unreadable { path: folder.to_owned(), source };
        fs::read_dir(folder).map_err(unusable)?;
        Self::with_objects(folder, folder.to_owned(), None, 0).map_err(unusable)
    }

    fn new(folder: &Path, lock: Option<File>, max_names: usize) -> io::Result<Self> {
        Self::with_objects(folder, folder.join("objects"), lock, max_names)
    }

    fn with_objects(folder: &Path, objects: PathBuf, lock: Option<File>, max_names: usize) -> io::Result<Self> {
        Ok(Self {
            objects_folder: File::open(&objects)?,
            objects,
            opens_cached: AtomicBool::new(true),
            pieces: Pieces::default(),
            stages: folder.join("stages"),
            tmp: folder.join("tmp"),
            quarantine: folder.join("quarantine"),
            lock,
            next_tmp: AtomicU64::new(0),
            last_stamp: AtomicU64::new(0),
            key_locks: std::array::from_fn(|_| Mutex::default()),
            key_hasher: RandomState::new(),
            folders: RwLock::default(),
            durable: Mutex::default(),
            sync_turns: std::array::from_fn(|_| Mutex::default()),
            settled: Mutex::default(),
            names: Names::new(max_names),
            writing: Mutex::default(),
            synced: Mutex::default(),
            memos: Cache::builder().max_capacity(MAX_MEMOS).time_to_idle(MEMO_IDLE).build(),
        })
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.lock.is_none()
    }

    /// Where an object goes that is set aside.
    pub(super) fn quarantined(&self, number: u32, key: &Key) -> PathBuf {
        self.quarantine.join(number.to_string()).join(key.as_str())
    }

    /// Makes `path` and what is above it durable, up to the quarantine itself.
    pub(super) fn sync_quarantine(&self, path: &Path) -> io::Result<()> {
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.quarantine));
        above.chain(self.quarantine.parent()).try_for_each(sync_folder)
    }

    pub(super) fn objects(&self) -> &Path {
        &self.objects
    }

    pub(super) fn stages(&self) -> &Path {
        &self.stages
    }

    pub(super) fn object(&self, key: &Key) -> PathBuf {
        self.objects.join(key.as_str())
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Opens an object for reading, or finds that it is missing, if that is possible without waiting for the disk.
    pub(super) fn open_cached(&self, key: &Key) -> Option<io::Result<File>> {
        if !self.opens_cached.load(Ordering::Relaxed) {
            return None;
        }
        let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match openat2(&self.objects_folder, key.as_str(), flags, Mode::empty(), resolve) {
            Ok(file) => Some(Ok(file.into())),
            Err(Errno::NOENT) => Some(Err(ErrorKind::NotFound.into())),
            Err(Errno::NOTDIR) => Some(Err(ErrorKind::NotADirectory.into())),
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                self.opens_cached.store(false, Ordering::Relaxed);
                None
            }
            // Whatever else it is, the ordinary way finds out.
            Err(_) => None,
        }
    }

    pub(super) fn folder_of(&self, key: &Key) -> PathBuf {
        self.object(key).parent().unwrap_or(&self.objects).to_owned()
    }

    pub(super) fn stage(&self, id: &StageId) -> PathBuf {
        self.stages.join(id.to_string())
    }

    /// A path that nobody else has been given.
    pub(super) fn new_tmp(&self) -> PathBuf {
        self.tmp.join(self.next_tmp.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A modification time that no other file of this process got: together with the inode it tells versions apart
    /// even if the clock stands still between two writes.
    pub(super) fn stamp(&self) -> SystemTime {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let next = |last: u64| now.max(last + 1);
        let last = self.last_stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        UNIX_EPOCH + Duration::from_nanos(next(last.unwrap_or_default()))
    }

    /// Whoever changes what is under `key` holds this from looking to changing.
    pub(super) fn lock_key(&self, key: &Key) -> MutexGuard<'_, ()> {
        lock(&self.key_locks[self.key_hasher.hash_one(key) as usize % KEY_LOCKS])
    }

    /// Remembers that an object has come or gone. The caller holds the key.
    pub(super) fn note_object(&self, key: &Key, there: bool) {
        let (folder, name) = split(key.as_str());
        self.names.change(folder, name, there);
    }

    /// After a change of which it is unclear whether it was made.
    pub(super) fn forget_names_beside(&self, key: &Key) {
        self.names.forget(split(key.as_str()).0);
    }

    /// Remembers that a folder below `objects` is there, or that it has been removed.
    fn note_folder(&self, folder: &Path, there: bool) {
        let Some(path) = folder.strip_prefix(&self.objects).ok().and_then(Path::to_str) else { return };
        let (above, name) = split(path);
        self.names.change(above, &format!("{name}/"), there);
        if !there {
            self.names.forget(&format!("{path}/"));
        }
    }

    /// Keeps folders from being removed while something is put into them.
    pub(super) fn hold_folders(&self) -> RwLockReadGuard<'_, ()> {
        self.folders.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `folder`, below `objects`, and what is above it, durable. The caller holds the folders.
    pub(super) fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if folder == self.objects || lock(&self.durable).contains(folder) {
            return Ok(());
        }
        let Some(parent) = folder.parent() else { return Ok(()) };
        self.make_durable(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            // A file where a folder has to be: an object above this key.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(ErrorKind::NotADirectory.into()),
            other => other?,
        }
        self.note_folder(folder, true);
        // Also if it existed: whoever made it may not have come to sync it yet.
        sync_folder(parent)?;
        let mut durable = lock(&self.durable);
        if durable.len() >= MAX_DURABLE {
            durable.clear();
        }
        durable.insert(folder.to_owned());
        Ok(())
    }

    /// To be held while an entry of `folder` changes.
    pub(super) fn change_folder<'a>(&'a self, folder: &'a Path) -> FolderChange<'a> {
        lock(&self.settled).begin_change(folder);
        FolderChange { root: self, folder }
    }

    /// Makes the entries of a folder durable, if they aren't.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let Some(wanted) = lock(&self.settled).sync_needed(folder) else { return Ok(()) };
        // One after the other, so that the next one does for all who wait behind it.
        let _turn = lock(&self.sync_turns[self.key_hasher.hash_one(folder) as usize % KEY_LOCKS]);
        if lock(&self.settled).has_failed(folder, wanted) {
            return Err(io::Error::other("another request's sync of the folder has failed"));
        }
        let Some(sync) = lock(&self.settled).begin_sync(folder, wanted) else { return Ok(()) };
        let synced = sync_folder(folder);
        let mut settled = lock(&self.settled);
        match synced {
            Ok(()) => settled.synced(folder, sync),
            Err(_) => settled.not_synced(folder),
        }
        synced
    }

    /// Whether the folder's entries, and the folder itself, are known to survive a power failure.
    pub(super) fn is_settled(&self, folder: &Path) -> bool {
        lock(&self.durable).contains(folder) && lock(&self.settled).is_settled(folder)
    }

    /// Removes `folder` and what is above it as far as they are empty, if nobody is at work: an empty folder is no
    /// harm, only untidy, so this never waits.
    pub(super) fn prune(&self, folder: &Path) {
        let Ok(_alone) = self.folders.try_write() else { return };
        let mut folder = folder;
        while folder != self.objects {
            let Some(parent) = folder.parent() else { return };
            let _changes = (self.change_folder(parent), self.change_folder(folder));
            if fs::remove_dir(folder).is_err() {
                return;
            }
            self.note_folder(folder, false);
            lock(&self.durable).remove(folder);
            folder = parent;
        }
    }
}

/// A change of a folder's entries that is under way.
pub(super) struct FolderChange<'a> {
    root: &'a Root,
    folder: &'a Path,
}

impl Drop for FolderChange<'_> {
    fn drop(&mut self) {
        lock(&self.root.settled).end_change(self.folder);
    }
}

/// The prefix of what is in the same folder, and the name there.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
}

/// What these locks guard is valid at every moment, so a panic under one leaves nothing broken.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the entries of a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// For `map_err` where a missing file or folder means that the object is missing.
pub(super) fn absent(action: &'static str, name: impl ToString) -> impl FnOnce(io::Error) -> StorageError {
    move |error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            StorageError::NotFound(name.to_string())
        }
        _ => StorageError::io(action)(error),
    }
}
