//! Registry: what it becomes in its namespace, and whether that works.

pub mod build;
pub mod certificates;
mod htpasswd;
mod keys;
mod readiness;
pub(super) mod reconcile;
mod tls;
