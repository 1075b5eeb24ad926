//! Uploads: sessions that aren't the client's, chunks that are not where they claim to be, mounts of nothing.

use axum::body::Body;

use super::{DIGEST, Row, Target, targets};
use crate::harness::Registry;

const ID: &str = "00000000-0000-4000-8000-000000000000";

const STARTS: &[Target] = &[
    ("upload of a word", "POST", "/v2/team/app/blobs/uploads/?digest=x", 400, "DIGEST_INVALID"),
    ("upload of no digest", "POST", "/v2/team/app/blobs/uploads/?digest=", 400, "DIGEST_INVALID"),
    (
        "upload of other content",
        "POST",
        "/v2/team/app/blobs/uploads/?digest=sha256:1111111111111111111111111111111111111111111111111111111111111111",
        400,
        "DIGEST_INVALID",
    ),
    ("mount of a word", "POST", "/v2/team/app/blobs/uploads/?mount=x&from=base/app", 400, "DIGEST_INVALID"),
    ("mount of nothing", "POST", "/v2/team/app/blobs/uploads/?mount=&from=base/app", 400, "DIGEST_INVALID"),
    (
        "mount of MD5",
        "POST",
        "/v2/team/app/blobs/uploads/?mount=md5:d41d8cd98f00b204e9800998ecf8427e",
        400,
        "DIGEST_INVALID",
    ),
    (
        "mount from an upper-case name",
        "POST",
        "/v2/team/app/blobs/uploads/?mount=DIGEST&from=Base",
        400,
        "NAME_INVALID",
    ),
    (
        "mount from a parent folder",
        "POST",
        "/v2/team/app/blobs/uploads/?mount=DIGEST&from=../base",
        400,
        "NAME_INVALID",
    ),
    (
        "mount from an encoded parent folder",
        "POST",
        "/v2/team/app/blobs/uploads/?mount=DIGEST&from=base%2F..%2Fteam",
        400,
        "NAME_INVALID",
    ),
    ("mount from an absolute path", "POST", "/v2/team/app/blobs/uploads/?mount=DIGEST&from=/base", 400, "NAME_INVALID"),
    ("mount from a URL", "POST", "/v2/team/app/blobs/uploads/?mount=DIGEST&from=https://x/base", 400, "NAME_INVALID"),
    ("mount from NUL", "POST", "/v2/team/app/blobs/uploads/?mount=DIGEST&from=%00", 400, "NAME_INVALID"),
    ("mount with a malformed escape", "POST", "/v2/team/app/blobs/uploads/?mount=DIGEST&from=%", 400, "UNSUPPORTED"),
    ("mount into a project of others", "POST", "/v2/base/app/blobs/uploads/?mount=DIGEST&from=team/app", 403, "DENIED"),
];

/// `Content-Range` of five bytes sent to an upload that has five, and why it is refused.
const CHUNKS: &[(&str, &str, u16, &str)] = &[
    ("chunk from the start", "0-4", 416, "BLOB_UPLOAD_INVALID"),
    ("overlapping chunk", "4-8", 416, "BLOB_UPLOAD_INVALID"),
    ("chunk behind a gap", "6-10", 416, "BLOB_UPLOAD_INVALID"),
    ("chunk far away", "9223372036854775807-9223372036854775811", 416, "BLOB_UPLOAD_INVALID"),
    ("overlapping chunk in RFC 9110's form", "bytes 4-8/*", 416, "BLOB_UPLOAD_INVALID"),
    ("reversed chunk", "9-5", 400, "BLOB_UPLOAD_INVALID"),
    ("negative chunk", "-5-9", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk to a negative number", "5--9", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk without end", "5-", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk without start", "-9", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of a word", "x", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of nothing", "", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk with a sign", "+5-9", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of hexadecimal numbers", "0x5-0x9", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of three numbers", "5-9-10", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of two ranges", "5-6,7-9", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of 21 digits", "5-999999999999999999999", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of everything", "0-18446744073709551615", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of an unsatisfied range", "bytes */10", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk in another unit", "lines 5-9/10", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk beyond its own total", "bytes 5-9/9", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk of a malformed total", "bytes 5-9/x", 400, "BLOB_UPLOAD_INVALID"),
    ("chunk that says it is longer", "5-10", 400, "SIZE_INVALID"),
    ("chunk that says it is shorter", "5-8", 400, "SIZE_INVALID"),
];

pub async fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let mut rows = targets(registry, STARTS);
    for &(name, range, status, code) in CHUNKS {
        let chunk = |method: &str, target: &str| {
            registry.by("dev", method, target).header("content-range", range).body("56789")
        };
        rows.push(Row::new(name, chunk("PATCH", &started(registry).await), status, code));
        let last = format!("{}?digest={DIGEST}", started(registry).await);
        rows.push(Row::new(format!("last {name}"), chunk("PUT", &last), status, code));
    }
    rows.extend(bodies(registry).await);
    rows.extend(sessions(registry).await);
    rows
}

/// The location of an upload that has five bytes.
async fn started(registry: &Registry) -> String {
    let start = registry.by("dev", "POST", "/v2/team/app/blobs/uploads/").send().await.expect(202);
    let location = start.header("location").to_owned();
    registry.by("dev", "PATCH", &location).body("01234").send().await.expect(202);
    location
}

/// Bodies of other lengths than the range says, where HTTP itself doesn't tell; and ends that don't fit.
async fn bodies(registry: &Registry) -> Vec<Row<'_>> {
    let at = started(registry).await;
    let stream = async |range: &str, content: &'static str| {
        let call = registry.by("dev", "PATCH", &started(registry).await).header("content-range", range);
        call.stream(Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(content)])))
    };
    let broken = [Ok("56"), Err(std::io::Error::other("reset"))];
    let broken = Body::from_stream(futures::stream::iter(broken));
    let twice = registry.by("dev", "PATCH", &at).header("content-range", "5-9").header("content-range", "6-10");
    let put = |query: &str| registry.by("dev", "PUT", &format!("{at}?{query}"));
    vec![
        Row::new("chunk that ends too early", stream("5-9", "5678").await, 400, "SIZE_INVALID"),
        Row::new("chunk that goes on too long", stream("5-9", "56789a").await, 400, "SIZE_INVALID"),
        Row::new("chunk that is empty", stream("5-9", "").await, 400, "SIZE_INVALID"),
        Row::new(
            "chunk that breaks off",
            registry.by("dev", "PATCH", &started(registry).await).stream(broken),
            400,
            "BLOB_UPLOAD_INVALID",
        ),
        Row::new("chunk with two ranges", twice.body("56789"), 400, "BLOB_UPLOAD_INVALID"),
        Row::new("end without digest", put(""), 400, "DIGEST_INVALID"),
        Row::new("end with another parameter", put("Digest=x"), 400, "DIGEST_INVALID"),
        Row::new("end with a word", put("digest=x"), 400, "DIGEST_INVALID"),
        Row::new(
            "end with an upper-case digest",
            put(&format!("digest={}", DIGEST.to_uppercase())),
            400,
            "DIGEST_INVALID",
        ),
        Row::new("end with another digest", put(&format!("digest={DIGEST}")), 400, "DIGEST_INVALID"),
    ]
}

/// Sessions that are none, or others'.
async fn sessions(registry: &Registry) -> Vec<Row<'_>> {
    let by = |method: &str, target: &str| registry.by("dev", method, target);
    let at = |id: &str| format!("/v2/team/app/blobs/uploads/{id}");
    let location = started(registry).await;
    let (session, seal) = location.rsplit_once('/').unwrap().1.split_once('.').unwrap();
    let cancelled = started(registry).await;
    by("DELETE", &cancelled).send().await.expect(204);
    let finished = started(registry).await;
    let digest = landfast::oci::Digest::sha256(b"01234");
    by("PUT", &format!("{finished}?digest={digest}")).send().await.expect(201);

    let forged = at(&format!("{session}.AAAAAAAAAAAAAAAAAAAAAA"));
    let calls = vec![
        ("upload by its UUID only", by("PATCH", &at(session)).body("5")),
        ("upload with a forged seal", by("PATCH", &forged).body("5")),
        ("status of a forged seal", by("GET", &forged)),
        ("end of a forged seal", by("PUT", &format!("{forged}?digest={DIGEST}"))),
        ("end of a forged upload", by("DELETE", &forged)),
        ("upload with another's seal", by("PATCH", &at(&format!("{ID}.{seal}"))).body("5")),
        ("upload of another repository", by("PATCH", &location.replace("team/app", "team/other")).body("5")),
        ("status in another repository", by("GET", &location.replace("team/app", "team/other"))),
        ("upload with a short seal", by("PATCH", &location[..location.len() - 2]).body("5")),
        ("upload with a padded seal", by("PATCH", &format!("{location}==")).body("5")),
        ("upload without a seal", by("PATCH", &at(&format!("{session}."))).body("5")),
        ("upload without an ID", by("PATCH", &at(&format!(".{seal}"))).body("5")),
        ("status of a word", by("GET", &at("x"))),
        ("upload of two dots", by("PATCH", &at("..")).body("5")),
        ("upload of NUL", by("PATCH", &at("%00")).body("5")),
        ("upload of 10,000 bytes", by("PATCH", &at(&"a".repeat(10_000))).body("5")),
        ("chunk of a cancelled upload", by("PATCH", &cancelled).header("content-range", "5-5").body("5")),
        ("status of a cancelled upload", by("GET", &cancelled)),
        ("end of a cancelled upload", by("DELETE", &cancelled)),
        ("chunk of a finished upload", by("PATCH", &finished).header("content-range", "5-5").body("5")),
        ("status of a finished upload", by("GET", &finished)),
    ];
    let mut rows: Vec<_> =
        calls.into_iter().map(|(name, call)| Row::new(name, call, 404, "BLOB_UPLOAD_UNKNOWN")).collect();
    rows.push(Row::new("traversal in a session", by("PATCH", &at("..%2f..%2fx")), 404, "UNSUPPORTED"));
    rows.push(Row::new("status of a forged seal, HEAD", by("HEAD", &forged), 404, ""));
    rows
}
