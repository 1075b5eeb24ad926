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

use std::ops::Bound;

use futures::{FutureExt, StreamExt, TryStreamExt};

use super::hot::Change;
use super::records::TagRecord;
use super::{CONCURRENT_READS, Content, ContentError, PAGE, keys, record};
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::policy::ImmutableTags;
use crate::registry::names::Reading;
use crate::registry::storage::{Condition, StorageError};

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

    /// The caller excludes pushes to the repository.
    pub(super) async fn check_no_immutable_tag(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        if immutable.is_empty() {
            return Ok(());
        }
        let check = |tags: Vec<Tag>| async move {
            let read = |tag: Tag| async move {
                match self.tagged_digest(repository, &tag).await? {
                    Some(known) if known == *digest => Err(ContentError::TagImmutable { tag, digest: known }),
                    _ => Ok(()),
                }
            };
            let tags = tags.into_iter().filter(|tag| immutable.contains(tag));
            futures::stream::iter(tags).map(read).buffered(CONCURRENT_READS).try_collect::<()>().await
        };
        if let Some(tags) = self.known_tags_of(repository, digest) {
            return check(tags).await;
        }
        let mut after = None;
        loop {
            let (tags, more) = self.list_tags_of_any(repository, after.as_ref()).await?;
            after = tags.last().cloned().filter(|_| more);
            check(tags).await?;
            if after.is_none() {
                return Ok(());
            }
        }
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

    /// The caller excludes pushes to the repository.
    pub(super) async fn remove_tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        change: &mut Change,
    ) -> Result<(), ContentError> {
        if let Some(tags) = self.known_tags_of(repository, digest) {
            self.remove_those_of(repository, digest, &tags, change).await?;
            tags.iter().for_each(|tag| self.tagged.change(repository.as_str(), &tagged(digest, tag), false));
            return Ok(());
        }
        let mut after = None;
        loop {
            let (tags, more) = self.list_tags_of_any(repository, after.as_ref()).await?;
            self.remove_those_of(repository, digest, &tags, change).await?;
            match tags.into_iter().next_back() {
                Some(last) if more => after = Some(last),
                _ => return Ok(()),
            }
        }
    }

    /// Removes those of `tags` that point to `digest`.
    async fn remove_those_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tags: &[Tag],
        change: &mut Change,
    ) -> Result<(), ContentError> {
        tags.iter().for_each(|tag| change.also(Reference::Tag(tag.clone())));
        let remove = |tag: Tag| async move {
            if self.tagged_digest(repository, &tag).await?.as_ref() == Some(digest) {
                self.remove(&keys::tag(repository, &tag)).await?;
            }
            Ok(())
        };
        futures::stream::iter(tags.to_vec()).map(remove).buffer_unordered(CONCURRENT_READS).try_collect().await
    }

    /// A page of tags, none if there is no such repository.
    async fn list_tags_of_any(
        &self,
        repository: &RepositoryName,
        after: Option<&Tag>,
    ) -> Result<(Vec<Tag>, bool), ContentError> {
        let after = after.map(|tag| keys::tag(repository, tag));
        let (listed, more) = self.list_objects(&keys::tags(repository), after.as_ref(), PAGE).await?;
        Ok((listed.iter().filter_map(keys::tag_of).collect(), more))
    }
}

fn tagged(digest: &Digest, tag: &Tag) -> String {
    format!("{digest}/{tag}")
}
