//! What can be wrong with an object, and what a person should do about it.

use std::fmt;

use crate::oci::{Digest, RepositoryName};
use crate::registry::storage::Key;

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it was noticed.
    pub key: Key,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("this is not part of a registry's store")]
    Stray,
    #[error("the content's digest is {actual}")]
    CorruptBlob { actual: Digest },
    #[error("it can't be read: {reason}")]
    Unreadable { reason: String },
    #[error("the record is damaged: {reason}")]
    Malformed { reason: String },
    #[error("the repository holds a blob whose content is not there")]
    LinkToNothing,
    #[error("the manifest's content is not there")]
    ManifestToNothing,
    #[error("the content is no manifest: {reason}")]
    NoManifest { reason: String },
    #[error("the record does not say what the manifest says")]
    RecordDiffers,
    #[error("the repository does not hold what the manifest lists: {}", list(.missing))]
    Incomplete { missing: Vec<Digest> },
    #[error("the manifest is not among the referrers of its subject, or described wrongly there")]
    ReferrerMissing { subject: Digest },
    #[error("the repository {repository} is not in the catalogue")]
    NotInCatalogue { repository: RepositoryName },
    #[error("the tag points to {digest}, which the repository does not hold")]
    TagToNothing { digest: Digest },
    #[error("the entry stands for a manifest that is not there or has another subject")]
    ReferrerToNothing,
    #[error("the repository holds no manifest")]
    EmptyRepository,
}

impl Problem {
    /// A word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Problem::Stray => "stray",
            Problem::CorruptBlob { .. } => "corrupt-blob",
            Problem::Unreadable { .. } => "unreadable",
            Problem::Malformed { .. } => "malformed",
            Problem::LinkToNothing => "link-to-nothing",
            Problem::ManifestToNothing => "manifest-to-nothing",
            Problem::NoManifest { .. } => "no-manifest",
            Problem::RecordDiffers => "record-differs",
            Problem::Incomplete { .. } => "incomplete",
            Problem::ReferrerMissing { .. } => "referrer-missing",
            Problem::NotInCatalogue { .. } => "not-in-catalogue",
            Problem::TagToNothing { .. } => "tag-to-nothing",
            Problem::ReferrerToNothing => "referrer-to-nothing",
            Problem::EmptyRepository => "empty-repository",
        }
    }

    /// What a person should do.
    pub fn advice(&self) -> &'static str {
        match self {
            Problem::Stray => "find out who put it there, and move it away",
            Problem::Unreadable { .. } => "look at the disk and at who may read the file",
            Problem::Incomplete { .. } => "push the image again, or delete it",
            Problem::CorruptBlob { .. } => {
                "look at the disk; --repair sets it aside, then push the images that need it again"
            }
            Problem::ManifestToNothing | Problem::NoManifest { .. } | Problem::TagToNothing { .. } => {
                "--repair removes it; push the image again"
            }
            Problem::LinkToNothing => "--repair removes the link; push the images that need it again",
            Problem::Malformed { .. } => "--repair restores it, or sets it aside if it can't",
            Problem::RecordDiffers | Problem::ReferrerMissing { .. } | Problem::NotInCatalogue { .. } => {
                "--repair restores it"
            }
            // The traces of a push that was interrupted by a crash.
            Problem::ReferrerToNothing | Problem::EmptyRepository => "nobody sees it; --repair removes it",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, problem } = self;
        write!(f, "{key}: {problem}; {}", problem.advice())
    }
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(Digest::as_str).collect::<Vec<_>>().join(", ")
}
