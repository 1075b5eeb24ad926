//! Who may do what, told to a person: why something is allowed or not, who may, and what a change of policy changes.
//!
//! Nothing is decided here: what [`authorize`](super::authorize()) decides with is asked, so that an answer can't differ
//! from what a registry does. What a snapshot can't know is left out: which groups somebody is in, and which
//! repositories there are.

mod change;
mod diff;
mod explain;
mod explanation;
mod given;
mod identify;
mod login;
mod principal;
mod summarize;
mod who_can;

#[cfg(test)]
mod tests;

pub use change::{AccessChange, Change, Revoked};
pub use diff::{Difference, diff};
pub use explain::explain;
pub use explanation::{Explanation, Near, Reason, Revocation, Rule, Shortfall};
pub use given::Given;
pub use identify::{IdentityError, identify};
pub use login::NoLogin;
pub use principal::Principal;
pub use summarize::summarize;
pub use who_can::{Holder, who_can};
