//! Logins that have been verified shortly before, and the bounded work of verifying others.
//!
//! # Guarantees
//! - Passwords are neither kept nor hashed without a key: an entry is found by an HMAC, with a random key of this process,
//!   over everything that the verdict depends on. A user's other password, or other signing keys, are another entry.
//! - What is remembered is that a password fits. Whether the account still exists, and whether a credential has
//!   expired, is asked each time.
//! - However many logins come in, few are computed at a time ([`Turns`]), so that the rest of the registry goes on; and of
//!   many equal ones that come together only the first.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use moka::sync::Cache;

use super::AuthError;
use super::turns::{Company, Turn, Turns};
use crate::config::Limits;
use crate::policy::{CredentialClaims, Users};

const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Stands for a user name, a password, and what they were compared with.
pub(super) type LoginKey = [u8; 32];

/// What a login turned out to be.
#[derive(Clone)]
pub(super) enum Verified {
    User,
    Credential(Arc<CredentialClaims>),
}

#[derive(Clone)]
pub(super) struct Logins {
    key: Arc<hmac::Key>,
    verified: Cache<LoginKey, Verified>,
    turns: Turns,
}

impl Logins {
    pub fn new(limits: &Limits) -> Self {
        let secret: [u8; 32] = rand::random();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
            verified: Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build(),
            turns: Turns::new(limits, processors.div_ceil(2)),
        }
    }

    /// The key of a login. Each part is preceded by its length, so that no two logins look the same.
    pub fn key(&self, parts: &[&[u8]]) -> LoginKey {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    pub fn get(&self, key: &LoginKey) -> Option<Verified> {
        self.verified.get(key)
    }

    pub fn remember(&self, key: LoginKey, verified: Verified) {
        self.verified.insert(key, verified);
    }

    /// A number that goes with a user name, and that nobody outside can foresee.
    pub fn number_of(&self, name: &str) -> u64 {
        let tag = hmac::sign(&self.key, name.as_bytes());
        tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Waits for the right to compute one password hash.
    pub async fn turn(&self, client: IpAddr) -> Result<Turn, AuthError> {
        self.turns.take(client, Company::Share).await
    }

    /// Whether this is the user's password. The turn lasts as long as the work, also if nobody waits for it any more, and
    /// `noted` is told the verdict in any case: who goes away before it has tried all the same.
    pub async fn compute(
        &self,
        turn: Turn,
        users: Arc<Users>,
        name: String,
        password: String,
        noted: impl FnOnce(bool) + Send + 'static,
    ) -> Result<bool, AuthError> {
        let number = self.number_of(&name);
        let work = move || {
            let fits = users.verify(&name, &password, number);
            noted(fits);
            drop(turn);
            fits
        };
        // It fails when the process ends.
        tokio::task::spawn_blocking(work).await.map_err(|_| AuthError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_logins_have_the_same_key() {
        let logins = Logins::new(&Limits::default());
        assert_eq!(logins.key(&[b"a", b"b"]), logins.key(&[b"a", b"b"]));
        assert_ne!(logins.key(&[b"ab", b""]), logins.key(&[b"a", b"b"]));
        assert_ne!(logins.key(&[b"a", b"b"]), Logins::new(&Limits::default()).key(&[b"a", b"b"]));
    }

    #[tokio::test]
    async fn a_verdict_that_nobody_waits_for_is_noted() {
        let (logins, (told, heard)) = (Logins::new(&Limits::default()), tokio::sync::oneshot::channel());
        let turn = logins.turn([192, 0, 2, 1].into()).await.ok().unwrap();
        let noted = move |fits| told.send(fits).unwrap();
        let work = logins.compute(turn, Arc::default(), "alice".to_owned(), "wrong".to_owned(), noted);
        let abandoned = futures::future::select(Box::pin(work), futures::future::ready(()));
        drop(abandoned.await);
        assert!(!heard.await.unwrap());
    }
}
