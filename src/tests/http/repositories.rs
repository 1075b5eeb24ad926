//! The registry's own API of repositories: what it lists and says, and what a deletion leaves.

use landfast::policy::{Glob, Grant, ImageType, ImmutableTags, PolicyRule, RobotGrant, Role, Scope, Snapshot};
use rstest::rstest;
use serde_json::json;

use crate::harness::{HOST, Registry, snapshot};
use crate::pull::next_page;

const LIST: &str = "/api/v1/repositories";

/// The policy of the harness, with `boss` as Admin of `team`, and something said about its repositories.
fn policy() -> Snapshot {
    let mut snapshot = snapshot();
    let rule = |name: &str, pattern: &str| PolicyRule::new(name, vec![Glob::new(pattern)]);
    let team = snapshot.projects.get_mut("team").unwrap();
    team.policies = vec![
        PolicyRule { description: Some("Where it \"starts\"".to_owned()), ..rule("about", "app") },
        PolicyRule { image_type: Some(ImageType::Build), ..rule("builds", "build-*") },
        PolicyRule { immutable_tags: Some(ImmutableTags::new(["v*"])), ..rule("kept", "kept") },
    ];
    let grant = Grant::new(Scope::Project("team".to_owned()), Role::Admin);
    let boss = RobotGrant { grant, robots: vec!["boss".to_owned()], generation: 0 };
    snapshot.robots.insert("uid-boss".to_owned(), boss);
    snapshot.registry.base_suffix = Some("_ownbase".to_owned());
    snapshot
}

async fn registry() -> Registry {
    let registry = Registry::new();
    registry.publish(policy());
    for (robot, repository) in [
        ("dev", "team/app"),
        ("dev", "team/build-a"),
        ("dev", "team/build-b"),
        ("dev", "team/build_ownbase"),
        ("librarian", "base/secret"),
        ("publisher", "public/app"),
    ] {
        registry.push_image(robot, repository, "v1", b"layer").await;
    }
    registry
}

#[tokio::test]
async fn says_what_is_known_of_each_repository() {
    let registry = registry().await;
    let list = registry.by("dev", "GET", LIST).send().await.expect(200);
    assert_eq!(list.header("content-type"), "application/json");
    let item = |name: &str, visibility: &str, image_type: &str| {
        json!({
            "name": name, "address": format!("{HOST}/{name}"), "visibility": visibility, "imageType": image_type,
            "official": false,
        })
    };
    let mut app = item("team/app", "Private", "Base");
    app["description"] = "Where it \"starts\"".into();
    let expected = [
        item("public/app", "Public", "Base"),
        app.clone(),
        item("team/build-a", "Private", "Build"),
        item("team/build-b", "Private", "Build"),
        item("team/build_ownbase", "Private", "Base"),
    ];
    assert_eq!(list.json(), json!({ "repositories": expected }));
    app["tags"] = 1.into();
    let one = registry.by("dev", "GET", &format!("{LIST}/team/app")).send().await.expect(200);
    assert_eq!(one.json(), app);
    let head = registry.by("dev", "HEAD", &format!("{LIST}/team/app")).send().await.expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), (&*one.body.len().to_string(), 0));
}

#[tokio::test]
async fn what_is_official_is_shown_as_what_it_is() {
    let registry = registry().await;
    let mut policy = policy();
    policy.projects.get_mut("base").unwrap().official = true;
    registry.publish(policy);
    let one = registry.request("GET", &format!("{LIST}/base/secret")).send().await.expect(200).json();
    assert_eq!((&one["official"], &one["visibility"]), (&true.into(), &"Public".into()));
}

#[tokio::test]
async fn each_type_of_image_has_its_list() {
    let registry = registry().await;
    let names = async |target: &str| {
        let (mut names, mut target) = (Vec::new(), target.to_owned());
        while !target.is_empty() {
            let page = registry.by("dev", "GET", &target).send().await.expect(200);
            let entries = page.json()["repositories"].as_array().unwrap().clone();
            names.extend(entries.iter().map(|entry| entry["name"].as_str().or(entry.as_str()).unwrap().to_owned()));
            target = next_page(&page);
        }
        names
    };
    for path in [LIST, "/v2/_catalog"] {
        for n in [1, 2, 1000] {
            let build = names(&format!("{path}?imageType=Build&n={n}")).await;
            assert_eq!(build, ["team/build-a", "team/build-b"], "{path} {n}");
            let base = names(&format!("{path}?imageType=Base&n={n}")).await;
            assert_eq!(base, ["public/app", "team/app", "team/build_ownbase"], "{path} {n}");
            assert_eq!(names(&format!("{path}?n={n}")).await.len(), 5, "{path} {n}");
        }
    }
    // The page ends where the client can't see, and tells it nothing.
    let page = registry.by("publisher", "GET", &format!("{LIST}?n=1")).send().await.expect(200);
    assert!(!page.header("link").contains("team"), "{}", page.header("link"));
}

/// A page is held in memory.
#[tokio::test]
async fn a_page_ends_before_it_gets_large() {
    let registry = Registry::new();
    let mut policy = policy();
    let about =
        PolicyRule { description: Some("ä".repeat(150_000)), ..PolicyRule::new("large", vec![Glob::new("large-*")]) };
    policy.projects.get_mut("team").unwrap().policies = vec![about];
    registry.publish(policy);
    let expected: Vec<_> = (10..40).map(|n| format!("team/large-{n}")).collect();
    for name in &expected {
        registry.push_image("dev", name, "v1", b"layer").await;
    }
    let (mut names, mut target, mut pages) = (Vec::new(), format!("{LIST}?n=1000"), 0);
    while !target.is_empty() {
        let page = registry.by("dev", "GET", &target).send().await.expect(200);
        assert!(page.body.len() <= 4 << 20, "{}", page.body.len());
        let entries = page.json()["repositories"].as_array().unwrap().clone();
        names.extend(entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()));
        (target, pages) = (next_page(&page), pages + 1);
    }
    assert_eq!((names, pages), (expected, 3));
}

#[rstest]
#[case::hidden("base/secret")]
#[case::missing("team/missing")]
#[case::of_no_project("nowhere/app")]
#[tokio::test]
async fn what_may_not_be_viewed_is_as_what_is_not_there(#[case] name: &str) {
    let registry = registry().await;
    let reply = registry.by("dev", "GET", &format!("{LIST}/{name}")).send().await;
    assert_eq!(reply.refusal(), (404, "NAME_UNKNOWN".to_owned()));
    assert_eq!(reply.json()["errors"][0]["message"], "repository is unknown");
    let anonymous = registry.request("GET", &format!("{LIST}/{name}")).send().await;
    assert_eq!(anonymous.refusal(), (401, "UNAUTHORIZED".to_owned()));
}

/// The scope that a challenge names, as a client gets a token for it.
async fn as_challenged(registry: &Registry, robot: &str, method: &str, target: &str) -> String {
    let reply = registry.request(method, target).send().await.expect(401);
    let (_, scope) = reply.header("www-authenticate").split_once("scope=\"").unwrap();
    let (scope, _) = scope.split_once('"').unwrap();
    registry.token(Some(robot), &[scope]).await
}

#[tokio::test]
async fn the_scope_of_each_challenge_does() {
    let registry = registry().await;
    let challenge = registry.request("DELETE", &format!("{LIST}/team/app")).send().await.expect(401);
    assert!(
        challenge.header("www-authenticate").ends_with("scope=\"repository:team/app:pull,delete-repository\""),
        "{}",
        challenge.header("www-authenticate")
    );
    for (method, target, status) in [
        ("GET", LIST.to_owned(), 200),
        ("GET", format!("{LIST}/team/app"), 200),
        ("DELETE", format!("{LIST}/team/app"), 202),
    ] {
        let token = as_challenged(&registry, "boss", method, &target).await;
        registry.request(method, &target).bearer(&token).send().await.expect(status);
    }
}

#[tokio::test]
async fn a_token_for_something_else_deletes_no_repository() {
    let registry = registry().await;
    let target = format!("{LIST}/team/app");
    for scope in
        ["repository:team/app:pull,push,delete", "repository:team/app:*", "repository:team/build-a:delete-repository"]
    {
        let token = registry.token(Some("boss"), &[scope]).await;
        let reply = registry.request("DELETE", &target).bearer(&token).send().await;
        assert_eq!(reply.refusal(), (401, "UNAUTHORIZED".to_owned()), "{scope}");
    }
    // A Developer gets no token for it, and needs none to hear so.
    let token = registry.token(Some("dev"), &["repository:team/app:delete-repository"]).await;
    let denied = registry.request("DELETE", &target).bearer(&token).send().await;
    assert_eq!(denied.json()["errors"][0]["message"], "robot/ns/dev may not delete-repository team/app");
    registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(200);
}

#[tokio::test]
async fn a_deleted_repository_is_gone_everywhere_and_its_name_is_free() {
    let registry = registry().await;
    let target = format!("{LIST}/team/app");
    let begun = registry.by("dev", "POST", "/v2/team/app/blobs/uploads/").send().await.expect(202);
    let deleted = registry.by("boss", "DELETE", &target).send().await.expect(202);
    assert!(deleted.body.is_empty());
    for gone in [&*target, "/v2/team/app/tags/list"] {
        assert_eq!(registry.by("dev", "GET", gone).send().await.refusal(), (404, "NAME_UNKNOWN".to_owned()));
    }
    assert_eq!(registry.by("boss", "DELETE", &target).send().await.refusal(), (404, "NAME_UNKNOWN".to_owned()));
    registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(404);
    let digest = landfast::oci::Digest::sha256(b"layer");
    registry.by("dev", "GET", &format!("/v2/team/app/blobs/{digest}")).send().await.expect(404);
    let catalogue = registry.by("dev", "GET", "/v2/_catalog").send().await.expect(200).json();
    assert!(!catalogue["repositories"].as_array().unwrap().contains(&"team/app".into()), "{catalogue}");
    // What was begun before is a push after it.
    let put = registry.by("dev", "PUT", &format!("{}?digest={digest}", begun.header("location")));
    put.body("layer").send().await.expect(201);
    registry.push_image("dev", "team/app", "v2", b"anew").await;
    let tags = registry.by("dev", "GET", "/v2/team/app/tags/list").send().await.expect(200).json();
    assert_eq!(tags["tags"], json!(["v2"]));
    assert!(registry.metrics.encode().unwrap().contains("route=\"repository\",method=\"DELETE\",status=\"202\""));
}

#[tokio::test]
async fn an_immutable_tag_keeps_its_repository() {
    let registry = registry().await;
    registry.push_image("dev", "team/kept", "latest", b"layer").await;
    registry.push_image("dev", "team/kept", "v1", b"layer").await;
    let refused = registry.by("boss", "DELETE", &format!("{LIST}/team/kept")).send().await.expect(403);
    let error = &refused.json()["errors"][0];
    assert_eq!((&error["code"], &error["detail"]["tag"]), (&"DENIED".into(), &"v1".into()));
    for tag in ["latest", "v1"] {
        registry.by("dev", "GET", &format!("/v2/team/kept/manifests/{tag}")).send().await.expect(200);
    }
}
