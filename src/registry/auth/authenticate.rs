//! From an `Authorization` header to a [`Caller`].

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use super::token::{AccessClaims, RefreshClaims, TokenCache};
use super::{AuthError, FormGrant, Published};
use crate::policy::{CredentialClaims, CredentialError, Decision, Denial, Identity, Operation, authorize};

/// Longest header that is looked at: room for the longest token that the registry makes.
const MAX_HEADER: usize = 16 * 1024;

/// What an `Authorization` header holds. Not `Debug`: it is secret.
pub enum Credentials {
    None,
    Basic { username: String, password: String },
    Bearer(String),
}

impl Credentials {
    /// Reads the header. One that can't be read is an error: a client that shows something wants to be somebody.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, AuthError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(Credentials::None) };
        if values.next().is_some() || value.len() > MAX_HEADER {
            return Err(AuthError::Header);
        }
        let text = value.to_str().map_err(|_| AuthError::Header)?;
        let (scheme, rest) = text.split_once(' ').ok_or(AuthError::Header)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Ok(Credentials::Bearer(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(AuthError::Header);
        }
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or(AuthError::Header)?;
        let (username, password) = decoded.split_once(':').ok_or(AuthError::Header)?;
        Ok(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
    }
}

/// Somebody whose credentials have been verified, or who has shown none.
#[derive(Clone, Debug)]
pub enum Caller {
    /// No credentials, no token.
    Anonymous,
    /// By a password or a refresh token.
    Known { identity: Identity, expires: Option<i64> },
    /// By an access token, which may be an anonymous client's.
    Token(Arc<AccessClaims>),
}

impl Caller {
    pub fn identity(&self) -> &Identity {
        match self {
            Caller::Anonymous => &Identity::Anonymous,
            Caller::Known { identity, .. } => identity,
            Caller::Token(claims) => &claims.identity,
        }
    }

    /// When what was shown ends by itself, in seconds since the epoch.
    pub fn expires(&self) -> Option<i64> {
        match self {
            Caller::Anonymous => None,
            Caller::Known { expires, .. } => *expires,
            Caller::Token(claims) => Some(claims.exp),
        }
    }

    /// Whether the identity is still there. [`permit`](Caller::permit) asks this too.
    pub fn check_valid(&self, published: &Published, now: Timestamp) -> Result<(), AuthError> {
        published.snapshot.grant_of(self.identity(), now).map(|_| ()).ok_or(AuthError::Revoked)
    }

    /// Decides on one operation: the policy has to allow it, and so has the token if one was shown.
    ///
    /// The policy is asked first: whom it forbids something, a token with a wider scope would not help.
    pub fn permit(&self, published: &Published, operation: &Operation, now: Timestamp) -> Result<(), AuthError> {
        match authorize(&published.snapshot, self.identity(), operation, now) {
            Decision::Deny(Denial::Anonymous) => Err(AuthError::Required),
            Decision::Deny(Denial::Revoked) => Err(AuthError::Revoked),
            Decision::Deny(denial) => Err(AuthError::Denied(denial)),
            Decision::Allow => match self {
                Caller::Token(claims) if !claims.covers(operation) => Err(AuthError::InsufficientScope),
                _ => Ok(()),
            },
        }
    }
}

/// Verifies credentials. Clones share what they remember.
#[derive(Clone, Default)]
pub struct Authenticator {
    tokens: TokenCache,
}

impl Authenticator {
    /// Who makes a request.
    pub fn authenticate(
        &self,
        credentials: &Credentials,
        published: &Published,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        match credentials {
            Credentials::None => Ok(Caller::Anonymous),
            Credentials::Basic { username, password } => verify_password(username, password, published, now),
            Credentials::Bearer(token) => {
                self.tokens.verify(token, published, now).map(Caller::Token).map_err(AuthError::Token)
            }
        }
    }

    /// Who asks for a token with a form.
    pub fn authenticate_form(
        &self,
        grant: &FormGrant,
        published: &Published,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        match grant {
            FormGrant::Password { username, password } => verify_password(username, password, published, now),
            FormGrant::RefreshToken(token) => {
                let claims = RefreshClaims::verify(token, published, now).map_err(AuthError::Token)?;
                let caller = Caller::Known { identity: claims.identity, expires: Some(claims.exp) };
                caller.check_valid(published, now)?;
                Ok(caller)
            }
        }
    }
}

/// The password is the credential; the user name has to go with it.
fn verify_password(username: &str, password: &str, published: &Published, now: Timestamp) -> Result<Caller, AuthError> {
    let refused = |error: CredentialError| AuthError::Password(Some(error));
    let claims =
        CredentialClaims::verify(password, &published.keys, &published.snapshot.registry.uid, now).map_err(refused)?;
    if !bool::from(claims.subject.username().as_bytes().ct_eq(username.as_bytes())) {
        return Err(AuthError::Password(None));
    }
    let caller = Caller::Known { identity: Identity::Credential(claims.subject), expires: claims.exp };
    caller.check_valid(published, now)?;
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn credentials(header: &str) -> Result<Credentials, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        Credentials::from_headers(&headers)
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_value("Basic")]
    #[case::empty_token("Bearer  ")]
    #[case::other_scheme("Digest abc")]
    #[case::not_base64("Basic !!!")]
    #[case::no_colon("Basic YWJj")]
    #[case::not_utf8("Basic //86YQ==")]
    #[case::too_long(&format!("Bearer {}", "a".repeat(MAX_HEADER)))]
    fn refuses_what_it_cannot_read(#[case] header: &str) {
        assert!(matches!(credentials(header), Err(AuthError::Header)));
    }

    #[test]
    fn reads_passwords_with_colons_and_schemes_in_any_case() {
        assert!(matches!(
            credentials("bASIC dTpwOnE=").ok(),
            Some(Credentials::Basic { username, password }) if username == "u" && password == "p:q"
        ));
        assert!(matches!(credentials("bearer x").ok(), Some(Credentials::Bearer(token)) if token == "x"));
    }

    #[test]
    fn two_headers_are_one_too_many() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, "Bearer a".parse().unwrap());
        headers.append(AUTHORIZATION, "Bearer b".parse().unwrap());
        assert!(matches!(Credentials::from_headers(&headers), Err(AuthError::Header)));
    }
}
