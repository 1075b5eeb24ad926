//! Who vouches for users, besides the password file: what the Registry says about each.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest as _, Sha256};

use super::{Glob, Provider, User};

/// The providers that a Registry trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers {
    oidc: Vec<OidcIssuer>,
    service_accounts: Option<ServiceAccounts>,
    client_certificates: Option<ClientCertificates>,
    stamps: HashMap<Provider, String>,
}

/// An OpenID Connect issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcIssuer {
    /// What stands before its users' names, after `oidc:`.
    pub name: String,
    /// What the claim `iss` has to be.
    pub url: String,
    /// Where its configuration is; `None`: below the URL, as the specification says.
    pub discovery_url: Option<String>,
    /// Authorities in PEM that its server's certificate has to be signed by; `None`: the public ones.
    pub certificate_authority: Option<String>,
    /// One of them has to be in the claim `aud`.
    pub audiences: Vec<String>,
    pub username_claim: String,
    pub groups_claim: Option<String>,
    /// All of them have to hold.
    pub conditions: Vec<ClaimCondition>,
}

/// What a claim has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimCondition {
    pub claim: String,
    /// One of them has to match; `*` stands for any text without a slash, `**` for any path.
    pub values: Vec<Glob>,
}

/// ServiceAccounts of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccounts {
    /// A token has to be for one of them.
    pub audiences: Vec<String>,
    /// Whose ServiceAccounts are users of the Registry.
    pub namespaces: NamespaceSet,
}

/// Namespaces, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceSet {
    All,
    These(BTreeSet<String>),
}

impl NamespaceSet {
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            NamespaceSet::All => true,
            NamespaceSet::These(names) => names.contains(namespace),
        }
    }
}

/// Client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Authorities in PEM.
    pub certificate_authority: String,
}

impl Providers {
    pub fn new(
        oidc: Vec<OidcIssuer>,
        service_accounts: Option<ServiceAccounts>,
        client_certificates: Option<ClientCertificates>,
    ) -> Self {
        let mut stamps: HashMap<_, _> =
            oidc.iter().map(|issuer| (Provider::Oidc(issuer.name.clone()), stamp(issuer))).collect();
        // Which namespaces are selected is asked each time.
        stamps.extend(service_accounts.as_ref().map(|accounts| (Provider::Kubernetes, stamp(&accounts.audiences))));
        stamps.extend(client_certificates.as_ref().map(|authority| (Provider::Certificate, stamp(authority))));
        Self { oidc, service_accounts, client_certificates, stamps }
    }

    /// Stands for what the Registry says about a provider. Tokens carry it, so that they end when that changes. `None`:
    /// the provider is not trusted, or is not one of these.
    pub fn stamp(&self, provider: &Provider) -> Option<&str> {
        self.stamps.get(provider).map(String::as_str)
    }

    pub fn issuers(&self) -> &[OidcIssuer] {
        &self.oidc
    }

    pub fn service_accounts(&self) -> Option<&ServiceAccounts> {
        self.service_accounts.as_ref()
    }

    pub fn client_certificates(&self) -> Option<&ClientCertificates> {
        self.client_certificates.as_ref()
    }

    /// Whether its provider may vouch for this user here, the password file aside, which knows for itself.
    pub fn trust(&self, user: &User) -> bool {
        match (&user.provider, user.as_service_account()) {
            (Provider::Htpasswd, _) => true,
            (Provider::Oidc(name), _) => self.oidc.iter().any(|issuer| issuer.name == *name),
            (Provider::Certificate, _) => self.client_certificates.is_some(),
            (Provider::Kubernetes, None) => false,
            (Provider::Kubernetes, Some((namespace, _))) => {
                self.service_accounts.as_ref().is_some_and(|accounts| accounts.namespaces.contains(namespace))
            }
        }
    }
}

/// The same value gives the same text in every replica of one version, which is as long as tokens live.
fn stamp(value: &impl std::fmt::Debug) -> String {
    hex::encode(&Sha256::digest(format!("{value:?}"))[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str, audience: &str) -> OidcIssuer {
        OidcIssuer {
            name: name.to_owned(),
            url: "https://issuer.example".to_owned(),
            discovery_url: None,
            certificate_authority: None,
            audiences: vec![audience.to_owned()],
            username_claim: "sub".to_owned(),
            groups_claim: None,
            conditions: vec![],
        }
    }

    fn providers(audience: &str) -> Providers {
        let namespaces = NamespaceSet::These(BTreeSet::from(["team".to_owned()]));
        let service_accounts = ServiceAccounts { audiences: vec![], namespaces };
        Providers::new(vec![issuer("a", audience), issuer("b", "registry")], Some(service_accounts), None)
    }

    #[test]
    fn another_definition_is_another_stamp() {
        let (before, after) = (providers("registry"), providers("other"));
        let of = |providers: &Providers, name: &str| {
            providers.stamp(&Provider::Oidc(name.to_owned())).map(str::to_owned).unwrap()
        };
        assert_ne!(of(&before, "a"), of(&after, "a"));
        assert_eq!(of(&before, "b"), of(&after, "b"));
        assert_ne!(of(&before, "a"), of(&before, "b"), "of two issuers");
    }

    #[test]
    fn who_is_not_trusted_has_no_stamp() {
        let providers = providers("registry");
        assert!(providers.stamp(&Provider::Kubernetes).is_some());
        for provider in [Provider::Oidc("c".to_owned()), Provider::Certificate, Provider::Htpasswd] {
            assert_eq!(providers.stamp(&provider), None);
        }
    }

    #[test]
    fn only_service_accounts_of_selected_namespaces_are_trusted() {
        let providers = providers("registry");
        assert!(providers.trust(&User::service_account("team", "ci")));
        assert!(!providers.trust(&User::service_account("other", "ci")));
        for (name, expected) in
            [("kubernetes:alice", false), ("oidc:a:x", true), ("oidc:c:x", false), ("certificate:x", false)]
        {
            assert_eq!(providers.trust(&name.parse().unwrap()), expected, "{name}");
        }
    }
}
