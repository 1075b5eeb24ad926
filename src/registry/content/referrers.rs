//! Referrers: the manifests that name another as their subject (distribution-spec, "Listing Referrers").
//!
//! A registry that starts to list referrers has to include those that clients have listed themselves meanwhile, in an
//! index under the tag `sha256-<hex>` of the subject, if they have a `subject` ("Enabling the Referrers API"). Here this
//! needs nothing: each manifest with a subject is entered when it is pushed, whether its subject is there already or
//! not, and so it is listed once, whoever keeps such an index besides. What an index lists that names no subject is no
//! referrer.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::{CONCURRENT_READS, Content, ContentError, PAGE, keys};
use crate::oci::{Digest, Manifest, ManifestKind, RepositoryName};
use crate::registry::storage::Key;

/// Bytes of the entries of one page as JSON: an index may have 4 MiB, and there is something around them.
const MAX_BYTES: usize = (4 << 20) - 1024;
/// Entries that one request looks at.
const MAX_WORK: usize = 10_000;

/// An entry of the index that lists referrers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrerDescriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl ReferrerDescriptor {
    /// An image without an artifact type of its own has its config's media type.
    pub(super) fn new(manifest: &Manifest, digest: &Digest, size: u64) -> Self {
        let config_type = match &manifest.kind {
            ManifestKind::Image { config, .. } => Some(&config.media_type),
            ManifestKind::Index { .. } => None,
        };
        let own = manifest.artifact_type.as_ref();
        let artifact_type = own.or(config_type).filter(|artifact_type| !artifact_type.is_empty()).cloned();
        Self {
            media_type: manifest.media_type.to_string(),
            digest: digest.clone(),
            size,
            artifact_type,
            annotations: manifest.annotations.clone(),
        }
    }

    fn is_of_type(&self, wanted: Option<&str>) -> bool {
        wanted.is_none_or(|wanted| self.artifact_type.as_deref() == Some(wanted))
    }

    /// With the comma behind it.
    fn json_len(&self) -> usize {
        // Plain data can't fail to be written.
        serde_json::to_vec(self).map_or(0, |json| json.len() + 1)
    }
}

/// A part of a list of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrersPage {
    pub manifests: Vec<ReferrerDescriptor>,
    /// After which referrer the next page starts, if there is one.
    pub next: Option<Digest>,
}

impl Content {
    /// The manifests of the repository whose subject is `subject`, in the order of their digests, those behind `after`
    /// of the type `artifact_type`. The subject itself need not exist.
    ///
    /// At most `limit`, and at most as many as fit into an index of 4 MiB. A page may hold fewer, even none, and not be
    /// the last: one request looks at a bounded number of them.
    pub async fn list_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        after: Option<&Digest>,
        artifact_type: Option<&str>,
        limit: usize,
    ) -> Result<ReferrersPage, ContentError> {
        let mut page = ReferrersPage { manifests: Vec::new(), next: None };
        // Without a last entry there is nothing to go on from.
        if limit == 0 {
            return Ok(page);
        }
        let (mut bytes, mut seen) = (0, 0);
        let mut after = after.map(|digest| keys::referrer(repository, subject, digest));
        loop {
            let (entries, more) =
                self.list_objects(&keys::referrers(repository, subject), after.as_ref(), PAGE).await?;
            seen += entries.len();
            after = entries.last().cloned();
            let mut found = futures::stream::iter(entries)
                .map(|entry| async move { self.read_referrer(repository, &entry).await })
                .buffered(CONCURRENT_READS);
            while let Some(found) = found.try_next().await? {
                let Some(found) = found.filter(|found| found.is_of_type(artifact_type)) else { continue };
                bytes += found.json_len();
                if page.manifests.len() == limit || (bytes > MAX_BYTES && !page.manifests.is_empty()) {
                    page.next = page.manifests.last().map(|last| last.digest.clone());
                    return Ok(page);
                }
                page.manifests.push(found);
            }
            if more && seen >= MAX_WORK {
                page.next = after.as_ref().and_then(keys::digest_of);
            }
            if !more || page.next.is_some() {
                return Ok(page);
            }
        }
    }

    /// Nothing if it was deleted since it was listed, or if it stands for nothing: the entry is written before the
    /// manifest, and the process may have died in between.
    async fn read_referrer(
        &self,
        repository: &RepositoryName,
        entry: &Key,
    ) -> Result<Option<ReferrerDescriptor>, ContentError> {
        let Some(descriptor) = self.read_record::<ReferrerDescriptor>(entry).await? else { return Ok(None) };
        let exists = self.exists(&keys::manifest(repository, &descriptor.digest)).await?;
        Ok(exists.then_some(descriptor))
    }
}
