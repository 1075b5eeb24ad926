//! Our own layout as a source ([`keys`]).

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};

use super::super::keys::{self, Place};
use super::super::records::{ManifestRecord, TagRecord};
use super::super::{Content, ContentError};
use super::source::{Listing, Source, SourceManifest, entries, manifest_bytes, objects};
use crate::oci::{Digest, Manifest, MediaType, RepositoryName, Tag};
use crate::registry::storage::{Entry, Key, ObjectStore, Prefix};

pub(super) struct Own {
    content: Content,
}

impl Own {
    pub(super) fn new(content: Content) -> Self {
        Self { content }
    }
}

#[async_trait]
impl Source for Own {
    fn store(&self) -> &dyn ObjectStore {
        &*self.content.store
    }

    fn blob(&self, digest: &Digest) -> Key {
        keys::blob(digest)
    }

    fn blobs(&self) -> Listing<'_, Digest> {
        objects(self.store(), keys::blobs(), |key| match Place::of(key)? {
            Place::Blob(digest) => Some(digest),
            _ => None,
        })
    }

    /// Also those that hold blobs only.
    fn repositories(&self) -> Listing<'_, RepositoryName> {
        let repositories = entries(self.store(), keys::repositories(), true).map_ok(|entry| match entry {
            Entry::Prefix(folder) => repository_in(&folder).ok_or_else(|| folder.to_string()),
            Entry::Object(key) => Err(key.to_string()),
        });
        repositories.boxed()
    }

    fn links(&self, repository: &RepositoryName) -> Listing<'_, Digest> {
        objects(self.store(), keys::blob_links(repository), |key| match Place::of(key)? {
            Place::BlobLink(_, digest) => Some(digest),
            _ => None,
        })
    }

    fn manifests(&self, repository: &RepositoryName) -> Listing<'_, Digest> {
        objects(self.store(), keys::manifests(repository), |key| match Place::of(key)? {
            Place::Manifest(_, digest) => Some(digest),
            _ => None,
        })
    }

    fn tags(&self, repository: &RepositoryName) -> Listing<'_, Tag> {
        objects(self.store(), keys::tags(repository), |key| match Place::of(key)? {
            Place::Tag(_, tag) => Some(tag),
            _ => None,
        })
    }

    async fn holds_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError> {
        self.content.exists(&keys::blob_link(repository, digest)).await
    }

    async fn holds_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError> {
        self.content.exists(&keys::manifest(repository, digest)).await
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<SourceManifest>, ContentError> {
        let record: Option<ManifestRecord> = self.content.read_record(&keys::manifest(repository, digest)).await?;
        let Some(ManifestRecord { media_type, pushed, .. }) = record else { return Ok(None) };
        let bytes = manifest_bytes(&self.content, &keys::blob(digest)).await?.unwrap_or_default();
        let manifest = match media_type.parse::<MediaType>() {
            _ if bytes.is_empty() => Err("its content is missing".to_owned()),
            Ok(media_type) => Manifest::parse(&media_type, &bytes).map_err(|error| error.to_string()),
            Err(reason) => Err(reason.to_owned()),
        };
        Ok(Some(SourceManifest { manifest, bytes, pushed }))
    }

    async fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<TagRecord>, ContentError> {
        self.content.read_record(&keys::tag(repository, tag)).await
    }

    fn keeps_dead_links(&self) -> bool {
        false
    }
}

fn repository_in(folder: &Prefix) -> Option<RepositoryName> {
    let key = Key::new(folder.as_str().trim_end_matches('/')).ok()?;
    keys::repository_of(&key)
}
