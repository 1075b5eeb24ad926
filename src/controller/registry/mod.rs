//! Registry: what it becomes in its namespace, and whether that works.

pub mod build;
mod client_certificates;
mod htpasswd;
mod issuers;
mod keys;
mod pods;
mod readiness;
pub(super) mod reconcile;
mod replicas;
mod s3;
mod tls;
