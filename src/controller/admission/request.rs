//! What the API server asks about.

use std::collections::BTreeMap;

use crate::api::v1alpha1::{Member, Project, Registry, RepositoryPolicy};

/// What somebody wants to do to an object of ours.
#[derive(Clone, Debug)]
pub struct Request {
    pub requester: Requester,
    pub change: Change,
}

/// Who asks, as the API server knows him.
#[derive(Clone, Debug, Default)]
pub struct Requester {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The object before and after.
#[derive(Clone, Debug)]
// There is one per request, not a list of them.
#[allow(clippy::large_enum_variant)]
pub enum Change {
    Registry(Versions<Registry>),
    Project(Versions<Project>),
    RepositoryPolicy(Versions<RepositoryPolicy>),
    Member(Versions<Member>),
}

/// An object before and after. One that is made has no before, one that is deleted no after.
#[derive(Clone, Debug)]
pub enum Versions<K> {
    Created(K),
    Updated { before: K, after: K },
    Deleted(K),
}

impl<K> Versions<K> {
    pub fn before(&self) -> Option<&K> {
        match self {
            Versions::Created(_) => None,
            Versions::Updated { before, .. } | Versions::Deleted(before) => Some(before),
        }
    }

    pub fn after(&self) -> Option<&K> {
        match self {
            Versions::Deleted(_) => None,
            Versions::Updated { after, .. } | Versions::Created(after) => Some(after),
        }
    }
}
