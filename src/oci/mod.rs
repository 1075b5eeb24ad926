//! The vocabulary of the OCI distribution and image specifications: parse and print, no I/O.
//!
//! Everything that reaches the registry from outside becomes one of these types at the edge, so that the
//! code behind it never meets a malformed name or digest.

mod digest;
mod error_code;
mod manifest;
mod media_type;
mod name;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use error_code::ErrorCode;
pub use manifest::{Descriptor, Manifest, ManifestError, ManifestKind, check_depth};
pub use media_type::MediaType;
pub use name::{NameError, Reference, RepositoryName, Tag};

/// Largest manifest accepted unless another limit is configured, in bytes. The specification asks for at least 4 MiB (distribution-spec, "Pushing Manifests").
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
