//! Which repositories were last seen to hold a blob.
//!
//! A client may ask for a mount without knowing from where (distribution-spec, "Mounting a blob from another repository":
//! `from` absent). Searching all repositories would take too long, so only those are tried of which this process
//! remembers that they took or gave the blob. What it doesn't remember is uploaded, as with a registry that can't mount.
//!
//! These are hints: the caller checks that a repository still holds the blob, and that the client may pull from it.

use std::sync::Arc;

use moka::sync::Cache;

use super::{Content, ContentError};
use crate::oci::{Digest, RepositoryName};

/// Blobs that are remembered: a few MiB.
const MAX_BLOBS: u64 = 8192;
/// Repositories for each of them.
const MAX_HOLDERS: usize = 4;

/// The youngest last.
#[derive(Clone)]
pub(super) struct Holders(Cache<Digest, Arc<[RepositoryName]>>);

impl Default for Holders {
    fn default() -> Self {
        Self(Cache::new(MAX_BLOBS))
    }
}

impl Holders {
    pub(super) fn note(&self, repository: &RepositoryName, digest: &Digest) {
        let known = self.0.get(digest).unwrap_or_default();
        if known.contains(repository) {
            return;
        }
        let kept = known.iter().skip((known.len() + 1).saturating_sub(MAX_HOLDERS));
        self.0.insert(digest.clone(), kept.chain([repository]).cloned().collect());
    }
}

impl Content {
    /// Makes `to` hold a blob that another repository holds from which the client may pull. False if none is known.
    ///
    /// What the client may not pull is not looked at, so that the answer tells nothing about it.
    pub async fn mount_from_any(
        &self,
        to: &RepositoryName,
        digest: &Digest,
        may_pull: impl Fn(&RepositoryName) -> bool,
    ) -> Result<bool, ContentError> {
        let known = self.holders.0.get(digest).unwrap_or_default();
        for from in known.iter().rev().filter(|from| may_pull(from)) {
            if self.mount_blob(from, to, digest).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_holders_are_remembered() {
        let (holders, digest) = (Holders::default(), Digest::sha256(b""));
        for name in ["a", "b", "c", "b", "d", "e", "f"] {
            holders.note(&name.parse().unwrap(), &digest);
        }
        let known: Vec<_> = holders.0.get(&digest).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(known, ["c", "d", "e", "f"]);
    }
}
