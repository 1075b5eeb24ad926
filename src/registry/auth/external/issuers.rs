//! The keys of OpenID Connect issuers, fetched when they are needed and kept for a while.
//!
//! # Guarantees
//! - Keys that are older than [`FRESH`] are fetched again before they are used. While that fails they are used for at most
//!   [`USABLE`], so that an issuer may restart; then nobody is let in by them.
//! - A token by a key that is not known is refused only after a fetch that began when the token was there: who signs with a
//!   new key has published it before. It may have to wait for that, for fetches begin [`INTERVAL`] apart.
//! - Of one issuer one fetch goes on at a time, and goes on when nobody waits for it any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ExternalTokenError;
use super::fetch::{FetchError, Place, fetch};
use super::jwt::Jwt;
use super::keys::Keys;
use crate::policy::OidcIssuer;
use crate::registry::auth::Live;

/// Seconds after which keys are fetched in the background.
const YOUNG: i64 = 4 * 60;
/// Seconds for which keys are used without another look.
const FRESH: i64 = 5 * 60;
/// Seconds for which keys are used while no newer ones can be fetched.
const USABLE: i64 = 60 * 60;
/// Between the beginnings of two fetches.
const INTERVAL: Duration = Duration::from_secs(2);
/// For how long somebody waits for newer keys who could do with those that are there. It is longer than [`INTERVAL`].
const SHORT_WAIT: Duration = Duration::from_secs(3);
/// For how long somebody waits for keys that he needs.
const LONG_WAIT: Duration = Duration::from_secs(15);
/// How often the background looks for keys to fetch.
const LOOK: Duration = Duration::from_secs(30);

/// The issuers of the Registry, as far as anybody has come with a token of theirs.
#[derive(Debug, Default)]
pub struct Issuers {
    sources: Mutex<HashMap<Place, Arc<Source>>>,
}

/// Why a signature is not taken for good.
#[derive(Debug)]
pub enum Refusal {
    Token(ExternalTokenError),
    /// Nobody can tell now.
    Unreachable,
    /// Too many are waiting.
    Busy,
}

impl Issuers {
    /// The keys of an issuer. `all` are those of the policy: others are forgotten.
    pub(super) fn source(&self, issuer: &OidcIssuer, all: &[OidcIssuer]) -> Arc<Source> {
        let place = place(issuer);
        let mut sources = self.sources();
        if let Some(source) = sources.get(&place) {
            return Arc::clone(source);
        }
        sources.retain(|known, _| all.iter().any(|issuer| *known == self::place(issuer)));
        let source = Arc::new(Source::new(place.clone()));
        sources.insert(place, Arc::clone(&source));
        source
    }

    /// Whether the keys of an issuer could be fetched the last time, if it has been tried.
    pub fn is_usable(&self, issuer: &OidcIssuer) -> Option<bool> {
        let source = self.sources().get(&place(issuer)).cloned()?;
        let state = source.state();
        state.is_failing.map(|failing| !failing)
    }

    /// Fetches the keys of the policy's issuers before anybody needs them, until it is told to stop: so that no login has
    /// to wait, and a mistake is told before somebody stands at the door.
    pub async fn keep_fresh(self: Arc<Self>, live: Arc<Live>, shutdown: CancellationToken) {
        let mut changes = live.subscribe();
        loop {
            if let Some(published) = live.current() {
                let issuers = published.snapshot.registry.providers.issuers();
                for issuer in issuers {
                    self.source(issuer, issuers).refresh(Timestamp::now());
                }
            }
            let change = async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                () = change => {}
            }
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<Place, Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(issuer: &OidcIssuer) -> Place {
    Place {
        url: issuer.url.clone(),
        discovery_url: issuer.discovery_url.clone(),
        certificate_authority: issuer.certificate_authority.clone(),
    }
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Source {
    place: Place,
    state: Mutex<State>,
    /// One fetch at a time.
    alone: tokio::sync::Mutex<()>,
    /// The number of the last fetch that has ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Fetched>,
    /// Whether a fetch waits to begin.
    is_ordered: bool,
    /// The number of the last fetch that has begun, and when.
    begun: u64,
    begun_at: Option<Instant>,
    is_failing: Option<bool>,
}

#[derive(Clone, Debug)]
struct Fetched {
    keys: Arc<Keys>,
    /// In seconds since the epoch.
    at: i64,
}

impl Fetched {
    /// In seconds. A clock that was set back makes keys old, not young for ever.
    fn age(&self, now: Timestamp) -> i64 {
        (now.as_second() - self.at).abs()
    }
}

impl Source {
    fn new(place: Place) -> Self {
        Self { place, state: Mutex::default(), alone: tokio::sync::Mutex::default(), ended: watch::Sender::new(0) }
    }

    /// Whether the issuer has signed the token. `wait` gives a place to wait in, if there is one.
    pub async fn verify<P>(
        self: &Arc<Self>,
        jwt: &Jwt<'_>,
        now: Timestamp,
        wait: impl FnOnce() -> Option<P>,
    ) -> Result<(), Refusal> {
        if let Some(keys) = self.usable_keys(now).await {
            match keys.verify(jwt) {
                Err(ExternalTokenError::UnknownKey) => {}
                verdict => return verdict.map_err(Refusal::Token),
            }
        }
        let _place = wait().ok_or(Refusal::Busy)?;
        self.verify_with_newer(jwt, now).await
    }

    /// A fetch that goes on already may be enough; one that begins now decides.
    async fn verify_with_newer(self: &Arc<Self>, jwt: &Jwt<'_>, now: Timestamp) -> Result<(), Refusal> {
        let mut ended = self.ended.subscribe();
        let number = self.order(now);
        let until = Instant::now() + LONG_WAIT;
        loop {
            let has_come = *ended.borrow_and_update() >= number;
            let (fetched, is_failing) = {
                let state = self.state();
                (state.keys.clone().filter(|fetched| fetched.age(now) <= FRESH), state.is_failing)
            };
            let verdict = fetched.map(|fetched| fetched.keys.verify(jwt));
            match verdict {
                None | Some(Err(ExternalTokenError::UnknownKey)) if !has_come => {}
                Some(Err(ExternalTokenError::UnknownKey)) if is_failing == Some(true) => {
                    return Err(Refusal::Unreachable);
                }
                Some(verdict) => return verdict.map_err(Refusal::Token),
                None => return Err(Refusal::Unreachable),
            }
            if !matches!(tokio::time::timeout_at(until, ended.changed()).await, Ok(Ok(()))) {
                return Err(Refusal::Unreachable);
            }
        }
    }

    /// Fetches keys that will soon be too old, and those that are missing.
    fn refresh(self: &Arc<Self>, now: Timestamp) {
        let is_due = self.state().keys.as_ref().is_none_or(|fetched| fetched.age(now) > YOUNG);
        if is_due {
            self.order(now);
        }
    }

    /// The newest keys that can be had without much waiting.
    async fn usable_keys(self: &Arc<Self>, now: Timestamp) -> Option<Arc<Keys>> {
        let known = || self.state().keys.clone().filter(|fetched| fetched.age(now) <= USABLE);
        let fetched = known()?;
        if fetched.age(now) <= FRESH {
            return Some(fetched.keys);
        }
        let number = self.order(now);
        // Where it fails anyway nobody is kept waiting.
        if self.state().is_failing != Some(true) {
            self.wait_for(number, SHORT_WAIT).await;
        }
        known().map(|fetched| fetched.keys)
    }

    /// Sees to it that a fetch begins after this. Gives its number.
    fn order(self: &Arc<Self>, now: Timestamp) -> u64 {
        let mut state = self.state();
        let number = state.begun + 1;
        if !state.is_ordered {
            state.is_ordered = true;
            tokio::spawn(Arc::clone(self).fetch(now));
        }
        number
    }

    async fn wait_for(&self, number: u64, patience: Duration) {
        let mut ended = self.ended.subscribe();
        let _ = tokio::time::timeout(patience, ended.wait_for(|last| *last >= number)).await;
    }

    async fn fetch(self: Arc<Self>, now: Timestamp) {
        let _alone = self.alone.lock().await;
        let begun_at = self.state().begun_at;
        if let Some(at) = begun_at {
            tokio::time::sleep_until(at + INTERVAL).await;
        }
        let number = {
            let mut state = self.state();
            (state.is_ordered, state.begun, state.begun_at) = (false, state.begun + 1, Some(Instant::now()));
            state.begun
        };
        let result = fetch(&self.place).await;
        self.note(result, now);
        self.ended.send_replace(number);
    }

    fn note(&self, result: Result<Keys, FetchError>, now: Timestamp) {
        let mut state = self.state();
        let before = state.is_failing.replace(result.is_err());
        let issuer = &self.place.url;
        match result {
            Ok(keys) => {
                state.keys = Some(Fetched { keys: Arc::new(keys), at: now.as_second() });
                if before != Some(false) {
                    tracing::info!(issuer, "keys of the issuer are there");
                }
            }
            Err(error) if before != Some(true) => {
                tracing::warn!(issuer, %error, "the keys of the issuer can't be fetched: its users can't log in for long");
            }
            Err(_) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
