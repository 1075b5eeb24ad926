//! Which folders need no sync, because nothing in them has changed since the last one, and who needs none of his own,
//! because another's has begun since he asked for it.
//!
//! Content that is pushed again, as the layers of base images are, is found to be there already; without this each time
//! would cost a flush of the disk, only because whoever wrote it might not have come to sync it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How many folders are remembered. Forgetting one costs a sync, nothing else.
const MAX_FOLDERS: usize = 16 * 1024;

/// A sync that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sync {
    began: u64,
    last_change: u64,
}

/// What is known of folders.
#[derive(Default)]
pub(super) struct Settled {
    folders: HashMap<PathBuf, Folder>,
    /// A clock that goes on with each event, so that a folder that was forgotten isn't mistaken for itself at an earlier
    /// time.
    now: u64,
}

struct Folder {
    last_change: u64,
    /// When the last sync began that has succeeded.
    last_sync: u64,
    /// When the last one failed.
    last_failure: u64,
    under_way: usize,
    settled: bool,
}

impl Settled {
    /// An entry of the folder is about to change.
    pub(super) fn begin_change(&mut self, folder: &Path) {
        self.change(folder).under_way += 1;
    }

    /// That change has happened, or has failed.
    pub(super) fn end_change(&mut self, folder: &Path) {
        let folder = self.change(folder);
        folder.under_way = folder.under_way.saturating_sub(1);
    }

    /// Nothing if the folder needs no sync, else since when one is wanted.
    pub(super) fn sync_needed(&mut self, folder: &Path) -> Option<u64> {
        self.now += 1;
        (!self.is_settled(folder)).then_some(self.now)
    }

    /// Begins a sync, unless one has succeeded that began after it was `wanted`: it was for all that was there then.
    pub(super) fn begin_sync(&mut self, folder: &Path, wanted: u64) -> Option<Sync> {
        self.now += 1;
        let began = self.now;
        let last_change = match self.folders.get(folder) {
            Some(folder) if folder.settled || folder.last_sync > wanted => return None,
            Some(folder) => folder.last_change,
            None => self.change(folder).last_change,
        };
        Some(Sync { began, last_change })
    }

    /// Whether the folder is known to need no sync.
    pub(super) fn is_settled(&self, folder: &Path) -> bool {
        self.folders.get(folder).is_some_and(|folder| folder.settled)
    }

    /// The folder has been synced. It is settled, unless a change has begun or ended since then, or is under way.
    pub(super) fn synced(&mut self, folder: &Path, sync: Sync) {
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.settled = folder.last_change == sync.last_change && folder.under_way == 0;
            folder.last_sync = folder.last_sync.max(sync.began);
        }
    }

    /// Syncing the folder has failed. The kernel tells that once: the next sync may succeed and prove nothing.
    pub(super) fn not_synced(&mut self, folder: &Path) {
        let folder = self.change(folder);
        folder.last_failure = folder.last_change;
    }

    /// Whether a sync has failed since one was `wanted`, so that what it was wanted for may be lost.
    pub(super) fn has_failed(&self, folder: &Path, wanted: u64) -> bool {
        self.folders.get(folder).is_some_and(|folder| folder.last_failure > wanted)
    }

    fn change(&mut self, folder: &Path) -> &mut Folder {
        self.now += 1;
        if self.folders.len() >= MAX_FOLDERS && !self.folders.contains_key(folder) {
            self.folders.retain(|_, folder| folder.under_way > 0);
        }
        let new = Folder { last_change: 0, last_sync: 0, last_failure: 0, under_way: 0, settled: false };
        let folder = self.folders.entry(folder.to_owned()).or_insert(new);
        (folder.last_change, folder.settled) = (self.now, false);
        folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(settled: &mut Settled, folder: &Path) -> Option<Sync> {
        let wanted = settled.sync_needed(folder)?;
        settled.begin_sync(folder, wanted)
    }

    fn sync(settled: &mut Settled, folder: &Path) {
        let sync = begin(settled, folder).unwrap();
        settled.synced(folder, sync);
    }

    fn change(settled: &mut Settled, folder: &Path) {
        settled.begin_change(folder);
        settled.end_change(folder);
    }

    #[test]
    fn a_folder_is_synced_once_for_each_change() {
        let (mut settled, folder) = (Settled::default(), Path::new("a"));
        sync(&mut settled, folder);
        assert_eq!(settled.sync_needed(folder), None);
        change(&mut settled, folder);
        sync(&mut settled, folder);
        assert_eq!(settled.sync_needed(folder), None);
    }

    #[test]
    fn a_change_during_a_sync_is_not_taken_for_durable() {
        let (mut settled, folder) = (Settled::default(), Path::new("a"));
        let under_way = begin(&mut settled, folder).unwrap();
        change(&mut settled, folder);
        settled.synced(folder, under_way);
        assert!(settled.sync_needed(folder).is_some());
    }

    #[test]
    fn a_sync_does_for_all_who_wanted_one_before_it_began() {
        let (mut settled, folder) = (Settled::default(), Path::new("a"));
        // Never settled.
        settled.begin_change(folder);
        let [first, second] = [(); 2].map(|()| settled.sync_needed(folder).unwrap());
        let under_way = settled.begin_sync(folder, first).unwrap();
        let late = settled.sync_needed(folder).unwrap();
        assert!(settled.begin_sync(folder, second).is_some(), "it may fail yet");
        settled.synced(folder, under_way);
        assert_eq!(settled.begin_sync(folder, second), None);
        assert!(settled.begin_sync(folder, late).is_some());
    }

    #[test]
    fn a_sync_during_a_change_settles_nothing() {
        let (mut settled, folder) = (Settled::default(), Path::new("a"));
        settled.begin_change(folder);
        sync(&mut settled, folder);
        assert!(settled.sync_needed(folder).is_some());
        settled.end_change(folder);
        sync(&mut settled, folder);
        assert_eq!(settled.sync_needed(folder), None);
    }

    #[test]
    fn a_sync_beside_one_that_failed_settles_nothing() {
        let (mut settled, folder) = (Settled::default(), Path::new("a"));
        change(&mut settled, folder);
        let wanted = settled.sync_needed(folder).unwrap();
        let other = begin(&mut settled, folder).unwrap();
        settled.not_synced(folder);
        settled.synced(folder, other);
        assert!(settled.has_failed(folder, wanted));
        let later = settled.sync_needed(folder).unwrap();
        assert!(!settled.has_failed(folder, later));
        sync(&mut settled, folder);
        assert_eq!(settled.sync_needed(folder), None);
    }

    #[test]
    fn forgetting_never_settles() {
        let (mut settled, folder) = (Settled::default(), Path::new("a"));
        settled.begin_change(folder);
        let under_way = begin(&mut settled, folder).unwrap();
        (0..=MAX_FOLDERS).for_each(|number| change(&mut settled, Path::new(&number.to_string())));
        settled.synced(folder, under_way);
        assert!(settled.sync_needed(folder).is_some());
        settled.end_change(folder);
        settled.synced(folder, under_way);
        assert!(settled.sync_needed(folder).is_some());
        assert!(settled.folders.len() <= MAX_FOLDERS);
    }
}
