//! Requests that make no sense, each with the answer that the specifications name: the client's fault, never the server's.
//!
//! All of them go to one server, which must serve a push and a pull afterwards as if nothing had been. A row is one
//! request; rows about the bytes of HTTP itself go over a socket ([`wire`]), the others straight to the router.
//! `DIGEST` in a target stands for a digest that nothing has.

mod digests;
mod manifests;
mod methods;
mod names;
mod paging;
mod ranges;
mod repositories;
mod tokens;
mod uploads;
mod wire;

use std::collections::HashSet;
use std::time::Duration;

use crate::connections::Server;
use crate::harness::{Call, Registry, Reply};

/// Longer than anything here takes, by far.
const HANGS: Duration = Duration::from_secs(10);
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// What an error may be called: the specification's codes, and the two of Docker's that the registry uses.
const CODES: [&str; 16] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "TAG_INVALID",
    "PAGINATION_NUMBER_INVALID",
];

/// A request and its answer.
struct Row<'a> {
    name: String,
    call: Call<'a>,
    status: u16,
    /// Empty where no body is due: to a HEAD, and where the specifications let a server pass over the mistake.
    code: &'static str,
}

impl<'a> Row<'a> {
    fn new(name: impl Into<String>, call: Call<'a>, status: u16, code: &'static str) -> Self {
        Self { name: name.into(), call, status, code }
    }

    /// Sends it, and says what is wrong with the answer.
    async fn check(self) -> Result<(), String> {
        let Self { name, call, status, code } = self;
        let reply = tokio::time::timeout(HANGS, call.send()).await.map_err(|_| format!("{name}: hangs"))?;
        let complain = |what: &str| Err(format!("{name}: {what}: {} {:?}", reply.status, reply.body));
        if reply.status.as_u16() != status {
            return complain(&format!("not {status}"));
        }
        if !code.is_empty() && first_code(&reply).as_deref() != Some(code) {
            return complain(&format!("not {code}"));
        }
        if status == 405 && reply.header("allow").is_empty() {
            return complain("no Allow");
        }
        if status == 401 && reply.header("www-authenticate").is_empty() {
            return complain("no challenge");
        }
        Ok(())
    }
}

/// The code of a body that has the form of an error (distribution-spec, "Error Codes").
fn first_code(reply: &Reply) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
    let error = body["errors"].as_array()?.first()?;
    let code = error["code"].as_str().filter(|code| CODES.contains(code))?;
    let told = error["message"].as_str().is_some_and(|message| !message.is_empty());
    (told && reply.header("content-type") == "application/json").then(|| code.to_owned())
}

/// Rows of requests that have neither headers nor a body.
type Target = (&'static str, &'static str, &'static str, u16, &'static str);

fn targets<'a>(registry: &'a Registry, rows: &[Target]) -> Vec<Row<'a>> {
    let row = |&(name, method, target, status, code): &Target| {
        Row::new(name, registry.by("dev", method, &target.replace("DIGEST", DIGEST)), status, code)
    };
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn bad_input_is_the_clients_fault_and_harms_nobody() {
    let server = Server::plain("headSeconds: 2, idleSeconds: 2").await;
    let registry = &server.registry;
    let image = registry.push_image("dev", "team/app", "v1", b"0123456789").await;

    let mut rows = Vec::new();
    rows.extend(names::rows(registry));
    rows.extend(digests::rows(registry));
    rows.extend(ranges::rows(registry));
    rows.extend(uploads::rows(registry).await);
    rows.extend(manifests::rows(registry).await);
    rows.extend(tokens::rows(registry).await);
    rows.extend(paging::rows(registry));
    rows.extend(methods::rows(registry));
    rows.extend(repositories::rows(registry));
    let mut seen = HashSet::new();
    let mut wrong: Vec<_> =
        rows.iter().filter(|row| !seen.insert(row.name.clone())).map(|row| row.name.clone()).collect();
    assert!(wrong.is_empty(), "two rows have the same name: {wrong:?}");
    let number = rows.len();
    for row in rows {
        wrong.extend(row.check().await.err());
    }
    let on_the_wire = wire::check(&server).await;
    wrong.extend(on_the_wire.wrong);
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    assert!(number >= 475 && on_the_wire.number >= 110, "rows are missing: {number}, {}", on_the_wire.number);

    let pulled = registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(200);
    assert_eq!(pulled.body, image);
    let next = registry.push_image("dev", "team/app", "v2", b"next").await;
    assert_eq!(registry.by("dev", "GET", "/v2/team/app/manifests/v2").send().await.expect(200).body, next);
    assert_eq!(
        registry.by("dev", "GET", "/v2/team/app/tags/list").send().await.json()["tags"].to_string(),
        r#"["v1","v2"]"#
    );
    let digest = registry.push_blob("dev", "team/app", b"next").await;
    let blob = format!("/v2/team/app/blobs/{digest}");
    assert_eq!(registry.by("dev", "GET", &blob).send().await.expect(200).body, "next");
    let over_the_wire = server.exchange(&wire::get(registry, "/v2/team/app/manifests/v1")).await;
    assert!(over_the_wire.starts_with("HTTP/1.1 200") && over_the_wire.ends_with(&*String::from_utf8_lossy(&image)));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_target_is_the_servers_fault(
        method in "GET|HEAD|PUT|POST|PATCH|DELETE",
        path in "/v2/[a-z./%0-9:A-F]{0,40}(/(manifests|blobs|blobs/uploads|tags|referrers)/[a-z.:%0-9]{0,10})?",
        query in "[a-z=&%+0-9-]{0,20}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let registry = Registry::new();
            let target = format!("{path}?{query}");
            if target.parse::<http::Uri>().is_ok() {
                let reply = registry.by("dev", &method, &target).send().await;
                assert!(reply.status.as_u16() < 500, "{method} {target}: {:?}", reply.body);
            }
        });
    }
}
