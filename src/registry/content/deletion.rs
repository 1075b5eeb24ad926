//! The deletion of a whole repository: tags, manifests, referrers and links to blobs.
//!
//! # Flow
//! Tags first, then indexes, then all other manifests, then what else is there; the catalogue forgets the repository once
//! it holds no manifest. So nothing that is left at any moment points to what is gone, but for an index that another one
//! lists, and whoever asks for the deletion again goes on where it broke off.
//!
//! # Guarantees
//! - Pushes go on meanwhile. One that is acknowledged is whole, or wholly gone if it was acknowledged before the deletion
//!   ended: links are removed only while there is no manifest that could need them, and an index that has come goes before
//!   what it lists. Only a crash can come in between.
//! - An immutable tag that is pushed meanwhile ends the deletion, and what it points to stays whole. What went before it is
//!   gone.
//! - Memory is that for a page of names. Other repositories wait for the removal of a few objects at most.
//!
//! # In a store that others change too
//! There is no lock. After links have been removed this process looks whether a manifest has come, puts them back then and
//! begins anew; whoever pushes looks at his links after his last step. One of the two sees what the other has done. The
//! same goes for immutable tags, and for the images that an index with such a tag lists. Of other indexes this process
//! knows only those that it takes itself: one that another process takes may be without what it lists if the deletion then
//! breaks off, until that is asked for again.

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::keys::{self, Place};
use super::late_indexes::Watch;
use super::manifests::found_or_not;
use super::records::ManifestRecord;
use super::tags::Pointer;
use super::{CONCURRENT_READS, Content, ContentError, PAGE, absent, record};
use crate::oci::{Digest, Manifest, MediaType, RepositoryName};
use crate::policy::ImmutableTags;
use crate::registry::storage::{Condition, Entry, Key, Put, StorageError};

/// How often the work is begun anew because something was pushed meanwhile.
const ROUNDS: usize = 20;
/// Objects that are removed while pushes to the repository wait.
const BATCH: usize = 64;
const INDEXES: [&str; 2] = [MediaType::OCI_INDEX, MediaType::DOCKER_LIST];

/// What is removed of the manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Indexes,
    All,
}

impl Content {
    /// Deletes a repository with everything in it. Content of blobs is garbage collection's business.
    ///
    /// Errors: [`RepositoryUnknown`](ContentError::RepositoryUnknown), [`TagImmutable`](ContentError::TagImmutable) if it
    /// has one of `immutable`: then nothing is removed, unless the tag was pushed just now.
    pub async fn delete_repository(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        let (repository, immutable) = (repository.clone(), immutable.clone());
        self.detached(|content| async move { content.remove_repository(&repository, &immutable).await }.boxed()).await
    }

    /// Whether a repository is there to be deleted, and has no tag that has to stay. Nothing is removed.
    ///
    /// Errors: those of [`delete_repository`](Content::delete_repository).
    pub async fn check_deletion(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        if !self.holds_any(&keys::repository(repository)).await?
            && !self.exists(&keys::catalogue_entry(repository)).await?
        {
            return Err(ContentError::RepositoryUnknown);
        }
        if !immutable.is_empty() {
            self.go_through_tags(repository, immutable, false).await?;
        }
        Ok(())
    }

    async fn remove_repository(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        // All tags are looked at before any of them goes.
        self.check_deletion(repository, immutable).await?;
        let late = self.late_indexes.watch(repository);
        for _ in 0..ROUNDS {
            self.go_through_tags(repository, immutable, true).await?;
            // It would be read for each manifest.
            self.tagged.forget(repository.as_str());
            self.remove_manifests(repository, immutable, Which::Indexes, &late).await?;
            self.remove_manifests(repository, immutable, Which::All, &late).await?;
            if self.remove_rest(repository).await? {
                return Ok(());
            }
        }
        let source = "it is pushed to again and again".into();
        Err(StorageError::Unavailable { action: "delete a repository", source }.into())
    }

    /// Makes sure that none of the tags is immutable, and perhaps removes them.
    async fn go_through_tags(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
        removing: bool,
    ) -> Result<(), ContentError> {
        let mut after = None;
        loop {
            let (tags, more) = self.list_tags_of_any(repository, after.as_ref()).await?;
            after = tags.last().cloned().filter(|_| more);
            let tags = tags.into_iter().filter(|tag| removing || immutable.contains(tag)).collect();
            let mut pointers = self.look_at(repository, tags).await?;
            if let Some(at) = pointers.iter().position(|pointer| immutable.contains(&pointer.tag)) {
                let Pointer { tag, digest, .. } = pointers.swap_remove(at);
                return Err(ContentError::TagImmutable { tag, digest });
            }
            // One that is moved after that has a manifest that may stay.
            self.remove_pointers(repository, pointers, &mut self.hot.change(repository, vec![])).await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn remove_manifests(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
        which: Which,
        late: &Watch,
    ) -> Result<(), ContentError> {
        let mut after = None;
        loop {
            let (records, more) = self.list_objects(&keys::manifests(repository), after.as_ref(), PAGE).await?;
            for batch in records.chunks(BATCH) {
                self.learn_tagged(repository).await?;
                let lock = self.repository_lock(repository);
                let _alone = if self.store.is_shared() { None } else { Some(lock.write().await) };
                self.remove_late_indexes(repository, immutable, late).await?;
                self.remove_batch(repository, immutable, which, batch).await?;
            }
            after = records.into_iter().next_back().filter(|_| more);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Removes the indexes that have come, unless something has that is immutable: then nothing may go any more.
    async fn remove_late_indexes(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
        late: &Watch,
    ) -> Result<(), ContentError> {
        if !immutable.is_empty() {
            self.go_through_tags(repository, immutable, false).await?;
        }
        // One that lists another has come after that.
        for digest in late.take().into_iter().rev() {
            found_or_not(self.remove_manifest(repository, &digest, immutable).await)?;
        }
        Ok(())
    }

    /// The caller excludes pushes to the repository by this process, if there is no other.
    async fn remove_batch(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
        which: Which,
        batch: &[Key],
    ) -> Result<(), ContentError> {
        let may_have_to_stay = which == Which::All && self.store.is_shared() && !immutable.is_empty();
        let images = if may_have_to_stay { self.images_of(batch).await? } else { vec![] };
        let remove = |key: Key| async move { self.remove_if(repository, &key, immutable, which).await };
        let removed = all(batch.to_vec(), remove).await;
        if !images.is_empty()
            && let Err(error) = self.go_through_tags(repository, immutable, false).await
        {
            for (digest, record) in images {
                self.put_back(repository, &digest, &record).await?;
            }
            return Err(error);
        }
        removed
    }

    /// The records of the images among these. An index may have lost by now what it lists.
    async fn images_of(&self, records: &[Key]) -> Result<Vec<(Digest, ManifestRecord)>, ContentError> {
        let read = |key: Key| async move {
            let record: Option<ManifestRecord> = self.read_record(&key).await?;
            let image = record.filter(|record| !is_index(record));
            Ok::<_, ContentError>(keys::digest_of(&key).zip(image))
        };
        let read = futures::stream::iter(records.to_vec()).map(read).buffer_unordered(CONCURRENT_READS);
        read.try_filter_map(|image| async move { Ok(image) }).try_collect().await
    }

    async fn put_back(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        stored: &ManifestRecord,
    ) -> Result<(), ContentError> {
        let Some(bytes) = self.read_small(&keys::blob(digest)).await? else { return Ok(()) };
        if let Ok(media_type) = stored.media_type.parse()
            && let Ok(manifest) = Manifest::parse(&media_type, &bytes)
        {
            self.store.put_all(self.listings(repository, digest, &manifest, &bytes)?).await?;
        }
        let put = record(keys::manifest(repository, digest), stored)?;
        Ok(self.store.put_all(vec![Put { condition: Condition::IfAbsent, ..put }]).await?)
    }

    /// The caller excludes pushes to the repository by this process, if there is no other.
    async fn remove_if(
        &self,
        repository: &RepositoryName,
        record: &Key,
        immutable: &ImmutableTags,
        which: Which,
    ) -> Result<(), ContentError> {
        let Some(digest) = keys::digest_of(record) else { return Ok(()) };
        if which == Which::Indexes && !self.read_record(record).await?.is_some_and(|record| is_index(&record)) {
            return Ok(());
        }
        found_or_not(self.remove_manifest(repository, &digest, immutable).await)
    }

    /// Removes what is left of a repository without manifests. False if one has come.
    async fn remove_rest(&self, repository: &RepositoryName) -> Result<bool, ContentError> {
        let mut after: Option<String> = None;
        loop {
            let lock = self.repository_lock(repository);
            let _alone = if self.store.is_shared() { None } else { Some(lock.write().await) };
            self.remove_from_catalogue_if_empty(repository).await?;
            if self.holds_any(&keys::manifests(repository)).await? {
                return Ok(false);
            }
            let page = self.store.list(&keys::repository(repository), after.as_deref(), BATCH, false).await?;
            after = page.entries.last().map(|entry| entry.as_str().to_owned());
            if !self.remove_places(repository, page.entries).await? {
                return Ok(false);
            }
            if !page.more {
                return Ok(true);
            }
        }
    }

    /// Removes tags, referrers and links. False if they were put back, because a manifest has come.
    async fn remove_places(&self, repository: &RepositoryName, entries: Vec<Entry>) -> Result<bool, ContentError> {
        let (mut referrers, mut tags) = (Vec::new(), Vec::new());
        let mut links: Vec<Digest> = Vec::new();
        for entry in entries {
            let Entry::Object(key) = entry else { continue };
            match Place::of(&key) {
                Some(Place::Tag(_, tag)) => tags.push(tag),
                Some(Place::BlobLink(_, digest)) => links.push(digest),
                Some(Place::Referrer(_, _, digest)) => referrers.push((key, keys::manifest(repository, &digest))),
                // A manifest that has just come, or something that is not ours.
                Some(Place::Manifest(..) | Place::Blob(_) | Place::CatalogueEntry(_)) | None => {}
            }
        }
        let pointers = self.look_at(repository, tags).await?;
        all(pointers, |pointer| async move { self.remove_pointer_to_nothing(repository, pointer).await }).await?;
        all(referrers, |(entry, manifest)| async move { self.remove_referrer(&entry, &manifest).await }).await?;
        let link = |digest| keys::blob_link(repository, digest);
        let removed =
            all(links.iter().map(link).collect(), |key| async move { self.remove(&key).await.map(drop) }).await;
        if !self.store.is_shared() {
            return removed.map(|()| true);
        }
        // Also after an error: who has pushed meanwhile may have looked before they went. In doubt they are needed.
        let has_come = self.holds_any(&keys::manifests(repository)).await;
        if !matches!(has_come, Ok(false)) {
            self.store.put_all(links.iter().map(|digest| absent(link(digest), Bytes::new())).collect()).await?;
        }
        removed?;
        has_come.map(|has_come| !has_come)
    }

    /// Unless the manifest is there by then.
    async fn remove_pointer_to_nothing(
        &self,
        repository: &RepositoryName,
        pointer: Pointer,
    ) -> Result<(), ContentError> {
        let tag = absent(keys::tag(repository, &pointer.tag), pointer.content.clone());
        let manifest = keys::manifest(repository, &pointer.digest);
        let mut change = self.hot.change(repository, vec![]);
        let removed = self.remove_pointers(repository, vec![pointer], &mut change).await;
        let may_be_gone = removed.as_ref().map_or(true, |removed| !removed.is_empty());
        if self.store.is_shared() && may_be_gone && self.exists(&manifest).await? {
            self.store.put_all(vec![tag]).await?;
        }
        removed.map(drop)
    }
}

fn is_index(record: &ManifestRecord) -> bool {
    INDEXES.contains(&record.media_type.as_str())
}

/// Does the same to each, a few at a time, and to the others too if it fails with one: what is broken off in the middle
/// may be done after whoever looks again has looked.
async fn all<T, F: Future<Output = Result<(), ContentError>>>(
    each: Vec<T>,
    work: impl FnMut(T) -> F,
) -> Result<(), ContentError> {
    let done: Vec<_> = futures::stream::iter(each).map(work).buffer_unordered(CONCURRENT_READS).collect().await;
    done.into_iter().collect()
}
