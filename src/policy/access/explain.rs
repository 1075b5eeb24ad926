//! Why somebody may do something or not.

use std::cmp::Reverse;

use k8s_openapi::jiff::Timestamp;

use super::{Explanation, Given, Near, NoLogin, Reason, Revocation, Rule, Shortfall};
use crate::policy::authorize::{Reach, Ruling, reach, role_in};
use crate::policy::{CredentialSubject, Grant, Group, Identity, Needs, ObjectKey, Operation, Role, Snapshot};

/// Why `identity` may do `operation` at the time `now`, or why not.
pub fn explain(snapshot: &Snapshot, identity: &Identity, operation: &Operation, now: Timestamp) -> Explanation {
    let ruling = Ruling::of(snapshot, &operation.repository);
    let reason = match revocation(snapshot, identity, now) {
        Some(revocation) => Reason::Revoked(revocation),
        None => reason(snapshot, ruling.as_ref(), identity, operation, now),
    };
    Explanation {
        registry: snapshot.registry.name.clone(),
        identity: identity.clone(),
        operation: operation.clone(),
        rule: ruling.map(|ruling| rule(&ruling, operation)),
        reason,
        login: NoLogin::of(&snapshot.registry.providers, identity),
    }
}

fn rule(ruling: &Ruling<'_>, operation: &Operation) -> Rule {
    Rule {
        project: ruling.project.source.clone(),
        path: ruling.project.path.clone(),
        kind: ruling.kind,
        set_by: set_by(ruling),
        needs: ruling.needs(operation.action),
    }
}

/// A RepositoryPolicy lives in the namespace of its Project.
pub(super) fn set_by(ruling: &Ruling<'_>) -> ObjectKey {
    let source = &ruling.project.source;
    match ruling.policy {
        None => source.clone(),
        Some(policy) => {
            ObjectKey { kind: "RepositoryPolicy", namespace: source.namespace.clone(), name: policy.name.clone() }
        }
    }
}

fn reason(
    snapshot: &Snapshot,
    ruling: Option<&Ruling<'_>>,
    identity: &Identity,
    operation: &Operation,
    now: Timestamp,
) -> Reason {
    let Some(ruling) = ruling else { return Reason::NoProject };
    let is_logged_in = *identity != Identity::Anonymous;
    let mut best = None;
    let granted = |least| {
        best = best_grant(snapshot, ruling, identity, operation, least, now);
        best.is_some()
    };
    let allowed = ruling.allows(operation.action, is_logged_in, granted);
    match (allowed, ruling.needs(operation.action), best) {
        (true, Needs::Anyone, _) => Reason::Anyone,
        (true, Needs::Role(_), Some((grant, group))) => Reason::Granted(Given::of(grant, group, now)),
        (true, ..) => Reason::EveryUser,
        (false, ..) if !is_logged_in => Reason::NotLoggedIn,
        (false, needs, _) => Reason::Insufficient(nearest(snapshot, ruling, identity, operation, needs, now)),
    }
}

/// The greatest role that is enough; among equals the one that lasts longest, and one's own before a group's.
fn best_grant<'a>(
    snapshot: &'a Snapshot,
    ruling: &Ruling<'_>,
    identity: &'a Identity,
    operation: &Operation,
    least: Role,
    now: Timestamp,
) -> Option<(&'a Grant, Option<&'a Group>)> {
    let repository = &operation.repository;
    let enough = grants(snapshot, identity)
        .filter(|(grant, _)| grant.holds(now) && role_in(grant, ruling.project, repository) >= Some(least));
    enough.max_by_key(|(grant, group)| {
        (grant.role, grant.expires_at.unwrap_or(Timestamp::MAX), group.is_none(), Reverse(&grant.source))
    })
}

/// The grants that come nearest to what is needed.
fn nearest(
    snapshot: &Snapshot,
    ruling: &Ruling<'_>,
    identity: &Identity,
    operation: &Operation,
    needs: Needs,
    now: Timestamp,
) -> Vec<Near> {
    let mut near: Vec<Near> = grants(snapshot, identity)
        .filter_map(|(grant, group)| {
            let shortfall = match reach(grant, ruling.project, &operation.repository) {
                Reach::OtherProject => return None,
                Reach::Official => Shortfall::Official,
                Reach::OtherRepositories => Shortfall::OtherRepositories,
                Reach::Covered if is_less(grant.role, needs) => Shortfall::Role,
                // What has not expired and is enough would have been found.
                Reach::Covered => Shortfall::Expired,
            };
            Some(Near { given: Given::of(grant, group, now), shortfall })
        })
        .collect();
    near.sort_by(|one, other| {
        let key = |near: &Near| (near.shortfall, near.given.has_expired, Reverse(near.given.role));
        key(one).cmp(&key(other)).then_with(|| one.given.source.cmp(&other.given.source))
    });
    near.truncate(Near::MOST);
    near
}

fn is_less(role: Role, needs: Needs) -> bool {
    matches!(needs, Needs::Role(least) if role < least)
}

/// What has been granted to the identity, with the group that it comes through; what has expired too.
fn grants<'a>(snapshot: &'a Snapshot, identity: &'a Identity) -> impl Iterator<Item = (&'a Grant, Option<&'a Group>)> {
    let own: &[Grant] = match identity {
        Identity::Anonymous => &[],
        Identity::User(user) | Identity::GroupMember { user, .. } => {
            snapshot.users.get(user).map(Vec::as_slice).unwrap_or_default()
        }
        Identity::Credential(CredentialSubject::Robot { member, .. }) => {
            snapshot.robots.get(member).map(|robot| std::slice::from_ref(&robot.grant)).unwrap_or_default()
        }
        Identity::Credential(CredentialSubject::PullSecret { project, .. }) => {
            snapshot.pull_secrets.get(project).map(|pull| std::slice::from_ref(&pull.grant)).unwrap_or_default()
        }
    };
    let of_group = |group| snapshot.groups.get(group).into_iter().flatten().map(move |grant| (grant, Some(group)));
    own.iter().map(|grant| (grant, None)).chain(identity.groups().iter().flat_map(of_group))
}

/// Why the identity is not valid any more, if it isn't.
fn revocation(snapshot: &Snapshot, identity: &Identity, now: Timestamp) -> Option<Revocation> {
    let Identity::Credential(subject) = identity else { return None };
    if snapshot.grants_of(identity, now).is_some() {
        return None;
    }
    let (grant, generation) = match subject {
        CredentialSubject::Robot { member, name, .. } => {
            let Some(robot) = snapshot.robots.get(member) else { return Some(Revocation::NoMember) };
            if !robot.robots.contains(name) {
                return Some(Revocation::NoRobot { member: (*robot.grant.source).clone() });
            }
            (&robot.grant, robot.generation)
        }
        CredentialSubject::PullSecret { project, namespace, .. } => {
            let Some(pull) = snapshot.pull_secrets.get(project) else { return Some(Revocation::NoProject) };
            if pull.namespaces.as_ref().is_some_and(|entitled| !entitled.contains(namespace)) {
                let (project, namespace) = ((*pull.grant.source).clone(), namespace.clone());
                return Some(Revocation::Namespace { project, namespace });
            }
            (&pull.grant, pull.generation)
        }
    };
    let source = (*grant.source).clone();
    Some(match grant.expires_at {
        Some(at) if !grant.holds(now) => Revocation::Expired { source, at },
        _ => Revocation::Generation { source, least: generation },
    })
}
