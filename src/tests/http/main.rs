//! The registry's HTTP side, in process: requests go through the router to a store in memory.

mod access;
mod audit;
mod connections;
mod corpus;
mod harness;
mod immutable;
mod limits;
mod logins;
mod metrics;
mod pull;
mod push;
mod tls;
mod tokens;
#[cfg(feature = "otel")]
mod traces;
