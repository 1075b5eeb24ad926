//! The registry's HTTP side, in process: requests go through the router to a store in memory.

mod access;
mod harness;
mod logins;
mod malformed;
mod pull;
mod push;
mod tls;
mod tokens;
