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

impl Change {
    /// An object that is about another Project or Registry than before: as its end there, and its beginning here.
    pub fn as_move(&self) -> Option<(Self, Self)> {
        match self {
            Change::Registry(_) | Change::Project(_) => None,
            Change::RepositoryPolicy(versions) => {
                let (gone, come) = versions.as_move(|policy| &policy.spec.project_ref)?;
                Some((Change::RepositoryPolicy(gone), Change::RepositoryPolicy(come)))
            }
            Change::Member(versions) => {
                let (gone, come) = versions.as_move(|member| (&member.spec.project_ref, &member.spec.registry_ref))?;
                Some((Change::Member(gone), Change::Member(come)))
            }
        }
    }
}

impl<K: Clone> Versions<K> {
    fn as_move<'a, P: PartialEq>(&'a self, place: impl Fn(&'a K) -> P) -> Option<(Self, Self)> {
        match self {
            Versions::Updated { before, after } if place(before) != place(after) => {
                Some((Versions::Deleted(before.clone()), Versions::Created(after.clone())))
            }
            _ => None,
        }
    }
}

impl<K> Versions<K> {
    /// As it is to be; as it was, if it is deleted.
    pub fn newest(&self) -> &K {
        match self {
            Versions::Created(object) | Versions::Updated { after: object, .. } | Versions::Deleted(object) => object,
        }
    }

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
