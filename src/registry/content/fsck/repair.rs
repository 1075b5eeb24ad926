//! What can be put right without knowing more than the store does.

use serde::Deserialize;

use super::super::keys::{self, Place};
use super::super::records::{ManifestRecord, Pushed};
use super::super::referrers::ReferrerDescriptor;
use super::super::{Content, ContentError, absent, record};
use super::{Finding, Problem};
use crate::oci::{Digest, Manifest, MediaType, RepositoryName};
use crate::registry::storage::{Quarantine, StorageError};

impl Content {
    /// Repairs what was found. False if that is a person's business.
    pub(super) async fn repair(&self, finding: &Finding, quarantine: &dyn Quarantine) -> Result<bool, ContentError> {
        let Finding { key, problem } = finding;
        match (problem, Place::of(key)) {
            (Problem::Stray | Problem::Incomplete { .. }, _) | (_, None) => return Ok(false),
            (
                Problem::Malformed { .. } | Problem::NoManifest { .. } | Problem::RecordDiffers,
                Some(Place::Manifest(repository, digest)),
            ) if self.restore_manifest(&repository, &digest).await? => {}
            (
                Problem::CorruptBlob { .. }
                | Problem::Malformed { .. }
                | Problem::NoManifest { .. }
                | Problem::RecordDiffers,
                _,
            )
            | (Problem::Unreadable { .. }, Some(Place::Blob(_))) => match quarantine.set_aside(key).await {
                Ok(()) | Err(StorageError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            },
            (Problem::ReferrerMissing { subject }, Some(Place::Manifest(repository, digest))) => {
                let Some((manifest, size)) = self.stored_manifest(&repository, &digest).await? else {
                    return Ok(false);
                };
                let descriptor = ReferrerDescriptor::new(&manifest, &digest, size);
                let put = record(keys::referrer(&repository, subject, &digest), &descriptor)?;
                self.store.put_all(vec![put]).await?;
            }
            (Problem::Unreadable { .. } | Problem::ReferrerMissing { .. }, _) => return Ok(false),
            (Problem::NotInCatalogue { repository }, _) => {
                let entry = absent(keys::catalogue_entry(repository), bytes::Bytes::new());
                self.store.put_all(vec![entry]).await?;
            }
            (
                Problem::LinkToNothing
                | Problem::ManifestToNothing
                | Problem::TagToNothing { .. }
                | Problem::ReferrerToNothing
                | Problem::EmptyRepository,
                _,
            ) => {
                self.remove(key).await?;
            }
        }
        Ok(true)
    }

    /// Writes a manifest's record anew. False if its content doesn't tell what has to be in there.
    async fn restore_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError> {
        let Some((manifest, size)) = self.stored_manifest(repository, digest).await? else { return Ok(false) };
        let key = keys::manifest(repository, digest);
        let pushed = match self.read_record::<ManifestRecord>(&key).await {
            Ok(Some(record)) => record.pushed,
            _ => Pushed { pushed_by: "restored by fsck".to_owned(), pushed_at: 0 },
        };
        let subject = manifest.subject.map(|subject| subject.digest);
        let restored = ManifestRecord { media_type: manifest.media_type.to_string(), size, subject, pushed };
        self.store.put_all(vec![record(key, &restored)?]).await?;
        Ok(true)
    }

    /// A manifest, by its record or else by what its content says of itself, and its size.
    async fn stored_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(Manifest, u64)>, ContentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            media_type: Option<String>,
            config: Option<serde::de::IgnoredAny>,
        }
        let Some(content) = self.read_small(&keys::blob(digest)).await? else { return Ok(None) };
        let Ok(Shape { media_type, config }) = serde_json::from_slice(&content) else { return Ok(None) };
        let by_shape = if config.is_some() { MediaType::OCI_MANIFEST } else { MediaType::OCI_INDEX };
        let recorded = match self.read_record::<ManifestRecord>(&keys::manifest(repository, digest)).await {
            Ok(record) => record.map(|record| record.media_type),
            Err(_) => None,
        };
        let candidates = [recorded, media_type, Some(by_shape.to_owned())];
        let manifest = candidates.into_iter().flatten().find_map(|media_type| {
            let media_type = media_type.parse().ok()?;
            Manifest::parse(&media_type, &content).ok()
        });
        Ok(manifest.map(|manifest| (manifest, content.len() as u64)))
    }
}
