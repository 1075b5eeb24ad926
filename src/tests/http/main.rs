//! The registry's HTTP side, in process: requests go through the router to a store in memory, or with `TEST_STORAGE=s3`
//! to one in a bucket.

mod access;
mod attacks;
mod audit;
mod certificates;
mod connections;
mod corpus;
mod external;
mod harness;
mod immutable;
#[path = "../issuer.rs"]
mod issuer;
mod limits;
mod logins;
mod matrix;
mod metrics;
mod pull;
mod push;
#[cfg(feature = "s3")]
mod redirects;
#[cfg(feature = "s3")]
mod replicas;
mod repositories;
#[cfg(feature = "s3")]
#[path = "../s3_server.rs"]
mod s3_server;
mod tls;
mod tokens;
#[cfg(feature = "otel")]
mod traces;

#[cfg(feature = "s3")]
use landfast::config::S3Storage;
