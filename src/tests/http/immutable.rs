//! Immutable tags, as clients meet them.

use futures::future::join_all;
use landfast::oci::Digest;
use landfast::policy::{Glob, ImmutableTags, PolicyRule};
use serde_json::json;

use crate::harness::{OCI_MANIFEST, Registry, image, snapshot};

/// In `team/released/**` tags that start with `v` stay.
fn registry() -> Registry {
    let mut snapshot = snapshot();
    snapshot.projects.get_mut("team").unwrap().policies = vec![PolicyRule {
        immutable_tags: Some(ImmutableTags::new(["v*"])),
        ..PolicyRule::new("released", vec![Glob::new("released/**")])
    }];
    let registry = Registry::new();
    registry.publish(snapshot);
    registry
}

const APP: &str = "team/released/app";

/// The tags of the repository.
async fn tags(registry: &Registry, repository: &str) -> serde_json::Value {
    let list = registry.by("dev", "GET", &format!("/v2/{repository}/tags/list")).send().await;
    list.expect(200).json()["tags"].clone()
}

/// An image other than those of other names.
async fn other(registry: &Registry, name: &str) -> Vec<u8> {
    let config = registry.push_blob("dev", APP, b"{}").await;
    let layer = registry.push_blob("dev", APP, name.as_bytes()).await;
    image(OCI_MANIFEST, &config, 2, &layer, name.len())
}

#[tokio::test]
async fn an_immutable_tag_does_not_move() {
    let registry = registry();
    let first = registry.push_image("dev", APP, "v1", b"first").await;
    let digest = Digest::sha256(&first);
    let second = other(&registry, "second").await;
    let reply = registry.put_manifest("dev", APP, "v1", OCI_MANIFEST, &second).await.expect(403);
    let message = format!(
        "tag v1 is immutable and points to {digest}: use another tag, or have spec.immutableTags of the RepositoryPolicy changed first"
    );
    let detail = json!({"tag": "v1", "digest": digest});
    assert_eq!(reply.json(), json!({"errors": [{"code": "DENIED", "message": message, "detail": detail}]}));
    let kept = registry.by("dev", "GET", &format!("/v2/{APP}/manifests/v1")).send().await.expect(200);
    assert_eq!(kept.body, first);
    let refused = format!("/v2/{APP}/manifests/{}", Digest::sha256(&second));
    registry.by("dev", "GET", &refused).send().await.expect(404);
    // The same again, another tag, and no tag are no moves.
    for reference in ["v1", digest.as_str()] {
        registry.put_manifest("dev", APP, reference, OCI_MANIFEST, &first).await.expect(201);
    }
    for reference in ["v2", "latest"] {
        registry.put_manifest("dev", APP, reference, OCI_MANIFEST, &second).await.expect(201);
    }
}

#[tokio::test]
async fn tags_and_repositories_that_no_pattern_matches_move_and_go() {
    let registry = registry();
    for (repository, tag) in [(APP, "latest"), ("team/other", "v1")] {
        registry.push_image("dev", repository, tag, b"first").await;
        registry.push_image("dev", repository, tag, b"second").await;
        let target = format!("/v2/{repository}/manifests/{tag}");
        registry.by("dev", "DELETE", &target).send().await.expect(202);
    }
}

#[tokio::test]
async fn an_immutable_tag_and_its_manifest_are_not_deleted() {
    let registry = registry();
    let manifest = registry.push_image("dev", APP, "v1", b"layer").await;
    registry.put_manifest("dev", APP, "latest", OCI_MANIFEST, &manifest).await.expect(201);
    for reference in ["v1", Digest::sha256(&manifest).as_str()] {
        let delete = registry.by("dev", "DELETE", &format!("/v2/{APP}/manifests/{reference}")).send().await;
        assert_eq!(delete.refusal(), (403, "DENIED".to_owned()));
    }
    assert_eq!(tags(&registry, APP).await, json!(["latest", "v1"]));
    let none = registry.by("dev", "DELETE", &format!("/v2/{APP}/manifests/v2")).send().await;
    assert_eq!(none.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));

    // Whoever may change the policy does that first.
    registry.publish(snapshot());
    registry.by("dev", "DELETE", &format!("/v2/{APP}/manifests/v1")).send().await.expect(202);
}

#[tokio::test]
async fn of_many_pushes_of_an_immutable_tag_at_once_one_wins() {
    let registry = registry();
    let mut manifests = Vec::new();
    for number in 0..16 {
        manifests.push(other(&registry, &format!("image {number}")).await);
    }
    let pushes = manifests.iter().map(|manifest| registry.put_manifest("dev", APP, "v1", OCI_MANIFEST, manifest));
    let replies = join_all(pushes).await;
    let won: Vec<_> = (0..16).filter(|&number| replies[number].status == 201).collect();
    assert_eq!(won.len(), 1, "{:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
    let refused = replies.iter().filter(|reply| reply.status != 201);
    assert!(refused.map(|reply| reply.refusal()).all(|refusal| refusal == (403, "DENIED".to_owned())));
    let stored = registry.by("dev", "GET", &format!("/v2/{APP}/manifests/v1")).send().await.expect(200);
    assert_eq!(stored.body, manifests[won[0]]);
}
