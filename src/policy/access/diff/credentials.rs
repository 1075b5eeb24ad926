//! Which generated credentials are not valid any more.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::policy::access::{AccessChange, Change, Principal, Revoked};
use crate::policy::{ObjectKey, PullGrant, RobotGrant, Snapshot};

pub(super) fn changes(before: &Snapshot, after: &Snapshot, now: Timestamp) -> Vec<AccessChange> {
    let mut changes = Vec::new();
    let mut note = |principal, revoked| changes.push(AccessChange { principal, change: Change::Revoked(revoked) });
    let mut remade: Option<BTreeSet<Principal>> = None;
    for (uid, robots) in before.robots.iter().filter(|(_, robots)| robots.grant.holds(now)) {
        let later = after.robots.get(uid);
        if later == Some(robots) {
            continue;
        }
        for robot in &robots.robots {
            let Some(why) = robot_revoked(robots, later, robot, now) else { continue };
            let principal = Principal::robot(&robots.grant.source, robot);
            let is_there_again =
                why == Revoked::Gone && remade.get_or_insert_with(|| robots_of(after, now)).contains(&principal);
            note(principal, if is_there_again { Revoked::Remade } else { why });
        }
    }
    let mut remade: Option<BTreeSet<&ObjectKey>> = None;
    for (uid, pull) in &before.pull_secrets {
        let later = after.pull_secrets.get(uid);
        if later == Some(pull) || is_nowhere(pull) {
            continue;
        }
        let Some(why) = pull_revoked(pull, later) else { continue };
        let source = &pull.grant.source;
        let sources = || after.pull_secrets.values().map(|pull| &*pull.grant.source).collect();
        let is_there_again = why == Revoked::Gone && remade.get_or_insert_with(sources).contains(&**source);
        note(Principal::pull_secrets(source), if is_there_again { Revoked::Remade } else { why });
    }
    changes
}

fn robot_revoked(before: &RobotGrant, after: Option<&RobotGrant>, robot: &String, now: Timestamp) -> Option<Revoked> {
    match after {
        Some(after) if !after.robots.contains(robot) => Some(Revoked::Gone),
        Some(after) if !after.grant.holds(now) => Some(Revoked::Expired),
        Some(after) if after.generation > before.generation => Some(Revoked::Generation),
        Some(_) => None,
        None => Some(Revoked::Gone),
    }
}

fn robots_of(snapshot: &Snapshot, now: Timestamp) -> BTreeSet<Principal> {
    let valid = snapshot.robots.values().filter(|robots| robots.grant.holds(now));
    valid.flat_map(|robots| robots.robots.iter().map(|robot| Principal::robot(&robots.grant.source, robot))).collect()
}

fn is_nowhere(pull: &PullGrant) -> bool {
    pull.namespaces.as_ref().is_some_and(BTreeSet::is_empty)
}

fn pull_revoked(before: &PullGrant, after: Option<&PullGrant>) -> Option<Revoked> {
    let Some(after) = after else { return Some(Revoked::Gone) };
    if after.generation > before.generation {
        return Some(Revoked::Generation);
    }
    let lost: Vec<String> = match (&before.namespaces, &after.namespaces) {
        (Some(before), Some(after)) => before.difference(after).cloned().collect(),
        // Where it can't be decided all of them are entitled.
        _ => vec![],
    };
    (!lost.is_empty()).then_some(Revoked::Namespaces(lost))
}
