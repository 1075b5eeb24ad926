//! Manifests that are pulled again and again, in memory.
//!
//! # Guarantees
//! - *Never stale* as long as nobody else changes the store: once a change has been reported as done, no reader gets what was there before it. Whoever changes a
//!   repository holds a [`Change`] meanwhile, and what was read while one ended is not kept.
//! - *Bounded*: by the bytes of the manifests and of what names them.
//!
//! - *In a store that others change too*: no older than the age that is given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

use super::{ContentError, StoredManifest};
use crate::oci::{Reference, RepositoryName};

/// Enough that repositories seldom wait for each other.
const STRIPES: usize = 64;
/// What an entry takes besides the manifest's bytes and its names.
const OVERHEAD: usize = 512;

type Name = (RepositoryName, Reference);

/// Clones share what they hold.
#[derive(Clone)]
pub(super) struct Hot {
    manifests: Cache<Name, Arc<StoredManifest>>,
    /// How many changes have ended, for the repositories that share a stripe.
    changes: Arc<[Mutex<u64>; STRIPES]>,
}

impl Hot {
    /// Holds about `capacity` bytes, each for at most `age` if one is given; with 0 nothing.
    pub(super) fn new(capacity: u64, age: Option<Duration>) -> Self {
        let weight = |(repository, _): &Name, manifest: &Arc<StoredManifest>| {
            let weight = OVERHEAD + repository.as_str().len() + manifest.bytes.len();
            u32::try_from(weight).unwrap_or(u32::MAX)
        };
        let capacity = if age == Some(Duration::ZERO) { 0 } else { capacity };
        let manifests = Cache::builder().max_capacity(capacity).weigher(weight);
        Self {
            manifests: age.into_iter().fold(manifests, |manifests, age| manifests.time_to_live(age)).build(),
            changes: Arc::new(std::array::from_fn(|_| Mutex::default())),
        }
    }

    /// The manifest, from memory or by `load`.
    pub(super) async fn get(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        load: impl Future<Output = Result<StoredManifest, ContentError>>,
    ) -> Result<Arc<StoredManifest>, ContentError> {
        let name = (repository.clone(), reference.clone());
        if let Some(manifest) = self.manifests.get(&name) {
            return Ok(manifest);
        }
        let before = *self.changes(repository);
        let manifest = Arc::new(load.await?);
        let changes = self.changes(repository);
        if *changes == before {
            self.manifests.insert(name, Arc::clone(&manifest));
        }
        drop(changes);
        Ok(manifest)
    }

    /// To be held while what these references stand for changes.
    pub(super) fn change(&self, repository: &RepositoryName, references: Vec<Reference>) -> Change {
        Change { hot: self.clone(), repository: repository.clone(), references }
    }

    fn changes(&self, repository: &RepositoryName) -> MutexGuard<'_, u64> {
        self.changes[super::stripe(repository, STRIPES)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change under way. When it is dropped, what it was about is forgotten, however it went.
pub(super) struct Change {
    hot: Hot,
    repository: RepositoryName,
    references: Vec<Reference>,
}

impl Change {
    /// The change is about this too.
    pub(super) fn also(&mut self, reference: Reference) {
        self.references.push(reference);
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let mut changes = self.hot.changes(&self.repository);
        *changes += 1;
        for reference in self.references.drain(..) {
            self.hot.manifests.invalidate(&(self.repository.clone(), reference));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn manifest(content: &str) -> StoredManifest {
        let bytes = bytes::Bytes::from(content.to_owned());
        let media_type = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
        StoredManifest { digest: Digest::sha256(&bytes), media_type, bytes }
    }

    async fn get(hot: &Hot, content: &str) -> StoredManifest {
        let load = async { Ok(manifest(content)) };
        (*hot.get(&"app".parse().unwrap(), &"v1".parse().unwrap(), load).await.unwrap()).clone()
    }

    fn change(hot: &Hot, tag: &str) -> Change {
        hot.change(&"app".parse().unwrap(), vec![tag.parse().unwrap()])
    }

    #[tokio::test]
    async fn gives_what_it_holds_until_that_changes() {
        let hot = Hot::new(1_000_000, None);
        assert_eq!(get(&hot, "old").await, manifest("old"));
        assert_eq!(get(&hot, "new").await, manifest("old"));
        drop(change(&hot, "v2"));
        assert_eq!(get(&hot, "new").await, manifest("old"));
        drop(change(&hot, "v1"));
        assert_eq!(get(&hot, "new").await, manifest("new"));
    }

    #[tokio::test]
    async fn keeps_nothing_that_was_read_while_a_change_ended() {
        let hot = Hot::new(1_000_000, None);
        let under_way = change(&hot, "v1");
        let load = async {
            drop(under_way);
            Ok(manifest("old"))
        };
        hot.get(&"app".parse().unwrap(), &"v1".parse().unwrap(), load).await.unwrap();
        assert_eq!(get(&hot, "new").await, manifest("new"));
    }

    #[tokio::test]
    async fn holds_no_more_than_it_may() {
        let hot = Hot::new(10_000, None);
        for number in 0..100 {
            let reference = format!("v{number}").parse().unwrap();
            hot.get(&"app".parse().unwrap(), &reference, async { Ok(manifest(&"x".repeat(1000))) }).await.unwrap();
        }
        hot.manifests.run_pending_tasks();
        assert!((1..=10_000).contains(&hot.manifests.weighted_size()), "{}", hot.manifests.weighted_size());
    }
}
