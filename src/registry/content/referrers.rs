//! Referrers: the manifests that name another as their subject (distribution-spec, "Listing Referrers").

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::{CONCURRENT_READS, Content, ContentError, keys};
use crate::oci::{Digest, Manifest, ManifestKind, RepositoryName};
use crate::registry::storage::Key;

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
}

impl Content {
    /// The manifests of the repository whose subject is `subject`, in the order of their digests. The subject itself
    /// need not exist.
    pub async fn list_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<ReferrerDescriptor>, ContentError> {
        let entries = self.list_all(&keys::referrers(repository, subject), None).await?;
        let read = |entry: Key| async move {
            let Some(descriptor) = self.read_record::<ReferrerDescriptor>(&entry).await? else { return Ok(None) };
            // The entry is written before the manifest: after a crash it may stand for nothing.
            let exists = self.exists(&keys::manifest(repository, &descriptor.digest)).await?;
            Ok(exists.then_some(descriptor))
        };
        let records = futures::stream::iter(entries).map(read).buffered(CONCURRENT_READS);
        // Those that are gone were deleted since they were listed.
        records.try_filter_map(|record| async move { Ok(record) }).try_collect().await
    }
}
