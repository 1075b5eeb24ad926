//! What one client may have of something that all of them share.
//!
//! # Guarantees
//! - Whatever one client does, it leaves room for others, and whoever has nothing gets something if there is any left.
//! - Memory is bounded by what there is to share: a client that has nothing is not remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// What counts as one client: an address, of IPv6 a /64, because a single host may use all of it.
pub fn client_address(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// How much each client has. Clones count together.
#[derive(Clone, Debug)]
pub struct Shares {
    most: usize,
    taken: Arc<Mutex<HashMap<u128, usize>>>,
}

/// One of what there is to share, given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    taken: Arc<Mutex<HashMap<u128, usize>>>,
    client: u128,
}

impl Shares {
    /// With so many for each client, and at least one.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), taken: Arc::default() }
    }

    /// One more for this client. `None`: it has all that it may have.
    pub fn take(&self, client: IpAddr) -> Option<Share> {
        let client = client_address(client);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { taken: Arc::clone(&self.taken), client })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_client_leaves_room_for_others() {
        let shares = Shares::new(2);
        let first = [shares.take(ip("192.0.2.1")), shares.take(ip("::ffff:192.0.2.1"))];
        assert!(first.iter().all(Option::is_some));
        assert!(shares.take(ip("192.0.2.1")).is_none());
        let _other = shares.take(ip("192.0.2.2")).unwrap();
        let _network = [shares.take(ip("2001:db8::1")).unwrap(), shares.take(ip("2001:db8::2")).unwrap()];
        assert!(shares.take(ip("2001:db8::3")).is_none(), "the same /64");
        assert!(shares.take(ip("2001:db8:0:1::1")).is_some(), "another one");
        drop(first);
        assert!(shares.take(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn who_has_nothing_is_not_remembered() {
        let shares = Shares::new(0);
        for host in 0..1000 {
            drop(shares.take(IpAddr::V4(host.into())).unwrap());
        }
        assert!(shares.taken.lock().unwrap().is_empty());
    }
}
