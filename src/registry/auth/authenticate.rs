//! From an `Authorization` header to a [`Caller`].

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use super::external::{External, Issuers, Jwt, TokenReviewer};
use super::failures::Failures;
use super::logins::{Logins, Verified};
use super::token::{AccessClaims, RefreshClaims, TokenCache};
use super::{AuthError, FormGrant, Published};
use crate::config::Limits;
use crate::policy::{
    CredentialClaims, CredentialError, CredentialSubject, Decision, Denial, Identity, Operation, Provider, User,
    authorize,
};
use crate::registry::shares::client_address;

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
    /// By a password, a token of somebody else's, or a refresh token. `stamp` stands for the password of a user ([`Users::stamp`](crate::policy::Users::stamp)),
    /// or for what the Registry says about his provider ([`Providers::stamp`](crate::policy::Providers::stamp)).
    Known { identity: Identity, expires: Option<i64>, stamp: Option<String> },
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

    /// Of a user: with which password he has shown who he is.
    pub fn stamp(&self) -> Option<&str> {
        match self {
            Caller::Anonymous => None,
            Caller::Known { stamp, .. } => stamp.as_deref(),
            Caller::Token(claims) => claims.stamp.as_deref(),
        }
    }

    /// Whether the provider of a user still knows him, with the same password, and is still trusted for the same.
    fn is_known(&self, published: &Published) -> bool {
        let Some(user) = self.identity().user() else { return true };
        match user {
            User { provider: Provider::Htpasswd, name } => {
                published.users.stamp(name).is_some_and(|present| self.stamp() == Some(present))
            }
            User { provider, .. } => {
                let providers = &published.snapshot.registry.providers;
                let present = providers.stamp(provider);
                providers.trust(user) && present.is_some() && self.stamp() == present
            }
        }
    }

    /// Whether the identity is still there. [`permit`](Caller::permit) asks this too.
    pub fn check_valid(&self, published: &Published, now: Timestamp) -> Result<(), AuthError> {
        let is_valid = self.is_known(published) && published.snapshot.grants_of(self.identity(), now).is_some();
        is_valid.then_some(()).ok_or(AuthError::Revoked)
    }

    /// Decides on one operation: the policy has to allow it, and so has the token if one was shown.
    ///
    /// The policy is asked first: whom it forbids something, a token with a wider scope would not help.
    pub fn permit(&self, published: &Published, operation: &Operation, now: Timestamp) -> Result<(), AuthError> {
        if !self.is_known(published) {
            return Err(AuthError::Revoked);
        }
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

    /// Decides on reading the catalogue: everybody may, with a token that was made for it. What it shows is another
    /// decision for each repository.
    pub fn permit_catalog(&self, published: &Published, now: Timestamp) -> Result<(), AuthError> {
        self.check_valid(published, now)?;
        match self {
            Caller::Token(claims) if !claims.covers_catalog() => Err(AuthError::InsufficientScope),
            _ => Ok(()),
        }
    }
}

/// The circumstances in which somebody shows credentials.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub published: &'a Published,
    /// The client's address.
    pub client: IpAddr,
    pub now: Timestamp,
}

/// Verifies credentials. Clones share what they remember.
#[derive(Clone)]
pub struct Authenticator {
    tokens: TokenCache,
    logins: Logins,
    external: External,
    failures: Arc<Failures>,
}

impl Authenticator {
    /// `reviewer` is asked about tokens of ServiceAccounts; without one none can log in.
    pub fn new(limits: &Limits, issuers: Arc<Issuers>, reviewer: Option<Arc<dyn TokenReviewer>>) -> Self {
        let failures = Arc::<Failures>::default();
        let external = External::new(limits, issuers, reviewer, Arc::clone(&failures));
        Self { tokens: TokenCache::default(), logins: Logins::new(limits), external, failures }
    }

    /// Who makes a request. Only the password of a user and the token of somebody else may take time, and only if it was
    /// not shown just before.
    pub async fn authenticate(&self, credentials: &Credentials, attempt: Attempt<'_>) -> Result<Caller, AuthError> {
        match credentials {
            Credentials::None => Ok(Caller::Anonymous),
            Credentials::Basic { username, password } => self.log_in(username, password, attempt).await,
            Credentials::Bearer(token) => {
                if let Some(jwt) = self.external.read(token, attempt.published) {
                    return self.log_in_external(&jwt, attempt).await;
                }
                let verified = self.tokens.verify(token, attempt.published, attempt.now);
                verified.map(Caller::Token).map_err(|error| self.refuse_token(error, attempt))
            }
        }
    }

    /// Who asks for a token with a form.
    pub async fn authenticate_form(&self, grant: &FormGrant, attempt: Attempt<'_>) -> Result<Caller, AuthError> {
        match grant {
            FormGrant::Password { username, password } => self.log_in(username, password, attempt).await,
            FormGrant::RefreshToken(token) => {
                let RefreshClaims { identity, exp, stamp, .. } =
                    RefreshClaims::verify(token, attempt.published, attempt.now)
                        .map_err(|error| self.refuse_token(error, attempt))?;
                let caller = Caller::Known { identity, expires: Some(exp), stamp };
                caller.check_valid(attempt.published, attempt.now)?;
                Ok(caller)
            }
        }
    }

    async fn log_in(&self, username: &str, password: &str, attempt: Attempt<'_>) -> Result<Caller, AuthError> {
        let caller = if CredentialSubject::is_username(username) {
            self.log_in_with_credential(username, password, attempt)?
        // Whether or not the name is one of the password file: else the answer would tell whose names are.
        } else if let Some(jwt) = self.external.read(password, attempt.published) {
            return self.log_in_external(&jwt, attempt).await;
        } else {
            self.log_in_user(username, password, attempt).await?
        };
        caller.check_valid(attempt.published, attempt.now)?;
        Ok(caller)
    }

    /// The password is the credential; the user name has to go with it. A valid one is taken whatever others have tried
    /// from the same address: a signature can't be guessed.
    fn log_in_with_credential(
        &self,
        username: &str,
        password: &str,
        attempt: Attempt<'_>,
    ) -> Result<Caller, AuthError> {
        let Attempt { published, now, .. } = attempt;
        let generation = published.keys_generation.to_be_bytes();
        let key = self.logins.key(&[b"credential", &generation, username.as_bytes(), password.as_bytes()]);
        let audience = &published.snapshot.registry.uid;
        let claims = if let Some(Verified::Credential(claims)) = self.logins.get(&key) {
            claims.check(audience, now).map_err(|error| AuthError::Password(Some(error)))?;
            claims
        } else {
            let claims = CredentialClaims::verify(password, &published.keys, audience, now)
                .map_err(|error| self.refuse_credential(error, attempt))?;
            if !bool::from(claims.subject.username().as_bytes().ct_eq(username.as_bytes())) {
                return Err(self.count_forged(AuthError::Password(None), attempt));
            }
            let claims = Arc::new(claims);
            self.logins.remember(key, Verified::Credential(Arc::clone(&claims)));
            claims
        };
        Ok(Caller::Known { identity: Identity::Credential(claims.subject.clone()), expires: claims.exp, stamp: None })
    }

    async fn log_in_user(&self, name: &str, password: &str, attempt: Attempt<'_>) -> Result<Caller, AuthError> {
        let users = &attempt.published.users;
        let stamp = users.stamp(name).unwrap_or_default();
        let address = client_address(attempt.client).to_be_bytes();
        let key = self.logins.key(&[b"user", &address, stamp.as_bytes(), name.as_bytes(), password.as_bytes()]);
        // Who has just logged in from the same address goes on, whatever others have tried meanwhile. From elsewhere it
        // would be a way to guess without end.
        if self.logins.get(&key).is_none() {
            self.check_failures(name, attempt)?;
            let turn = self.logins.turn(attempt.client).await?;
            // Of many that came together the first one has done the work, or has used up the patience.
            if self.logins.get(&key).is_none() {
                self.check_failures(name, attempt)?;
                let (failures, logins, account) = (Arc::clone(&self.failures), self.logins.clone(), name.to_owned());
                let (limits, client, now) = (attempt.published.snapshot.registry.failures, attempt.client, attempt.now);
                let noted = move |fits| match fits {
                    true => logins.remember(key, Verified::User),
                    false => failures.count(Some(&account), client, limits, now),
                };
                let (name, password) = (name.to_owned(), password.to_owned());
                if !self.logins.compute(turn, Arc::clone(users), name, password, noted).await? {
                    return Err(AuthError::Password(None));
                }
            }
        }
        let user = User::htpasswd(name).map_err(|_| AuthError::Password(None))?;
        Ok(Caller::Known { identity: Identity::User(user), expires: None, stamp: Some(stamp.to_owned()) })
    }

    /// The token says who it is, whatever the user name.
    async fn log_in_external(&self, jwt: &Jwt<'_>, attempt: Attempt<'_>) -> Result<Caller, AuthError> {
        let caller = self.external.log_in(jwt, attempt, &self.logins).await.map_err(|error| match error {
            AuthError::External(error) if error.is_forged() => self.count_forged(error.into(), attempt),
            error => error,
        })?;
        caller.check_valid(attempt.published, attempt.now)?;
        Ok(caller)
    }

    fn check_failures(&self, account: &str, attempt: Attempt<'_>) -> Result<(), AuthError> {
        let limits = attempt.published.snapshot.registry.failures;
        match self.failures.wait(Some(account), attempt.client, limits, attempt.now) {
            Some(retry_after) => Err(AuthError::TooManyFailures { retry_after }),
            None => Ok(()),
        }
    }

    /// Counts something forged. Once there is too much of that, the answer says so instead of what is wrong.
    fn count_forged(&self, error: AuthError, attempt: Attempt<'_>) -> AuthError {
        let Attempt { published, client, now } = attempt;
        let limits = published.snapshot.registry.failures;
        match self.failures.wait(None, client, limits, now) {
            Some(retry_after) => AuthError::TooManyFailures { retry_after },
            None => {
                self.failures.count(None, client, limits, now);
                error
            }
        }
    }

    fn refuse_token(&self, error: CredentialError, attempt: Attempt<'_>) -> AuthError {
        match is_forged(&error) {
            true => self.count_forged(AuthError::Token(error), attempt),
            false => AuthError::Token(error),
        }
    }

    fn refuse_credential(&self, error: CredentialError, attempt: Attempt<'_>) -> AuthError {
        match is_forged(&error) {
            true => self.count_forged(AuthError::Password(Some(error)), attempt),
            false => AuthError::Password(Some(error)),
        }
    }
}

/// Whether nobody who has once been given it would show it. What has expired, or was signed by keys that are gone, is
/// shown by well-behaved clients too.
fn is_forged(error: &CredentialError) -> bool {
    match error {
        CredentialError::Signature(_) => true,
        CredentialError::UnknownKey
        | CredentialError::WrongType
        | CredentialError::Audience
        | CredentialError::Expired => false,
    }
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
