//! Blobs that clients fetch from the storage itself.

use std::sync::Arc;

use crate::harness::{Registry, connect};
use crate::s3_server::S3Server;

const DOCKER: &str = "docker/27.1.1 go/go1.21";

/// A registry that redirects, and the storage behind it.
fn redirecting() -> (Registry, S3Server) {
    let server = S3Server::start();
    let mut settings = server.settings();
    settings.redirect.enabled = true;
    settings.redirect.endpoint = settings.endpoint.clone().map(|endpoint| endpoint.replace("127.0.0.1", "localhost"));
    let store = Arc::new(connect(&settings));
    (Registry::over(store.clone(), Some(store)), server)
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn a_client_that_follows_is_sent_to_the_storage() {
    let (registry, _server) = redirecting();
    let digest = registry.push_blob("dev", "team/app", b"content").await;
    let target = format!("/v2/team/app/blobs/{digest}");
    let reply = registry.by("dev", "GET", &target).header("user-agent", DOCKER).send().await.expect(307);
    let location = reply.header("location");
    assert!(location.starts_with("http://localhost:") && location.contains("X-Amz-Signature="), "{location}");
    assert_eq!((reply.header("docker-content-digest"), reply.header("cache-control")), (digest.as_str(), "no-store"));
    let head = registry.by("dev", "HEAD", &target).header("user-agent", DOCKER).send().await.expect(200);
    assert_eq!(head.header("content-length"), "7");
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn others_get_the_content_from_here() {
    let (registry, _server) = redirecting();
    let digest = registry.push_blob("dev", "team/app", b"content").await;
    let target = format!("/v2/team/app/blobs/{digest}");
    assert_eq!(registry.by("dev", "GET", &target).send().await.expect(200).body, "content");
    let part = registry.by("dev", "GET", &target).header("range", "bytes=2-3").send().await.expect(206);
    assert_eq!(part.body, "nt");
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn nobody_is_sent_to_what_they_may_not_pull() {
    let (registry, _server) = redirecting();
    let digest = registry.push_blob("dev", "team/app", b"content").await;
    // Another repository doesn't hold it, and another robot may not pull it.
    let target = format!("/v2/team/other/blobs/{digest}");
    let reply = registry.by("dev", "GET", &target).header("user-agent", DOCKER).send().await.expect(404);
    assert_eq!(reply.header("location"), "");
    let target = format!("/v2/team/app/blobs/{digest}");
    let reply = registry.by("librarian", "GET", &target).header("user-agent", DOCKER).send().await.expect(403);
    assert_eq!(reply.header("location"), "");
}
