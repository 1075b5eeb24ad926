//! Which folders need no sync, because nothing in them has changed since the last one.
//!
//! Content that is pushed again, as the layers of base images are, is found to be there already; without this each time
//! would cost a flush of the disk, only because whoever wrote it might not have come to sync it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How many folders are remembered. Forgetting one costs a sync, nothing else.
const MAX_FOLDERS: usize = 16 * 1024;

/// What is known of folders.
#[derive(Default)]
pub(super) struct Settled {
    folders: HashMap<PathBuf, Folder>,
    /// Never the same twice, so that a folder that was forgotten isn't mistaken for itself at an earlier time.
    changes: u64,
}

struct Folder {
    last_change: u64,
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

    /// Nothing if the folder needs no sync, else what to tell [`synced`](Self::synced) afterwards.
    pub(super) fn sync_needed(&mut self, folder: &Path) -> Option<u64> {
        match self.folders.get(folder) {
            Some(folder) => (!folder.settled).then_some(folder.last_change),
            None => Some(self.change(folder).last_change),
        }
    }

    /// Whether the folder is known to need no sync.
    pub(super) fn is_settled(&self, folder: &Path) -> bool {
        self.folders.get(folder).is_some_and(|folder| folder.settled)
    }

    /// The folder has been synced. It is settled, unless a change has begun or ended since then, or is under way.
    pub(super) fn synced(&mut self, folder: &Path, seen: u64) {
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.settled = folder.last_change == seen && folder.under_way == 0;
        }
    }

    /// Syncing the folder has failed. The kernel tells that once: another sync that is under way may succeed and prove
    /// nothing.
    pub(super) fn not_synced(&mut self, folder: &Path) {
        self.change(folder);
    }

    fn change(&mut self, folder: &Path) -> &mut Folder {
        self.changes += 1;
        if self.folders.len() >= MAX_FOLDERS && !self.folders.contains_key(folder) {
            self.folders.retain(|_, folder| folder.under_way > 0);
        }
        let new = Folder { last_change: 0, under_way: 0, settled: false };
        let folder = self.folders.entry(folder.to_owned()).or_insert(new);
        (folder.last_change, folder.settled) = (self.changes, false);
        folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(settled: &mut Settled, folder: &Path) {
        let seen = settled.sync_needed(folder).unwrap();
        settled.synced(folder, seen);
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
        let seen = settled.sync_needed(folder).unwrap();
        change(&mut settled, folder);
        settled.synced(folder, seen);
        assert!(settled.sync_needed(folder).is_some());
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
        let (failing, other) = (settled.sync_needed(folder), settled.sync_needed(folder));
        assert!(failing.is_some());
        settled.not_synced(folder);
        settled.synced(folder, other.unwrap());
        sync(&mut settled, folder);
        assert_eq!(settled.sync_needed(folder), None);
    }

    #[test]
    fn forgetting_never_settles() {
        let (mut settled, folder) = (Settled::default(), Path::new("a"));
        settled.begin_change(folder);
        let seen = settled.sync_needed(folder).unwrap();
        (0..=MAX_FOLDERS).for_each(|number| change(&mut settled, Path::new(&number.to_string())));
        settled.synced(folder, seen);
        assert!(settled.sync_needed(folder).is_some());
        settled.end_change(folder);
        settled.synced(folder, seen);
        assert!(settled.sync_needed(folder).is_some());
        assert!(settled.folders.len() <= MAX_FOLDERS);
    }
}
