//! What `e2e/run` tells the tests, by environment variables.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The clone.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary under test. Cargo builds it before the tests, and `e2e/run` makes the image of the pods from it.
pub fn landfast() -> &'static str {
    env!("CARGO_BIN_EXE_landfast")
}

/// Name and tag of the image that the node has.
pub fn image() -> (String, String) {
    let image = required("E2E_IMAGE");
    let (name, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("E2E_IMAGE has no tag: {image}"));
    (name.to_owned(), tag.to_owned())
}

/// The folder where the node looks for the certificates of registries, `<host>/ca.crt`; skopeo gets the same.
pub fn certificates() -> PathBuf {
    required("E2E_CERTS_D").into()
}

/// An address of this machine that pods reach.
pub fn machine_address() -> IpAddr {
    let address = required("E2E_NODE_IP");
    address.parse().unwrap_or_else(|error| panic!("E2E_NODE_IP is {address}: {error}"))
}

/// The command that runs another one on the node, where names of Services resolve.
pub fn node_exec() -> Vec<String> {
    required("E2E_NODE_EXEC").split_whitespace().map(str::to_owned).collect()
}

/// The API server's audit log: the writes of service accounts. Only a cluster of our own has one.
pub fn audit_log() -> Option<PathBuf> {
    std::env::var_os("E2E_AUDIT_LOG").map(PathBuf::from)
}

/// # Panics
/// When the variable is missing: a test that can't run must not pass.
fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start the tests with e2e/run"))
}
