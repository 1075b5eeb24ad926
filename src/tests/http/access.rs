//! Who gets what.

use landfast::policy::{Scope, Visibility};
use rstest::rstest;
use serde_json::json;

use crate::harness::{Registry, snapshot};

#[tokio::test]
async fn public_images_are_pulled_without_a_login() {
    let registry = Registry::new();
    let manifest = registry.push_image("publisher", "public/app", "v1", b"layer").await;
    let direct = registry.request("GET", "/v2/public/app/manifests/v1").send().await.expect(200);
    assert_eq!(direct.body, manifest);

    // As clients do it: by the challenge.
    let token = registry.token(None, &["repository:public/app:pull"]).await;
    let digest = landfast::oci::Digest::sha256(b"layer");
    let blob = registry.request("GET", &format!("/v2/public/app/blobs/{digest}")).bearer(&token);
    assert_eq!(blob.send().await.expect(200).body, "layer");
    let push = registry.request("POST", "/v2/public/app/blobs/uploads/").bearer(&token).send().await;
    assert_eq!(push.refusal(), (401, "UNAUTHORIZED".to_owned()));
}

#[rstest]
#[case::private("team/app", None, 401, "UNAUTHORIZED")]
#[case::private_to_others("team/app", Some("librarian"), 403, "DENIED")]
#[case::internal("shared/app", None, 401, "UNAUTHORIZED")]
#[case::internal_to_members("shared/app", Some("librarian"), 404, "MANIFEST_UNKNOWN")]
#[case::no_project("nowhere/app", None, 401, "UNAUTHORIZED")]
#[case::no_project_to_members("nowhere/app", Some("librarian"), 403, "DENIED")]
#[tokio::test]
async fn a_refused_pull_tells_nothing_about_what_exists(
    #[case] repository: &str,
    #[case] robot: Option<&str>,
    #[case] status: u16,
    #[case] code: &str,
) {
    let registry = Registry::new();
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    let target = format!("/v2/{repository}/manifests/v1");
    let call = match robot {
        Some(robot) => registry.by(robot, "GET", &target),
        None => registry.request("GET", &target),
    };
    assert_eq!(call.send().await.refusal(), (status, code.to_owned()));
}

#[tokio::test]
async fn a_denial_says_who_may_not_do_what() {
    let registry = Registry::new();
    let reply = registry.by("guest", "POST", "/v2/team/app/blobs/uploads/").send().await.expect(403);
    assert_eq!(
        reply.json(),
        json!({"errors": [{"code": "DENIED", "message": "robot/ns/guest may not push team/app", "detail": null}]})
    );
    assert_eq!(reply.header("www-authenticate"), "");
    let delete = registry.by("guest", "DELETE", "/v2/team/app/manifests/v1").send().await;
    assert_eq!(delete.refusal(), (403, "DENIED".to_owned()));
}

#[tokio::test]
async fn the_catalogue_shows_what_the_caller_may_view() {
    let registry = Registry::new();
    for (robot, repository) in [
        ("dev", "team/a"),
        ("dev", "team/b"),
        ("librarian", "base/a"),
        ("publisher", "public/a"),
        ("publisher", "public/b"),
    ] {
        registry.push_image(robot, repository, "v1", b"layer").await;
    }
    let whole = registry.by("dev", "GET", "/v2/_catalog").send().await.expect(200);
    assert_eq!(whole.json(), json!({"repositories": ["public/a", "public/b", "team/a", "team/b"]}));
    assert_eq!(whole.header("link"), "");

    let mut names = Vec::new();
    let mut target = "/v2/_catalog?n=1".to_owned();
    while !target.is_empty() {
        let page = registry.by("librarian", "GET", &target).send().await.expect(200);
        names.extend(page.json()["repositories"].as_array().unwrap().clone());
        target = crate::pull::next_page(&page);
    }
    assert_eq!(names, ["base/a", "public/a", "public/b"]);

    registry.request("GET", "/v2/_catalog").send().await.expect(401);
    let anonymous = registry.token(None, &["registry:catalog:*"]).await;
    let public = registry.request("GET", "/v2/_catalog").bearer(&anonymous).send().await.expect(200);
    assert_eq!(public.json(), json!({"repositories": ["public/a", "public/b"]}));
}

#[tokio::test]
async fn a_mount_needs_the_right_to_pull_from_its_source() {
    let registry = Registry::new();
    let digest = registry.push_blob("librarian", "base/app", b"layer").await;
    let mount = format!("/v2/team/app/blobs/uploads/?mount={digest}&from=base/app");
    let head = format!("/v2/team/app/blobs/{digest}");

    let refused = registry.by("dev", "POST", &mount).send().await.expect(202);
    assert!(refused.header("location").starts_with("/v2/team/app/blobs/uploads/"));
    registry.by("dev", "HEAD", &head).send().await.expect(404);

    let mut open = snapshot();
    open.projects.get_mut("base").unwrap().visibility = Visibility::Internal;
    registry.publish(open);
    // The policy allows it now, but a token has to be for the source too.
    let narrow = registry.token(Some("dev"), &["repository:team/app:pull,push"]).await;
    registry.request("POST", &mount).bearer(&narrow).send().await.expect(202);
    let wide = registry.token(Some("dev"), &["repository:team/app:pull,push", "repository:base/app:pull"]).await;
    let mounted = registry.request("POST", &mount).bearer(&wide).send().await.expect(201);
    assert_eq!(mounted.header("location"), head);
    assert_eq!(mounted.header("docker-content-digest"), digest.as_str());
    assert_eq!(registry.by("dev", "GET", &head).send().await.expect(200).body, "layer");
}

#[tokio::test]
async fn a_mount_of_what_is_not_there_becomes_an_upload() {
    let registry = Registry::new();
    let digest = landfast::oci::Digest::sha256(b"nothing");
    for query in [format!("mount={digest}&from=team/other"), format!("mount={digest}")] {
        let reply =
            registry.by("dev", "POST", &format!("/v2/team/app/blobs/uploads/?{query}")).send().await.expect(202);
        assert!(!reply.header("docker-upload-uuid").is_empty());
    }
}

#[tokio::test]
async fn a_mount_from_anywhere_finds_what_the_caller_may_pull() {
    let registry = Registry::new();
    let digest = registry.push_blob("dev", "team/app", b"layer").await;
    let mount = format!("/v2/team/other/blobs/uploads/?mount={digest}");
    let mounted = registry.by("dev", "POST", &mount).send().await.expect(201);
    assert_eq!(mounted.header("location"), format!("/v2/team/other/blobs/{digest}"));
    assert_eq!(registry.by("dev", "GET", &format!("/v2/team/other/blobs/{digest}")).send().await.body, "layer");
}

/// Whether a blob exists is the business of those who may pull it: others get what they get for one that doesn't.
#[tokio::test]
async fn a_mount_from_anywhere_tells_nothing_of_what_the_caller_may_not_pull() {
    let registry = Registry::new();
    let (secret, nothing) =
        (registry.push_blob("librarian", "base/app", b"secret").await, landfast::oci::Digest::sha256(b"nothing"));
    for digest in [&secret, &nothing] {
        let mount = format!("/v2/team/app/blobs/uploads/?mount={digest}");
        let reply = registry.by("dev", "POST", &mount).send().await.expect(202);
        assert!(reply.header("docker-content-digest").is_empty() && reply.body.is_empty());
        registry.by("dev", "HEAD", &format!("/v2/team/app/blobs/{digest}")).send().await.expect(404);
    }
}

/// A client that names no source has no token for one.
#[tokio::test]
async fn a_mount_from_anywhere_needs_no_token_for_what_is_public() {
    let registry = Registry::new();
    let (public, private) = (
        registry.push_blob("publisher", "public/app", b"public").await,
        registry.push_blob("dev", "team/app", b"private").await,
    );
    let narrow = registry.token(Some("dev"), &["repository:team/other:pull,push"]).await;
    for (digest, status) in [(public, 201), (private, 202)] {
        let mount = format!("/v2/team/other/blobs/uploads/?mount={digest}");
        registry.request("POST", &mount).bearer(&narrow).send().await.expect(status);
    }
}

#[tokio::test]
async fn a_push_where_no_project_is_says_so() {
    let registry = Registry::new();
    let mut platform = snapshot();
    platform.robots.get_mut("uid-dev").unwrap().grant.scope = Scope::Registry;
    registry.publish(platform);
    let reply = registry.by("dev", "POST", "/v2/nowhere/app/blobs/uploads/").send().await.expect(403);
    assert!(reply.json()["errors"][0]["message"].as_str().unwrap().contains("no Project owns the path"));
}
