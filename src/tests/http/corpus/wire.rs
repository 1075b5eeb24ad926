//! What HTTP itself forbids (RFC 9112), byte by byte: lying lengths, two meanings, broken lines.
//!
//! A request may come with another one behind it, which must be answered only where it is one: so a row counts answers.

use super::HANGS;
use crate::connections::Server;
use crate::harness::{HOST, OCI_MANIFEST, Registry};

pub struct Checked {
    pub number: usize,
    pub wrong: Vec<String>,
}

/// Name, bytes, and the status of each answer. No status: the connection ends without one.
type Row = (&'static str, Vec<u8>, &'static [u16]);

/// Sends all rows, each over its own connection.
pub async fn check(server: &Server) -> Checked {
    let (whole, cut) = bodies(&server.registry);
    let whole = [lines(), heads(&server.registry), whole, sequences()].concat().into_iter().map(|row| (row, false));
    let rows: Vec<_> = whole.chain(cut.into_iter().map(|row| (row, true))).collect();
    let number = rows.len();
    let checked = futures::future::join_all(rows.into_iter().map(async |((name, request, expected), is_cut)| {
        let exchange =
            async { if is_cut { server.exchange_whole(&request).await } else { server.exchange(&request).await } };
        let Ok(response) = tokio::time::timeout(HANGS, exchange).await else {
            return Some(format!("{name}: hangs"));
        };
        let answers = response.match_indices("HTTP/1.").map(|(at, start)| &response[at + start.len() + 2..][..3]);
        let answers: Vec<u16> = answers.map(|status| status.parse().unwrap()).collect();
        (answers != expected).then(|| format!("{name}: {answers:?}, not {expected:?}: {response}"))
    }));
    Checked { number, wrong: checked.await.into_iter().flatten().collect() }
}

/// A good request, after which the connection ends.
pub fn get(registry: &Registry, target: &str) -> Vec<u8> {
    let basic = registry.basic("dev");
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {basic}\r\nConnection: close\r\n\r\n").into()
}

/// Request lines.
fn lines() -> Vec<Row> {
    let line = |line: &str| format!("{line}\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").into_bytes();
    let long = |method: &str, target: &str| line(&format!("{method} {target} HTTP/1.1"));
    vec![
        ("absolute form", line(&format!("GET http://{HOST}/v2/ HTTP/1.1")), &[401]),
        ("absolute form of another host", line("GET http://other.example/v2/ HTTP/1.1"), &[401]),
        ("absolute form of a path that isn't served", line("GET http://x/v1/ HTTP/1.1"), &[404]),
        ("absolute form without path", line("GET http://registry.example HTTP/1.1"), &[404]),
        ("absolute form of another scheme", line("GET file:///etc/passwd HTTP/1.1"), &[400]),
        ("authority form", line("CONNECT registry.example:5000 HTTP/1.1"), &[404]),
        ("asterisk form", line("OPTIONS * HTTP/1.1"), &[404]),
        ("target without slash", line("GET v2/ HTTP/1.1"), &[400]),
        ("no target", line("GET  HTTP/1.1"), &[400]),
        ("target with a blank", line("GET /v2/ x HTTP/1.1"), &[400]),
        ("target with NUL", line("GET /v2/\0 HTTP/1.1"), &[400]),
        ("target with a tab", line("GET /v2/\tx HTTP/1.1"), &[400]),
        ("target with DEL", line("GET /v2/\x7f HTTP/1.1"), &[400]),
        ("target with a carriage return", line("GET /v2/\rx HTTP/1.1"), &[400]),
        ("target of 100,000 bytes", long("GET", &format!("/v2/{}", "a".repeat(100_000))), &[431]),
        ("method of 100,000 bytes", long(&"A".repeat(100_000), "/v2/"), &[431]),
        ("method with an at sign", line("G@T /v2/ HTTP/1.1"), &[400]),
        ("method with a line feed", line("GET\n /v2/ HTTP/1.1"), &[400]),
        ("two blanks before the version", line("GET /v2/  HTTP/1.1"), &[400]),
        ("blank at the start", line(" GET /v2/ HTTP/1.1"), &[400]),
        ("lower-case version", line("GET /v2/ http/1.1"), &[400]),
        ("version 1.2", line("GET /v2/ HTTP/1.2"), &[400]),
        ("version 2 on a line", line("GET /v2/ HTTP/2.0"), &[400]),
        ("version 9 on a line", line("GET /v2/ HTTP/9.9"), &[400]),
        ("version without number", line("GET /v2/ HTTP/"), &[400]),
        ("version of another protocol", line("GET /v2/ ICAP/1.0"), &[400]),
        ("HTTP/0.9", b"GET /v2/\r\n".to_vec(), &[400]),
        ("HTTP/2 on a plain connection", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), &[]),
        ("TLS on a plain connection", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), &[400]),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), &[400]),
        ("a proxy's own protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /v2/ HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        ("zeros", vec![0; 1000], &[400]),
        ("an answer", b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), &[400]),
        ("empty lines", b"\r\n\r\n\r\n".to_vec(), &[]),
        ("half a line", b"GET /v2/ HT".to_vec(), &[]),
        ("half a head", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n".to_vec(), &[]),
    ]
}

/// Header fields.
fn heads(registry: &Registry) -> Vec<Row> {
    let basic = format!("Authorization: {}", registry.basic("dev"));
    let without_host =
        |fields: &str| format!("GET /v2/ HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n").into_bytes();
    let head = |fields: &str| without_host(&format!("Host: {HOST}\r\n{fields}"));
    let version_1_0 = |fields: &str| format!("GET /v2/ HTTP/1.0\r\n{fields}\r\n").into_bytes();
    let latin = [b"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xe4\r\nConnection: close\r\n\r\n".as_slice()];
    vec![
        ("no host", without_host("X: y"), &[400]),
        ("two hosts", without_host("Host: a\r\nHost: b"), &[400]),
        ("the same host twice", without_host("Host: a\r\nHost: a"), &[400]),
        ("no host, logged in", without_host(&basic), &[400]),
        ("two hosts, logged in", head(&format!("Host: b\r\n{basic}")), &[400]),
        ("empty host", without_host("Host: "), &[400]),
        ("host with a path", without_host("Host: a/b"), &[400]),
        ("host with a user", without_host("Host: u@a"), &[400]),
        ("host of two names", without_host("Host: a, b"), &[400]),
        ("no host before HTTP/1.1", version_1_0(""), &[400]),
        ("field without colon", head("x"), &[400]),
        ("field without name", head(": x"), &[400]),
        ("blank in a name", head("X Y: z"), &[400]),
        ("blank before a colon", head("X : y"), &[400]),
        ("NUL in a value", head("X: a\0b"), &[400]),
        ("NUL in a name", head("X\0: y"), &[400]),
        ("umlaut in a name", head("\u{e4}: y"), &[400]),
        ("carriage return in a value", head("X: a\rb"), &[400]),
        ("escape in a value", head("X: \x1b[31m"), &[400]),
        ("folded field", head("X: a\r\n b"), &[400]),
        ("fold behind the request line", without_host(" Host: x"), &[400]),
        ("101 fields", head(&vec!["X: y"; 101].join("\r\n")), &[431]),
        ("10,000 fields", head(&vec!["X: y"; 10_000].join("\r\n")), &[431]),
        ("field of 100,000 bytes", head(&format!("X: {}", "x".repeat(100_000))), &[431]),
        ("name of 100,000 bytes", head(&format!("{}: y", "x".repeat(100_000))), &[431]),
        ("token of 20 KiB", head(&format!("Authorization: Bearer {}", "x".repeat(20 << 10))), &[401]),
        ("two Authorization fields", head("Authorization: Bearer x\r\nAuthorization: Bearer y"), &[401]),
        ("token that is not ASCII", latin.concat(), &[401]),
        (
            "upgrade to HTTP/2",
            head("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"),
            &[401],
        ),
        (
            "upgrade to WebSocket",
            head("Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13"),
            &[401],
        ),
        ("unknown expectation", head("Expect: 200-ok"), &[401]),
        ("empty expectation", head("Expect: "), &[401]),
        ("expectation without a body", head("Expect: 100-continue"), &[401]),
    ]
}

/// Lengths that lie, and chunks that are none; and bodies behind whose beginning the client has gone.
fn bodies(registry: &Registry) -> (Vec<Row>, Vec<Row>) {
    let basic = registry.basic("dev");
    let put = |fields: &str, body: &str| {
        let head = format!("PUT /v2/team/app/manifests/wire HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {basic}");
        format!("{head}\r\nContent-Type: {OCI_MANIFEST}\r\n{fields}\r\n\r\n{body}").into_bytes()
    };
    let chunked = |body: &str| put("Transfer-Encoding: chunked\r\nConnection: close", body);
    let blob = |query: &str, fields: &str, body: &str| {
        let head =
            format!("POST /v2/team/app/blobs/uploads/?{query} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {basic}");
        format!("{head}\r\n{fields}\r\n\r\n{body}").into_bytes()
    };
    let digest = format!("digest={}", super::DIGEST);
    let whole: Vec<Row> = vec![
        ("negative length", put("Content-Length: -1", "{}"), &[400]),
        ("length of a word", put("Content-Length: x", "{}"), &[400]),
        ("hexadecimal length", put("Content-Length: 0x2", "{}"), &[400]),
        ("length with an exponent", put("Content-Length: 2e0", "{}"), &[400]),
        ("empty length", put("Content-Length: ", "{}"), &[400]),
        ("two numbers as length", put("Content-Length: 2 2", "{}"), &[400]),
        ("length of 20 digits", put("Content-Length: 99999999999999999999", "{}"), &[400]),
        ("greatest length", put("Content-Length: 18446744073709551615", "{}"), &[431]),
        ("length that no manifest has", put("Content-Length: 9223372036854775807", "{}"), &[413]),
        ("two lengths that differ", put("Content-Length: 2\r\nContent-Length: 3", "{}"), &[400]),
        ("length that is too short", put("Content-Length: 2", "{}\r\n\r\n@@@\r\n\r\n"), &[400, 400]),
        ("chunk size of a word", chunked("zz\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("negative chunk size", chunked("-2\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("signed chunk size", chunked("+2\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("chunk size with a prefix", chunked("0x2\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("chunk size of 2^64", chunked("10000000000000000\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("empty chunk size", chunked("\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("chunk that is longer than its size", chunked("2\r\n{}{}\r\n0\r\n\r\n"), &[400]),
        ("chunk size that ends in LF alone", chunked("2\n{}\n0\n\n"), &[400]),
        ("100,000 bytes of trailers", chunked(&format!("0\r\nX: {}\r\n\r\n", "x".repeat(100_000))), &[400]),
        ("trailer that is none", chunked("0\r\nx\r\n\r\n"), &[400]),
        ("identity behind chunks", put("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), &[400]),
        ("gzip", put("Transfer-Encoding: gzip", "{}"), &[400]),
        ("coding in quotation marks", put("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"), &[400]),
        ("coding behind a vertical tab", put("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"), &[400]),
        ("blank behind the coding's name", put("Transfer-Encoding : chunked", "0\r\n\r\n"), &[400]),
        ("empty coding", put("Transfer-Encoding: ", "0\r\n\r\n"), &[400]),
        ("unknown expectation of a body", put("Expect: x\r\nContent-Length: 2\r\nConnection: close", "{}"), &[400]),
    ];
    let cut: Vec<Row> = vec![
        ("manifest that is cut", put("Content-Length: 100\r\nConnection: close", "{\"schemaVersion\":2"), &[400]),
        ("blob that is cut", blob(&digest, "Content-Length: 100\r\nConnection: close", "0123"), &[400]),
        (
            "blob whose last chunk is missing",
            blob(&digest, "Transfer-Encoding: chunked\r\nConnection: close", "4\r\n0123\r\n"),
            &[400],
        ),
        ("chunk that is cut", chunked("10\r\n{}"), &[400]),
        ("no chunks at all", chunked(""), &[400]),
    ];
    (whole, cut)
}

/// One request behind the other.
fn sequences() -> Vec<Row> {
    let one = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
    let next = one("/v2/", "Connection: close\r\n");
    let row = |first: String, then: &str| format!("{first}{then}").into_bytes();
    let post = |fields: &str| format!("POST /token HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
    vec![
        ("a bad one between good ones", row(one("/v2/", "") + &one("/v1/", ""), &next), &[401, 404, 401]),
        ("100 at once", row(one("/v2/", "").repeat(99), &next), &[401; 100]),
        ("garbage behind a request", row(one("/v2/", ""), "\0\0\0\r\n\r\n"), &[401, 400]),
        ("one behind a length of zero", row(post("Content-Length: 0\r\n"), &next), &[400, 401]),
        ("one inside of a length", row(post(&format!("Content-Length: {}\r\n", next.len())), &next), &[400]),
        (
            "one behind both lengths",
            row(post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", &next),
            &[400],
        ),
        (
            "one behind chunks that are hidden",
            row(post("Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n") + "0\r\n\r\n", &next),
            &[400],
        ),
        (
            "one behind two codings",
            row(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + "0\r\n\r\n", &next),
            &[400],
        ),
        (
            "chunks before HTTP/1.1",
            row(format!("POST /token HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), &next),
            &[400],
        ),
        (
            "one in a chunk's extension",
            row(post("Transfer-Encoding: chunked\r\n"), &format!("2;\n{next}\r\n0\r\n\r\n")),
            &[400],
        ),
        ("one behind a good end", row(one("/v2/", "Connection: close\r\n"), &next), &[401]),
    ]
}
