//! Digests that are none, and digests of nothing.

use super::{Row, Target, targets};
use crate::harness::Registry;

const ROWS: &[Target] = &[
    ("blob by a word", "GET", "/v2/team/app/blobs/x", 400, "DIGEST_INVALID"),
    ("blob by nothing", "GET", "/v2/team/app/blobs/", 400, "DIGEST_INVALID"),
    ("blob by a tag", "HEAD", "/v2/team/app/blobs/latest", 400, ""),
    ("digest without hash", "GET", "/v2/team/app/blobs/sha256:", 400, "DIGEST_INVALID"),
    ("short digest", "GET", "/v2/team/app/blobs/sha256:abc", 400, "DIGEST_INVALID"),
    ("digest with a blank before", "GET", "/v2/team/app/blobs/%20DIGEST", 400, "DIGEST_INVALID"),
    ("digest with a line feed behind", "GET", "/v2/team/app/blobs/DIGEST%0a", 400, "DIGEST_INVALID"),
    ("digest with NUL behind", "GET", "/v2/team/app/blobs/DIGEST%00", 400, "DIGEST_INVALID"),
    ("digest and a digit more", "GET", "/v2/team/app/blobs/DIGESTa", 400, "DIGEST_INVALID"),
    ("MD5", "HEAD", "/v2/team/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, ""),
    ("SHA-1", "GET", "/v2/team/app/blobs/sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", 400, "DIGEST_INVALID"),
    ("no algorithm", "GET", "/v2/team/app/blobs/:e3b0c442", 400, "DIGEST_INVALID"),
    (
        "multihash",
        "GET",
        "/v2/team/app/blobs/multihash+base58:QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
        400,
        "DIGEST_INVALID",
    ),
    (
        "hash in Base64",
        "GET",
        "/v2/team/app/blobs/sha256+b64u:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        400,
        "DIGEST_INVALID",
    ),
    (
        "multihash in hexadecimal digits",
        "GET",
        "/v2/team/app/blobs/sha256:1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        400,
        "DIGEST_INVALID",
    ),
    ("traversal in a digest", "GET", "/v2/team/app/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd", 404, "UNSUPPORTED"),
    ("traversal to a blob", "GET", "/v2/team/app/blobs/..%2fblobs%2fDIGEST", 400, "NAME_INVALID"),
    ("manifest by a short digest", "GET", "/v2/team/app/manifests/sha256:abc", 400, "DIGEST_INVALID"),
    ("manifest by a short digest, HEAD", "HEAD", "/v2/team/app/manifests/sha256:abc", 400, ""),
    ("manifest by MD5", "PUT", "/v2/team/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"),
    ("deleted manifest by a short digest", "DELETE", "/v2/team/app/manifests/sha256:abc", 400, "DIGEST_INVALID"),
    ("deleted blob by a tag", "DELETE", "/v2/team/app/blobs/v1", 400, "DIGEST_INVALID"),
    ("referrers of a tag", "GET", "/v2/team/app/referrers/latest", 400, "DIGEST_INVALID"),
    ("referrers of nothing", "GET", "/v2/team/app/referrers/", 400, "DIGEST_INVALID"),
    ("referrers of a short digest", "GET", "/v2/team/app/referrers/sha256:abc", 400, "DIGEST_INVALID"),
    ("unknown blob", "GET", "/v2/team/app/blobs/DIGEST", 404, "BLOB_UNKNOWN"),
    ("unknown blob, HEAD", "HEAD", "/v2/team/app/blobs/DIGEST", 404, ""),
    ("deleted unknown blob", "DELETE", "/v2/team/app/blobs/DIGEST", 404, "BLOB_UNKNOWN"),
    ("unknown manifest by digest", "GET", "/v2/team/app/manifests/DIGEST", 404, "MANIFEST_UNKNOWN"),
    ("deleted unknown manifest", "DELETE", "/v2/team/app/manifests/DIGEST", 404, "MANIFEST_UNKNOWN"),
];

pub fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let mut rows = targets(registry, ROWS);
    for (name, digest) in [
        ("63 digits", format!("sha256:{}", "a".repeat(63))),
        ("65 digits", format!("sha256:{}", "a".repeat(65))),
        ("upper-case digits", format!("sha256:{}", "A".repeat(64))),
        ("one upper-case digit", format!("sha256:{}A", "a".repeat(63))),
        ("no hexadecimal digit", format!("sha256:{}g", "a".repeat(63))),
        ("full-width digits", format!("sha256:{}%ef%bc%91", "a".repeat(61))),
        ("SHA-512 with 64 digits", format!("sha512:{}", "a".repeat(64))),
        ("SHA-512 with 127 digits", format!("sha512:{}", "a".repeat(127))),
        ("SHA-256 with 128 digits", format!("sha256:{}", "a".repeat(128))),
        ("upper-case algorithm", format!("SHA256:{}", "a".repeat(64))),
        ("algorithm with a dash", format!("sha-256:{}", "a".repeat(64))),
        ("dash for a colon", format!("sha256-{}", "a".repeat(64))),
        ("two colons", format!("sha256::{}", "a".repeat(64))),
        ("two digests", format!("sha256:{0}sha256:{0}", "a".repeat(64))),
        ("SHA-384", format!("sha384:{}", "a".repeat(96))),
        ("BLAKE3", format!("blake3:{}", "a".repeat(64))),
        ("60,000 digits", format!("sha256:{}", "a".repeat(60_000))),
    ] {
        let call = registry.by("dev", "GET", &format!("/v2/team/app/blobs/{digest}"));
        rows.push(Row::new(format!("digest of {name}"), call, 400, "DIGEST_INVALID"));
    }
    rows
}
