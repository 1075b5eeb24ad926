//! Whether somebody can log in at all.

use std::fmt;

use crate::policy::{Group, Identity, Provider, Providers, User};

/// Why an identity that a policy may name can't log in at the Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLogin {
    /// The Registry trusts no OIDC issuer of this name.
    Issuer(String),
    Certificates,
    ServiceAccounts,
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
        match user.as_service_account() {
            None if user.provider == Provider::Kubernetes => Some(NoLogin::NoServiceAccount),
            None => Self::of_provider(providers, &user.provider),
            Some((namespace, _)) => {
                let of_namespace = || NoLogin::Namespace(namespace.to_owned());
                Self::of_provider(providers, &Provider::Kubernetes).or_else(|| Some(of_namespace()))
            }
        }
    }

    /// Why nobody can log in who is in the group.
    pub(super) fn of_group(providers: &Providers, group: &Group) -> Option<Self> {
        if group.provider != Provider::Kubernetes {
            return Self::of_provider(providers, &group.provider);
        }
        match group.of_service_accounts() {
            None => Some(NoLogin::NoServiceAccount),
            Some(None) => Self::of_provider(providers, &Provider::Kubernetes),
            Some(Some(namespace)) => Self::of_user(providers, &User::service_account(namespace, "")),
        }
    }

    fn of_provider(providers: &Providers, provider: &Provider) -> Option<Self> {
        let reason = match provider {
            Provider::Htpasswd => return None,
            Provider::Oidc(issuer) => NoLogin::Issuer(issuer.clone()),
            Provider::Certificate => NoLogin::Certificates,
            Provider::Kubernetes => NoLogin::ServiceAccounts,
        };
        providers.stamp(provider).is_none().then_some(reason)
    }

    /// What to do about it in the Registry, if anything can be done.
    pub fn advice(&self, registry: &str) -> String {
        match self {
            NoLogin::Issuer(issuer) => {
                format!("add an issuer named {issuer} to spec.authentication.oidc of Registry {registry}")
            }
            NoLogin::Certificates => format!("set spec.authentication.clientCertificates of Registry {registry}"),
            NoLogin::ServiceAccounts => format!("set spec.authentication.serviceAccounts of Registry {registry}"),
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
            NoLogin::Issuer(issuer) => write!(f, "the Registry trusts no OIDC issuer named {issuer}"),
            NoLogin::Certificates => f.write_str("the Registry takes no client certificates"),
            NoLogin::ServiceAccounts => f.write_str("the Registry takes no ServiceAccounts"),
            NoLogin::Namespace(namespace) => {
                write!(f, "the Registry takes no ServiceAccounts of namespace {namespace}")
            }
            NoLogin::NoServiceAccount => {
                f.write_str("of those whom the cluster knows only ServiceAccounts can log in at a registry")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{NamespaceSet, ServiceAccounts};
    use rstest::rstest;

    #[rstest]
    #[case::issuer("oidc:corp:devs", "no OIDC issuer named corp")]
    #[case::certificate("certificate:devs", "no client certificates")]
    #[case::every_account("kubernetes:system:serviceaccounts", "no ServiceAccounts")]
    #[case::everybody_of_the_cluster("kubernetes:system:authenticated", "no ServiceAccounts")]
    #[case::accounts_of_a_namespace("kubernetes:system:serviceaccounts:team", "no ServiceAccounts")]
    #[case::people_of_the_cluster("kubernetes:devs", "only ServiceAccounts can log in")]
    fn nobody_of_a_group_can_log_in_where_nothing_is_trusted(#[case] group: &str, #[case] expected: &str) {
        let told = NoLogin::of_group(&Providers::default(), &group.parse().unwrap()).unwrap().to_string();
        assert!(told.contains(expected), "{told}");
    }

    #[rstest]
    #[case::every_account("kubernetes:system:serviceaccounts", None)]
    #[case::everybody_of_the_cluster("kubernetes:system:authenticated", None)]
    #[case::selected("kubernetes:system:serviceaccounts:team", None)]
    #[case::not_selected("kubernetes:system:serviceaccounts:other", Some(NoLogin::Namespace("other".to_owned())))]
    #[case::people_of_the_cluster("kubernetes:devs", Some(NoLogin::NoServiceAccount))]
    fn service_accounts_can_log_in_from_selected_namespaces(#[case] group: &str, #[case] expected: Option<NoLogin>) {
        let namespaces = NamespaceSet::These(["team".to_owned()].into());
        let accounts = ServiceAccounts { audiences: vec![], namespaces };
        let providers = Providers::new(vec![], Some(accounts), None);
        assert_eq!(NoLogin::of_group(&providers, &group.parse().unwrap()), expected);
    }
}
