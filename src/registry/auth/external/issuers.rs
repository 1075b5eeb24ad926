//! The keys of OpenID Connect issuers, fetched when they are needed and kept for a while.
//!
//! # Guarantees
//! - Keys that are older than [`FRESH`] are fetched again before they are used. While that fails they are used for at most
//!   [`USABLE`], so that an issuer may restart; then nobody is let in by them.
//! - A token by a key that is not known is refused only after a fetch that began when the token was there: who signs with a
//!   new key has published it before. It may have to wait for that, for fetches begin [`INTERVAL`] apart. While fetches for
//!   such tokens bring nothing new the time between them grows up to [`LONGEST_INTERVAL`]; who has to wait too long is told
//!   to come again.
//! - Clients that have shown too much that was forged cause no fetch for a key that is not known.
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
const LONGEST_INTERVAL: Duration = Duration::from_secs(30);
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

    /// Whether keys of an issuer are at hand, so that nobody has to wait for them.
    pub(super) fn has_keys(&self, issuer: &OidcIssuer, now: Timestamp) -> bool {
        let source = self.sources().get(&place(issuer)).cloned();
        source.is_some_and(|source| source.state().keys.as_ref().is_some_and(|fetched| fetched.age(now) <= USABLE))
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
    /// Whether the next fetch is for a key that is not known.
    is_for_unknown: bool,
    /// Until the next fetch may begin.
    interval: Interval,
    is_failing: Option<bool>,
}

/// Time between the beginnings of two fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval(Duration);

impl Default for Interval {
    fn default() -> Self {
        Self(INTERVAL)
    }
}

impl Interval {
    /// After a fetch that has or hasn't brought other keys. One that was made because keys were old says nothing of what
    /// tokens cause.
    fn after(self, has_news: bool, was_for_unknown: bool) -> Self {
        match (has_news, was_for_unknown) {
            (true, _) => Self::default(),
            (false, true) => Self((self.0 * 2).min(LONGEST_INTERVAL)),
            (false, false) => self,
        }
    }

    /// When so much time has gone by since the last fetch: junk that comes seldom is no reason to be slow.
    fn rested(self, since: Duration) -> Self {
        if since > LONGEST_INTERVAL * 2 { Self::default() } else { self }
    }
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

    /// Whether the issuer has signed the token. `may_fetch`: also for a key that is not known. `wait` gives a place to wait
    /// in, if there is one.
    pub async fn verify<P>(
        self: &Arc<Self>,
        jwt: &Jwt<'_>,
        now: Timestamp,
        may_fetch: bool,
        wait: impl FnOnce() -> Option<P>,
    ) -> Result<(), Refusal> {
        if let Some(keys) = self.usable_keys(now).await {
            match keys.verify(jwt) {
                Err(ExternalTokenError::UnknownKey) if may_fetch => {}
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
        self.state().is_for_unknown = true;
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
        let (begun_at, interval) = {
            let state = self.state();
            (state.begun_at, state.interval)
        };
        if let Some(at) = begun_at {
            tokio::time::sleep_until(at + interval.rested(at.elapsed()).0).await;
        }
        let (number, is_for_unknown) = {
            let mut state = self.state();
            state.interval = begun_at.map_or(interval, |at| interval.rested(at.elapsed()));
            (state.is_ordered, state.begun, state.begun_at) = (false, state.begun + 1, Some(Instant::now()));
            (state.begun, std::mem::take(&mut state.is_for_unknown))
        };
        let result = fetch(&self.place).await;
        self.note(result, is_for_unknown, now);
        self.ended.send_replace(number);
    }

    fn note(&self, result: Result<Keys, FetchError>, is_for_unknown: bool, now: Timestamp) {
        let mut state = self.state();
        let before = state.is_failing.replace(result.is_err());
        let issuer = &self.place.url;
        match result {
            Ok(keys) => {
                let has_news = state.keys.as_ref().is_none_or(|before| !before.keys.are(&keys));
                state.interval = state.interval.after(has_news, is_for_unknown);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetches_that_bring_nothing_become_seldom() {
        let after = |times: usize| (0..times).fold(Interval::default(), |interval, _| interval.after(false, true));
        let seconds: Vec<_> = (0..7).map(|times| after(times).0.as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(after(4).after(false, false), after(4), "what was old is fetched in any case");
        assert_eq!(after(4).after(true, true), Interval::default());
        assert_eq!(after(4).rested(LONGEST_INTERVAL * 2), after(4));
        assert_eq!(after(4).rested(LONGEST_INTERVAL * 3), Interval::default());
    }

    /// Whether fetches for tokens become seldom, and new keys make them frequent again.
    #[test]
    fn what_a_fetch_brings_decides_on_the_next_one() {
        let (url, discovery_url, certificate_authority) = (String::new(), None, None);
        let source = Source::new(Place { url, discovery_url, certificate_authority });
        let x = |first: char| format!("{first}{}", "A".repeat(42));
        let keys = |names: &[char]| {
            let key = |name: &char| serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": x(*name)});
            let set = serde_json::json!({"keys": names.iter().map(key).collect::<Vec<_>>()});
            Ok(Keys::parse(set.to_string().as_bytes()).unwrap())
        };
        let noted = |names: &[char], is_for_unknown| {
            source.note(keys(names), is_for_unknown, Timestamp::UNIX_EPOCH);
            source.state().interval.0.as_secs()
        };
        assert_eq!([noted(&['A', 'B'], true), noted(&['B', 'A'], true), noted(&['A', 'B'], true)], [2, 4, 8]);
        assert_eq!([noted(&['A', 'B'], false), noted(&['A'], false)], [8, 2]);
    }
}
