//! Why a token of others lets nobody in.

use crate::policy::UserError;

/// Why a token lets nobody in. The texts are for whoever has shown it, and never hold the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExternalTokenError {
    #[error("the token is of an issuer that this registry does not trust")]
    Issuer,
    #[error("the token has expired; get a new one")]
    Expired,
    #[error("the token says no time at which it ends (exp)")]
    NoExpiry,
    #[error("the token is not valid yet: compare the clocks of its issuer and of this registry")]
    NotYet,
    #[error("the token is for somebody else: get one with the audience {}", .0.join(" or "))]
    Audience(Vec<String>),
    #[error(
        "the token is for several audiences and was not given to this registry (azp): get one for this registry's audience alone"
    )]
    AuthorizedParty,
    #[error("a token of the type {0:?} is no login: show an ID token")]
    Type(String),
    #[error(
        "the token is signed in a way that is not accepted: use RS256, PS256, ES256, EdDSA or a longer one of them"
    )]
    Algorithm,
    #[error("the token is signed by a key that its issuer does not publish")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token does not say for whom it is (sub)")]
    Subject,
    #[error("the token names nobody: its claim {0:?} is missing or no text")]
    Username(String),
    #[error("the token's e-mail address is not verified")]
    Email,
    #[error(transparent)]
    Name(#[from] UserError),
    #[error("the token does not fulfil what this registry demands of the claim {0:?}")]
    Condition(String),
    #[error("the cluster does not accept the token, or not for this registry")]
    Rejected,
    #[error("ServiceAccounts of the namespace {0} can't log in here")]
    Namespace(String),
}

impl ExternalTokenError {
    /// Whether nobody who has been given it for this registry would show it. Well-behaved clients show what has expired,
    /// and what is genuine and not enough all the same.
    pub fn is_forged(&self) -> bool {
        use ExternalTokenError as Error;
        match self {
            Error::Issuer
            | Error::NoExpiry
            | Error::Audience(_)
            | Error::AuthorizedParty
            | Error::Type(_)
            | Error::Algorithm
            | Error::UnknownKey
            | Error::Signature
            | Error::Subject
            | Error::Rejected => true,
            Error::Expired | Error::NotYet => false,
            // Found only in tokens whose signature is verified.
            Error::Username(_) | Error::Email | Error::Name(_) | Error::Condition(_) | Error::Namespace(_) => false,
        }
    }
}
