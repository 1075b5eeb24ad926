//! Why a caller is turned away.

use super::{CertificateRefusal, ExternalTokenError};
use crate::policy::{CredentialError, Denial, Provider};

/// Why a caller is turned away. The texts are for the client.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("log in first")]
    Required,
    #[error("the Authorization header can't be read: use Basic or Bearer credentials")]
    Header,
    /// A token must not be good for the next one, or it would never end.
    #[error("tokens are not taken as Bearer here: show an ID token, or a ServiceAccount's, as the password")]
    BearerAtToken,
    /// Which of the two is wrong is not told.
    #[error("user name or password is wrong, or the password has expired")]
    Password(#[source] Option<CredentialError>),
    #[error("the token is not valid; get a new one")]
    Token(#[source] CredentialError),
    /// A token that somebody else has signed, shown in place of a password or as a bearer token.
    #[error(transparent)]
    External(#[from] ExternalTokenError),
    /// Whether the token is good, nobody can tell now.
    #[error("{provider} can't be reached to verify the token; try again")]
    Unreachable { provider: Provider },
    #[error("the credential has been revoked or has expired; get a new one")]
    Revoked,
    #[error("the client certificate is refused: {0}")]
    Certificate(CertificateRefusal),
    /// A token with more in it would do.
    #[error("the token was not made for this; get one for the scope that the challenge names")]
    InsufficientScope,
    #[error("{0}")]
    Denied(Denial),
    #[error("too many failed logins; try again in {retry_after} seconds")]
    TooManyFailures { retry_after: u64 },
    #[error("too many logins at the same time; try again")]
    Busy,
    #[error("the token can't be signed")]
    Signing(#[source] CredentialError),
}
