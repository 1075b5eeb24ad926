//! Manifests: a record in the repository, bytes among the blobs.

use std::collections::HashSet;
use std::time::SystemTime;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::blobs::check_digest;
use super::records::{ManifestRecord, Pushed, TagRecord};
use super::referrers::ReferrerDescriptor;
use super::{CONCURRENT_READS, Content, ContentError, keys};
use crate::oci::{Digest, MAX_MANIFEST_BYTES, Manifest, MediaType, Reference, RepositoryName, Tag};
use crate::registry::storage::Key;

/// A manifest that is being pushed.
#[derive(Clone, Debug)]
pub struct NewManifest {
    pub tag: Option<Tag>,
    pub manifest: Manifest,
    /// What `manifest` was parsed from, and what is stored.
    pub bytes: Bytes,
    /// Of `bytes`.
    pub digest: Digest,
    /// For people to read.
    pub pusher: String,
    pub now: SystemTime,
}

/// A manifest on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
}

/// What is known of a manifest without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestStat {
    pub digest: Digest,
    pub media_type: MediaType,
    /// In bytes.
    pub size: u64,
}

impl Content {
    /// Takes a manifest, and returns whether a subject was recorded, which the client has to be told.
    ///
    /// What it lists must be in the repository (distribution-spec, "Pushing Manifests"); its subject need not.
    pub async fn put_manifest(&self, repository: &RepositoryName, new: NewManifest) -> Result<bool, ContentError> {
        if new.bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ContentError::TooLarge { limit: MAX_MANIFEST_BYTES });
        }
        check_digest(&new.digest, Digest::of(new.digest.algorithm(), &new.bytes))?;
        let repository = repository.clone();
        self.detached(|content| async move { content.store_manifest(&repository, new).await }.boxed()).await
    }

    async fn store_manifest(&self, repository: &RepositoryName, new: NewManifest) -> Result<bool, ContentError> {
        let NewManifest { tag, manifest, bytes, digest, pusher, now } = new;
        let _no_deletion = self.repository_lock(repository).read().await;
        self.check_references(repository, &manifest).await?;

        let size = bytes.len() as u64;
        let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
        let pushed = Pushed::new(pusher, now);
        // Each step refers only to what is durable already, so that a power failure leaves no reference to nothing.
        self.put_if_absent(&keys::blob(&digest), bytes).await?;
        let record = ManifestRecord {
            media_type: manifest.media_type.to_string(),
            size,
            subject: subject.clone(),
            pushed: pushed.clone(),
        };
        // Listings first, then the record that makes the manifest visible: a client that finds it after a crash pushes it
        // no second time, so nothing about it may be missing by then.
        if let Some(subject) = &subject {
            let descriptor = ReferrerDescriptor::new(&manifest, &digest, size);
            self.put_record(&keys::referrer(repository, subject, &digest), &descriptor).await?;
        }
        self.add_to_catalogue(repository).await?;
        self.put_record(&keys::manifest(repository, &digest), &record).await?;
        if let Some(tag) = tag {
            let record = TagRecord { digest, pushed };
            let written = self.put_record(&keys::tag(repository, &tag), &record).await;
            self.note_tagged(repository, &tag, &record.digest);
            written?;
        }
        Ok(subject.is_some())
    }

    /// Errors: [`ManifestUnknown`](ContentError::ManifestUnknown).
    pub async fn get_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<StoredManifest, ContentError> {
        let digest = self.resolve(repository, reference).await?;
        let content = keys::blob(&digest);
        let (stat, bytes) = tokio::try_join!(self.stat_digest(repository, &digest), self.read_small(&content))?;
        let bytes = bytes.ok_or(ContentError::ManifestUnknown)?;
        Ok(StoredManifest { digest, media_type: stat.media_type, bytes })
    }

    /// Errors: [`ManifestUnknown`](ContentError::ManifestUnknown).
    pub async fn stat_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestStat, ContentError> {
        let digest = self.resolve(repository, reference).await?;
        self.stat_digest(repository, &digest).await
    }

    /// Removes a manifest with the tags that point to it. Its bytes are garbage collection's business.
    ///
    /// Errors: [`ManifestUnknown`](ContentError::ManifestUnknown).
    pub async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), ContentError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.detached(|content| {
            async move {
                content.learn_tagged(&repository).await?;
                let _alone = content.repository_lock(&repository).write().await;
                let removed = content.remove_manifest(&repository, &digest).await;
                // Also if it was gone: a power failure may have come before this.
                content.remove_from_catalogue_if_empty(&repository).await?;
                removed
            }
            .boxed()
        })
        .await
    }

    /// The caller excludes pushes to the repository.
    async fn remove_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), ContentError> {
        let key = keys::manifest(repository, digest);
        let record: ManifestRecord = self.read_record(&key).await?.ok_or(ContentError::ManifestUnknown)?;
        // The record goes last, so that a deletion that was interrupted can be repeated.
        self.remove_tags_of(repository, digest).await?;
        if let Some(subject) = &record.subject {
            self.remove(&keys::referrer(repository, subject, digest)).await?;
        }
        self.remove(&key).await?;
        Ok(())
    }

    async fn resolve(&self, repository: &RepositoryName, reference: &Reference) -> Result<Digest, ContentError> {
        match reference {
            Reference::Digest(digest) => Ok(digest.clone()),
            Reference::Tag(tag) => self.tagged_digest(repository, tag).await?.ok_or(ContentError::ManifestUnknown),
        }
    }

    async fn stat_digest(&self, repository: &RepositoryName, digest: &Digest) -> Result<ManifestStat, ContentError> {
        let key = keys::manifest(repository, digest);
        let record: ManifestRecord = self.read_record(&key).await?.ok_or(ContentError::ManifestUnknown)?;
        let media_type = record.media_type.parse().map_err(|reason| {
            let source = <serde_json::Error as serde::de::Error>::custom(reason);
            ContentError::Corrupt { key, source }
        })?;
        Ok(ManifestStat { digest: digest.clone(), media_type, size: record.size })
    }

    /// Checks that the repository holds every blob and every manifest that `manifest` lists.
    pub(super) async fn check_references(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
    ) -> Result<(), ContentError> {
        let blobs = manifest.blobs().map(|blob| (keys::blob_link(repository, &blob.digest), &blob.digest));
        let children = manifest.manifests().iter();
        // BuildKit's cache is an index of layers: what is no manifest by its media type is a blob.
        let children = children.map(|child| {
            let is_blob = !child.media_type.is_empty() && !MediaType::MANIFESTS.contains(&child.media_type.as_str());
            let key = if is_blob { keys::blob_link } else { keys::manifest };
            (key(repository, &child.digest), &child.digest)
        });
        let mut seen = HashSet::new();
        let wanted: Vec<(Key, Digest)> = blobs
            .chain(children)
            .filter(|(key, _)| seen.insert(key.clone()))
            .map(|(key, digest)| (key, digest.clone()))
            .collect();
        let missing: Vec<Digest> = futures::stream::iter(wanted)
            .map(|(key, digest)| async move { self.exists(&key).await.map(|exists| (!exists).then_some(digest)) })
            .buffered(CONCURRENT_READS)
            .try_filter_map(|missing| async move { Ok(missing) })
            .try_collect()
            .await?;
        if missing.is_empty() { Ok(()) } else { Err(ContentError::ManifestBlobUnknown(missing)) }
    }
}
