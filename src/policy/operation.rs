//! What a request wants to do to a repository.

use crate::oci::RepositoryName;

/// What is done. Listing the catalogue is no action of its own: it shows what may be viewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// See that the repository exists, in a listing, with what is said about it.
    View,
    /// Be offered the repository's image as the base of a build.
    SelectInBuilds,
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// See how a version was built, as far as its history tells.
    ViewDockerfile,
    /// Upload blobs, put manifests and tags.
    Push,
    /// Delete versions: tags, manifests and blobs.
    Delete,
    /// Delete the repository with all that is in it.
    DeleteRepository,
    /// Say who may pull besides the members.
    ChangeVisibility,
    /// Say whether it is a base image or is offered to builds.
    ChangeImageType,
    /// Say what it is for.
    ChangeDescription,
}

impl Action {
    /// All of them, in the order of the columns of the permission matrix.
    pub const ALL: [Action; 10] = [
        Action::View,
        Action::SelectInBuilds,
        Action::Pull,
        Action::ViewDockerfile,
        Action::Push,
        Action::Delete,
        Action::ChangeImageType,
        Action::ChangeDescription,
        Action::ChangeVisibility,
        Action::DeleteRepository,
    ];

    /// What it is called in texts and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Action::View => "view",
            Action::SelectInBuilds => "select-in-builds",
            Action::Pull => "pull",
            Action::ViewDockerfile => "view-dockerfile",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::DeleteRepository => "delete-repository",
            Action::ChangeVisibility => "change-visibility",
            Action::ChangeImageType => "change-image-type",
            Action::ChangeDescription => "change-description",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Whether it is done to objects at the API server rather than at a registry.
    pub const fn is_about_objects(self) -> bool {
        matches!(self, Action::ChangeVisibility | Action::ChangeImageType | Action::ChangeDescription)
    }

    /// The name that it has in a token's scope (Docker's token authentication specification, "Resource actions"). Whoever
    /// looks only asks to pull; what the API server's objects say is changed there, and no token is for it.
    pub const fn scope_name(self) -> &'static str {
        match self {
            Action::View | Action::SelectInBuilds | Action::Pull | Action::ViewDockerfile => "pull",
            Action::Push
            | Action::Delete
            | Action::DeleteRepository
            | Action::ChangeVisibility
            | Action::ChangeImageType
            | Action::ChangeDescription => self.name(),
        }
    }

    pub fn from_scope_name(name: &str) -> Option<Self> {
        let in_scopes = [Action::Pull, Action::Push, Action::Delete, Action::DeleteRepository];
        in_scopes.into_iter().find(|action| action.scope_name() == name)
    }
}

/// An action on a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub action: Action,
    pub repository: RepositoryName,
}
