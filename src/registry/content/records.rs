//! The small JSON objects of the layout. Fields may be added, never renamed: stores outlive releases.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::oci::Digest;

/// A manifest in a repository. Its bytes are a blob's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestRecord {
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// Where to find the referrer entry when the manifest is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    #[serde(flatten)]
    pub pushed: Pushed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TagRecord {
    pub digest: Digest,
    #[serde(flatten)]
    pub pushed: Pushed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pushed {
    pub pushed_by: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub pushed_at: u64,
}

impl Pushed {
    pub(super) fn new(pushed_by: String, now: SystemTime) -> Self {
        let pushed_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { pushed_by, pushed_at }
    }
}
