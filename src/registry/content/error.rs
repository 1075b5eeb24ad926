//! What can be wrong with a request for content.

use std::io;

use crate::oci::{Digest, Tag};
use crate::registry::storage::{Key, StorageError};

/// Why a request for content was not done.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("blob is unknown to the repository")]
    BlobUnknown,
    #[error("manifest is unknown to the repository")]
    ManifestUnknown,
    #[error("upload is unknown to the repository; start a new one")]
    UploadUnknown,
    #[error("repository is unknown")]
    RepositoryUnknown,
    #[error("another request is writing to this upload")]
    UploadBusy,
    #[error("the upload goes on at byte {expected}")]
    OffsetMismatch { expected: u64 },
    #[error("the content's digest is {actual}, not {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("the manifest refers to what the repository doesn't hold: {}", join(.0))]
    ManifestBlobUnknown(Vec<Digest>),
    #[error(
        "tag {tag} is immutable and points to {digest}: use another tag, or have spec.immutableTags of the RepositoryPolicy changed first"
    )]
    TagImmutable { tag: Tag, digest: Digest },
    #[error("the range is outside of the blob's {size} bytes")]
    RangeNotSatisfiable { size: u64 },
    #[error(transparent)]
    Storage(StorageError),
    /// Something other than this module wrote it, or the disk lost it.
    #[error("{key} in the store is damaged: {source}")]
    Corrupt { key: Key, source: serde_json::Error },
    /// The client's side of the connection.
    #[error("can't read the request's body: {0}")]
    Body(#[source] io::Error),
}

impl From<StorageError> for ContentError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::RangeNotSatisfiable { size } => ContentError::RangeNotSatisfiable { size },
            other => ContentError::Storage(other),
        }
    }
}

fn join(digests: &[Digest]) -> String {
    digests.iter().map(Digest::as_str).collect::<Vec<_>>().join(", ")
}
