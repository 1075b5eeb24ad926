//! Manifests that are none, or that read as one thing to the registry and as another to a runtime.

use axum::body::Body;

use super::{DIGEST, Row};
use crate::harness::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Registry};

/// `CONFIG`, `LAYER` and `IMAGE` stand for digests of what is there, `DIGEST` for one of what isn't.
const IMAGES: &[(&str, &str)] = &[
    ("nothing", ""),
    ("blanks", " \n"),
    ("null", "null"),
    ("true", "true"),
    ("a number", "2"),
    ("a text", "\"schemaVersion\""),
    ("an empty object", "{}"),
    ("an empty array", "[]"),
    ("an array of a manifest", r#"[{"schemaVersion":2}]"#),
    ("half an object", "{"),
    ("two objects", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[]}{}"#),
    ("a comma at the end", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],}"#),
    ("a comment", r#"{"schemaVersion":2,/**/"config":{"digest":"CONFIG","size":2},"layers":[]}"#),
    ("a byte order mark", "\u{feff}{\"schemaVersion\":2,\"config\":{\"digest\":\"CONFIG\",\"size\":2},\"layers\":[]}"),
    ("YAML", "schemaVersion: 2"),
    ("XML", "<manifest/>"),
    ("NUL behind it", "{\"schemaVersion\":2,\"config\":{\"digest\":\"CONFIG\",\"size\":2},\"layers\":[]}\0"),
    ("no version", r#"{"config":{"digest":"CONFIG","size":2},"layers":[]}"#),
    ("version 1", r#"{"schemaVersion":1,"name":"a","tag":"b"}"#),
    ("version 3", r#"{"schemaVersion":3,"config":{"digest":"CONFIG","size":2},"layers":[]}"#),
    ("version as a text", r#"{"schemaVersion":"2","config":{"digest":"CONFIG","size":2},"layers":[]}"#),
    ("version as a fraction", r#"{"schemaVersion":2.5,"config":{"digest":"CONFIG","size":2},"layers":[]}"#),
    ("version twice", r#"{"schemaVersion":2,"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[]}"#),
    (
        "config twice",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"config":{"digest":"CONFIG","size":2},"layers":[]}"#,
    ),
    ("layers twice", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"layers":[]}"#),
    ("digest twice", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","digest":"CONFIG","size":2},"layers":[]}"#),
    (
        "layers twice, once escaped",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"\u006cayers":[]}"#,
    ),
    ("no layers", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2}}"#),
    ("layers that are null", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":null}"#),
    ("layers that are an object", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":{}}"#),
    ("a layer that is null", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[null]}"#),
    ("a layer that is a text", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":["LAYER"]}"#),
    ("no config", r#"{"schemaVersion":2,"layers":[]}"#),
    ("config that is null", r#"{"schemaVersion":2,"config":null,"layers":[]}"#),
    ("config that is a text", r#"{"schemaVersion":2,"config":"CONFIG","layers":[]}"#),
    ("config that is an array", r#"{"schemaVersion":2,"config":[],"layers":[]}"#),
    ("config without digest", r#"{"schemaVersion":2,"config":{"size":2},"layers":[]}"#),
    ("config without size", r#"{"schemaVersion":2,"config":{"digest":"CONFIG"},"layers":[]}"#),
    ("config with a malformed digest", r#"{"schemaVersion":2,"config":{"digest":"sha256:x","size":2},"layers":[]}"#),
    ("config with a number as digest", r#"{"schemaVersion":2,"config":{"digest":1,"size":2},"layers":[]}"#),
    ("digest of a path", r#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":2},"layers":[]}"#),
    ("negative size", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":-2},"layers":[]}"#),
    ("fraction as size", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2.0},"layers":[]}"#),
    ("power of ten as size", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":1e3},"layers":[]}"#),
    ("text as size", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":"2"},"layers":[]}"#),
    (
        "size of 2^63",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[{"digest":"LAYER","size":9223372036854775808}]}"#,
    ),
    (
        "size of 2^64",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[{"digest":"LAYER","size":18446744073709551616}]}"#,
    ),
    (
        "size of 10^400",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[{"digest":"LAYER","size":1e400}]}"#,
    ),
    (
        "media type that is a number",
        r#"{"schemaVersion":2,"mediaType":1,"config":{"digest":"CONFIG","size":2},"layers":[]}"#,
    ),
    (
        "media type of an index",
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{"digest":"CONFIG","size":2},"layers":[]}"#,
    ),
    (
        "media type of Docker",
        r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"digest":"CONFIG","size":2},"layers":[]}"#,
    ),
    ("empty media type", r#"{"schemaVersion":2,"mediaType":"","config":{"digest":"CONFIG","size":2},"layers":[]}"#),
    ("an index's members", r#"{"schemaVersion":2,"manifests":[]}"#),
    ("members of both", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"manifests":[]}"#),
    (
        "subject that is a text",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"subject":"IMAGE"}"#,
    ),
    (
        "subject without digest",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"subject":{"size":1}}"#,
    ),
    (
        "subject with a malformed digest",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"subject":{"digest":"x","size":1}}"#,
    ),
    (
        "subject of negative size",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"subject":{"digest":"IMAGE","size":-1}}"#,
    ),
    (
        "annotations that are an array",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"annotations":[]}"#,
    ),
    (
        "annotation that is a number",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"annotations":{"a":1}}"#,
    ),
    (
        "annotation that is null",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"annotations":{"a":null}}"#,
    ),
    (
        "annotation that is an object",
        r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[],"annotations":{"a":{}}}"#,
    ),
    (
        "artifact type that is a number",
        r#"{"schemaVersion":2,"artifactType":1,"config":{"digest":"CONFIG","size":2},"layers":[]}"#,
    ),
    ("URLs that are a text", r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2,"urls":"x"},"layers":[]}"#),
];

const IMAGE: &str = r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[]}"#;

/// Valid, but pushed as something else.
const TYPES: &[(&str, &str)] = &[
    ("as a word", "x"),
    ("as nothing", ""),
    ("as JSON", "application/json"),
    ("as an octet stream", "application/octet-stream"),
    ("as an index", OCI_INDEX),
    ("as Docker's list", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ("as Docker's version 1", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ("as two types", "application/vnd.oci.image.manifest.v1+json, application/json"),
];

pub async fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let stored = registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(200);
    let image = stored.header("docker-content-digest");
    let config = landfast::oci::Digest::sha256(b"{}").to_string();
    let layer = landfast::oci::Digest::sha256(b"0123456789").to_string();
    let fill = |text: &str| {
        let text = text.replace("CONFIG", &config).replace("LAYER", &layer);
        text.replace("IMAGE", image).replace("DIGEST", DIGEST)
    };
    let put = || registry.by("dev", "PUT", "/v2/team/app/manifests/bad");
    let invalid = |name: &str, media_type: &str, content: Vec<u8>| {
        let call = put().header("content-type", media_type).body(content);
        Row::new(format!("manifest: {name}"), call, 400, "MANIFEST_INVALID")
    };
    let mut rows: Vec<_> =
        IMAGES.iter().map(|(name, content)| invalid(name, OCI_MANIFEST, fill(content).into())).collect();
    rows.extend(TYPES.iter().map(|(name, media_type)| invalid(name, media_type, fill(IMAGE).into())));

    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    let nested = format!(r#"{{"schemaVersion":2,"x":{},{}"#, deep("[", "]"), &fill(IMAGE)[1..]);
    let as_both = || put().header("content-type", OCI_MANIFEST).header("content-type", OCI_INDEX).body(fill(IMAGE));
    rows.extend([
        invalid("10,000 arrays", OCI_MANIFEST, deep("[", "]").into()),
        invalid("10,000 objects", OCI_MANIFEST, deep("{\"a\":", "}").replace(":}", ":0}").into()),
        invalid("10,000 arrays inside", OCI_MANIFEST, nested.into()),
        invalid("100,000 arrays without end", OCI_MANIFEST, "[".repeat(100_000).into()),
        invalid(
            "not UTF-8",
            OCI_MANIFEST,
            fill(r#"{"schemaVersion":2,"x":"@","layers":[]}"#)
                .replace('@', "\u{1}")
                .bytes()
                .map(|byte| if byte == 1 { 0xff } else { byte })
                .collect(),
        ),
        invalid("UTF-16", OCI_MANIFEST, fill(IMAGE).encode_utf16().flat_map(u16::to_le_bytes).collect()),
        invalid("gzip", OCI_MANIFEST, vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
        invalid("members of an image in an index", OCI_INDEX, fill(IMAGE).into()),
        invalid("manifests that are null", OCI_INDEX, br#"{"schemaVersion":2,"manifests":null}"#.into()),
        invalid("manifest without digest", OCI_INDEX, br#"{"schemaVersion":2,"manifests":[{"size":1}]}"#.into()),
        invalid(
            "OCI's manifest as Docker's",
            DOCKER_MANIFEST,
            fill(&IMAGE.replace("2,\"config", &format!("2,\"mediaType\":\"{OCI_MANIFEST}\",\"config"))).into(),
        ),
        Row::new("manifest: without a type", put().body(fill(IMAGE)), 400, "MANIFEST_INVALID"),
        Row::new("manifest: of two types", as_both(), 400, "MANIFEST_INVALID"),
    ]);

    let with = |content: &str| put().header("content-type", OCI_MANIFEST).body(fill(content));
    let index = |content: &str| put().header("content-type", OCI_INDEX).body(fill(content));
    let other = registry.by("dev", "PUT", &format!("/v2/team/app/manifests/{DIGEST}"));
    let huge = || vec![b' '; (4 << 20) + 1];
    let missing = "MANIFEST_BLOB_UNKNOWN";
    rows.extend([
        Row::new(
            "manifest: unknown config",
            with(r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":2},"layers":[]}"#),
            400,
            missing,
        ),
        Row::new(
            "manifest: unknown layer",
            with(
                r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[{"digest":"DIGEST","size":2}]}"#,
            ),
            400,
            missing,
        ),
        Row::new(
            "manifest: a manifest as layer",
            with(r#"{"schemaVersion":2,"config":{"digest":"CONFIG","size":2},"layers":[{"digest":"IMAGE","size":2}]}"#),
            400,
            missing,
        ),
        Row::new(
            "index: unknown manifest",
            index(r#"{"schemaVersion":2,"manifests":[{"digest":"DIGEST","size":2}]}"#),
            400,
            missing,
        ),
        Row::new(
            "index: a blob as manifest",
            index(r#"{"schemaVersion":2,"manifests":[{"digest":"LAYER","size":10}]}"#),
            400,
            missing,
        ),
        Row::new(
            "manifest: pushed by another digest",
            other.header("content-type", OCI_MANIFEST).body(fill(IMAGE)),
            400,
            "DIGEST_INVALID",
        ),
        Row::new(
            "manifest: larger than may be",
            put().header("content-type", OCI_MANIFEST).body(huge()),
            413,
            "MANIFEST_INVALID",
        ),
        Row::new(
            "manifest: larger than it says",
            put().header("content-type", OCI_MANIFEST).stream(Body::from(huge())),
            413,
            "MANIFEST_INVALID",
        ),
        Row::new(
            "manifest: announced larger than may be",
            put().header("content-length", "99999999999").stream(Body::empty()),
            413,
            "MANIFEST_INVALID",
        ),
    ]);
    rows
}
