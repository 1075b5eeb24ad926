//! Where the policy comes from: the API server, or a folder of manifests. Both end in [`Live::publish`]. And whom the API
//! server knows by a token.
//!
//! Here, and nowhere else in the data plane, custom resources are seen.
//!
//! [`Live::publish`]: super::auth::Live::publish

pub mod file;
pub mod kube;
mod list;
mod objects;
mod reviews;

pub use list::{ListError, list};
pub use objects::{ChooseError, Objects};
pub use reviews::ClusterReviews;
