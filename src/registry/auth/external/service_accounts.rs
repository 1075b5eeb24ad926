//! Tokens of the cluster's ServiceAccounts, about which the API server is asked.
//!
//! # Guarantees
//! - What doesn't look like a token of a ServiceAccount for this Registry is refused without asking.
//! - A good answer is kept for [`KNOWN`] seconds at most and never past the token's end, a bad one for [`REFUSED`]; both
//!   under a keyed hash of the token, and of what the Registry says about ServiceAccounts.
//! - Few questions are asked at a time, [`EACH`] of them for one client, and one for a client that has shown too much that
//!   was forged. Of many equal ones that come together only the first is asked. Who goes away before the answer has asked
//!   all the same.
//! - Nobody waits longer than [`WAIT`] for his question to be asked.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;

use super::claims::{check_times, texts, useful};
use super::jwt::Jwt;
use super::{ExternalTokenError as Error, Vouched};
use crate::config::Limits;
use crate::policy::{Provider, ServiceAccounts, User};
use crate::registry::auth::failures::Failures;
use crate::registry::auth::logins::{LoginKey, Logins};
use crate::registry::auth::turns::{Company, Turn, Turns};
use crate::registry::auth::{Attempt, AuthError};

/// Seconds for which good and bad answers are kept.
const KNOWN: i64 = 60;
const REFUSED: i64 = 10;
/// Answers of each kind that are kept.
const REMEMBERED: u64 = 10_000;
/// Questions that are asked at a time.
const ASKED: usize = 8;
const EACH: usize = 2;
const WAIT: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(5);
/// What the name of a ServiceAccount's user begins with.
const PREFIX: &str = "system:serviceaccount:";

/// Asks the cluster's API server about tokens.
#[async_trait]
pub trait TokenReviewer: Send + Sync {
    /// Whose token it is, if it is a valid one for one of the audiences.
    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, ReviewError>;
}

/// What the API server says about a token that it has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    pub username: String,
    pub groups: Vec<String>,
    /// For whom the token is, of those who were asked about.
    pub audiences: Vec<String>,
}

/// Why the API server has given no answer. The text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReviewError(pub Box<dyn std::error::Error + Send + Sync>);

/// Asks about tokens and remembers the answers. Clones share them.
#[derive(Clone)]
pub struct Reviews {
    reviewer: Option<Arc<dyn TokenReviewer>>,
    known: Cache<LoginKey, (Arc<Reviewed>, i64)>,
    refused: Cache<LoginKey, i64>,
    turns: Turns,
    failures: Arc<Failures>,
    is_failing: Arc<AtomicBool>,
}

impl Reviews {
    pub fn new(limits: &Limits, reviewer: Option<Arc<dyn TokenReviewer>>, failures: Arc<Failures>) -> Self {
        Self {
            reviewer,
            known: Cache::builder().max_capacity(REMEMBERED).time_to_live(seconds(KNOWN)).build(),
            refused: Cache::builder().max_capacity(REMEMBERED).time_to_live(seconds(REFUSED)).build(),
            turns: Turns::shared(limits, ASKED, EACH),
            failures,
            is_failing: Arc::default(),
        }
    }

    /// Who has shown the token. [`Error::Issuer`]: it looks like nobody's of this cluster.
    pub async fn verify(
        &self,
        jwt: &Jwt<'_>,
        accounts: &ServiceAccounts,
        attempt: Attempt<'_>,
        logins: &Logins,
    ) -> Result<Vouched, AuthError> {
        let providers = &attempt.published.snapshot.registry.providers;
        let stamp = providers.stamp(&Provider::Kubernetes).unwrap_or_default();
        let Some(reviewer) = &self.reviewer else { return Err(Error::Issuer.into()) };
        if !jwt.text_claim("sub").is_some_and(|subject| subject.starts_with(PREFIX)) {
            return Err(Error::Issuer.into());
        }
        let expiry = check_times(&jwt.claims, attempt.now)?;
        let is_ours = |audience: &&str| accounts.audiences.iter().any(|ours| ours == audience);
        if !texts(jwt.claims.get("aud")).iter().any(is_ours) {
            return Err(Error::Audience(accounts.audiences.clone()).into());
        }
        let key = logins.key(&[b"service-account", stamp.as_bytes(), jwt.text.as_bytes()]);
        let now = attempt.now.as_second();
        let reviewed = match self.remembered(&key, now) {
            Some(answer) => answer?,
            None => {
                let turn = self.turn(attempt).await?;
                match self.remembered(&key, now) {
                    Some(answer) => answer?,
                    None => {
                        let question = self.clone().ask(Arc::clone(reviewer), jwt.text, accounts, key, now, expiry);
                        // It fails when the process ends.
                        let asked = tokio::spawn(async move {
                            let _turn = turn;
                            question.await
                        });
                        asked.await.unwrap_or(Err(AuthError::Busy))?
                    }
                }
            }
        };
        vouched(&reviewed, accounts, attempt, expiry)
    }

    /// Waits for the right to ask.
    async fn turn(&self, attempt: Attempt<'_>) -> Result<Turn, AuthError> {
        let company = match self.failures.has_forged_too_much(attempt) {
            true => Company::Alone,
            false => Company::Share,
        };
        let turn = tokio::time::timeout(WAIT, self.turns.take(attempt.client, company)).await;
        turn.unwrap_or(Err(AuthError::Unreachable { provider: Provider::Kubernetes }))
    }

    fn remembered(&self, key: &LoginKey, now: i64) -> Option<Result<Arc<Reviewed>, AuthError>> {
        if let Some((reviewed, until)) = self.known.get(key)
            && now < until
        {
            return Some(Ok(reviewed));
        }
        let until = self.refused.get(key)?;
        (now < until).then(|| Err(Error::Rejected.into()))
    }

    fn ask(
        self,
        reviewer: Arc<dyn TokenReviewer>,
        token: &str,
        accounts: &ServiceAccounts,
        key: LoginKey,
        now: i64,
        expiry: i64,
    ) -> impl Future<Output = Result<Arc<Reviewed>, AuthError>> + Send + 'static {
        let (token, audiences) = (token.to_owned(), accounts.audiences.clone());
        async move {
            let review = tokio::time::timeout(PATIENCE, reviewer.review(&token, &audiences)).await;
            let slow = |_| Err(ReviewError(format!("no answer in {} seconds", PATIENCE.as_secs()).into()));
            let answer = review.unwrap_or_else(slow);
            self.tell(answer.as_ref().err());
            let answer = answer.map_err(|_| AuthError::Unreachable { provider: Provider::Kubernetes })?;
            match answer.filter(|reviewed| is_for_us(reviewed, &audiences)) {
                Some(reviewed) => {
                    let reviewed = Arc::new(reviewed);
                    self.known.insert(key, (Arc::clone(&reviewed), expiry.min(now + KNOWN)));
                    Ok(reviewed)
                }
                None => {
                    self.refused.insert(key, now + REFUSED);
                    Err(Error::Rejected.into())
                }
            }
        }
    }

    /// Tells each change once.
    fn tell(&self, error: Option<&ReviewError>) {
        let before = self.is_failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !before => {
                tracing::warn!(%error, "the API server can't be asked about tokens: ServiceAccounts can't log in");
            }
            None if before => tracing::info!("the API server answers questions about tokens again"),
            _ => {}
        }
    }
}

/// An API server that does not know audiences names none, and then nobody can tell for whom the token is.
fn is_for_us(reviewed: &Reviewed, audiences: &[String]) -> bool {
    let Reviewed { username, groups: _, audiences: found } = reviewed;
    username.starts_with(PREFIX) && found.iter().any(|audience| audiences.contains(audience))
}

fn vouched(
    reviewed: &Reviewed,
    accounts: &ServiceAccounts,
    attempt: Attempt<'_>,
    expires: i64,
) -> Result<Vouched, AuthError> {
    let user = User::of(Provider::Kubernetes, &reviewed.username).map_err(Error::Name)?;
    let (namespace, _) = user.as_service_account().ok_or(Error::Rejected)?;
    if !accounts.namespaces.contains(namespace) {
        return Err(Error::Namespace(namespace.to_owned()).into());
    }
    let known = &attempt.published.snapshot.groups;
    let told = reviewed.groups.iter().map(String::as_str);
    let groups = useful(&Provider::Kubernetes, told, |group| known.contains_key(group));
    Ok(Vouched { user, groups, expires })
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.unsigned_abs())
}
