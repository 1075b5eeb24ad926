//! The deletion of a whole repository: tags, manifests, referrers and links to blobs.
//!
//! # Flow
//! Tags first, then indexes, then all other manifests, then what else is there; the catalogue forgets the repository once
//! it holds no manifest. So nothing that is left at any moment points to what is gone, but for an index that another one
//! lists, and whoever asks for the deletion again goes on where it broke off.
//!
//! # Guarantees
//! - Pushes go on meanwhile. One that is acknowledged is whole, or wholly gone if it was acknowledged before the deletion
//!   ended: links are removed only while there is no manifest that could need them.
//! - Memory is that for a page of names. Other repositories wait for a few manifests at most.
//!
//! # In a store that others change too
//! There is no lock. After links have been removed this process looks whether a manifest has come, puts them back then and
//! begins anew; whoever pushes looks at his links after his last step. One of the two sees what the other has done.

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::keys::{self, Place};
use super::manifests::found_or_not;
use super::records::ManifestRecord;
use super::{CONCURRENT_READS, Content, ContentError, PAGE, absent};
use crate::oci::{Digest, MediaType, Reference, RepositoryName, Tag};
use crate::policy::ImmutableTags;
use crate::registry::storage::{Entry, Key, StorageError};

/// How often the work is begun anew because something was pushed meanwhile.
const ROUNDS: usize = 20;
/// Manifests that are removed while pushes to the repository wait.
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

    async fn remove_repository(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        if !self.holds_any(&keys::repository(repository)).await?
            && !self.exists(&keys::catalogue_entry(repository)).await?
        {
            return Err(ContentError::RepositoryUnknown);
        }
        // All of them are looked at before any of them goes.
        if !immutable.is_empty() {
            self.go_through_tags(repository, immutable, false).await?;
        }
        for _ in 0..ROUNDS {
            self.go_through_tags(repository, immutable, true).await?;
            // It would be read for each manifest.
            self.tagged.forget(repository.as_str());
            self.remove_manifests(repository, immutable, Which::Indexes).await?;
            self.remove_manifests(repository, immutable, Which::All).await?;
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
            self.check_none_immutable(repository, &tags, immutable).await?;
            if removing {
                self.remove_tags(repository, &tags).await?;
            }
            match tags.into_iter().next_back() {
                Some(last) if more => after = Some(last),
                _ => return Ok(()),
            }
        }
    }

    async fn check_none_immutable(
        &self,
        repository: &RepositoryName,
        tags: &[Tag],
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        for tag in tags.iter().filter(|tag| immutable.contains(tag)) {
            // It may be gone by now.
            self.check_immutable(repository, tag, None).await?;
        }
        Ok(())
    }

    async fn remove_tags(&self, repository: &RepositoryName, tags: &[Tag]) -> Result<(), ContentError> {
        let _change = self.hot.change(repository, tags.iter().cloned().map(Reference::Tag).collect());
        self.remove_all(tags.iter().map(|tag| keys::tag(repository, tag)).collect()).await
    }

    async fn remove_all(&self, keys: Vec<Key>) -> Result<(), ContentError> {
        let remove = |key: Key| async move { self.remove(&key).await.map(drop) };
        futures::stream::iter(keys).map(remove).buffer_unordered(CONCURRENT_READS).try_collect().await
    }

    async fn remove_manifests(
        &self,
        repository: &RepositoryName,
        immutable: &ImmutableTags,
        which: Which,
    ) -> Result<(), ContentError> {
        let mut after = None;
        loop {
            let (records, more) = self.list_objects(&keys::manifests(repository), after.as_ref(), PAGE).await?;
            for batch in records.chunks(BATCH) {
                self.learn_tagged(repository).await?;
                let lock = self.repository_lock(repository);
                let _alone = if self.store.is_shared() { None } else { Some(lock.write().await) };
                let remove = |key: Key| async move { self.remove_if(repository, &key, immutable, which).await };
                let removed = futures::stream::iter(batch.to_vec()).map(remove).buffer_unordered(CONCURRENT_READS);
                removed.try_collect::<()>().await?;
            }
            after = records.into_iter().next_back().filter(|_| more);
            if after.is_none() {
                return Ok(());
            }
        }
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
        if which == Which::Indexes && !self.is_index(record).await? {
            return Ok(());
        }
        found_or_not(self.remove_manifest(repository, &digest, immutable).await)
    }

    async fn is_index(&self, record: &Key) -> Result<bool, ContentError> {
        let record: Option<ManifestRecord> = self.read_record(record).await?;
        Ok(record.is_some_and(|record| INDEXES.contains(&record.media_type.as_str())))
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
            let page = self.store.list(&keys::repository(repository), after.as_deref(), PAGE, false).await?;
            after = page.entries.last().map(|entry| entry.as_str().to_owned());
            if !self.remove_places(repository, page.entries).await? {
                return Ok(false);
            }
            if !page.more {
                return Ok(true);
            }
        }
    }

    /// Removes tags, referrers and links. False if links were put back, because a manifest has come.
    async fn remove_places(&self, repository: &RepositoryName, entries: Vec<Entry>) -> Result<bool, ContentError> {
        let (mut others, mut tags): (Vec<Key>, Vec<Tag>) = (Vec::new(), Vec::new());
        let mut links: Vec<Digest> = Vec::new();
        for entry in entries {
            let Entry::Object(key) = entry else { continue };
            match Place::of(&key) {
                Some(Place::Tag(_, tag)) => tags.push(tag),
                Some(Place::BlobLink(_, digest)) => links.push(digest),
                Some(Place::Referrer(..)) => others.push(key),
                // A manifest that has just come, or something that is not ours.
                Some(Place::Manifest(..) | Place::Blob(_) | Place::CatalogueEntry(_)) | None => {}
            }
        }
        self.remove_tags(repository, &tags).await?;
        self.remove_all(others).await?;
        self.remove_all(links.iter().map(|digest| keys::blob_link(repository, digest)).collect()).await?;
        if self.store.is_shared() && self.holds_any(&keys::manifests(repository)).await? {
            let link = |digest| absent(keys::blob_link(repository, digest), Bytes::new());
            self.store.put_all(links.iter().map(link).collect()).await?;
            return Ok(false);
        }
        Ok(true)
    }
}
