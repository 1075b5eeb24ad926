//! Tags: one object each, so that two pushes at once can't lose one.
//!
//! # Which tags point to a manifest
//! A manifest takes its tags along when it is deleted, and must not read all of the repository's for that each time. So
//! the first deletion in a repository remembers of each tag what it points to, as a name `<digest>/<tag>`, and pushes
//! add to that when they have written, before a deletion may go on. Nothing is taken away when a tag moves or goes, so
//! what is remembered may be too much but never too little; the deletion reads the few tags in question. An index in
//! the store would cost each push a write more.
//!
//! # Immutable tags
//! Which they are is policy, and comes from the caller. A tag of these is written only where there is none, which the
//! store decides: of any number of pushes at once, by any number of processes, one wins. A process whose policy is older
//! than another's goes by what it has. In a store that others change too, a tag that is being pushed for the first time
//! may go together with its manifest if that is deleted at the same moment by another process.
//!
//! # In a store that others change too
//! Nothing is remembered, and a deletion reads all of the repository's tags, twice. It removes a tag only as it was when
//! it looked at it: one that has been moved meanwhile stays, as far as the store compares versions itself.

use std::ops::Bound;

use futures::{FutureExt, StreamExt, TryStreamExt};

use super::hot::Change;
use super::records::TagRecord;
use super::{CONCURRENT_READS, Content, ContentError, PAGE, absent, found, keys, record, whole};
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::policy::ImmutableTags;
use crate::registry::names::Reading;
use crate::registry::storage::{Condition, DeleteCondition, Put, StorageError, Version};

impl Content {
    /// At most `limit` tags behind `after`, and whether there are more.
    ///
    /// They are in "case-insensitive alphanumeric order" (distribution-spec, "Listing Tags"); those that differ by
    /// case only are in an order that stays the same.
    ///
    /// Errors: [`RepositoryUnknown`](ContentError::RepositoryUnknown) if the repository holds nothing at all.
    pub async fn list_tags(
        &self,
        repository: &RepositoryName,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<(Vec<Tag>, bool), ContentError> {
        let after = after.map(|tag| keys::tag(repository, tag));
        let (listed, more) = self.list_objects(&keys::tags(repository), after.as_ref(), limit).await?;
        if listed.is_empty() && !more && !self.holds_any(&keys::repository(repository)).await? {
            return Err(ContentError::RepositoryUnknown);
        }
        // Without a last tag there is nothing to go on from.
        Ok((listed.iter().filter_map(keys::tag_of).collect(), more && limit > 0))
    }

    /// Errors: [`ManifestUnknown`](ContentError::ManifestUnknown) if there is no such tag,
    /// [`TagImmutable`](ContentError::TagImmutable) if it is one of `immutable`.
    pub async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        if immutable.contains(tag) {
            self.check_immutable(repository, tag, None).await?;
            return Err(ContentError::ManifestUnknown);
        }
        let (repository, tag) = (repository.clone(), tag.clone());
        self.detached(|content| {
            async move {
                let _change = content.hot.change(&repository, vec![Reference::Tag(tag.clone())]);
                match content.remove(&keys::tag(&repository, &tag)).await? {
                    true => Ok(()),
                    false => Err(ContentError::ManifestUnknown),
                }
            }
            .boxed()
        })
        .await
    }

    pub(super) async fn tagged_digest(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<Digest>, ContentError> {
        let record: Option<TagRecord> = self.read_record(&keys::tag(repository, tag)).await?;
        Ok(record.map(|record| record.digest))
    }

    /// Whether an immutable tag may come to point to `digest`, or to nothing: not if it points elsewhere.
    pub(super) async fn check_immutable(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Option<&Digest>,
    ) -> Result<(), ContentError> {
        match self.tagged_digest(repository, tag).await? {
            Some(known) if digest != Some(&known) => {
                Err(ContentError::TagImmutable { tag: tag.clone(), digest: known })
            }
            _ => Ok(()),
        }
    }

    /// Errors: [`TagImmutable`](ContentError::TagImmutable) if the tag has to stay where it is, and that is elsewhere.
    pub(super) async fn write_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        tagged: &TagRecord,
        is_immutable: bool,
    ) -> Result<(), ContentError> {
        let put = record(keys::tag(repository, tag), tagged)?;
        if !is_immutable {
            return Ok(self.store.put_all(vec![put]).await?);
        }
        loop {
            match self.store.put(&put.key, put.content.clone(), Condition::IfAbsent).await {
                Err(StorageError::PreconditionFailed(_)) => {}
                other => return Ok(other.map(drop)?),
            }
            match self.tagged_digest(repository, tag).await? {
                Some(known) if known == tagged.digest => return Ok(()),
                Some(digest) => return Err(ContentError::TagImmutable { tag: tag.clone(), digest }),
                // Gone since: another process did not know yet that it is immutable.
                None => {}
            }
        }
    }

    /// Points a tag to a manifest that the repository holds.
    pub(super) async fn set_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        tagged: &TagRecord,
    ) -> Result<(), ContentError> {
        let _no_deletion = self.repository_lock(repository).read().await;
        let _change = self.hot.change(repository, vec![Reference::Tag(tag.clone())]);
        let written = self.write_tag(repository, tag, tagged, false).await;
        self.note_tagged(repository, tag, &tagged.digest);
        written
    }

    /// To be called after a tag was written, or may have been. The caller excludes deletions of manifests of the
    /// repository until then.
    pub(super) fn note_tagged(&self, repository: &RepositoryName, tag: &Tag, digest: &Digest) {
        self.tagged.change(repository.as_str(), &tagged(digest, tag), true);
    }

    /// Reads the repository's tags, unless it is known what they point to, or others change them too. Pushes go on
    /// meanwhile.
    pub(super) async fn learn_tagged(&self, repository: &RepositoryName) -> Result<(), ContentError> {
        if !self.store.is_shared()
            && let Some(mut reading) = self.tagged.begin(repository.as_str())
            && self.read_tagged(repository, &mut reading).await?
        {
            reading.finish();
        }
        Ok(())
    }

    /// False if there are too many tags to remember them.
    async fn read_tagged(&self, repository: &RepositoryName, reading: &mut Reading<'_>) -> Result<bool, ContentError> {
        let mut after = None;
        loop {
            let (tags, more) = self.list_tags_of_any(repository, after.as_ref()).await?;
            let read = |tag: Tag| async move {
                let digest = self.tagged_digest(repository, &tag).await?;
                Ok::<_, ContentError>((digest, tag))
            };
            let mut read = futures::stream::iter(tags.clone()).map(read).buffer_unordered(CONCURRENT_READS);
            while let Some((digest, tag)) = read.try_next().await? {
                if digest.is_some_and(|digest| !reading.add(&tagged(&digest, &tag))) {
                    return Ok(false);
                }
            }
            match tags.into_iter().next_back() {
                Some(last) if more => after = Some(last),
                _ => return Ok(true),
            }
        }
    }

    /// The tags that point to a manifest now.
    pub(super) async fn pointers_to(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Pointer>, ContentError> {
        let points_to_it = |pointer: &Pointer| pointer.digest == *digest;
        if let Some(tags) = self.known_tags_of(repository, digest) {
            return Ok(self.look_at(repository, tags).await?.into_iter().filter(points_to_it).collect());
        }
        let (mut pointers, mut after) = (Vec::new(), None);
        loop {
            let (tags, more) = self.list_tags_of_any(repository, after.as_ref()).await?;
            after = tags.last().cloned().filter(|_| more);
            pointers.extend(self.look_at(repository, tags).await?.into_iter().filter(points_to_it));
            if after.is_none() {
                return Ok(pointers);
            }
        }
    }

    /// What those of `tags` that are still there point to.
    pub(super) async fn look_at(
        &self,
        repository: &RepositoryName,
        tags: Vec<Tag>,
    ) -> Result<Vec<Pointer>, ContentError> {
        let look = |tag: Tag| async move {
            let key = keys::tag(repository, &tag);
            let Some(object) = found(self.store.get(&key, None).await)? else { return Ok(None) };
            let version = object.meta.version.clone();
            let content = whole(object).await?;
            let record = serde_json::from_slice(&content);
            let record: TagRecord = record.map_err(|source| ContentError::Corrupt { key, source })?;
            Ok::<_, ContentError>(Some(Pointer { tag, digest: record.digest, version, content }))
        };
        futures::stream::iter(tags)
            .map(look)
            .buffered(CONCURRENT_READS)
            .try_filter_map(|pointer| async move { Ok(pointer) })
            .try_collect()
            .await
    }

    /// The tags that may point to the manifest, if that is known.
    fn known_tags_of(&self, repository: &RepositoryName, digest: &Digest) -> Option<Vec<Tag>> {
        let start = format!("{digest}/");
        self.tagged.with(repository.as_str(), |names| {
            let of_digest = names
                .range::<str, _>((Bound::Included(&*start), Bound::Unbounded))
                .map_while(|name| name.strip_prefix(&*start));
            of_digest.filter_map(|tag| tag.parse().ok()).collect()
        })
    }

    /// Removes tags, but not those that have been moved since they were looked at. Gives back what it has removed.
    pub(super) async fn remove_pointers(
        &self,
        repository: &RepositoryName,
        pointers: Vec<Pointer>,
        change: &mut Change,
    ) -> Result<Vec<Put>, ContentError> {
        pointers.iter().for_each(|pointer| change.also(Reference::Tag(pointer.tag.clone())));
        let remove = |Pointer { tag, digest, version, content }: Pointer| async move {
            let key = keys::tag(repository, &tag);
            match self.store.delete(&key, DeleteCondition::IfVersion(version)).await {
                Err(StorageError::NotFound(_) | StorageError::PreconditionFailed(_)) => Ok(None),
                Err(error) => Err(ContentError::from(error)),
                Ok(()) => {
                    self.tagged.change(repository.as_str(), &tagged(&digest, &tag), false);
                    Ok(Some(absent(key, content)))
                }
            }
        };
        futures::stream::iter(pointers)
            .map(remove)
            .buffer_unordered(CONCURRENT_READS)
            .try_filter_map(|removed| async move { Ok(removed) })
            .try_collect()
            .await
    }

    /// A page of tags, none if there is no such repository.
    pub(super) async fn list_tags_of_any(
        &self,
        repository: &RepositoryName,
        after: Option<&Tag>,
    ) -> Result<(Vec<Tag>, bool), ContentError> {
        let after = after.map(|tag| keys::tag(repository, tag));
        let (listed, more) = self.list_objects(&keys::tags(repository), after.as_ref(), PAGE).await?;
        Ok((listed.iter().filter_map(keys::tag_of).collect(), more))
    }
}

/// A tag that points to a manifest, as it was when it was looked at.
pub(super) struct Pointer {
    pub tag: Tag,
    pub digest: Digest,
    version: Version,
    pub content: bytes::Bytes,
}

fn tagged(digest: &Digest, tag: &Tag) -> String {
    format!("{digest}/{tag}")
}
