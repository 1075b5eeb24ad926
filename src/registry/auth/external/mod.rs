//! Logins by tokens that others have signed: ID tokens of OpenID Connect issuers, and tokens of the cluster's
//! ServiceAccounts.
//!
//! # Flow
//! A token says who has signed it ([`jwt`]). That chooses an issuer of the Registry, whose [`keys`] are at hand or are
//! [fetched](fetch), and whose conditions the [`claims`] have to meet; or else the API server is asked
//! ([`service_accounts`]).
//!
//! # Guarantees
//! - What a token says is believed only once its signature is verified. Before that it is used for nothing but to refuse it.
//! - Nothing but refusals of the API server and its answers are remembered: a token is verified each time, by what the
//!   policy of the moment says about its issuer.

mod claims;
mod error;
mod fetch;
mod issuers;
mod jwt;
mod keys;
mod service_accounts;

use std::sync::Arc;

pub use self::error::ExternalTokenError;
pub use self::issuers::Issuers;
pub(super) use self::jwt::Jwt;
pub use self::service_accounts::{ReviewError, Reviewed, TokenReviewer};
pub(super) use claims::useful;

use self::issuers::Refusal;
use self::service_accounts::Reviews;
use super::failures::Failures;
use super::logins::Logins;
use super::turns::Turns;
use super::{Attempt, AuthError, Caller, Published};
use crate::config::Limits;
use crate::policy::{Group, Identity, OidcIssuer, Provider, User};

/// For whom a token stands that has been verified.
struct Vouched {
    user: User,
    groups: Vec<Group>,
    /// The token's end, in seconds since the epoch.
    expires: i64,
}

/// Verifies tokens of others. Clones share what they remember.
#[derive(Clone)]
pub(super) struct External {
    issuers: Arc<Issuers>,
    reviews: Reviews,
    /// For those who wait for keys.
    turns: Turns,
    failures: Arc<Failures>,
}

impl External {
    pub fn new(
        limits: &Limits,
        issuers: Arc<Issuers>,
        reviewer: Option<Arc<dyn TokenReviewer>>,
        failures: Arc<Failures>,
    ) -> Self {
        let reviews = Reviews::new(limits, reviewer, Arc::clone(&failures));
        Self { issuers, reviews, turns: Turns::new(limits, 0), failures }
    }

    /// The token, if it is one that somebody else has signed and the Registry trusts anybody at all.
    pub fn read<'a>(&self, token: &'a str, published: &Published) -> Option<Jwt<'a>> {
        let providers = &published.snapshot.registry.providers;
        let any = !providers.issuers().is_empty() || providers.service_accounts().is_some();
        any.then(|| Jwt::foreign(token)).flatten()
    }

    pub async fn log_in(&self, jwt: &Jwt<'_>, attempt: Attempt<'_>, logins: &Logins) -> Result<Caller, AuthError> {
        let Vouched { user, groups, expires } = self.verify(jwt, attempt, logins).await?;
        let providers = &attempt.published.snapshot.registry.providers;
        let stamp = providers.stamp(&user.provider).map(str::to_owned);
        Ok(Caller::Known { identity: Identity::of(user, groups), expires: Some(expires), stamp })
    }

    /// Several issuers of the Registry may be the same one with other demands: the first that the token fits lets in. One
    /// that can't be reached keeps nobody waiting whom another one knows. What is for none of them may be a ServiceAccount's.
    async fn verify(&self, jwt: &Jwt<'_>, attempt: Attempt<'_>, logins: &Logins) -> Result<Vouched, AuthError> {
        let providers = &attempt.published.snapshot.registry.providers;
        let url = jwt.text_claim("iss");
        let mut refusal = None;
        let mut issuers: Vec<_> = providers.issuers().iter().filter(|issuer| Some(&*issuer.url) == url).collect();
        issuers.sort_by_cached_key(|issuer| !self.issuers.has_keys(issuer, attempt.now));
        for issuer in issuers {
            match self.verify_by(issuer, jwt, attempt).await {
                Ok(vouched) => return Ok(vouched),
                // That the token is for somebody else says least.
                Err(AuthError::External(ExternalTokenError::Audience(_))) if refusal.is_some() => {}
                Err(error) => refusal = Some(error),
            }
        }
        match (refusal, providers.service_accounts()) {
            (None, None) => Err(ExternalTokenError::Issuer.into()),
            (None, Some(accounts)) => self.reviews.verify(jwt, accounts, attempt, logins).await,
            (Some(error @ AuthError::External(ExternalTokenError::Audience(_))), Some(accounts)) => {
                match self.reviews.verify(jwt, accounts, attempt, logins).await {
                    Err(AuthError::External(ExternalTokenError::Issuer)) => Err(error),
                    other => other,
                }
            }
            (Some(error), _) => Err(error),
        }
    }

    async fn verify_by(&self, issuer: &OidcIssuer, jwt: &Jwt<'_>, attempt: Attempt<'_>) -> Result<Vouched, AuthError> {
        let Attempt { published, client, now } = attempt;
        // Keys are not fetched for what they could not save.
        let expires = claims::check(jwt, &issuer.audiences, now)?;
        let source = self.issuers.source(issuer, published.snapshot.registry.providers.issuers());
        let may_fetch = !self.failures.has_forged_too_much(attempt);
        source.verify(jwt, now, may_fetch, || self.turns.place(client).ok()).await.map_err(
            |refusal| match refusal {
                Refusal::Token(error) => error.into(),
                Refusal::Busy => AuthError::Busy,
                Refusal::Unreachable => AuthError::Unreachable { provider: Provider::Oidc(issuer.name.clone()) },
            },
        )?;
        let known = &published.snapshot.groups;
        let (user, groups) = claims::identify(issuer, &jwt.claims, |group| known.contains_key(group))?;
        Ok(Vouched { user, groups, expires })
    }
}
