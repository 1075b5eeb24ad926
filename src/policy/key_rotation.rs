//! Replacing a Registry's signing key so that no login fails on the way.
//!
//! # Flow
//! A new key is *next*: kept with the others and so trusted everywhere, but it signs nothing. After the lead it becomes the
//! *signing* key, everything generated is signed anew with it, and the one before becomes *previous*: still trusted, as long
//! as something that it has signed can be about. Then it goes.
//!
//! # Guarantees
//! - A key signs only after every replica has had the lead, up to a day, to learn of it.
//! - A key goes only when its caller says that nothing signed by it is needed any more.
//! - The steps depend on nothing but the dates that are kept with the keys: a restart or another leader goes on with them.
//!
//! # Assumptions
//! Clocks are apart by less than the lead. Key and dates are written together, or the dates first.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::credential::{KeyError, KeySet, SigningKey};

const NEXT_FILE: &str = "next.pem";
/// When what is in a file took its place there: seconds since the epoch, by the file's name.
const DATES_FILE: &str = "dates.json";
const LONGEST_LEAD: SignedDuration = SignedDuration::from_hours(24);
/// Previous keys that are kept. No new key is made while so many are still needed.
pub const MOST_PREVIOUS: usize = 8;

/// The keys of a Registry with their dates.
#[derive(Clone, Debug)]
pub struct KeyRing {
    signing: Dated,
    next: Option<Dated>,
    previous: Vec<Dated>,
    /// Whether each date was there when it was read.
    is_dated: bool,
}

/// A key in a file, and since when it is in the place that the file stands for.
#[derive(Clone, Debug)]
struct Dated {
    file: String,
    key: SigningKey,
    since: Timestamp,
}

#[derive(Default, Serialize, Deserialize)]
struct Dates(BTreeMap<String, i64>);

/// What is done to the keys in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A next key is trusted from now on.
    Published,
    /// The next key signs from now on.
    Switched,
    /// A previous key isn't trusted any more.
    Retired,
    /// Dates were missing and begin now.
    Dated,
}

/// The keys as they should be.
#[derive(Clone, Debug)]
pub struct Plan {
    pub ring: KeyRing,
    /// What differs; nothing has to be written if it is empty.
    pub steps: Vec<Step>,
    /// When there is something to do next.
    pub due_at: Option<Timestamp>,
    /// A new key would be due, but too many previous ones are still needed.
    pub is_held: bool,
}

impl KeyRing {
    /// With one key, which signs.
    pub fn new(key: SigningKey, now: Timestamp) -> Self {
        let signing = Dated { file: KeySet::CURRENT_FILE.to_owned(), key, since: now };
        Self { signing, next: None, previous: vec![], is_dated: true }
    }

    /// Reads a Secret or a folder: file names with their contents. Other files than keys are passed over. A date that is
    /// missing is taken for `now`: it makes a key stay longer, never shorter.
    pub fn from_files<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let files: BTreeMap<&str, &[u8]> = files.into_iter().collect();
        let Dates(dates) = files.get(DATES_FILE).and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
        let mut is_dated = true;
        let (mut signing, mut next, mut previous) = (None, None, vec![]);
        for (name, content) in files.into_iter().filter(|(name, _)| name.ends_with(".pem")) {
            let key = SigningKey::from_pem(std::str::from_utf8(content).map_err(|_| KeyError::Malformed)?)?;
            let date = dates.get(name).and_then(|second| Timestamp::from_second(*second).ok());
            is_dated &= date.is_some();
            let dated = Dated { file: name.to_owned(), key, since: date.unwrap_or(now) };
            match name {
                KeySet::CURRENT_FILE => signing = Some(dated),
                NEXT_FILE => next = Some(dated),
                _ => previous.push(dated),
            }
        }
        let signing = signing.ok_or(KeyError::Missing)?;
        // A switch that was broken off leaves a key in two places.
        let other = |dated: &Dated| dated.key.id() != signing.key.id();
        let next = next.filter(other);
        previous.retain(other);
        Ok(Self { next, previous, signing, is_dated })
    }

    /// What is kept, by file name. The signing key is to be written last where it can't be written with the others.
    pub fn to_files(&self) -> BTreeMap<String, Vec<u8>> {
        let dates = Dates(self.all().map(|dated| (dated.file.clone(), dated.since.as_second())).collect());
        // A map of numbers can't fail to be written.
        let dates = (DATES_FILE.to_owned(), serde_json::to_vec(&dates).unwrap_or_default());
        self.all().map(|dated| (dated.file.clone(), dated.key.to_pem().into())).chain([dates]).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Dated> {
        [&self.signing].into_iter().chain(&self.next).chain(&self.previous)
    }

    /// The keys for use.
    pub fn keys(&self) -> KeySet {
        let others = self.next.iter().chain(&self.previous).map(|dated| dated.key.clone());
        KeySet::new(self.signing.key.clone(), others.collect())
    }

    /// Goes on as far as it is time. `rotation` is the life of a signing key; without it nothing new is made.
    /// `needed_until` says when the last thing ends that a key which stopped signing then can have signed; `None`: never.
    pub fn advance(
        &self,
        rotation: Option<SignedDuration>,
        needed_until: impl Fn(Timestamp) -> Option<Timestamp>,
        now: Timestamp,
        new_key: impl FnOnce() -> Result<SigningKey, KeyError>,
    ) -> Result<Plan, KeyError> {
        let mut plan = Plan { ring: self.clone(), steps: vec![], due_at: None, is_held: false };
        if !self.is_dated && (rotation.is_some() || !self.previous.is_empty()) {
            plan.steps.push(Step::Dated);
        }
        plan.retire(needed_until, now);
        if let Some(rotation) = rotation {
            plan.rotate(rotation, now, new_key)?;
        }
        Ok(plan)
    }
}

impl Plan {
    fn retire(&mut self, needed_until: impl Fn(Timestamp) -> Option<Timestamp>, now: Timestamp) {
        let before = self.ring.previous.len();
        let mut ends = vec![];
        self.ring.previous.retain(|dated| {
            let end = needed_until(dated.since);
            ends.extend(end);
            end.is_none_or(|end| end > now)
        });
        if self.ring.previous.len() < before {
            self.steps.push(Step::Retired);
        }
        ends.into_iter().filter(|end| *end > now).for_each(|end| self.due(end));
    }

    fn rotate(
        &mut self,
        rotation: SignedDuration,
        now: Timestamp,
        new_key: impl FnOnce() -> Result<SigningKey, KeyError>,
    ) -> Result<(), KeyError> {
        let lead = (rotation / 4).min(LONGEST_LEAD);
        let plus = |time: Timestamp, span: SignedDuration| time.checked_add(span).unwrap_or(Timestamp::MAX);
        let switch_at = plus(self.ring.signing.since, rotation);
        let publish_at = switch_at.checked_sub(lead).unwrap_or(now);
        match self.ring.next.take() {
            None if now < publish_at => self.due(publish_at),
            None if self.ring.previous.len() >= MOST_PREVIOUS => self.is_held = true,
            None => {
                self.ring.next = Some(Dated { file: NEXT_FILE.to_owned(), key: new_key()?, since: now });
                self.steps.push(Step::Published);
                self.due(plus(now, lead).max(switch_at));
            }
            Some(next) => {
                let switch_at = switch_at.max(plus(next.since, lead));
                if now < switch_at {
                    self.ring.next = Some(next);
                    self.due(switch_at);
                    return Ok(());
                }
                let signing = Dated { file: KeySet::CURRENT_FILE.to_owned(), since: now, ..next };
                let before = std::mem::replace(&mut self.ring.signing, signing);
                let file = format!("previous-{}.pem", before.key.id());
                self.ring.previous.push(Dated { file, since: now, ..before });
                self.steps.push(Step::Switched);
                self.due(plus(now, rotation).checked_sub(lead).unwrap_or(now));
            }
        }
        Ok(())
    }

    fn due(&mut self, at: Timestamp) {
        self.due_at = Some(self.due_at.map_or(at, |earlier| earlier.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CredentialClaims, CredentialSubject};

    const DAY: i64 = 86_400;
    const ROTATION: SignedDuration = SignedDuration::from_hours(24 * 30);
    /// How long a credential is good for, from when it was signed.
    const LIFE: i64 = 60 * DAY;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(seed: u8) -> Result<SigningKey, KeyError> {
        SigningKey::from_seed(&[seed; 32])
    }

    fn needed(stopped: Timestamp) -> Option<Timestamp> {
        Some(at(stopped.as_second() + LIFE))
    }

    /// Through the form in which it is kept, as every process reads it.
    fn stored(ring: &KeyRing) -> KeyRing {
        let files = ring.to_files();
        let files = files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
        KeyRing::from_files(files, at(0)).unwrap()
    }

    fn credential(ring: &KeyRing, now: i64) -> (String, i64) {
        let (project, namespace, name) = ("p".to_owned(), "ns".to_owned(), "p".to_owned());
        let subject = CredentialSubject::PullSecret { project, namespace, name, generation: 0 };
        let claims = CredentialClaims { aud: "r".to_owned(), subject, iat: now, exp: Some(now + LIFE) };
        (claims.sign(&ring.keys()).unwrap(), now + LIFE)
    }

    /// Hour by hour for more than a year: an operator that advances, a replica that always lags behind by twelve hours,
    /// one that is up to date, and a client that keeps every credential that was ever given.
    #[test]
    fn no_credential_is_refused_while_it_is_valid() {
        let mut ring = KeyRing::new(key(1).unwrap(), at(0));
        let mut history = vec![ring.clone()];
        let (mut credentials, mut seed, mut used) = (vec![], 1, std::collections::BTreeSet::new());
        for hour in 0..(400 * 24) {
            let now = hour * 3_600;
            let plan = stored(&ring)
                .advance(Some(ROTATION), needed, at(now), || {
                    seed += 1;
                    key(seed)
                })
                .unwrap();
            ring = plan.ring;
            history.push(ring.clone());
            let lagging = &history[history.len().saturating_sub(12)];
            if hour % 24 == 0 {
                credentials.push(credential(&ring, now));
                // A replica signs too.
                credentials.push(credential(lagging, now));
            }
            used.insert(ring.keys().current().id().to_owned());
            credentials.retain(|(_, end)| *end > now);
            for replica in [&ring, lagging] {
                let keys = replica.keys();
                if hour % 120 == 0 || !plan.steps.is_empty() {
                    let refused =
                        |(text, _): &&(String, i64)| CredentialClaims::verify(text, &keys, "r", at(now)).is_err();
                    assert_eq!(credentials.iter().filter(refused).count(), 0, "in hour {hour}");
                }
            }
            assert!(ring.previous.len() <= 3, "old keys go");
        }
        assert!(used.len() >= 13, "{} keys have signed", used.len());
    }

    #[test]
    fn a_key_is_trusted_before_it_signs_and_after() {
        let advance = |ring: &KeyRing, day: i64, seed: u8| {
            stored(ring).advance(Some(ROTATION), needed, at(day * DAY), || key(seed)).unwrap()
        };
        let start = KeyRing::new(key(1).unwrap(), at(0));
        let early = advance(&start, 28, 2);
        assert_eq!((early.steps, early.due_at), (vec![], Some(at(29 * DAY))));
        let published = advance(&start, 29, 2);
        assert_eq!((&*published.steps, published.due_at), (&[Step::Published][..], Some(at(30 * DAY))));
        assert_eq!(published.ring.keys().current().id(), key(1).unwrap().id(), "it does not sign yet");
        assert!(advance(&published.ring, 29, 3).steps.is_empty(), "one is enough");
        let switched = advance(&published.ring, 30, 3);
        assert_eq!(switched.steps, [Step::Switched]);
        assert_eq!(switched.ring.keys().current().id(), key(2).unwrap().id());
        assert_eq!(switched.ring.previous.len(), 1);
        let retired = stored(&switched.ring).advance(None, needed, at(90 * DAY), || key(3)).unwrap();
        assert_eq!((retired.steps, retired.ring.previous.len()), (vec![Step::Retired], 0));
    }

    /// An operator that was away for long does not skip the time in which the next key is made known.
    #[test]
    fn a_late_operator_keeps_the_lead() {
        let start = KeyRing::new(key(1).unwrap(), at(0));
        let advance =
            |ring: &KeyRing, second: i64| stored(ring).advance(Some(ROTATION), needed, at(second), || key(2)).unwrap();
        let published = advance(&start, 500 * DAY);
        assert_eq!(published.steps, [Step::Published]);
        assert_eq!(advance(&published.ring, 501 * DAY - 1).steps, []);
        assert_eq!(advance(&published.ring, 501 * DAY).steps, [Step::Switched]);
    }

    #[test]
    fn without_a_rotation_nothing_is_ever_written() {
        let pem = key(1).unwrap().to_pem().to_owned();
        let undated = KeyRing::from_files([("signing.pem", pem.as_bytes())], at(0)).unwrap();
        let plan = undated.advance(None, needed, at(1_000 * DAY), || key(2)).unwrap();
        assert_eq!((plan.steps, plan.due_at), (vec![], None));
        let plan = undated.advance(Some(ROTATION), needed, at(5), || key(2)).unwrap();
        assert_eq!(plan.steps, [Step::Dated], "its life begins when somebody asks for one");
    }

    #[test]
    fn keys_that_are_needed_for_ever_hold_the_rotation() {
        let mut ring = KeyRing::new(key(0).unwrap(), at(0));
        let mut held = false;
        for day in 0..1_000 {
            let seed = u8::try_from(day / 30).unwrap() + 1;
            let plan = ring.advance(Some(ROTATION), |_| None, at(day * DAY), || key(seed)).unwrap();
            (ring, held) = (plan.ring, plan.is_held);
        }
        assert!(held);
        assert_eq!(ring.previous.len(), MOST_PREVIOUS);
    }

    #[test]
    fn a_switch_that_was_broken_off_leaves_each_key_once() {
        let (old, new) = (key(1).unwrap(), key(2).unwrap());
        let files = [
            ("signing.pem", new.to_pem().as_bytes()),
            ("next.pem", new.to_pem().as_bytes()),
            ("previous-x.pem", old.to_pem().as_bytes()),
        ];
        let ring = KeyRing::from_files(files, at(0)).unwrap();
        assert_eq!((ring.next.is_none(), ring.previous.len()), (true, 1));
        assert!(matches!(KeyRing::from_files([files[1]], at(0)), Err(KeyError::Missing)));
    }
}
