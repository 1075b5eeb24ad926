//! Tags: one object each, so that two pushes at once can't lose one.

use futures::{FutureExt, StreamExt, TryStreamExt};

use super::hot::Change;
use super::records::TagRecord;
use super::{CONCURRENT_READS, Content, ContentError, keys};
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::registry::storage::Key;

impl Content {
    /// At most `limit` tags behind `after`, all without a limit, and whether there are more.
    ///
    /// They are in "case-insensitive alphanumeric order" (distribution-spec, "Listing Tags"); those that differ by
    /// case only are in an order that stays the same.
    ///
    /// Errors: [`RepositoryUnknown`](ContentError::RepositoryUnknown) if the repository holds nothing at all.
    pub async fn list_tags(
        &self,
        repository: &RepositoryName,
        after: Option<&Tag>,
        limit: Option<usize>,
    ) -> Result<(Vec<Tag>, bool), ContentError> {
        let prefix = keys::tags(repository);
        let after = after.map(|tag| keys::tag(repository, tag));
        let (listed, more) = match limit {
            None => (self.list_all(&prefix, after.as_ref()).await?, false),
            // Without a last tag there is nothing to go on from.
            Some(0) => (Vec::new(), false),
            Some(limit) => self.list_objects(&prefix, after.as_ref(), limit).await?,
        };
        if listed.is_empty() && !self.holds_any(&keys::repository(repository)).await? {
            return Err(ContentError::RepositoryUnknown);
        }
        Ok((listed.iter().filter_map(keys::tag_of).collect(), more))
    }

    /// Errors: [`ManifestUnknown`](ContentError::ManifestUnknown) if there is no such tag.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<(), ContentError> {
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

    /// The caller excludes pushes to the repository.
    pub(super) async fn remove_tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        change: &mut Change,
    ) -> Result<(), ContentError> {
        let tags = self.list_all(&keys::tags(repository), None).await?;
        tags.iter().filter_map(keys::tag_of).for_each(|tag| change.also(Reference::Tag(tag)));
        let remove = |tag: Key| async move {
            let record: Option<TagRecord> = self.read_record(&tag).await?;
            if record.is_some_and(|record| record.digest == *digest) {
                self.remove(&tag).await?;
            }
            Ok(())
        };
        futures::stream::iter(tags).map(remove).buffer_unordered(CONCURRENT_READS).try_collect().await
    }
}
