//! The registry's HTTP side, in process: requests go through the router to a store in memory.

mod access;
mod connections;
mod harness;
mod limits;
mod malformed;
mod pull;
mod push;
mod tls;
mod tokens;
