//! What is configured to be bounded is: each limit with the answer that a client gets.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use landfast::oci::Digest;
use rstest::rstest;
use tokio::sync::oneshot;

use crate::harness::{OCI_INDEX, OCI_MANIFEST, Registry, Reply};

const POST: &str = "/v2/team/app/blobs/uploads/";

fn pieces(pieces: &[&'static str]) -> Body {
    let pieces: Vec<_> =
        pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes()))).collect();
    Body::from_stream(futures::stream::iter(pieces))
}

/// A body that comes when it is let go, and that tells that it has been asked for.
struct Held {
    body: Body,
    asked_for: oneshot::Receiver<()>,
    let_go: oneshot::Sender<&'static str>,
}

fn held() -> Held {
    let ((asked, asked_for), (let_go, content)) = (oneshot::channel(), oneshot::channel());
    let stream = futures::stream::once(async move {
        let _ = asked.send(());
        content.await.map(|text: &str| Bytes::from_static(text.as_bytes())).map_err(std::io::Error::other)
    });
    Held { body: Body::from_stream(stream), asked_for, let_go }
}

fn expect_busy(reply: &Reply) {
    assert_eq!(reply.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(reply.header("retry-after"), "5");
}

#[tokio::test]
async fn long_names_are_refused() {
    let registry = Registry::with_limits("nameBytes: 8");
    registry.push_blob("dev", "team/app", b"x").await;
    let reply = registry.by("dev", "GET", "/v2/team/apps/tags/list").send().await;
    assert_eq!(reply.refusal(), (400, "NAME_INVALID".to_owned()));
}

#[tokio::test]
async fn large_manifests_are_refused() {
    let registry = Registry::with_limits("manifestBytes: 2000");
    let put = async |size: usize| registry.put_manifest("dev", "team/app", "v1", OCI_INDEX, &vec![b' '; size]).await;
    assert_eq!(put(2001).await.refusal(), (413, "MANIFEST_INVALID".to_owned()));
    assert_eq!(put(2000).await.refusal().0, 400);
    let call = registry.by("dev", "PUT", "/v2/team/app/manifests/v1").header("content-type", OCI_MANIFEST);
    let reply = call.stream(Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(vec![b' '; 2001])])));
    assert_eq!(reply.send().await.refusal(), (413, "MANIFEST_INVALID".to_owned()));
}

#[tokio::test]
async fn larger_manifests_than_the_default_may_be_allowed() {
    let registry = Registry::with_limits("manifestBytes: 6000000");
    let manifest = format!("{{\"schemaVersion\": 2, \"manifests\": [] {}}}", " ".repeat(5_000_000));
    registry.put_manifest("dev", "team/app", "v1", OCI_INDEX, manifest.as_bytes()).await.expect(201);
    assert_eq!(registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.body.len(), manifest.len());
}

#[tokio::test]
async fn deeply_nested_manifests_are_refused() {
    let registry = Registry::with_limits("manifestDepth: 8");
    let put = async |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        let manifest = format!("{{\"schemaVersion\": 2, \"manifests\": [], \"x\": {open}{close}}}");
        registry.put_manifest("dev", "team/app", "v1", OCI_INDEX, manifest.as_bytes()).await
    };
    put(8).await.expect(201);
    assert_eq!(put(9).await.refusal(), (400, "MANIFEST_INVALID".to_owned()));
}

#[tokio::test]
async fn manifests_wait_for_memory_but_not_for_ever() {
    let registry = Registry::with_limits("manifestBytes: 4096, manifestMemoryBytes: 4096");
    let Held { body, asked_for, let_go } = held();
    let put =
        |body| registry.by("dev", "PUT", "/v2/team/app/manifests/v1").header("content-type", OCI_INDEX).stream(body);
    let manifest = "{\"schemaVersion\": 2, \"manifests\": []}";
    let second = async {
        asked_for.await.unwrap();
        expect_busy(&put(pieces(&[manifest])).send().await);
        let_go.send(manifest).unwrap();
    };
    tokio::join!(put(body).send(), second).0.expect(201);
    put(pieces(&[manifest])).send().await.expect(201);
}

#[tokio::test]
async fn too_many_uploads_are_sent_away() {
    let registry = Registry::with_limits("uploads: 1");
    let Held { body, asked_for, let_go } = held();
    let digest = Digest::sha256(b"content");
    let target = format!("{POST}?digest={digest}");
    let others = async {
        asked_for.await.unwrap();
        expect_busy(&registry.by("dev", "POST", &target).body("content").send().await);
        let location = registry.by("dev", "POST", POST).send().await.expect(202).header("location").to_owned();
        expect_busy(&registry.by("dev", "PATCH", &location).body("content").send().await);
        let finish = |digest: &Digest| format!("{location}?digest={digest}");
        expect_busy(&registry.by("dev", "PUT", &finish(&digest)).body("content").send().await);
        // Who sends no body takes no place.
        registry.by("dev", "PUT", &finish(&Digest::sha256(b""))).body("").send().await.expect(201);
        let_go.send("content").unwrap();
    };
    let (first, ()) = tokio::join!(registry.by("dev", "POST", &target).stream(body).send(), others);
    first.expect(201);
    registry.by("dev", "POST", &target).body("content").send().await.expect(201);
}

#[rstest]
#[case::connected(&[], &[])]
#[case::behind_a_proxy(&["10.0.0.0/8"], &["10.0.0.1"])]
#[tokio::test]
async fn one_client_leaves_uploads_to_others(#[case] proxies: &[&str], #[case] by: &[&str]) {
    let registry = Registry::with_limits_behind(proxies, "uploads: 4, clientShare: 25");
    let target = format!("{POST}?digest={}", Digest::sha256(b"content"));
    let call = |client: &str| {
        let call = registry.by("dev", "POST", &target).header("x-forwarded-for", client);
        call.from(by.first().copied().unwrap_or(client))
    };
    let Held { body, asked_for, let_go } = held();
    let others = async {
        asked_for.await.unwrap();
        let reply = call("2001:db8::2").body("content").send().await;
        expect_busy(&reply);
        assert!(reply.json()["errors"][0]["message"].as_str().unwrap().starts_with("this client"), "{:?}", reply.body);
        call("2001:db8:0:1::1").body("content").send().await.expect(201);
        let_go.send("content").unwrap();
    };
    let (first, ()) = tokio::join!(call("2001:db8::1").stream(body).send(), others);
    first.expect(201);
    call("2001:db8::2").body("content").send().await.expect(201);
}

#[tokio::test]
async fn large_blobs_are_refused() {
    let registry = Registry::with_limits("blobBytes: 4");
    let too_large = |reply: Reply| assert_eq!(reply.refusal(), (413, "SIZE_INVALID".to_owned()));
    registry.push_blob("dev", "team/app", b"1234").await;
    let target = format!("{POST}?digest={}", Digest::sha256(b"12345"));
    too_large(registry.by("dev", "POST", &target).body("12345").send().await);
    too_large(registry.by("dev", "POST", &target).stream(pieces(&["123", "45"])).send().await);
    assert_eq!(
        registry.by("dev", "HEAD", &format!("/v2/team/app/blobs/{}", Digest::sha256(b"12345"))).send().await.status,
        404
    );
}

#[tokio::test]
async fn blobs_that_grow_too_large_are_refused() {
    let registry = Registry::with_limits("blobBytes: 4");
    let location = registry.by("dev", "POST", POST).send().await.expect(202).header("location").to_owned();
    registry.by("dev", "PATCH", &location).stream(pieces(&["12", "3"])).send().await.expect(202);
    for body in [pieces(&["45"]), pieces(&["4", "5"])] {
        let reply = registry.by("dev", "PATCH", &location).stream(body).send().await;
        assert_eq!(reply.refusal().0, 413, "{:?}", reply.body);
    }
    let target = format!("{location}?digest={}", Digest::sha256(b"12345"));
    assert_eq!(registry.by("dev", "PUT", &target).body("45").send().await.refusal(), (413, "SIZE_INVALID".to_owned()));
}

/// Each of two requests may be within the limit, as far as it has seen.
#[tokio::test]
async fn blobs_that_grow_by_two_requests_at_once_are_refused() {
    let registry = Registry::with_limits("blobBytes: 4");
    let location = registry.by("dev", "POST", POST).send().await.expect(202).header("location").to_owned();
    let patch = |body: &'static str| {
        registry.by("dev", "PATCH", &location).header("content-length", &body.len().to_string()).stream(pieces(&[body]))
    };
    // The store's answers take turns: some of these look before others have written.
    let replies = futures::future::join_all((0..8).map(|_| patch("123").send())).await;
    assert!(replies.iter().any(|reply| reply.status == 202));
    let status = registry.by("dev", "GET", &location).send().await.expect(204);
    assert_eq!(status.header("range"), "0-2");
    let refused = replies.iter().filter(|reply| reply.status != 202);
    for reply in refused {
        assert!(matches!(reply.status.as_u16(), 409 | 413 | 416), "{:?} {:?}", reply.status, reply.body);
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let registry = Registry::with_limits("idleSeconds: 1, minimumBytesPerSecond: 100");
    let trickle = |bytes: usize| {
        futures::stream::unfold(0, move |count| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            (count < 60).then(|| (Ok::<_, std::io::Error>(vec![b'x'; bytes]), count + 1))
        })
    };
    let target = format!("{POST}?digest={}", Digest::sha256(&[b'x'; 6000]));
    let slow = registry.by("dev", "POST", &target).stream(Body::from_stream(trickle(1))).send().await;
    assert_eq!(slow.status, 408, "{:?}", slow.body);
    registry.by("dev", "POST", &target).stream(Body::from_stream(trickle(100))).send().await.expect(201);
    let target = format!("{POST}?digest={}", Digest::sha256(&[b'x'; 60]));
    let patient = Registry::with_limits("idleSeconds: 1, minimumBytesPerSecond: 0");
    patient.by("dev", "POST", &target).stream(Body::from_stream(trickle(1))).send().await.expect(201);
}

#[tokio::test]
async fn a_body_that_stops_is_given_up() {
    let registry = Registry::with_limits("idleSeconds: 1");
    let silent = futures::stream::iter([Ok::<_, std::io::Error>("x")]).chain(futures::stream::pending());
    let target = format!("{POST}?digest={}", Digest::sha256(b"x"));
    let reply = registry.by("dev", "POST", &target).stream(Body::from_stream(silent)).send();
    let reply = tokio::time::timeout(Duration::from_secs(20), reply).await.expect("the request goes on for ever");
    assert_eq!(reply.status, 408, "{:?}", reply.body);
}
