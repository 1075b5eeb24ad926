//! What is wrong with an object.

use super::{Metadata, name, namespace};
use crate::policy::ObjectKey;

/// Why an object is not accepted: the `reason` of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NamespaceNotAllowed,
    OfficialNotAllowed,
    PathConflict,
    InvalidPath,
    ProjectNotFound,
    ProjectNotAccepted,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::NamespaceNotAllowed => "NamespaceNotAllowed",
            Reason::OfficialNotAllowed => "OfficialNotAllowed",
            Reason::PathConflict => "PathConflict",
            Reason::InvalidPath => "InvalidPath",
            Reason::ProjectNotFound => "ProjectNotFound",
            Reason::ProjectNotAccepted => "ProjectNotAccepted",
        }
    }
}

/// What is wrong with an object, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub object: ObjectKey,
    pub reason: Reason,
    pub message: String,
}

impl ObjectKey {
    pub fn new(kind: &'static str, metadata: &Metadata) -> Self {
        Self { kind, namespace: namespace(metadata).to_owned(), name: name(metadata).to_owned() }
    }
}
