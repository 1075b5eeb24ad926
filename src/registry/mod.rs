//! The data plane: an OCI distribution server over an object store, with its policy swapped in while it runs.

pub mod auth;
pub mod content;
pub mod http;
pub mod metrics;
mod names;
mod shares;
pub mod snapshots;
pub mod storage;
