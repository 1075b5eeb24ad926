//! Who is asking.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who is asking, once the credentials have been verified. Serialised into the registry's own tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Identity {
    /// No credentials were given.
    Anonymous,
    /// The holder of a generated credential.
    Credential(CredentialSubject),
    /// A person, or whatever else a provider knows by name.
    User(User),
    /// The same, of a provider that tells the groups too.
    GroupMember { user: User, groups: Vec<Group> },
}

impl Identity {
    /// Somebody whom a provider knows, with the groups that it tells.
    pub fn of(user: User, groups: Vec<Group>) -> Self {
        if groups.is_empty() { Identity::User(user) } else { Identity::GroupMember { user, groups } }
    }

    /// Whom a provider vouches for, if it is somebody of that kind.
    pub fn user(&self) -> Option<&User> {
        match self {
            Identity::User(user) | Identity::GroupMember { user, .. } => Some(user),
            Identity::Anonymous | Identity::Credential(_) => None,
        }
    }

    /// The groups that a provider has told.
    pub fn groups(&self) -> &[Group] {
        match self {
            Identity::GroupMember { groups, .. } => groups,
            Identity::Anonymous | Identity::Credential(_) | Identity::User(_) => &[],
        }
    }
}

/// Somebody by the name that one provider knows him by. Printed, and named in a Member, as `htpasswd:alice`: the prefix
/// keeps the providers' names apart, so that none of them can name another's user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct User {
    pub provider: Provider,
    pub name: String,
}

/// A group by the name that one provider knows it by, printed and named as a user is: `oidc:corp:developers`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    pub provider: Provider,
    pub name: String,
}

/// Who vouches for a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The file of user names and passwords. It knows no groups.
    Htpasswd,
    /// The OpenID Connect issuer to which the Registry gives this name.
    Oidc(String),
    /// The authority of client certificates: a user is a common name, a group an organization.
    Certificate,
    /// The API server of the cluster: users and groups are named as it names them, a ServiceAccount
    /// `system:serviceaccount:<namespace>:<name>`. At a registry only ServiceAccounts can log in; others are named for what
    /// they do to objects.
    Kubernetes,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Htpasswd => f.write_str("htpasswd"),
            Provider::Oidc(issuer) => write!(f, "oidc:{issuer}"),
            Provider::Certificate => f.write_str("certificate"),
            Provider::Kubernetes => f.write_str("kubernetes"),
        }
    }
}

/// Why a text names no user or group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error(
        "{0:?} names nobody: write who knows him, and the name: htpasswd:alice, oidc:<issuer>:alice, certificate:alice or kubernetes:alice"
    )]
    Provider(String),
    #[error(
        "{0:?} can't be a user's name: use at most {MAX_HTPASSWD_NAME} letters, digits and '.', '_', '@', '+', '-', and begin with a letter, a digit or '_'"
    )]
    HtpasswdName(String),
    #[error(
        "{0:?} can't be a name: it has at most {MAX_NAME} bytes, no control characters, and neither begins nor ends with a space"
    )]
    Name(String),
    #[error("{0:?} can't be a group: a password file knows none")]
    HtpasswdGroup(String),
}

/// Bytes in the name of a user of the password file.
pub const MAX_HTPASSWD_NAME: usize = 64;
/// Bytes in any other name.
pub const MAX_NAME: usize = 256;

/// What stands before the name of a ServiceAccount (Kubernetes, `serviceaccount.MakeUsername`).
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The groups that each ServiceAccount is in; with a colon and a namespace behind the second it is that namespace's
/// (Kubernetes, `serviceaccount.MakeGroupNames`).
const AUTHENTICATED: &str = "system:authenticated";
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

impl User {
    /// A user of the password file. No name can be mistaken for a generated credential's, which has slashes, nor for
    /// another provider's user, which has a colon.
    pub fn htpasswd(name: &str) -> Result<Self, UserError> {
        let starts = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
        let valid =
            name.len() <= MAX_HTPASSWD_NAME && name.bytes().next().is_some_and(starts) && name.bytes().all(goes_on);
        let error = || UserError::HtpasswdName(beginning(name));
        valid.then(|| Self { provider: Provider::Htpasswd, name: name.to_owned() }).ok_or_else(error)
    }

    /// What another provider calls somebody.
    pub fn of(provider: Provider, name: &str) -> Result<Self, UserError> {
        match provider {
            Provider::Htpasswd => Self::htpasswd(name),
            _ => Ok(Self { provider, name: checked(name)? }),
        }
    }

    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self { provider: Provider::Kubernetes, name: format!("{SERVICE_ACCOUNT}{namespace}:{name}") }
    }

    /// Namespace and name, if it is a ServiceAccount.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        match self.provider {
            Provider::Kubernetes => self.name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':'),
            _ => None,
        }
    }
}

impl Group {
    pub fn of(provider: Provider, name: &str) -> Result<Self, UserError> {
        match provider {
            Provider::Htpasswd => Err(UserError::HtpasswdGroup(beginning(name))),
            _ => Ok(Self { provider, name: checked(name)? }),
        }
    }
}

impl Group {
    /// The groups that a ServiceAccount of this namespace is in.
    pub fn all_of_service_account(namespace: &str) -> [Self; 3] {
        [SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}"), AUTHENTICATED.to_owned()]
            .map(|name| Self { provider: Provider::Kubernetes, name })
    }

    /// Whether ServiceAccounts are in it: those of all namespaces, or of this one.
    pub fn of_service_accounts(&self) -> Option<Option<&str>> {
        match self.name.strip_prefix(SERVICE_ACCOUNTS) {
            _ if self.provider != Provider::Kubernetes => None,
            None => (self.name == AUTHENTICATED).then_some(None),
            Some("") => Some(None),
            Some(rest) => rest.strip_prefix(':').map(Some),
        }
    }
}

/// Names are compared byte by byte, so that two never count as one; what can't be seen in a log is none.
fn checked(name: &str) -> Result<String, UserError> {
    let valid = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.trim() == name
        && !name.chars().any(|character| character.is_control() || is_invisible(character));
    valid.then(|| name.to_owned()).ok_or_else(|| UserError::Name(beginning(name)))
}

/// Zero-width characters and those that turn the direction of what follows: with them two names look alike.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// As much of a text as an error shows.
fn beginning(text: &str) -> String {
    text.chars().take(MAX_HTPASSWD_NAME).collect()
}

/// The provider and the name that a text names.
fn parts(text: &str) -> Result<(Provider, &str), UserError> {
    let error = || UserError::Provider(beginning(text));
    let (provider, rest) = text.split_once(':').ok_or_else(error)?;
    match provider {
        "htpasswd" => Ok((Provider::Htpasswd, rest)),
        "certificate" => Ok((Provider::Certificate, rest)),
        "kubernetes" => Ok((Provider::Kubernetes, rest)),
        "oidc" => match rest.split_once(':') {
            Some((issuer, name)) if !issuer.is_empty() => Ok((Provider::Oidc(issuer.to_owned()), name)),
            _ => Err(error()),
        },
        _ => Err(error()),
    }
}

impl FromStr for User {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let (provider, name) = parts(text)?;
        Self::of(provider, name)
    }
}

impl FromStr for Group {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let (provider, name) = parts(text)?;
        Self::of(provider, name)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.name)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.name)
    }
}

/// Whom a generated credential stands for. It holds as long as the object that it names is there with this UID and
/// with a generation that is not higher.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialSubject {
    /// A robot of a Member.
    Robot { member: String, namespace: String, name: String, generation: u32 },
    /// The pull secret of a Project in one namespace.
    PullSecret { project: String, namespace: String, name: String, generation: u32 },
}

impl CredentialSubject {
    pub fn generation(&self) -> u32 {
        match self {
            CredentialSubject::Robot { generation, .. } | CredentialSubject::PullSecret { generation, .. } => {
                *generation
            }
        }
    }

    /// Whether a user name is one of a generated credential. No user's name has a slash.
    pub fn is_username(name: &str) -> bool {
        name.starts_with("robot/") || name.starts_with("pull/")
    }

    /// The user name that goes with the credential. It tells a person what the credential is; what it may do is in
    /// the password's claims.
    pub fn username(&self) -> String {
        match self {
            CredentialSubject::Robot { namespace, name, .. } => format!("robot/{namespace}/{name}"),
            CredentialSubject::PullSecret { namespace, name, .. } => format!("pull/{namespace}/{name}"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("anonymous"),
            Identity::Credential(subject) => f.write_str(&subject.username()),
            Identity::User(user) | Identity::GroupMember { user, .. } => user.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("htpasswd:alice")]
    #[case::address("htpasswd:_Alice.B+x@example.com")]
    #[case::issuer("oidc:corp:alice@example.com")]
    #[case::workload("oidc:github:repo:acme/app:ref:refs/heads/main")]
    #[case::common_name("certificate:Alice B. Ünal")]
    #[case::person_of_the_cluster("kubernetes:alice")]
    #[case::service_account("kubernetes:system:serviceaccount:team:ci")]
    fn a_user_is_printed_as_it_is_named(#[case] text: &str) {
        assert_eq!(text.parse::<User>().map(|user| user.to_string()), Ok(text.to_owned()));
    }

    #[rstest]
    #[case::no_provider("alice")]
    #[case::other_provider("ldap:alice")]
    #[case::no_issuer("oidc:alice")]
    #[case::empty_issuer("oidc::alice")]
    #[case::robot("htpasswd:robot/ns/ci")]
    #[case::two_colons("htpasswd:oidc:alice")]
    #[case::empty("htpasswd:")]
    #[case::empty_name("oidc:corp:")]
    #[case::option("htpasswd:-alice")]
    #[case::space("htpasswd:a b")]
    #[case::space_at_the_end("certificate:alice ")]
    #[case::line_break("certificate:alice\nbob")]
    #[case::invisible("oidc:corp:al\u{200b}ice")]
    #[case::turned_around("oidc:corp:\u{202e}ecila")]
    #[case::umlaut("htpasswd:ä")]
    #[case::long(&format!("htpasswd:{}", "a".repeat(MAX_HTPASSWD_NAME + 1)))]
    #[case::long_elsewhere(&format!("kubernetes:{}", "a".repeat(MAX_NAME + 1)))]
    fn names_no_user(#[case] text: &str) {
        assert!(text.parse::<User>().is_err());
    }

    /// What one provider says about somebody never makes him anybody of another one.
    #[rstest]
    #[case::group_that_looks_like_the_clusters(Provider::Oidc("corp".to_owned()), "system:masters")]
    #[case::name_with_a_prefix(Provider::Oidc("corp".to_owned()), "htpasswd:alice")]
    #[case::organization_with_a_prefix(Provider::Certificate, "kubernetes:system:serviceaccounts:team")]
    fn a_providers_names_stay_its_own(#[case] provider: Provider, #[case] name: &str) {
        let (user, group) = (User::of(provider.clone(), name).unwrap(), Group::of(provider.clone(), name).unwrap());
        assert_eq!((&user.provider, &group.provider), (&provider, &provider));
        assert_eq!(user.to_string().parse::<User>(), Ok(user));
        assert_eq!(group.to_string().parse::<Group>(), Ok(group));
    }

    #[test]
    fn a_password_file_has_no_groups() {
        assert!("htpasswd:staff".parse::<Group>().is_err());
    }

    #[test]
    fn a_service_account_is_a_user_of_the_cluster() {
        let user = User::service_account("team", "ci");
        assert_eq!(user, "kubernetes:system:serviceaccount:team:ci".parse().unwrap());
        assert_eq!(user.as_service_account(), Some(("team", "ci")));
        assert_eq!("oidc:x:system:serviceaccount:team:ci".parse::<User>().unwrap().as_service_account(), None);
    }

    proptest::proptest! {
        /// No two names of any providers are printed alike.
        #[test]
        fn a_name_is_read_as_it_was_printed(issuer in "[a-z0-9-]{1,10}", name in "[ -~ä]{1,20}") {
            for provider in [Provider::Oidc(issuer.clone()), Provider::Certificate, Provider::Kubernetes] {
                if let Ok(user) = User::of(provider, &name) {
                    proptest::prop_assert_eq!(user.to_string().parse::<User>(), Ok(user));
                }
            }
        }
    }
}
