//! Names of upload sessions, as clients see them: `<id>.<seal>`.
//!
//! The seal ties the id to its repository and shows that it was made here. So a session that has received nothing need
//! not be stored, and every replica knows it: the seal's key is derived from the Registry's signing key. The seal of
//! every trusted key counts, the next one's too: replicas learn at different times that keys have changed.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::oci::RepositoryName;
use crate::policy::{KeySet, SigningKey};
use crate::registry::content::UploadId;

const PURPOSE: &[u8] = b"landfast upload session";
/// Half of the hash: nobody guesses that either.
const SEAL_BYTES: usize = 16;

/// The name of a session, whose seal has not been looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedUpload {
    id: UploadId,
    seal: [u8; SEAL_BYTES],
}

impl SealedUpload {
    pub fn new(keys: &KeySet, repository: &RepositoryName, id: UploadId) -> Self {
        Self { id, seal: seal(keys.current(), repository, id) }
    }

    /// The session's id, if it was made for this repository.
    pub fn open(&self, keys: &KeySet, repository: &RepositoryName) -> Option<UploadId> {
        let fits = |key| constant_time::verify_slices_are_equal(&seal(key, repository, self.id), &self.seal).is_ok();
        keys.trusted().any(fits).then_some(self.id)
    }

    pub fn id(&self) -> UploadId {
        self.id
    }
}

impl fmt::Display for SealedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.seal))
    }
}

impl FromStr for SealedUpload {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = "an upload session is named by an id and its seal";
        let (id, seal) = text.split_once('.').ok_or(malformed)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok().and_then(|seal| seal.try_into().ok()).ok_or(malformed)?;
        Ok(Self { id: id.parse().map_err(|_| malformed)?, seal })
    }
}

fn seal(key: &SigningKey, repository: &RepositoryName, id: UploadId) -> [u8; SEAL_BYTES] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.derive(PURPOSE));
    let tag = hmac::sign(&key, format!("{id} {repository}").as_bytes());
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&tag.as_ref()[..SEAL_BYTES]);
    seal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::KeyRing;
    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    #[test]
    fn opens_for_its_repository_only() {
        let keys = KeySet::new(key(1), vec![]);
        let (app, other): (RepositoryName, RepositoryName) = ("app".parse().unwrap(), "other".parse().unwrap());
        let id = UploadId::random();
        let named: SealedUpload = SealedUpload::new(&keys, &app, id).to_string().parse().unwrap();
        assert_eq!(named.open(&keys, &app), Some(id));
        assert_eq!(named.open(&keys, &other), None);
        assert_eq!(named.open(&KeySet::new(key(2), vec![]), &app), None);
        assert_eq!(named.open(&KeySet::new(key(2), vec![key(1)]), &app), Some(id));
        let forged = SealedUpload { id: UploadId::random(), ..named };
        assert_eq!(forged.open(&keys, &app), None);
    }

    /// Each replica has the keys of another moment of a rotation.
    #[test]
    fn stays_open_while_keys_change() {
        let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let advance = |ring: &KeyRing, day| {
            ring.advance(Some(SignedDuration::from_hours(24 * 30)), |_| None, at(day), || Ok(key(2))).unwrap().ring
        };
        let before = advance(&KeyRing::new(key(1), at(0)), 29);
        let after = advance(&before, 30);
        assert_ne!(before.keys().current().id(), after.keys().current().id());
        let (app, id): (RepositoryName, _) = ("app".parse().unwrap(), UploadId::random());
        for (seals, opens) in [(&before, &after), (&after, &before)] {
            assert_eq!(SealedUpload::new(&seals.keys(), &app, id).open(&opens.keys(), &app), Some(id));
        }
    }

    #[test]
    fn refuses_other_forms() {
        let id = UploadId::random();
        let short = URL_SAFE_NO_PAD.encode([0; SEAL_BYTES - 1]);
        for text in ["", ".", "x.y", &id.to_string(), &format!("{id}."), &format!("{id}.{short}"), &format!("{id}.!!!")]
        {
            assert!(text.parse::<SealedUpload>().is_err(), "{text}");
        }
    }
}
