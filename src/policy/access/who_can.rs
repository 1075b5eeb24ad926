//! Everybody who may do something.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::explain::set_by;
use super::{Given, NoLogin, Principal};
use crate::oci::RepositoryName;
use crate::policy::authorize::{Ruling, role_in};
use crate::policy::{Action, Grant, Needs, Role, Snapshot};

/// Somebody who may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub principal: Principal,
    /// By which role; `None`: everybody may.
    pub role: Option<Role>,
    pub reason: String,
    /// Why he can't, after all.
    pub login: Option<NoLogin>,
}

/// Everybody who may do `action` to `repository` at the time `now`, sorted. Where every user may, no user is listed.
pub fn who_can(snapshot: &Snapshot, action: Action, repository: &RepositoryName, now: Timestamp) -> Vec<Holder> {
    let Some(ruling) = Ruling::of(snapshot, repository) else { return vec![] };
    let everybody = |principal| {
        let reason = format!("{} makes it {}", set_by(&ruling), ruling.kind.name());
        vec![Holder { principal, role: None, reason, login: None }]
    };
    match ruling.needs(action) {
        Needs::Anyone => everybody(Principal::Anyone),
        Needs::User => everybody(Principal::EveryUser),
        Needs::Role(least) => {
            let enough = |grant: &Grant| grant.holds(now) && role_in(grant, ruling.project, repository) >= Some(least);
            with_role(snapshot, &enough, !action.is_about_objects(), now)
        }
    }
}

/// Objects are changed at the API server, where the Registry's logins don't matter.
fn with_role(snapshot: &Snapshot, enough: &dyn Fn(&Grant) -> bool, needs_login: bool, now: Timestamp) -> Vec<Holder> {
    let providers = &snapshot.registry.providers;
    let mut found: BTreeMap<Principal, Holder> = BTreeMap::new();
    let mut add = |principal: Principal, grants: &[Grant], note: String, login: Option<NoLogin>| {
        let best = grants.iter().filter(|grant| enough(grant)).max_by_key(|grant| {
            (grant.role, grant.expires_at.unwrap_or(Timestamp::MAX), std::cmp::Reverse(&grant.source))
        });
        if let Some(grant) = best {
            let reason = format!("{}{note}", Given::of(grant, None, now));
            let holder = Holder { principal: principal.clone(), role: Some(grant.role), reason, login };
            found.insert(principal, holder);
        }
    };
    for (user, grants) in snapshot.users.iter().filter(|(_, grants)| grants.iter().any(enough)) {
        let login = NoLogin::of_user(providers, user).filter(|_| needs_login);
        add(Principal::User(user.clone()), grants, String::new(), login);
    }
    for (group, grants) in snapshot.groups.iter().filter(|(_, grants)| grants.iter().any(enough)) {
        let login = NoLogin::of_group(providers, group).filter(|_| needs_login);
        add(Principal::Group(group.clone()), grants, String::new(), login);
    }
    for robots in snapshot.robots.values().filter(|robots| enough(&robots.grant)) {
        for robot in &robots.robots {
            let principal = Principal::robot(&robots.grant.source, robot);
            add(principal, std::slice::from_ref(&robots.grant), String::new(), None);
        }
    }
    for pull in snapshot.pull_secrets.values().filter(|pull| enough(&pull.grant)) {
        let note = match &pull.namespaces {
            Some(namespaces) if namespaces.is_empty() => continue,
            Some(namespaces) => format!(", in {}", namespaces.iter().cloned().collect::<Vec<_>>().join(", ")),
            None => String::new(),
        };
        add(Principal::pull_secrets(&pull.grant.source), std::slice::from_ref(&pull.grant), note, None);
    }
    found.into_values().collect()
}
