//! Copies what another registry keeps into this one's store, from either of two layouts.
//!
//! # Flow
//! Blobs first, then repository by repository: links to blobs, manifests, and tags last. Before anything is written, what
//! it points to is there: a manifest goes through [`Content::put_manifest`], which also enters it where it has to be
//! listed, and what it still lacks is copied before it is tried again. So the source may be written to meanwhile.
//!
//! # Guarantees
//! - Nothing in the target points to nothing, at any moment.
//! - Content is hashed on its way: what does not match its digest is told and left out, with what depends on it.
//! - A copy that was broken off goes on where it was: what is there with the right size, or as the same record, is
//!   looked at and left alone. Tags that have moved since are moved.
//! - Without `delete` nothing is removed. With it tags, manifests and links go that the source doesn't have (any more);
//!   blobs are garbage collection's business.
//! - Memory does not depend on what is stored.
//! - What a copy that was broken off leaves half-written is an abandoned upload, which a registry on the target removes
//!   in time.
//!
//! # Assumptions
//! - Nobody pushes to the target meanwhile: a tag would be taken for one that has moved in the source.

mod distribution;
mod own;
mod problem;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use self::distribution::Distribution;
use self::own::Own;
pub use self::problem::CopyProblem;
use self::source::{Listing, Source, SourceManifest};
use super::records::TagRecord;
use super::{CONCURRENT_READS, Content, ContentError, NewManifest, found, keys};
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};
use crate::policy::ImmutableTags;
use crate::registry::storage::{ObjectStore, StorageError};

/// Repositories that are copied at the same time.
const REPOSITORIES: usize = 4;
/// Indexes within indexes.
const MAX_NESTING: usize = 8;

/// What to copy.
#[derive(Clone)]
pub enum CopySource {
    /// Another store of ours.
    Registry(Arc<dyn ObjectStore>),
    /// What CNCF Distribution keeps below its root directory, which is where this store's keys begin.
    Distribution(Arc<dyn ObjectStore>),
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Whether to remove what the source doesn't have.
    pub delete: bool,
    /// Blobs that are on their way at the same time; each takes some memory, to S3 up to 60 MiB.
    pub parallel_blobs: usize,
}

/// How far a copy is. It may be read at any time.
#[derive(Debug, Default)]
pub struct CopyProgress {
    examined: AtomicU64,
    copied: AtomicU64,
    bytes: AtomicU64,
    removed: AtomicU64,
    problems: AtomicU64,
}

/// What came out, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Repositories, blobs, links, manifests and tags of the source that were looked at.
    pub examined: u64,
    /// Blobs, links, manifests and tags that were written to the target.
    pub copied: u64,
    /// Bytes of blobs that were read for that.
    pub bytes: u64,
    pub removed: u64,
    pub problems: u64,
}

impl CopyProgress {
    pub fn summary(&self) -> CopySummary {
        let Self { examined, copied, bytes, removed, problems } = self;
        let [examined, copied, bytes, removed, problems] =
            [examined, copied, bytes, removed, problems].map(|count| count.load(Ordering::Relaxed));
        CopySummary { examined, copied, bytes, removed, problems }
    }
}

impl Content {
    /// Copies everything from `source`. Each problem is told to `report` when it is found.
    ///
    /// Errors: if the source can't be listed, or the target can't be used; what can't be read is a problem.
    pub async fn copy_from(
        &self,
        source: CopySource,
        options: CopyOptions,
        progress: &Arc<CopyProgress>,
        report: &(dyn Fn(&CopyProblem) + Sync),
    ) -> Result<CopySummary, ContentError> {
        let source: Box<dyn Source> = match source {
            CopySource::Registry(store) => Box::new(Own::new(Content::new(store))),
            CopySource::Distribution(store) => Box::new(Distribution::new(Content::new(store))),
        };
        let copying = Copying {
            source: &*source,
            target: self,
            progress,
            report,
            blobs: Semaphore::new(options.parallel_blobs.max(1)),
            broken: Mutex::default(),
        };
        copying.run(options.delete).await?;
        Ok(progress.summary())
    }
}

/// What became of one thing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// The target has it.
    Held,
    /// The source doesn't.
    Gone,
    /// It has been told already why not.
    Broken,
}

/// Why something was not copied.
enum Fault {
    /// The copy goes on with the next.
    Problem(CopyProblem),
    /// There is no use in going on.
    Target(ContentError),
}

impl From<ContentError> for Fault {
    fn from(error: ContentError) -> Self {
        Fault::Target(error)
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Fault::Target(error.into())
    }
}

struct Copying<'a> {
    source: &'a dyn Source,
    target: &'a Content,
    progress: &'a Arc<CopyProgress>,
    report: &'a (dyn Fn(&CopyProblem) + Sync),
    /// A place for each blob that may be on its way.
    blobs: Semaphore,
    /// Blobs that can't be copied, so that each is read and told of once.
    broken: Mutex<HashSet<Digest>>,
}

impl Copying<'_> {
    async fn run(&self, delete: bool) -> Result<(), ContentError> {
        self.each(self.source.blobs(), CONCURRENT_READS, async |digest| self.blob(&digest).await.map(drop)).await?;
        let repositories = AtomicU64::new(0);
        let copy = async |repository| {
            repositories.fetch_add(1, Ordering::Relaxed);
            Ok(self.repository(&repository).await?)
        };
        self.each(self.source.repositories(), REPOSITORIES, copy).await?;
        match (delete, repositories.into_inner()) {
            (true, 0) => self.tell(&CopyProblem::EmptySource),
            (true, _) => self.remove_others().await?,
            (false, _) => {}
        }
        Ok(())
    }

    /// Does `work` with everything that is listed, several at a time.
    async fn each<T>(
        &self,
        listing: Listing<'_, T>,
        parallel: usize,
        work: impl AsyncFn(T) -> Result<(), Fault>,
    ) -> Result<(), ContentError> {
        let work = &work;
        let settled = listing.map(|listed| async move {
            let outcome = match listed? {
                Ok(thing) => work(thing).await,
                Err(path) => Err(Fault::Problem(CopyProblem::Stray { path })),
            };
            match outcome {
                Err(Fault::Target(error)) => return Err(error),
                Err(Fault::Problem(problem)) => self.tell(&problem),
                Ok(()) => {}
            }
            self.progress.examined.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        settled.buffer_unordered(parallel).try_collect().await
    }

    fn tell(&self, problem: &CopyProblem) {
        self.progress.problems.fetch_add(1, Ordering::Relaxed);
        (self.report)(problem);
    }

    fn count_copied(&self) {
        self.progress.copied.fetch_add(1, Ordering::Relaxed);
    }

    fn broken(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn blob(&self, digest: &Digest) -> Result<Done, Fault> {
        if self.broken().contains(digest) {
            return Ok(Done::Broken);
        }
        let copied = self.copy_blob(digest).await;
        if matches!(copied, Err(Fault::Problem(_))) && !self.broken().insert(digest.clone()) {
            return Ok(Done::Broken);
        }
        copied
    }

    async fn copy_blob(&self, digest: &Digest) -> Result<Done, Fault> {
        let (store, key) = (self.source.store(), self.source.blob(digest));
        let unreadable = |error: String| Fault::Problem(CopyProblem::unreadable(&key, error));
        let meta = match found(store.head(&key).await).map_err(|error| unreadable(error.to_string()))? {
            Some(meta) => meta,
            None => return Ok(Done::Gone),
        };
        let there = keys::blob(digest);
        match found(self.target.store.head(&there).await)? {
            Some(known) if known.size == meta.size => return Ok(Done::Held),
            // Not by us: what is published is whole.
            Some(_) => self.target.remove(&there).await.map(drop)?,
            None => {}
        }
        // The semaphore is never closed.
        let _place = self.blobs.acquire().await;
        let object = match found(store.get(&key, None).await).map_err(|error| unreadable(error.to_string()))? {
            Some(object) => object,
            None => return Ok(Done::Gone),
        };
        let progress = Arc::clone(self.progress);
        let counted = object.body.inspect_ok(move |piece| {
            progress.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        match self.target.store_blob(digest, counted.boxed()).await {
            Ok(()) => {
                self.count_copied();
                Ok(Done::Held)
            }
            Err(ContentError::DigestMismatch { actual, .. }) => {
                Err(Fault::Problem(CopyProblem::DamagedBlob { digest: digest.clone(), actual }))
            }
            Err(ContentError::Body(error)) => Err(unreadable(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    async fn repository(&self, repository: &RepositoryName) -> Result<(), ContentError> {
        let link = async |digest: Digest| self.link(repository, &digest).await;
        self.each(self.source.links(repository), CONCURRENT_READS, link).await?;
        let manifest = async |digest: Digest| self.manifest(repository, &digest, 0).await.map(drop);
        self.each(self.source.manifests(repository), CONCURRENT_READS, manifest).await?;
        let tag = async |tag: Tag| self.tag(repository, &tag).await;
        self.each(self.source.tags(repository), CONCURRENT_READS, tag).await
    }

    async fn link(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), Fault> {
        if self.target.exists(&keys::blob_link(repository, digest)).await? {
            return Ok(());
        }
        match self.blob(digest).await? {
            Done::Held => {
                self.target.link_blob(repository, digest).await?;
                self.count_copied();
                Ok(())
            }
            Done::Broken => Ok(()),
            Done::Gone if self.source.keeps_dead_links() => Ok(()),
            // Unless the link is gone too by now.
            Done::Gone => match self.source.holds_link(repository, digest).await {
                Ok(false) => Ok(()),
                _ => Err(Fault::Problem(CopyProblem::BlobMissing {
                    repository: repository.clone(),
                    digest: digest.clone(),
                })),
            },
        }
    }

    async fn manifest(&self, repository: &RepositoryName, digest: &Digest, nesting: usize) -> Result<Done, Fault> {
        if self.target.exists(&keys::manifest(repository, digest)).await? {
            return Ok(Done::Held);
        }
        let left_out = |reason: String| {
            let (repository, digest) = (repository.clone(), digest.clone());
            Fault::Problem(CopyProblem::ManifestLeftOut { repository, digest, reason })
        };
        let read = self.source.manifest(repository, digest).await.map_err(|error| left_out(error.to_string()))?;
        let Some(SourceManifest { manifest, bytes, pushed }) = read else { return Ok(Done::Gone) };
        let new = NewManifest {
            reference: Reference::Digest(digest.clone()),
            is_immutable: false,
            manifest: manifest.map_err(left_out)?,
            bytes,
            pusher: pushed.pushed_by,
            now: UNIX_EPOCH + Duration::from_secs(pushed.pushed_at),
            memory: None,
        };
        let mut stored = self.target.put_manifest(repository, new.clone()).await;
        if let Err(ContentError::ManifestBlobUnknown(missing)) = &stored {
            self.bring(repository, &new.manifest, missing, nesting).await?;
            stored = self.target.put_manifest(repository, new).await;
        }
        match stored {
            Ok(_) => {
                self.count_copied();
                Ok(Done::Held)
            }
            Err(error @ (ContentError::ManifestBlobUnknown(_) | ContentError::DigestMismatch { .. })) => {
                Err(left_out(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Copies what a manifest lacks in the target. What can't be had is seen when the manifest is tried again.
    async fn bring(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
        missing: &[Digest],
        nesting: usize,
    ) -> Result<(), Fault> {
        for digest in missing {
            let is_listed = manifest.manifests().iter().any(|child| child.digest == *digest);
            let brought = if is_listed && nesting < MAX_NESTING {
                Box::pin(self.manifest(repository, digest, nesting + 1)).await
            } else {
                Ok(Done::Gone)
            };
            let brought = match brought {
                Ok(Done::Gone) => match self.source.holds_link(repository, digest).await {
                    Ok(true) => self.link(repository, digest).await.map(|()| Done::Held),
                    _ => Ok(Done::Gone),
                },
                other => other,
            };
            if let Err(Fault::Target(error)) = brought {
                return Err(Fault::Target(error));
            }
        }
        Ok(())
    }

    async fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<(), Fault> {
        let read = async || {
            let unreadable =
                |error: ContentError| CopyProblem::unreadable(&format!("tag {tag} of {repository}"), error);
            self.source.tag(repository, tag).await.map_err(|error| Fault::Problem(unreadable(error)))
        };
        let mut read_before = None;
        loop {
            let Some(tagged) = read().await? else { return Ok(()) };
            let known = self.target.read_record::<TagRecord>(&keys::tag(repository, tag)).await;
            if known.is_ok_and(|known| known.as_ref() == Some(&tagged)) {
                return Ok(());
            }
            match self.manifest(repository, &tagged.digest, 0).await {
                Ok(Done::Held) => {
                    self.target.set_tag(repository, tag, &tagged).await?;
                    self.count_copied();
                    return Ok(());
                }
                Err(Fault::Target(error)) => return Err(Fault::Target(error)),
                // It may have moved, and the manifest that it left may be gone.
                _ if read_before.as_ref() != Some(&tagged) => read_before = Some(tagged),
                _ => {
                    let (repository, tag, digest) = (repository.clone(), tag.clone(), tagged.digest);
                    return Err(Fault::Problem(CopyProblem::TagLeftOut { repository, tag, digest }));
                }
            }
        }
    }

    /// Removes what the source doesn't have, tags first.
    async fn remove_others(&self) -> Result<(), ContentError> {
        let target = Own::new(self.target.clone());
        let remove = async |repository| Ok(self.remove_others_of(&target, &repository).await?);
        self.each_known(target.repositories(), remove).await
    }

    async fn remove_others_of(&self, target: &Own, repository: &RepositoryName) -> Result<(), ContentError> {
        let none = ImmutableTags::default();
        let tag = async |tag: Tag| {
            let is_held = self.source.tag(repository, &tag).await.map(|tagged| tagged.is_some());
            let what = format!("tag {tag} of {repository}");
            self.remove_unless(is_held, &what, async || self.target.delete_tag(repository, &tag, &none).await).await
        };
        self.each_known(target.tags(repository), tag).await?;
        let manifest = async |digest: Digest| {
            let is_held = self.source.holds_manifest(repository, &digest).await;
            let what = format!("manifest {digest} of {repository}");
            let remove = async || self.target.delete_manifest(repository, &digest, &none).await;
            self.remove_unless(is_held, &what, remove).await
        };
        self.each_known(target.manifests(repository), manifest).await?;
        let link = async |digest: Digest| {
            let is_held = self.source.holds_link(repository, &digest).await;
            let what = format!("blob {digest} of {repository}");
            self.remove_unless(is_held, &what, async || self.target.delete_blob(repository, &digest).await).await
        };
        self.each_known(target.links(repository), link).await
    }

    /// Does `work` with everything in the target that it can have by its name, one after the other.
    async fn each_known<T>(
        &self,
        mut listing: Listing<'_, T>,
        work: impl AsyncFn(T) -> Result<(), Fault>,
    ) -> Result<(), ContentError> {
        while let Some(listed) = listing.try_next().await? {
            let Ok(thing) = listed else { continue };
            match work(thing).await {
                Err(Fault::Target(error)) => return Err(error),
                Err(Fault::Problem(problem)) => self.tell(&problem),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// What can't be read in the source stays.
    async fn remove_unless(
        &self,
        is_held: Result<bool, ContentError>,
        what: &str,
        remove: impl AsyncFnOnce() -> Result<(), ContentError>,
    ) -> Result<(), Fault> {
        match is_held {
            Ok(false) => {
                remove().await?;
                self.progress.removed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(true) | Err(ContentError::Corrupt { .. }) => Ok(()),
            Err(error) => Err(Fault::Problem(CopyProblem::unreadable(&what, error))),
        }
    }
}
