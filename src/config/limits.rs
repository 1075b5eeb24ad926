//! What one client, and all together, may take up.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::oci::MAX_MANIFEST_BYTES;

/// Most that may be configured for what is held in memory at once.
const MOST: u64 = 1 << 40;

/// What one client, and all together, may take up.
///
/// Sizes are in bytes. The defaults are meant for a registry that anybody may reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same time.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-answer" = "waits in the kernel's queue"))]
    pub connections: usize,
    /// Part of the connections, of the uploads and of the logins that wait for their turn that one client may have, in
    /// percent. A client is an address, of IPv6 a /64; of requests through trusted proxies, whose own connections don't
    /// count, the address that they name.
    #[schemars(
        range(min = 1, max = 100),
        extend("x-answer" = "the connection is closed; a request gets 429 `TOOMANYREQUESTS` with `Retry-After`")
    )]
    pub client_share: u32,
    /// Requests at the same time on one HTTP/2 connection. The response of each may hold 256 KiB of content in memory.
    #[schemars(range(min = 1, max = 1_024), extend("x-answer" = "the client is told beforehand; the request is refused"))]
    pub streams: u32,
    /// Time for a TLS handshake, in seconds.
    #[schemars(range(min = 1, max = 3_600), extend("x-answer" = "the connection is closed"))]
    pub handshake_seconds: u64,
    /// Size of a request's head: its line and its headers, of which there may be 100.
    #[schemars(range(min = 8_192, max = 1_048_576), extend("x-answer" = "431"))]
    pub head_bytes: usize,
    /// Time for a request's head, and for which a kept connection may ask for nothing, in seconds.
    #[schemars(range(min = 1, max = 3_600), extend("x-answer" = "the connection is closed"))]
    pub head_seconds: u64,
    /// How long a client may send nothing in the middle of a body, or take nothing of a response, in seconds.
    #[schemars(range(min = 1, max = 3_600), extend("x-answer" = "408; in a response the connection is cut, over HTTP/2 the request is reset"))]
    pub idle_seconds: u64,
    /// Slowest that a client may send a body, in bytes per second of waiting for it, on average over `idleSeconds`; 0:
    /// as slow as it likes.
    #[schemars(range(max = 1_073_741_824), extend("x-answer" = "408"))]
    pub minimum_bytes_per_second: u64,
    /// Slowest that a client may take a response, in bytes per second of waiting for it, on average over `idleSeconds`; 0:
    /// as slow as it likes. Over HTTP/2 it holds for each response.
    #[schemars(range(max = 1_073_741_824), extend("x-answer" = "the connection is cut, over HTTP/2 the request is reset"))]
    pub minimum_response_bytes_per_second: u64,
    /// Size of a manifest.
    #[schemars(range(min = 1_024, max = 67_108_864), extend("x-answer" = "413 `MANIFEST_INVALID`"))]
    pub manifest_bytes: usize,
    /// How deeply arrays and objects of a manifest may be nested. Images and indexes need six levels.
    #[schemars(range(min = 8, max = 128), extend("x-answer" = "400 `MANIFEST_INVALID`"))]
    pub manifest_depth: usize,
    /// Memory for the manifests that are being received and stored. Who needs more of it waits for a while.
    #[schemars(range(min = 1_024, max = MOST), extend("x-answer" = "429 `TOOMANYREQUESTS` with `Retry-After`"))]
    pub manifest_memory_bytes: u64,
    /// Length of a repository's name, without the host. Many clients stop at 255 for both together.
    #[schemars(range(min = 1, max = 255), extend("x-answer" = "400 `NAME_INVALID`"))]
    pub name_bytes: usize,
    /// Size of a blob. Absent: as large as the store takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("x-answer" = "413 `SIZE_INVALID`"))]
    pub blob_bytes: Option<u64>,
    /// Blobs that are being received at the same time.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-answer" = "429 `TOOMANYREQUESTS` with `Retry-After`"))]
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            client_share: 25,
            streams: 32,
            handshake_seconds: 10,
            head_bytes: 64 * 1024,
            head_seconds: 60,
            idle_seconds: 60,
            minimum_bytes_per_second: 512,
            minimum_response_bytes_per_second: 512,
            manifest_bytes: MAX_MANIFEST_BYTES,
            manifest_depth: 32,
            manifest_memory_bytes: 128 * 1024 * 1024,
            name_bytes: 255,
            blob_bytes: None,
            uploads: 512,
        }
    }
}

impl Limits {
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    pub fn head(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }

    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// How many of so many one client may have.
    pub fn share_of(&self, total: usize) -> usize {
        total.saturating_mul(self.client_share as usize).div_ceil(100).max(1)
    }

    /// What no range of a single key can say.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.manifest_memory_bytes < self.manifest_bytes as u64 {
            return Err(ConfigError::Together {
                keys: "limits.manifestMemoryBytes and limits.manifestBytes",
                fix: "the first must be at least the second, or the largest manifest could never be received",
            });
        }
        Ok(())
    }
}
