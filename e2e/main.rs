//! End-to-end tests: the real binary, a real cluster, real clients. Started by `e2e/run`, which `make e2e` calls.
//!
//! Each test has a temporary namespace of its own and real objects in it; the operator is installed once for all. Most
//! tests run side by side. What disturbs others (the operator killed, a CRD changed) is a [`harness::serial_test`].
//!
//! A test that needs more of the cluster than its API, namely a node that trusts a registry's certificate and from
//! which the registry's address can be reached, is marked `#[ignore = "needs a node …"]`. `e2e/run` includes those
//! wherever it can, and always on its own cluster, so that nothing is ever left out in silence.
//!
//! Time limits: five seconds is what the product promises for a change of policy ([`harness::PROMISED`]). All others
//! only tell a slow machine from a standstill.

mod access;
mod access_preview;
mod admission;
mod bad_input;
mod certificates;
mod clients;
mod deletion;
mod durability;
mod harness;
mod installation;
#[allow(dead_code)] // Other tests want more of it.
#[path = "../src/tests/issuer.rs"]
mod issuer;
mod logins;
mod malformed;
mod permissions;
mod pull_secrets;
mod quickstart;
mod replicas;
mod security;
mod standalone;
mod standalone_full_disk;
mod steady_state;
mod tokens;
