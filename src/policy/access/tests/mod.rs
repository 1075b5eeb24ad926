//! Answers agree with decisions.

mod diff;
mod explain;
mod summarize;
mod who_can;

use super::Principal;
use crate::policy::{CredentialSubject, Identity, Snapshot};

/// Whether what is said of the principal is said of this identity too, whose credential is valid.
fn includes(principal: &Principal, identity: &Identity, snapshot: &Snapshot) -> bool {
    match principal {
        Principal::Anyone => true,
        Principal::Anonymous => *identity == Identity::Anonymous,
        Principal::EveryUser => *identity != Identity::Anonymous,
        Principal::User(user) => identity.user() == Some(user),
        Principal::Group(group) => identity.groups().contains(group),
        Principal::Robot { .. } | Principal::PullSecrets { .. } => {
            principal_of_credential(identity, snapshot).as_ref() == Some(principal)
        }
        Principal::UsersOf(_) | Principal::ServiceAccountsOf(_) => false,
    }
}

fn principal_of_credential(identity: &Identity, snapshot: &Snapshot) -> Option<Principal> {
    let Identity::Credential(subject) = identity else { return None };
    match subject {
        CredentialSubject::Robot { member, name, .. } => {
            Some(Principal::robot(&snapshot.robots.get(member)?.grant.source, name))
        }
        CredentialSubject::PullSecret { project, .. } => {
            Some(Principal::pull_secrets(&snapshot.pull_secrets.get(project)?.grant.source))
        }
    }
}
