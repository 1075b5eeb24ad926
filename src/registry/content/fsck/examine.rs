//! One object, and what it points to.

use super::super::body::hash_stream;
use super::super::keys::{self, Place};
use super::super::records::{ManifestRecord, TagRecord};
use super::super::referrers::ReferrerDescriptor;
use super::super::{Content, ContentError, found};
use super::{Finding, Problem};
use crate::oci::{Digest, Hasher, Manifest, MediaType, RepositoryName};
use crate::registry::storage::{Key, StorageError};

/// What came out of an examination.
pub(super) struct Examined {
    pub findings: Vec<Finding>,
    /// Bytes.
    pub hashed: u64,
}

impl Content {
    pub(super) async fn examine(&self, key: &Key) -> Examined {
        let mut hashed = 0;
        let problems = match Place::of(key) {
            None => Ok(vec![Problem::Stray]),
            Some(place) => self.problems(key, place, &mut hashed).await,
        };
        let problems = problems.unwrap_or_else(|error| match error {
            ContentError::Corrupt { source, .. } => vec![Problem::Malformed { reason: source.to_string() }],
            other => vec![Problem::Unreadable { reason: other.to_string() }],
        });
        let finding = |problem| Finding { key: key.clone(), problem };
        Examined { findings: problems.into_iter().map(finding).collect(), hashed }
    }

    /// What is not there any more has no problems.
    async fn problems(&self, key: &Key, place: Place, hashed: &mut u64) -> Result<Vec<Problem>, ContentError> {
        let problem = match place {
            Place::Blob(digest) => return self.blob_problems(key, &digest, hashed).await,
            Place::Manifest(repository, digest) => return self.manifest_problems(key, &repository, &digest).await,
            Place::BlobLink(_, digest) => {
                (!self.exists(&keys::blob(&digest)).await? && self.exists(key).await?).then_some(Problem::LinkToNothing)
            }
            Place::Tag(repository, _) => match self.read_record::<TagRecord>(key).await? {
                Some(TagRecord { digest, .. }) if !self.exists(&keys::manifest(&repository, &digest)).await? => {
                    Some(Problem::TagToNothing { digest })
                }
                _ => None,
            },
            Place::Referrer(repository, subject, digest) => {
                let Some(entry) = self.read_record::<ReferrerDescriptor>(key).await? else { return Ok(vec![]) };
                let manifest: Option<ManifestRecord> =
                    self.read_record(&keys::manifest(&repository, &digest)).await.unwrap_or_default();
                let stands = manifest.is_some_and(|manifest| manifest.subject == Some(subject));
                (!stands || entry.digest != digest).then_some(Problem::ReferrerToNothing)
            }
            Place::CatalogueEntry(repository) => {
                (!self.holds_any(&keys::manifests(&repository)).await?).then_some(Problem::EmptyRepository)
            }
        };
        Ok(problem.into_iter().collect())
    }

    async fn blob_problems(&self, key: &Key, digest: &Digest, hashed: &mut u64) -> Result<Vec<Problem>, ContentError> {
        let Some(object) = found(self.store.get(key, None).await)? else { return Ok(vec![]) };
        *hashed = object.meta.size;
        let hashing = hash_stream(Hasher::new(digest.algorithm()), object.body).await;
        let actual = hashing.map_err(|error| match error {
            StorageError::Io { source, .. } => StorageError::Io { action: "read a blob", source },
            other => other,
        })?;
        let actual = actual.finish();
        Ok(if actual == *digest { vec![] } else { vec![Problem::CorruptBlob { actual }] })
    }

    async fn manifest_problems(
        &self,
        key: &Key,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Problem>, ContentError> {
        let Some(record) = self.read_record::<ManifestRecord>(key).await? else { return Ok(vec![]) };
        let mut problems = Vec::new();
        if !self.exists(&keys::catalogue_entry(repository)).await? {
            problems.push(Problem::NotInCatalogue { repository: repository.clone() });
        }
        let Some(content) = self.read_small(&keys::blob(digest)).await? else {
            problems.push(Problem::ManifestToNothing);
            return Ok(problems);
        };
        let manifest = match as_manifest(&record, &content) {
            Ok(manifest) => manifest,
            Err(reason) => {
                problems.push(Problem::NoManifest { reason });
                return Ok(problems);
            }
        };
        let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
        if record.subject != subject || record.size != content.len() as u64 {
            problems.push(Problem::RecordDiffers);
        }
        if let Some(subject) = subject {
            let entry = self.read_record(&keys::referrer(repository, &subject, digest)).await;
            let expected = ReferrerDescriptor::new(&manifest, digest, content.len() as u64);
            // One that can't be read is a finding of its own.
            if !matches!(entry, Err(ContentError::Corrupt { .. })) && entry?.as_ref() != Some(&expected) {
                problems.push(Problem::ReferrerMissing { subject });
            }
        }
        match self.check_references(repository, &manifest).await {
            Err(ContentError::ManifestBlobUnknown(missing)) => problems.push(Problem::Incomplete { missing }),
            other => other?,
        }
        Ok(problems)
    }
}

fn as_manifest(record: &ManifestRecord, content: &[u8]) -> Result<Manifest, String> {
    let media_type: MediaType = record.media_type.parse().map_err(|_| "its media type is none".to_owned())?;
    Manifest::parse(&media_type, content).map_err(|error| error.to_string())
}
