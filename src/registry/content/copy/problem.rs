//! What can't be copied, for the person who looks after the store.

use std::fmt::Display;

use crate::oci::{Digest, RepositoryName, Tag};

/// Something that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyProblem {
    #[error("blob {digest} is damaged in the source: its content has the digest {actual}")]
    DamagedBlob { digest: Digest, actual: Digest },
    #[error("{what} can't be read in the source: {reason}")]
    Unreadable { what: String, reason: String },
    #[error("blob {digest} of {repository} is missing in the source")]
    BlobMissing { repository: RepositoryName, digest: Digest },
    #[error("manifest {digest} of {repository} is left out: {reason}")]
    ManifestLeftOut { repository: RepositoryName, digest: Digest, reason: String },
    #[error("tag {tag} of {repository} is left out, because manifest {digest} is")]
    TagLeftOut { repository: RepositoryName, tag: Tag, digest: Digest },
    #[error("{path} in the source is nothing that a registry keeps there")]
    Stray { path: String },
    #[error("nothing is removed from the target, because the source holds no repository: is it the right one?")]
    EmptySource,
}

impl CopyProblem {
    pub(super) fn unreadable(what: &dyn Display, reason: impl Display) -> Self {
        CopyProblem::Unreadable { what: what.to_string(), reason: reason.to_string() }
    }

    /// For scripts.
    pub const fn name(&self) -> &'static str {
        match self {
            CopyProblem::DamagedBlob { .. } => "DamagedBlob",
            CopyProblem::Unreadable { .. } => "Unreadable",
            CopyProblem::BlobMissing { .. } => "BlobMissing",
            CopyProblem::ManifestLeftOut { .. } => "ManifestLeftOut",
            CopyProblem::TagLeftOut { .. } => "TagLeftOut",
            CopyProblem::Stray { .. } => "Stray",
            CopyProblem::EmptySource => "EmptySource",
        }
    }
}
