//! The indexes that this process pushes to a repository while it deletes that: they have to go before what they list.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::oci::{Digest, RepositoryName};

/// Clones share what they know.
#[derive(Clone, Default)]
pub(super) struct LateIndexes(Arc<Mutex<Vec<Weak<Watch>>>>);

/// What has come since the last look, as long as somebody holds this.
pub(super) struct Watch {
    repository: RepositoryName,
    come: Mutex<Vec<Digest>>,
}

impl LateIndexes {
    pub(super) fn watch(&self, repository: &RepositoryName) -> Arc<Watch> {
        let watch = Arc::new(Watch { repository: repository.clone(), come: Mutex::default() });
        lock(&self.0).push(Arc::downgrade(&watch));
        watch
    }

    /// To be called before the index is there, while the repository is locked against deletions.
    pub(super) fn note(&self, repository: &RepositoryName, digest: &Digest) {
        lock(&self.0).retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            if watch.repository == *repository {
                lock(&watch.come).push(digest.clone());
            }
            true
        });
    }
}

impl Watch {
    /// In the order in which they came.
    pub(super) fn take(&self) -> Vec<Digest> {
        std::mem::take(&mut *lock(&self.come))
    }
}

/// What is locked here is changed by single calls, so a panic elsewhere can't leave it half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_watch_hears_of_its_repository_and_nothing_is_kept_without_one() {
        let (late, app): (_, RepositoryName) = (LateIndexes::default(), "app".parse().unwrap());
        let [one, two] = [b"1", b"2"].map(|content| Digest::sha256(content));
        let (watch, also) = (late.watch(&app), late.watch(&app));
        late.note(&app, &one);
        late.note(&"app/other".parse().unwrap(), &one);
        late.note(&app, &two);
        assert_eq!((watch.take(), watch.take()), (vec![one.clone(), two.clone()], vec![]));
        assert_eq!(also.take(), [one.clone(), two]);
        drop((watch, also));
        late.note(&app, &one);
        assert!(lock(&late.0).is_empty());
    }
}
