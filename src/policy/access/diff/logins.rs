//! Who can log in any more, or can now.

use std::collections::BTreeSet;

use super::Both;
use crate::policy::access::{AccessChange, Change, Principal};
use crate::policy::{NamespaceSet, Provider, Providers, Snapshot};

pub(super) fn changes(before: &Snapshot, after: &Snapshot) -> Vec<AccessChange> {
    let (before, after) = (&before.registry.providers, &after.registry.providers);
    if before == after {
        return vec![];
    }
    let all: BTreeSet<Provider> = named(before).chain(named(after)).collect();
    let mut changes: Vec<AccessChange> = all
        .into_iter()
        .filter_map(|provider| {
            let change = match (before.stamp(&provider), after.stamp(&provider)) {
                (Some(_), None) => Change::NoLogin,
                (None, Some(_)) => Change::Login,
                (before, after) if before != after => Change::NewLogin,
                _ => return None,
            };
            Some(AccessChange { principal: Principal::UsersOf(provider), change })
        })
        .collect();
    if let (Some(before), Some(after)) = (before.service_accounts(), after.service_accounts()) {
        changes.extend(namespaces(Both { before: &before.namespaces, after: &after.namespaces }));
    }
    changes
}

fn named(providers: &Providers) -> impl Iterator<Item = Provider> {
    let issuers = providers.issuers().iter().map(|issuer| Provider::Oidc(issuer.name.clone()));
    let accounts = providers.service_accounts().map(|_| Provider::Kubernetes);
    let certificates = providers.client_certificates().map(|_| Provider::Certificate);
    issuers.chain(accounts).chain(certificates)
}

fn namespaces(sets: Both<&NamespaceSet>) -> Vec<AccessChange> {
    let of = |namespace: &String, change| AccessChange {
        principal: Principal::ServiceAccountsOf(namespace.clone()),
        change,
    };
    let all = |change| vec![AccessChange { principal: Principal::UsersOf(Provider::Kubernetes), change }];
    match (sets.before, sets.after) {
        (NamespaceSet::All, NamespaceSet::All) => vec![],
        // Which namespaces there are besides is not known.
        (NamespaceSet::All, NamespaceSet::These(_)) => all(Change::NewLogin),
        (NamespaceSet::These(_), NamespaceSet::All) => all(Change::Login),
        (NamespaceSet::These(before), NamespaceSet::These(after)) => {
            let lost = before.difference(after).map(|namespace| of(namespace, Change::NoLogin));
            let gained = after.difference(before).map(|namespace| of(namespace, Change::Login));
            lost.chain(gained).collect()
        }
    }
}
