//! Whether somebody can log in at all.

use std::fmt;

use crate::policy::{Identity, Provider, Providers, User};

/// Why an identity that a policy may name can't log in at the Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLogin {
    /// The Registry doesn't trust who vouches for it.
    Provider(Provider),
    /// It is a ServiceAccount of a namespace that the Registry doesn't select.
    Namespace(String),
    /// The API server knows it, and it is no ServiceAccount: it can change objects, not log in at a registry.
    NoServiceAccount,
}

impl NoLogin {
    /// Of whom a policy can't tell (a password file is none of it), it says `None`.
    pub(super) fn of(providers: &Providers, identity: &Identity) -> Option<Self> {
        identity.user().and_then(|user| Self::of_user(providers, user))
    }

    pub(super) fn of_user(providers: &Providers, user: &User) -> Option<Self> {
        if providers.trust(user) {
            return None;
        }
        Some(match (user.as_service_account(), providers.service_accounts()) {
            (Some((namespace, _)), Some(_)) => NoLogin::Namespace(namespace.to_owned()),
            (None, _) if user.provider == Provider::Kubernetes => NoLogin::NoServiceAccount,
            _ => NoLogin::Provider(user.provider.clone()),
        })
    }

    /// What to do about it in the Registry, if anything can be done.
    pub fn advice(&self, registry: &str) -> String {
        match self {
            NoLogin::Provider(Provider::Oidc(issuer)) => {
                format!("add an issuer named {issuer} to spec.authentication.oidc of Registry {registry}")
            }
            NoLogin::Provider(Provider::Certificate) => {
                format!("set spec.authentication.clientCertificates of Registry {registry}")
            }
            NoLogin::Provider(Provider::Kubernetes) => {
                format!("set spec.authentication.serviceAccounts of Registry {registry}")
            }
            NoLogin::Provider(Provider::Htpasswd) => {
                format!("set spec.authentication.htpasswdSecretRef of Registry {registry}")
            }
            NoLogin::Namespace(namespace) => format!(
                "have spec.authentication.serviceAccounts.namespaces of Registry {registry} select namespace {namespace}"
            ),
            NoLogin::NoServiceAccount => "log in at the registry as somebody else".to_owned(),
        }
    }
}

impl fmt::Display for NoLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoLogin::Provider(Provider::Oidc(issuer)) => write!(f, "the Registry trusts no OIDC issuer named {issuer}"),
            NoLogin::Provider(Provider::Certificate) => f.write_str("the Registry takes no client certificates"),
            NoLogin::Provider(Provider::Kubernetes) => f.write_str("the Registry takes no ServiceAccounts"),
            NoLogin::Provider(Provider::Htpasswd) => f.write_str("the Registry has no password file"),
            NoLogin::Namespace(namespace) => {
                write!(f, "the Registry takes no ServiceAccounts of namespace {namespace}")
            }
            NoLogin::NoServiceAccount => {
                f.write_str("of those whom the cluster knows only ServiceAccounts can log in at a registry")
            }
        }
    }
}
