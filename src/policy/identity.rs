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
}

/// Somebody by the name that one provider knows him by. Printed, and named in a Member, as `htpasswd:alice`: the prefix
/// keeps the providers' names apart, so that none of them can name another's user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    pub provider: Provider,
    pub name: String,
}

/// Who vouches for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The file of user names and passwords.
    Htpasswd,
}

impl Provider {
    pub const fn prefix(self) -> &'static str {
        match self {
            Provider::Htpasswd => "htpasswd",
        }
    }
}

/// Why a text names no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("{0:?} names no user: write the provider and the name, for example htpasswd:alice")]
    Provider(String),
    #[error(
        "{0:?} can't be a user's name: use at most {MAX_USER_NAME} letters, digits and '.', '_', '@', '+', '-', and begin with a letter, a digit or '_'"
    )]
    Name(String),
}

/// Bytes in the name of a user.
pub const MAX_USER_NAME: usize = 64;

impl User {
    /// A user of the password file. No name can be mistaken for a generated credential's, which has slashes, nor for
    /// another provider's user, which has a colon.
    pub fn htpasswd(name: &str) -> Result<Self, UserError> {
        let starts = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
        let valid = name.len() <= MAX_USER_NAME && name.bytes().next().is_some_and(starts) && name.bytes().all(goes_on);
        let error = || UserError::Name(name.chars().take(MAX_USER_NAME).collect());
        valid.then(|| Self { provider: Provider::Htpasswd, name: name.to_owned() }).ok_or_else(error)
    }
}

impl FromStr for User {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        match text.split_once(':') {
            Some(("htpasswd", name)) => Self::htpasswd(name),
            _ => Err(UserError::Provider(text.chars().take(MAX_USER_NAME).collect())),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider.prefix(), self.name)
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
            Identity::User(user) => user.fmt(f),
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
    fn a_user_is_printed_as_it_is_named(#[case] text: &str) {
        assert_eq!(text.parse::<User>().map(|user| user.to_string()), Ok(text.to_owned()));
    }

    #[rstest]
    #[case::no_provider("alice")]
    #[case::other_provider("oidc:alice")]
    #[case::robot("htpasswd:robot/ns/ci")]
    #[case::two_colons("htpasswd:oidc:alice")]
    #[case::empty("htpasswd:")]
    #[case::option("htpasswd:-alice")]
    #[case::space("htpasswd:a b")]
    #[case::umlaut("htpasswd:ä")]
    #[case::long(&format!("htpasswd:{}", "a".repeat(MAX_USER_NAME + 1)))]
    fn names_no_user(#[case] text: &str) {
        assert!(text.parse::<User>().is_err());
    }
}
