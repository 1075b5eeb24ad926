//! What a request wants to do to a repository.

use crate::oci::RepositoryName;

/// What is done. Listing the catalogue is no action of its own: it shows what may be viewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// See that the repository exists, in a listing.
    View,
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Upload blobs, put manifests and tags.
    Push,
    /// Delete tags, manifests and blobs.
    Delete,
}

impl Action {
    /// The name that it has in a token's scope (Docker's token authentication specification, "Resource actions").
    pub const fn scope_name(self) -> &'static str {
        match self {
            Action::View | Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }

    pub fn from_scope_name(name: &str) -> Option<Self> {
        [Action::Pull, Action::Push, Action::Delete].into_iter().find(|action| action.scope_name() == name)
    }
}

/// An action on a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub action: Action,
    pub repository: RepositoryName,
}
