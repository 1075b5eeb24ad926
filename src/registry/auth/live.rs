//! The policy in force, replaced whole while requests go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::Authorities;
use crate::policy::{KeySet, Snapshot, Users};

/// A policy and the keys that go with it.
#[derive(Debug)]
pub struct Published {
    pub snapshot: Arc<Snapshot>,
    pub keys: Arc<KeySet>,
    /// Who has a password.
    pub users: Arc<Users>,
    /// Changes when the keys do: what was verified with other keys has to be verified again.
    pub(super) keys_generation: u64,
    authorities: Option<Arc<Authorities>>,
}

impl Published {
    /// Whose client certificates let in; `None`: nobody's.
    pub fn authorities(&self) -> Option<&Arc<Authorities>> {
        self.authorities.as_ref()
    }
}

/// Where the policy is published and read. A reader never waits for a writer.
#[derive(Debug)]
pub struct Live {
    published: ArcSwapOption<Published>,
    /// Of the next publication too.
    users: ArcSwap<Users>,
    /// How often a policy has been published.
    revision: watch::Sender<u64>,
    /// In seconds since the epoch; 0 before the first policy.
    published_at: AtomicI64,
    problems: AtomicI64,
    /// Whether the password file can be used; empty where there is to be none.
    password_file: ArcSwapOption<bool>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            published: ArcSwapOption::empty(),
            users: ArcSwap::default(),
            revision: watch::Sender::new(0),
            published_at: 0.into(),
            problems: 0.into(),
            password_file: ArcSwapOption::empty(),
        }
    }
}

impl Live {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a policy in force. Pass the same `Arc` of keys as long as they are the same: then tokens that have been
    /// verified stay so.
    pub fn publish(&self, snapshot: Arc<Snapshot>, keys: Arc<KeySet>) {
        // The channel's lock makes two publishers go one after the other.
        self.revision.send_modify(|revision| {
            let before = self.published.load();
            let keys_generation = match &*before {
                None => 0,
                Some(before) => before.keys_generation + u64::from(!Arc::ptr_eq(&before.keys, &keys)),
            };
            let authorities_before = before.as_ref().and_then(|before| before.authorities());
            let authorities = Authorities::of(&snapshot.registry.providers, authorities_before);
            let users = self.users.load_full();
            self.published.store(Some(Arc::new(Published { snapshot, keys, users, keys_generation, authorities })));
            self.published_at.store(Timestamp::now().as_second(), Ordering::Relaxed);
            *revision += 1;
        });
    }

    /// Replaces those who have a password. Whoever is not among them any more is refused from then on, whatever token he
    /// has. It puts no policy in force where there is none.
    pub fn publish_users(&self, users: Arc<Users>) {
        // Subscribers are told; the revision is the policy's.
        self.revision.send_modify(|_| {
            self.users.store(Arc::clone(&users));
            if let Some(before) = &*self.published.load() {
                let (snapshot, keys) = (Arc::clone(&before.snapshot), Arc::clone(&before.keys));
                let (keys_generation, authorities) = (before.keys_generation, before.authorities.clone());
                self.published.store(Some(Arc::new(Published { snapshot, keys, users, keys_generation, authorities })));
            }
        });
    }

    /// Says how many objects the newest policy leaves out, for the metrics.
    pub fn note_problems(&self, count: usize) {
        self.problems.store(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How many objects the newest policy leaves out.
    pub fn problems(&self) -> i64 {
        self.problems.load(Ordering::Relaxed)
    }

    /// Says whether the password file can be used, for the metrics.
    pub fn note_password_file(&self, is_usable: bool) {
        if self.password_file() != Some(is_usable) {
            self.password_file.store(Some(Arc::new(is_usable)));
        }
    }

    /// Whether the password file can be used, if there is to be one.
    pub fn password_file(&self) -> Option<bool> {
        self.password_file.load().as_deref().copied()
    }

    /// When a policy was last published, in seconds since the epoch.
    pub fn published_at(&self) -> Option<i64> {
        Some(self.published_at.load(Ordering::Relaxed)).filter(|time| *time > 0)
    }

    /// How often a policy has been published.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// The policy in force, if there has been one yet.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.published.load_full()
    }

    /// Tells of each publication.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Waits for the first policy.
    pub async fn first(&self) -> Arc<Published> {
        let mut revision = self.subscribe();
        loop {
            revision.mark_unchanged();
            if let Some(published) = self.current() {
                return published;
            }
            if revision.changed().await.is_err() {
                // The sender is a field of what `self` borrows.
                unreachable!("the channel lives as long as this value");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{RegistryFacts, SigningKey};

    fn snapshot() -> Arc<Snapshot> {
        Arc::new(Snapshot::new(RegistryFacts::new("r", "ns/r")))
    }

    fn keys() -> Arc<KeySet> {
        Arc::new(KeySet::new(SigningKey::from_seed(&[1; 32]).unwrap(), vec![]))
    }

    #[tokio::test]
    async fn waits_for_the_first_policy() {
        let live = Arc::new(Live::new());
        assert!(live.current().is_none());
        let waiting = tokio::spawn({
            let live = Arc::clone(&live);
            async move { live.first().await }
        });
        tokio::task::yield_now().await;
        live.publish(snapshot(), keys());
        assert_eq!(waiting.await.unwrap().snapshot, snapshot());
        live.first().await;
    }

    #[test]
    fn users_and_policy_are_published_in_any_order() {
        let (live, keys) = (Live::new(), keys());
        let users = Arc::new(Users::parse(format!("alice:$2y$04${}", ".".repeat(53)).as_bytes()).unwrap());
        live.publish_users(Arc::clone(&users));
        assert!(live.current().is_none(), "users are no policy");
        assert_eq!((live.revision(), live.published_at()), (0, None));
        live.publish(snapshot(), Arc::clone(&keys));
        assert_eq!(live.current().unwrap().users.len(), 1);
        live.publish_users(Arc::default());
        let current = live.current().unwrap();
        assert!(current.users.is_empty() && Arc::ptr_eq(&current.keys, &keys));
        assert_eq!((current.keys_generation, live.revision()), (0, 1));
    }

    #[test]
    fn only_other_keys_start_a_new_generation() {
        let (live, first, second) = (Live::new(), keys(), keys());
        let generation = || live.current().unwrap().keys_generation;
        live.publish(snapshot(), Arc::clone(&first));
        live.publish(snapshot(), first);
        assert_eq!(generation(), 0);
        live.publish(snapshot(), second);
        assert_eq!(generation(), 1);
    }
}
