//! How many failed logins are borne, and from whom.
//!
//! # Guarantees
//! - Failures are counted for each account in each network that it is tried from, and for each address over all accounts,
//!   which is borne [`PER_ADDRESS`] times as many: many people may sit behind one address.
//! - Nobody is locked out by what others do elsewhere: an account that is attacked from one network stays open to all
//!   others. What that leaves to an attacker with many networks is bounded by how many passwords are checked at a time.
//! - Only wrong passwords count, and tokens that are forged or for somebody else, each for itself. What has expired or was
//!   revoked, and what is genuine and not enough, is shown by well-behaved clients too.
//! - The memory is bounded: the accounts with the fewest recent failures are forgotten first.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;

use super::Attempt;
use crate::policy::FailureLimits;
use crate::registry::shares::client_address;

/// How many times as many failures an address is borne as an account is.
const PER_ADDRESS: u32 = 5;
/// Of accounts and addresses that are remembered.
const MOST: usize = 64 * 1024;

/// Remembers failures. Its times are the caller's.
#[derive(Default)]
pub struct Failures {
    /// Keyed, so that no client can choose names that collide.
    random: RandomState,
    /// When, in milliseconds since the epoch, the failures so far will have been forgotten.
    forgotten_at: Mutex<HashMap<u64, i64>>,
}

/// Whose failures.
struct Bucket {
    key: u64,
    /// Milliseconds until one failure is forgotten.
    interval: i64,
    /// Milliseconds until as many are forgotten as are borne at once.
    window: i64,
}

impl Failures {
    /// Seconds to wait before this account may be tried from this client again. `None`: now.
    pub fn wait(&self, account: Option<&str>, client: IpAddr, limits: FailureLimits, now: Timestamp) -> Option<u64> {
        let now = now.as_millisecond();
        let known = self.forgotten_at.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |bucket: Bucket| {
            let at = known.get(&bucket.key).copied().unwrap_or(now).min(now + bucket.window);
            let wait = at + bucket.interval - bucket.window - now;
            (wait > 0).then_some((wait as u64).div_ceil(1000))
        };
        self.buckets(account, client, limits).into_iter().flatten().filter_map(wait).max()
    }

    /// Whether so much that is forged has come from this client that no more is borne now.
    pub fn has_forged_too_much(&self, attempt: Attempt<'_>) -> bool {
        let Attempt { published, client, now } = attempt;
        self.wait(None, client, published.snapshot.registry.failures, now).is_some()
    }

    /// Notes a failure.
    pub fn count(&self, account: Option<&str>, client: IpAddr, limits: FailureLimits, now: Timestamp) {
        let now = now.as_millisecond();
        let mut known = self.forgotten_at.lock().unwrap_or_else(PoisonError::into_inner);
        for bucket in self.buckets(account, client, limits).into_iter().flatten() {
            if known.len() >= MOST && !known.contains_key(&bucket.key) {
                make_room(&mut known, now);
            }
            let at = known.entry(bucket.key).or_insert(now);
            // A clock that was set back must not leave anybody waiting for ever.
            *at = ((*at).max(now) + bucket.interval).min(now + bucket.window);
        }
    }

    fn buckets(&self, account: Option<&str>, client: IpAddr, limits: FailureLimits) -> [Option<Bucket>; 2] {
        let bucket = |key: u64, times: u32| {
            let per_minute = i64::from(limits.per_minute.max(1)) * i64::from(times);
            let interval = (60_000 / per_minute).max(1);
            Bucket { key, interval, window: interval * i64::from(limits.burst.max(1)) * i64::from(times) }
        };
        let (address, network) = networks(client);
        match account {
            Some(account) => [
                Some(bucket(self.random.hash_one((network, account)), 1)),
                Some(bucket(self.random.hash_one((address, "")), PER_ADDRESS)),
            ],
            // Apart, because a program with a token for somewhere else must not keep the people beside it from logging in.
            None => [None, Some(bucket(self.random.hash_one((address, "", "forged")), PER_ADDRESS))],
        }
    }
}

/// What counts as one address, and as one network: of IPv6 a /64 is both.
fn networks(client: IpAddr) -> (u128, u128) {
    let address = client_address(client);
    (address, if client.to_canonical().is_ipv4() { address & !0xff } else { address })
}

/// Forgets what has run out, and if that is not enough the quarter that would run out first.
fn make_room(known: &mut HashMap<u64, i64>, now: i64) {
    known.retain(|_, at| *at > now);
    if known.len() >= MOST {
        let mut times: Vec<i64> = known.values().copied().collect();
        let (_, &mut bound, _) = times.select_nth_unstable(MOST / 4);
        let mut excess = MOST / 4;
        known.retain(|_, at| {
            let goes = *at <= bound && excess > 0;
            excess -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FailureLimits = FailureLimits { per_minute: 6, burst: 3 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// So many failures of an account from an address, then how long it has to wait.
    fn fail(failures: &Failures, times: usize, account: &str, client: &str, now: i64) -> Option<u64> {
        for _ in 0..times {
            failures.count(Some(account), ip(client), LIMITS, at(now));
        }
        failures.wait(Some(account), ip(client), LIMITS, at(now))
    }

    #[test]
    fn a_burst_is_borne_and_then_forgotten_one_by_one() {
        let failures = Failures::default();
        assert_eq!(fail(&failures, 2, "alice", "192.0.2.1", 0), None);
        assert_eq!(fail(&failures, 1, "alice", "192.0.2.1", 0), Some(10));
        assert_eq!(failures.wait(Some("alice"), ip("192.0.2.1"), LIMITS, at(9)), Some(1));
        assert_eq!(failures.wait(Some("alice"), ip("192.0.2.1"), LIMITS, at(10)), None);
        assert_eq!(fail(&failures, 1, "alice", "192.0.2.1", 10), Some(10), "one was forgotten, one came");
        assert_eq!(fail(&failures, 2, "alice", "192.0.2.1", 1000), None, "all were forgotten");
    }

    #[test]
    fn an_account_is_attacked_from_a_network_and_stays_open_elsewhere() {
        let failures = Failures::default();
        assert!(fail(&failures, 3, "alice", "192.0.2.1", 0).is_some());
        let wait = |account, client| failures.wait(Some(account), ip(client), LIMITS, at(0)).is_some();
        assert!(wait("alice", "192.0.2.99"), "the same network");
        assert!(!wait("alice", "192.0.3.1"), "another network");
        assert!(!wait("bob", "192.0.2.1"), "another account");
        assert!(fail(&failures, 3, "alice", "2001:db8::1", 0).is_some());
        assert!(wait("alice", "2001:db8::ffff"), "the same /64");
        assert!(!wait("alice", "2001:db8:0:1::1"), "another /64");
        assert!(wait("alice", "::ffff:192.0.2.7"), "IPv4 written as IPv6");
    }

    #[test]
    fn an_address_that_tries_many_accounts_is_stopped() {
        let failures = Failures::default();
        for account in 0..15 {
            assert_eq!(fail(&failures, 0, "x", "192.0.2.1", 0), None, "{account}");
            fail(&failures, 1, &account.to_string(), "192.0.2.1", 0);
        }
        assert_eq!(fail(&failures, 0, "x", "192.0.2.1", 0), Some(2));
        assert_eq!(fail(&failures, 0, "x", "192.0.2.2", 0), None, "its neighbour is not");
    }

    #[test]
    fn what_is_forged_is_stopped_and_keeps_nobody_from_logging_in() {
        let failures = Failures::default();
        let wait = |account| failures.wait(account, ip("192.0.2.1"), LIMITS, at(0));
        (0..15).for_each(|_| failures.count(None, ip("192.0.2.1"), LIMITS, at(0)));
        assert_eq!((wait(None), wait(Some("alice"))), (Some(2), None));
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let failures = Failures::default();
        fail(&failures, 3, "alice", "192.0.2.1", 100_000);
        assert_eq!(fail(&failures, 0, "alice", "192.0.2.1", 0), Some(10));
        assert_eq!(fail(&failures, 1, "alice", "192.0.2.1", 20), Some(10));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_who_fails_most() {
        let failures = Failures::default();
        fail(&failures, 3, "alice", "192.0.2.1", 0);
        for host in 0..MOST as u32 {
            failures.count(None, IpAddr::V4((0x0b00_0000 + host).into()), LIMITS, at(0));
        }
        assert!(failures.forgotten_at.lock().unwrap().len() <= MOST);
        assert!(fail(&failures, 0, "alice", "192.0.2.1", 0).is_some());
    }
}
