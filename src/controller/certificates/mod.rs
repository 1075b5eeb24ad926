//! Certificates: an authority of our own and the serving certificate that it signs, for a Registry or for the operator
//! itself, and a look at one that was brought.
//!
//! Everything here is a plan: it takes what the Secrets hold and the time, and gives what they are to hold. When nothing
//! is due the same bytes come out. Only keys are random; reading and writing Secrets is the caller's.
//!
//! # Flow
//! ```text
//! years     0                 6⅔                8⅓                10
//! authority |  current: A      |  current: A     |  current: B     |  current: B
//!           |                  |  next: B        |  previous: A    |
//! bundle    |  A               |  A B            |  B A            |  B
//! leaf of   |  A               |  A              |  B              |  B
//! ```
//!
//! # Guarantees
//! Whoever reads the bundle at least once between the birth of B and its first use never meets a certificate that it
//! doesn't trust: at least [`PUBLICATION`] lies between the two, 20 months if the operator runs all the time.
//!
//! # Assumptions
//! The authority's Secret is written, on condition that it is unchanged since it was read, before the serving Secret.
//! Otherwise two plans made from one old reading would make two authorities.

mod authority;
mod names;
mod pair;
mod provided;
mod serving;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::CertificateParams;

pub use authority::Authority;
pub use names::{Names, service_names, wanted_names};
pub use pair::Unreadable;
pub use provided::{CertificateProblem, Provided, certified_key, inspect};
pub use serving::{Reason, Serving};

/// The `data` of a Secret.
pub type SecretData = BTreeMap<String, ByteString>;

/// How long an authority is published at least before it signs.
pub const PUBLICATION: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Life of an authority.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Life of a serving certificate.
const SERVING_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Certificates begin this long before they are made, for clients whose clocks are slow.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// Why a certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("can't make a key or a certificate")]
    Generate(#[source] rcgen::Error),
    #[error("{name:?} can't be a name in a certificate")]
    Name { name: String, source: rcgen::Error },
}

/// What a Secret is to hold.
#[derive(Debug)]
pub struct Planned<T> {
    pub value: T,
    /// Whether it differs from what the Secret holds, so that it must be written.
    pub changed: bool,
    /// What was found wrong and put right: one sentence each, for events.
    pub notes: Vec<String>,
}

/// Whether the Secret holds exactly this under the keys `owned`. Other keys are somebody else's.
fn holds(existing: Option<&SecretData>, owned: &[&str], wanted: &SecretData) -> bool {
    existing.is_some_and(|data| owned.iter().all(|key| data.get(*key) == wanted.get(*key)))
}

/// An instant moved; at the end of time it stays there.
fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

/// Sets the life of a certificate that is made `now`.
fn limit(parameters: &mut CertificateParams, now: Timestamp, not_after: Timestamp) {
    let seconds = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + seconds(later(now, -BACKDATE));
    parameters.not_after = epoch + seconds(not_after);
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
