//! Writing: uploads in all their forms, manifests.

use axum::body::Body;
use landfast::oci::{Digest, MAX_MANIFEST_BYTES};
use serde_json::json;

use crate::harness::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Registry, Reply, image};

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

async fn start(registry: &Registry) -> String {
    let reply = registry.by("dev", "POST", UPLOADS).body("").send().await.expect(202);
    assert_eq!(reply.header("range"), "0-0");
    let location = reply.header("location").to_owned();
    assert!(location.starts_with(&format!("{UPLOADS}{}.", reply.header("docker-upload-uuid"))), "{location}");
    location
}

#[track_caller]
fn assert_created(reply: Reply, digest: &Digest) {
    let reply = reply.expect(201);
    assert_eq!(reply.header("location"), format!("/v2/team/app/blobs/{digest}"));
    assert_eq!(reply.header("docker-content-digest"), digest.as_str());
}

async fn assert_holds(registry: &Registry, content: &[u8]) {
    let target = format!("/v2/team/app/blobs/{}", Digest::sha256(content));
    assert_eq!(registry.by("dev", "GET", &target).send().await.expect(200).body, content);
}

#[tokio::test]
async fn takes_a_blob_in_one_request() {
    let registry = Registry::new();
    let digest = Digest::sha256(b"content");
    let reply = registry.by("dev", "POST", &format!("{UPLOADS}?digest={digest}")).body("content").send().await;
    assert_created(reply, &digest);
    assert_holds(&registry, b"content").await;
}

#[tokio::test]
async fn takes_a_blob_in_two_requests() {
    let registry = Registry::new();
    let (location, digest) = (start(&registry).await, Digest::sha256(b"content"));
    let reply = registry.by("dev", "PUT", &format!("{location}?digest={digest}")).body("content").send().await;
    assert_created(reply, &digest);
    assert_holds(&registry, b"content").await;
    registry.by("dev", "GET", &location).send().await.expect(404);
}

#[tokio::test]
async fn takes_a_stream_of_unknown_length() {
    let registry = Registry::new();
    let (location, digest) = (start(&registry).await, Digest::sha256(b"onetwo"));
    let pieces = ["one", "two"].map(Ok::<_, std::io::Error>);
    let body = Body::from_stream(futures::stream::iter(pieces));
    let reply = registry.by("dev", "PATCH", &location).stream(body).send().await.expect(202);
    assert_eq!(reply.header("range"), "0-5");
    let reply = registry.by("dev", "PUT", &format!("{location}?digest={digest}")).body("").send().await;
    assert_created(reply, &digest);
}

#[tokio::test]
async fn takes_chunks_in_order_and_tells_where_to_go_on() {
    let registry = Registry::new();
    let location = start(&registry).await;
    let chunk = |range: &str, content: &'static str| {
        registry.by("dev", "PATCH", &location).header("content-range", range).body(content).send()
    };
    assert_eq!(chunk("0-3", "abcd").await.expect(202).header("range"), "0-3");
    for (range, content) in [("0-3", "abcd"), ("5-6", "fg")] {
        let refused = chunk(range, content).await.expect(416);
        assert_eq!(refused.refusal().1, "BLOB_UPLOAD_INVALID");
        assert_eq!((refused.header("range"), refused.header("location")), ("0-3", location.as_str()));
    }
    // The connection breaks within a chunk, and the client asks how far it came.
    let broken = [Ok("ef"), Err(std::io::Error::other("reset"))];
    let body = Body::from_stream(futures::stream::iter(broken));
    registry.by("dev", "PATCH", &location).stream(body).send().await.expect(400);
    let status = registry.by("dev", "GET", &location).send().await.expect(204);
    assert_eq!((status.header("range"), status.header("location")), ("0-5", location.as_str()));

    let digest = Digest::sha256(b"abcdefgh");
    let last = registry.by("dev", "PUT", &format!("{location}?digest={digest}")).header("content-range", "6-7");
    assert_created(last.body("gh").send().await, &digest);
    assert_holds(&registry, b"abcdefgh").await;
}

#[tokio::test]
async fn a_chunk_has_to_be_as_long_as_it_says() {
    let registry = Registry::new();
    let location = start(&registry).await;
    let announced = registry.by("dev", "PATCH", &location).header("content-range", "0-9").body("abc").send().await;
    assert_eq!(announced.refusal(), (400, "SIZE_INVALID".to_owned()));
    let body = Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>("abc")]));
    let streamed = registry.by("dev", "PATCH", &location).header("content-range", "0-9").stream(body).send().await;
    assert_eq!(streamed.refusal(), (400, "SIZE_INVALID".to_owned()));
    let word = registry.by("dev", "PATCH", &location).header("content-range", "x").body("abc").send().await;
    assert_eq!(word.refusal(), (400, "BLOB_UPLOAD_INVALID".to_owned()));
}

#[tokio::test]
async fn refuses_content_with_another_digest() {
    let registry = Registry::new();
    let (location, digest) = (start(&registry).await, Digest::sha256(b"other"));
    for target in [format!("{location}?digest={digest}"), format!("{UPLOADS}?digest={digest}")] {
        let method = if target.starts_with(&location) { "PUT" } else { "POST" };
        let reply = registry.by("dev", method, &target).body("content").send().await;
        assert_eq!(reply.refusal(), (400, "DIGEST_INVALID".to_owned()));
    }
    registry.by("dev", "HEAD", &format!("/v2/team/app/blobs/{digest}")).send().await.expect(404);
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository_and_can_be_cancelled() {
    let registry = Registry::new();
    let location = start(&registry).await;
    let elsewhere = location.replace("team/app", "team/other");
    assert_eq!(registry.by("dev", "GET", &elsewhere).send().await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    registry.by("dev", "DELETE", &location).send().await.expect(204);
    registry.by("dev", "PATCH", &location).body("x").send().await.expect(404);
    registry.by("dev", "DELETE", &location).send().await.expect(404);
}

#[tokio::test]
async fn keeps_docker_media_types_and_indexes() {
    let registry = Registry::new();
    let config = registry.push_blob("dev", "team/app", b"{}").await;
    let manifest = image(DOCKER_MANIFEST, &config, 2, &config, 2);
    let put = registry.put_manifest("dev", "team/app", "docker", DOCKER_MANIFEST, &manifest).await.expect(201);
    let digest = Digest::sha256(&manifest);
    assert_eq!(put.header("location"), format!("/v2/team/app/manifests/{digest}"));
    assert_eq!(put.header("docker-content-digest"), digest.as_str());
    let call = registry.by("dev", "GET", "/v2/team/app/manifests/docker").header("accept", OCI_MANIFEST);
    let get = call.send().await.expect(200);
    assert_eq!((get.header("content-type"), &get.body[..]), (DOCKER_MANIFEST, &manifest[..]));

    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": DOCKER_MANIFEST, "digest": digest, "size": manifest.len(),
         "platform": {"os": "linux", "architecture": "arm64"}}]});
    let bytes = index.to_string().into_bytes();
    registry.put_manifest("dev", "team/app", "multi", OCI_INDEX, &bytes).await.expect(201);
    let get = registry.by("dev", "GET", "/v2/team/app/manifests/multi").send().await.expect(200);
    assert_eq!((get.header("content-type"), &get.body[..]), (OCI_INDEX, &bytes[..]));
}

#[tokio::test]
async fn a_manifest_pushed_by_digest_has_to_have_it() {
    let registry = Registry::new();
    let config = registry.push_blob("dev", "team/app", b"{}").await;
    let manifest = image(OCI_MANIFEST, &config, 2, &config, 2);
    let digest = Digest::of(landfast::oci::Algorithm::Sha512, &manifest);
    registry.put_manifest("dev", "team/app", digest.as_str(), OCI_MANIFEST, &manifest).await.expect(201);
    let get = registry.by("dev", "GET", &format!("/v2/team/app/manifests/{digest}")).send().await.expect(200);
    assert_eq!(get.body, manifest);

    let other = Digest::sha256(b"other");
    let refused = registry.put_manifest("dev", "team/app", other.as_str(), OCI_MANIFEST, &manifest).await;
    assert_eq!(refused.refusal(), (400, "DIGEST_INVALID".to_owned()));
}

#[tokio::test]
async fn names_each_blob_that_a_manifest_lacks() {
    let registry = Registry::new();
    let (config, layer) = (Digest::sha256(b"config"), Digest::sha256(b"layer"));
    let manifest = image(OCI_MANIFEST, &config, 2, &layer, 2);
    let reply = registry.put_manifest("dev", "team/app", "v1", OCI_MANIFEST, &manifest).await.expect(400);
    let errors = reply.json()["errors"].as_array().unwrap().clone();
    assert!(errors.iter().all(|error| error["code"] == "MANIFEST_BLOB_UNKNOWN"));
    let mut missing: Vec<_> = errors.iter().map(|error| error["detail"]["digest"].as_str().unwrap()).collect();
    missing.sort_unstable();
    let mut expected = [config.as_str(), layer.as_str()];
    expected.sort_unstable();
    assert_eq!(missing, expected);
}

#[tokio::test]
async fn refuses_manifests_that_are_too_large() {
    let registry = Registry::new();
    let large = vec![b' '; MAX_MANIFEST_BYTES + 1];
    let announced = registry.put_manifest("dev", "team/app", "v1", OCI_MANIFEST, &large).await;
    assert_eq!(announced.refusal(), (413, "MANIFEST_INVALID".to_owned()));

    let pieces = large.chunks(64 * 1024).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
    let call = registry.by("dev", "PUT", "/v2/team/app/manifests/v1").header("content-type", OCI_MANIFEST);
    let streamed = call.stream(Body::from_stream(futures::stream::iter(pieces))).send().await;
    assert_eq!(streamed.refusal(), (413, "MANIFEST_INVALID".to_owned()));

    // The largest that is allowed is read, and refused for what it is.
    let blank = vec![b' '; MAX_MANIFEST_BYTES];
    let refused = registry.put_manifest("dev", "team/app", "v1", OCI_MANIFEST, &blank).await;
    assert_eq!(refused.refusal(), (400, "MANIFEST_INVALID".to_owned()));
}

#[tokio::test]
async fn counts_what_it_does() {
    let registry = Registry::new();
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    let text = registry.metrics.encode().unwrap();
    let line = "landfast_http_requests_total{route=\"manifest\",method=\"PUT\",status=\"201\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("landfast_uploads_in_flight 0"), "{text}");
    assert!(text.contains("landfast_http_request_duration_seconds_bucket"), "{text}");
}
