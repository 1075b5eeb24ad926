//! Who vouches for users: what the Registry's `spec.authentication` says.

use std::collections::BTreeMap;

use super::{Inputs, name, namespace};
use crate::api::v1alpha1::{self as api, NamespaceSelection, NamespacesFrom, Registry};
use crate::policy::{ClaimCondition, ClientCertificates, Glob, NamespaceSet, OidcIssuer, Providers, ServiceAccounts};

pub(super) fn providers(inputs: &Inputs) -> Providers {
    let registry = &inputs.registry;
    let authentication = &registry.spec.authentication;
    let service_accounts = authentication.service_accounts.as_ref().map(|accounts| ServiceAccounts {
        audiences: audiences(registry, &accounts.audiences),
        namespaces: selected(inputs, &accounts.namespaces),
    });
    let client_certificates = authentication
        .client_certificates
        .as_ref()
        .map(|certificates| ClientCertificates { certificate_authority: certificates.certificate_authority.clone() });
    Providers::new(authentication.oidc.iter().map(issuer).collect(), service_accounts, client_certificates)
}

fn issuer(issuer: &api::OidcIssuer) -> OidcIssuer {
    let api::OidcIssuer {
        name,
        issuer_url,
        discovery_url,
        certificate_authority,
        audiences,
        username_claim,
        groups_claim,
        conditions,
    } = issuer;
    let condition = |condition: &api::ClaimCondition| ClaimCondition {
        claim: condition.claim.clone(),
        values: condition.values.iter().map(|value| Glob::new(value)).collect(),
    };
    OidcIssuer {
        name: name.clone(),
        url: issuer_url.clone(),
        discovery_url: discovery_url.clone(),
        certificate_authority: certificate_authority.clone(),
        audiences: audiences.clone(),
        username_claim: username_claim.clone(),
        groups_claim: groups_claim.clone(),
        conditions: conditions.iter().map(condition).collect(),
    }
}

/// By default the host names by which the registry is reached: a token that somebody gave to another service is none for
/// this one.
fn audiences(registry: &Registry, given: &[String]) -> Vec<String> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let mut audiences: Vec<String> = Vec::new();
    let service = format!("{}.{}.svc", name(&registry.metadata), namespace(&registry.metadata));
    let without_port = |host: &String| host.rsplit_once(':').map_or(host.clone(), |(host, _)| host.to_owned());
    for host in registry.spec.hostnames.iter().flat_map(|host| [host.clone(), without_port(host)]).chain([service]) {
        if !audiences.contains(&host) {
            audiences.push(host);
        }
    }
    audiences
}

/// A selector selects nothing where labels can't be read.
fn selected(inputs: &Inputs, selection: &NamespaceSelection) -> NamespaceSet {
    let own = namespace(&inputs.registry.metadata);
    match selection.from {
        NamespacesFrom::All => NamespaceSet::All,
        NamespacesFrom::Same => NamespaceSet::These([own.to_owned()].into()),
        NamespacesFrom::Selector => {
            let nothing = BTreeMap::new();
            let all = inputs.namespaces.as_ref().unwrap_or(&nothing).iter();
            let selected = all.filter(|(name, labels)| selection.contains(own, name, labels));
            NamespaceSet::These(selected.map(|(name, _)| name.clone()).collect())
        }
    }
}
