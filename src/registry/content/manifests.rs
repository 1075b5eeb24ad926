//! Manifests: a record in the repository, bytes among the blobs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::OwnedSemaphorePermit;

use super::blobs::check_digest;
use super::hot::Change;
use super::records::{ManifestRecord, Pushed, TagRecord};
use super::referrers::ReferrerDescriptor;
use super::{CONCURRENT_READS, Content, ContentError, absent, keys, record};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Reference, RepositoryName, Tag};
use crate::policy::ImmutableTags;
use crate::registry::storage::{Condition, Key, Put, StorageError};

/// How often a manifest is written that others delete at the same time.
const ATTEMPTS: usize = 5;

/// A manifest that is being pushed.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// The tag that it gets, or the digest that it has to have.
    pub reference: Reference,
    /// Whether the tag, if it is there already, has to stay where it is.
    pub is_immutable: bool,
    pub manifest: Manifest,
    /// What `manifest` was parsed from, and what is stored.
    pub bytes: Bytes,
    /// For people to read.
    pub pusher: String,
    pub now: SystemTime,
    /// What counts the memory for `bytes`. It is let go of once they are stored, even if the client is gone by then.
    pub memory: Option<Arc<OwnedSemaphorePermit>>,
}

/// A manifest on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
}

/// What was missing of that which a manifest lists.
enum Restored {
    Nothing,
    /// Links, which are there again.
    Links,
    /// Manifests, which can't be made again.
    Missing(Vec<Digest>),
}

/// What a push has made, as opposed to what was there before.
#[derive(Clone, Copy, Default)]
struct Made {
    record: bool,
    /// Or moved it.
    tag: bool,
}

impl Content {
    /// Takes a manifest, and returns its digest.
    ///
    /// What it lists must be in the repository (distribution-spec, "Pushing Manifests"); its subject need not.
    ///
    /// Errors: [`TagImmutable`](ContentError::TagImmutable) if the tag has to stay at another manifest. Nothing is
    /// stored then, unless both were pushed at the same time: whoever comes second has a manifest without the tag.
    pub async fn put_manifest(&self, repository: &RepositoryName, new: NewManifest) -> Result<Digest, ContentError> {
        let repository = repository.clone();
        self.detached(|content| async move { content.store_manifest(&repository, new).await }.boxed()).await
    }

    async fn store_manifest(&self, repository: &RepositoryName, new: NewManifest) -> Result<Digest, ContentError> {
        let NewManifest { reference, is_immutable, manifest, bytes, pusher, now, memory: _memory } = new;
        let bytes = &bytes;
        let (tag, digest) = match reference {
            Reference::Tag(tag) => (Some(tag), Digest::sha256(bytes)),
            Reference::Digest(digest) => {
                check_digest(&digest, Digest::of(digest.algorithm(), bytes))?;
                (None, digest)
            }
        };
        let _no_deletion = self.repository_lock(repository).read().await;
        self.check_references(repository, &manifest).await?;
        if is_immutable && let Some(tag) = &tag {
            self.check_immutable(repository, tag, Some(&digest)).await?;
        }

        let references = std::iter::once(Reference::Digest(digest.clone())).chain(tag.clone().map(Reference::Tag));
        let _change = self.hot.change(repository, references.collect());
        let size = bytes.len() as u64;
        let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
        let pushed = Pushed::new(pusher, now);
        let media_type = manifest.media_type.to_string();
        let stored = ManifestRecord { media_type, size, subject, pushed: pushed.clone() };
        let lists_manifests = !manifest.manifests().is_empty();
        if lists_manifests {
            self.late_indexes.note(repository, &digest);
        }
        let mut made = Made::default();
        for _ in 0..ATTEMPTS {
            // Listings first, then the record that makes the manifest visible: a client that finds it after a crash pushes
            // it no second time, so nothing about it may be missing by then. And the tag last, so that it never points to
            // nothing.
            let listings = self.listings(repository, &digest, &manifest, bytes)?;
            let places: Vec<Key> = listings.iter().map(|put| put.key.clone()).collect();
            self.store.put_all(listings).await?;
            let (put, is_new) = self.manifest_put(repository, &digest, stored.clone()).await?;
            made.record |= is_new;
            self.store.put_all(vec![put]).await?;
            if let Some(tag) = &tag {
                let tagged = TagRecord { digest: digest.clone(), pushed: pushed.clone() };
                // Only a manifest that lists others may have to be taken back.
                if lists_manifests && self.store.is_shared() {
                    made.tag |= self.tagged_digest(repository, tag).await?.as_ref() != Some(&digest);
                }
                let written = self.write_tag(repository, tag, &tagged, is_immutable).await;
                self.note_tagged(repository, tag, &digest);
                written?;
            }
            let record = std::iter::once(keys::manifest(repository, &digest));
            let tag_key = tag.iter().map(|tag| keys::tag(repository, tag));
            // Another process that deletes it at the same time may have taken some of it along.
            let whole = places.into_iter().chain(record).chain(tag_key);
            if !self.store.is_shared() {
                return Ok(digest);
            }
            let (is_whole, restored) =
                tokio::try_join!(self.all_exist(whole), self.restore_links(repository, &manifest))?;
            match restored {
                Restored::Nothing if is_whole => return Ok(digest),
                Restored::Nothing | Restored::Links => {}
                // It came too late: what it lists has gone together with the repository.
                Restored::Missing(children) => {
                    self.take_back(repository, &digest, tag.as_ref(), made).await?;
                    return Err(ContentError::ManifestBlobUnknown(children));
                }
            }
        }
        let source = "the same manifest is deleted again and again".into();
        Err(StorageError::Unavailable { action: "keep a manifest", source }.into())
    }

    /// Undoes a push, but nothing that others have pushed.
    async fn take_back(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tag: Option<&Tag>,
        made: Made,
    ) -> Result<(), ContentError> {
        if let Some(tag) = tag.filter(|_| made.tag) {
            let mut change = self.hot.change(repository, vec![]);
            let mut pointers = self.look_at(repository, vec![tag.clone()]).await?;
            pointers.retain(|pointer| pointer.digest == *digest);
            self.remove_pointers(repository, pointers, &mut change).await?;
        }
        if made.record {
            match self.remove_manifest(repository, digest, &ImmutableTags::new(["*"])).await {
                // Somebody else's tag.
                Err(ContentError::TagImmutable { .. }) => {}
                other => found_or_not(other)?,
            }
        }
        self.remove_from_catalogue_if_empty(repository).await
    }

    /// What has to be there before a manifest is.
    pub(super) fn listings(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
        bytes: &Bytes,
    ) -> Result<Vec<Put>, ContentError> {
        let entry = absent(keys::catalogue_entry(repository), Bytes::new());
        let mut puts = vec![absent(keys::blob(digest), bytes.clone()), entry];
        if let Some(subject) = &manifest.subject {
            let descriptor = ReferrerDescriptor::new(manifest, digest, bytes.len() as u64);
            puts.push(record(keys::referrer(repository, &subject.digest, digest), &descriptor)?);
        }
        Ok(puts)
    }

    /// Looks once more at what a manifest lists, whose repository another process may be deleting. A link to a blob is made
    /// again: the content is there as long as somebody has needed it just now.
    async fn restore_links(&self, repository: &RepositoryName, manifest: &Manifest) -> Result<Restored, ContentError> {
        let missing: Vec<(bool, Digest)> = futures::stream::iter(listed(manifest))
            .map(|(is_blob, digest)| async move {
                let key =
                    if is_blob { keys::blob_link(repository, &digest) } else { keys::manifest(repository, &digest) };
                Ok::<_, ContentError>((!self.exists(&key).await?).then_some((is_blob, digest)))
            })
            .buffered(CONCURRENT_READS)
            .try_filter_map(|missing| async move { Ok(missing) })
            .try_collect()
            .await?;
        let (links, children): (Vec<_>, Vec<_>) = missing.into_iter().partition(|(is_blob, _)| *is_blob);
        if !children.is_empty() {
            return Ok(Restored::Missing(children.into_iter().map(|(_, digest)| digest).collect()));
        }
        if links.is_empty() {
            return Ok(Restored::Nothing);
        }
        let link = |(_, digest): &(bool, Digest)| absent(keys::blob_link(repository, digest), Bytes::new());
        self.store.put_all(links.iter().map(link).collect()).await?;
        Ok(Restored::Links)
    }

    async fn all_exist(&self, keys: impl Iterator<Item = Key>) -> Result<bool, ContentError> {
        let found = try_join_all(keys.map(|key| async move { self.exists(&key).await })).await?;
        Ok(found.into_iter().all(|exists| exists))
    }

    /// Who pushed a manifest first stays known; a second push changes nothing. Also says whether this is the first.
    async fn manifest_put(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        new: ManifestRecord,
    ) -> Result<(Put, bool), ContentError> {
        let key = keys::manifest(repository, digest);
        let known: Option<ManifestRecord> = self.read_record(&key).await?;
        let is_new = known.is_none();
        let is_known = known.is_some_and(|known| ManifestRecord { pushed: new.pushed.clone(), ..known } == new);
        let put = record(key, &new)?;
        Ok((if is_known { Put { condition: Condition::IfAbsent, ..put } } else { put }, is_new))
    }

    /// Errors: [`ManifestUnknown`](ContentError::ManifestUnknown).
    pub async fn get_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Arc<StoredManifest>, ContentError> {
        self.hot.get(repository, reference, self.load_manifest(repository, reference)).await
    }

    async fn load_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<StoredManifest, ContentError> {
        let digest = self.resolve(repository, reference).await?;
        let (record, content) = (keys::manifest(repository, &digest), keys::blob(&digest));
        let (media_type, bytes) = tokio::try_join!(self.media_type(record), self.read_small(&content))?;
        let bytes = bytes.ok_or(ContentError::ManifestUnknown)?;
        Ok(StoredManifest { digest, media_type, bytes })
    }

    /// Removes a manifest with the tags that point to it. Its bytes are garbage collection's business.
    ///
    /// Errors: [`ManifestUnknown`](ContentError::ManifestUnknown), [`TagImmutable`](ContentError::TagImmutable) if one
    /// of `immutable` points to it; then nothing is removed.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        let (repository, digest, immutable) = (repository.clone(), digest.clone(), immutable.clone());
        self.detached(|content| {
            async move {
                content.learn_tagged(&repository).await?;
                // Other processes have locks of their own: then everybody looks again after what they did.
                let lock = content.repository_lock(&repository);
                let _alone = if content.store.is_shared() { None } else { Some(lock.write().await) };
                let removed = content.remove_manifest(&repository, &digest, &immutable).await;
                // Also if it was gone: a power failure may have come before this.
                content.remove_from_catalogue_if_empty(&repository).await?;
                removed
            }
            .boxed()
        })
        .await
    }

    /// The caller excludes pushes to the repository by this process, if there is no other.
    pub(super) async fn remove_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        immutable: &ImmutableTags,
    ) -> Result<(), ContentError> {
        let key = keys::manifest(repository, digest);
        let mut change = self.hot.change(repository, vec![Reference::Digest(digest.clone())]);
        let Some(record) = self.read_record::<ManifestRecord>(&key).await? else {
            // A deletion that was cut off may have left tags.
            self.remove_late_tags(repository, digest, &mut change).await?;
            return Err(ContentError::ManifestUnknown);
        };
        let pointers = self.pointers_to(repository, digest).await?;
        if let Some(pointer) = pointers.iter().find(|pointer| immutable.contains(&pointer.tag)) {
            return Err(ContentError::TagImmutable { tag: pointer.tag.clone(), digest: digest.clone() });
        }
        // Tags first, so that none points to nothing. With its record the manifest is gone, and the entry in the list of
        // referrers stands for nothing then: before, a crash would leave a manifest that is missing there.
        self.remove_pointers(repository, pointers, &mut change).await?;
        let removed = self.remove(&key).await;
        // Also after an error: it may be gone all the same.
        self.remove_late_tags(repository, digest, &mut change).await?;
        removed?;
        if let Some(subject) = &record.subject {
            self.remove_referrer(&keys::referrer(repository, subject, digest), &key).await?;
        }
        Ok(())
    }

    /// Removes the tags that have come from another process while the manifest was being removed. One that comes later
    /// finds that it is gone, and puts it there again.
    async fn remove_late_tags(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        change: &mut Change,
    ) -> Result<(), ContentError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let late = self.pointers_to(repository, digest).await?;
        let removed = self.remove_pointers(repository, late, change).await?;
        // Some of them may be of a push that has done so meanwhile.
        if !removed.is_empty() && self.exists(&keys::manifest(repository, digest)).await? {
            self.store.put_all(removed).await?;
        }
        Ok(())
    }

    /// Unless the manifest is there again by then.
    pub(super) async fn remove_referrer(&self, entry: &Key, manifest: &Key) -> Result<(), ContentError> {
        let Some(descriptor) = self.read_small(entry).await? else { return Ok(()) };
        let removed = self.remove(entry).await;
        if self.store.is_shared() && self.exists(manifest).await? {
            // Another process has pushed it again, and has taken the entry for its own.
            self.store.put_all(vec![absent(entry.clone(), descriptor)]).await?;
        }
        removed.map(drop)
    }

    async fn resolve(&self, repository: &RepositoryName, reference: &Reference) -> Result<Digest, ContentError> {
        match reference {
            Reference::Digest(digest) => Ok(digest.clone()),
            Reference::Tag(tag) => self.tagged_digest(repository, tag).await?.ok_or(ContentError::ManifestUnknown),
        }
    }

    async fn media_type(&self, key: Key) -> Result<MediaType, ContentError> {
        let record: ManifestRecord = self.read_record(&key).await?.ok_or(ContentError::ManifestUnknown)?;
        record.media_type.parse().map_err(|reason| {
            let source = <serde_json::Error as serde::de::Error>::custom(reason);
            ContentError::Corrupt { key, source }
        })
    }

    /// Checks that the repository holds every blob and every manifest that `manifest` lists.
    pub(super) async fn check_references(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
    ) -> Result<(), ContentError> {
        let missing: Vec<Digest> = futures::stream::iter(listed(manifest))
            .map(|(is_blob, digest)| async move {
                let exists = if is_blob {
                    self.holds_blob(repository, &digest).await?
                } else {
                    self.exists(&keys::manifest(repository, &digest)).await?
                };
                Ok::<_, ContentError>((!exists).then_some(digest))
            })
            .buffered(CONCURRENT_READS)
            .try_filter_map(|missing| async move { Ok(missing) })
            .try_collect()
            .await?;
        if missing.is_empty() { Ok(()) } else { Err(ContentError::ManifestBlobUnknown(missing)) }
    }
}

/// What a manifest lists, each once, and whether that is a blob or a manifest.
fn listed(manifest: &Manifest) -> Vec<(bool, Digest)> {
    // BuildKit's cache is an index of layers: what is no manifest by its media type is a blob.
    let is_blob = |child: &&Descriptor| {
        !child.media_type.is_empty() && !MediaType::MANIFESTS.contains(&child.media_type.as_str())
    };
    let (layers, children): (Vec<_>, Vec<_>) = manifest.manifests().iter().partition(is_blob);
    let blobs = manifest.blobs().chain(layers).map(|blob| (true, &blob.digest));
    let mut seen = HashSet::new();
    blobs
        .chain(children.into_iter().map(|child| (false, &child.digest)))
        .filter(|wanted| seen.insert(*wanted))
        .map(|(is_blob, digest)| (is_blob, digest.clone()))
        .collect()
}

pub(super) fn found_or_not(removed: Result<(), ContentError>) -> Result<(), ContentError> {
    match removed {
        Err(ContentError::ManifestUnknown) => Ok(()),
        other => other,
    }
}
