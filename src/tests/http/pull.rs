//! Reading: manifests, blobs, tags, referrers.

use landfast::oci::Digest;
use rstest::rstest;
use serde_json::json;

use crate::harness::{OCI_INDEX, OCI_MANIFEST, Registry, Reply, image};

/// Where a `Link` header leads, or nothing.
pub fn next_page(reply: &Reply) -> String {
    let link = reply.header("link");
    link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_image_comes_back_byte_for_byte() {
    let registry = Registry::new();
    let layer: Vec<u8> = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
    let manifest = registry.push_image("dev", "team/app", "v1", &layer).await;
    let digest = Digest::sha256(&manifest);

    for reference in ["v1", digest.as_str()] {
        let target = format!("/v2/team/app/manifests/{reference}");
        let get = registry.by("guest", "GET", &target).send().await.expect(200);
        assert_eq!(get.body, manifest);
        let head = registry.by("guest", "HEAD", &target).send().await.expect(200);
        assert!(head.body.is_empty());
        for reply in [get, head] {
            assert_eq!(reply.header("content-type"), OCI_MANIFEST);
            assert_eq!(reply.header("content-length"), manifest.len().to_string());
            assert_eq!(reply.header("docker-content-digest"), digest.as_str());
            assert_eq!(reply.header("etag"), format!("\"{digest}\""));
        }
    }
    let layer_digest = Digest::sha256(&layer);
    let target = format!("/v2/team/app/blobs/{layer_digest}");
    let get = registry.by("guest", "GET", &target).send().await.expect(200);
    assert_eq!(get.body, layer);
    let head = registry.by("guest", "HEAD", &target).send().await.expect(200);
    assert!(head.body.is_empty());
    for reply in [get, head] {
        assert_eq!(reply.header("content-length"), "700000");
        assert_eq!(reply.header("docker-content-digest"), layer_digest.as_str());
        assert_eq!(reply.header("accept-ranges"), "bytes");
    }
}

#[rstest]
#[case::inclusive("bytes=2-4", 206, "cde", "bytes 2-4/10")]
#[case::open("bytes=8-", 206, "ij", "bytes 8-9/10")]
#[case::suffix("bytes=-3", 206, "hij", "bytes 7-9/10")]
#[case::beyond_the_end("bytes=9-99", 206, "j", "bytes 9-9/10")]
#[case::several("bytes=0-1,3-4", 200, "abcdefghij", "")]
#[case::behind("bytes=10-", 416, "", "bytes */10")]
#[case::malformed("bytes=x", 416, "", "bytes */10")]
#[case::backwards("bytes=4-2", 416, "", "bytes */10")]
#[tokio::test]
async fn serves_parts_of_a_blob(
    #[case] range: &str,
    #[case] status: u16,
    #[case] content: &str,
    #[case] content_range: &str,
) {
    let registry = Registry::new();
    let digest = registry.push_blob("dev", "team/app", b"abcdefghij").await;
    let target = format!("/v2/team/app/blobs/{digest}");
    let reply = registry.by("dev", "GET", &target).header("range", range).send().await.expect(status);
    assert_eq!(reply.header("content-range"), content_range);
    if status != 416 {
        assert_eq!(reply.body, content);
        assert_eq!(reply.header("content-length"), content.len().to_string());
    }
    let other = registry.by("dev", "GET", &target).header("range", range).header("if-range", "\"old\"").send().await;
    assert_eq!(other.expect(200).body, "abcdefghij");
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let registry = Registry::new();
    let manifest = registry.push_image("dev", "team/app", "v1", b"layer").await;
    let (manifest, layer) = (Digest::sha256(&manifest), Digest::sha256(b"layer"));
    for (path, digest) in [("manifests/v1".to_owned(), &manifest), (format!("blobs/{layer}"), &layer)] {
        for method in ["GET", "HEAD"] {
            let call = registry.by("dev", method, &format!("/v2/team/app/{path}"));
            let reply = call.header("if-none-match", &format!("\"{digest}\"")).send().await.expect(304);
            assert!(reply.body.is_empty());
            assert_eq!(reply.header("docker-content-digest"), digest.as_str());
        }
    }
    let missing = Digest::sha256(b"missing");
    let call = registry.by("dev", "GET", &format!("/v2/team/app/blobs/{missing}"));
    call.header("if-none-match", &format!("\"{missing}\"")).send().await.expect(404);
}

#[tokio::test]
async fn tags_come_in_pages() {
    let registry = Registry::new();
    for tag in ["v1", "v2", "v3", "v4", "v5"] {
        registry.push_image("dev", "team/app", tag, b"layer").await;
    }
    let whole = registry.by("guest", "GET", "/v2/team/app/tags/list").send().await.expect(200);
    assert_eq!(whole.json(), json!({"name": "team/app", "tags": ["v1", "v2", "v3", "v4", "v5"]}));
    assert_eq!(whole.header("link"), "");

    let first = registry.by("guest", "GET", "/v2/team/app/tags/list?n=2").send().await.expect(200);
    assert_eq!(first.json()["tags"], json!(["v1", "v2"]));
    assert_eq!(first.header("link"), "</v2/team/app/tags/list?n=2&last=v2>; rel=\"next\"");
    let second = registry.by("guest", "GET", &next_page(&first)).send().await.expect(200);
    assert_eq!(second.json()["tags"], json!(["v3", "v4"]));
    let third = registry.by("guest", "GET", &next_page(&second)).send().await.expect(200);
    assert_eq!((third.json()["tags"].clone(), third.header("link")), (json!(["v5"]), ""));

    let none = registry.by("guest", "GET", "/v2/team/app/tags/list?n=0").send().await.expect(200);
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), ""));
    let unknown = registry.by("guest", "GET", "/v2/team/other/tags/list").send().await;
    assert_eq!(unknown.refusal(), (404, "NAME_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn lists_what_refers_to_a_manifest() {
    let registry = Registry::new();
    let subject = Digest::sha256(b"not there yet");
    let empty = registry.by("dev", "GET", &format!("/v2/team/app/referrers/{subject}")).send().await.expect(200);
    assert_eq!(empty.json(), json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}));
    assert_eq!(empty.header("content-type"), OCI_INDEX);

    let config = registry.push_blob("dev", "team/app", b"{}").await;
    for kind in ["application/x-signature", "application/x-report"] {
        let descriptor = json!({"mediaType": "application/x-empty", "digest": config, "size": 2});
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
            "config": descriptor, "layers": [descriptor],
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 13}});
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let put = registry.put_manifest("dev", "team/app", digest.as_str(), OCI_MANIFEST, &bytes).await.expect(201);
        assert_eq!(put.header("oci-subject"), subject.as_str());
    }
    let target = format!("/v2/team/app/referrers/{subject}");
    let all = registry.by("dev", "GET", &target).send().await.expect(200);
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(all.header("oci-filters-applied"), "");
    let filtered = registry.by("dev", "GET", &format!("{target}?artifactType=application/x-report")).send().await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let manifests = filtered.json()["manifests"].as_array().unwrap().clone();
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[0]["artifactType"], "application/x-report");
}

#[tokio::test]
async fn referrers_come_in_pages() {
    let registry = Registry::new();
    let subject = Digest::sha256(b"subject");
    let config = registry.push_blob("dev", "team/app", b"{}").await;
    for n in 0..5 {
        let descriptor = json!({"mediaType": "application/x-empty", "digest": config, "size": 2});
        let kind = if n < 3 { "application/x+report" } else { "application/x-other" };
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
            "config": descriptor, "layers": [], "annotations": {"n": n.to_string()},
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 13}});
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        registry.put_manifest("dev", "team/app", digest.as_str(), OCI_MANIFEST, &bytes).await.expect(201);
    }
    for (query, filters, expected) in
        [("n=2", "", vec![2, 2, 1]), ("n=2&artifactType=application/x%2Breport", "artifactType", vec![2, 1])]
    {
        let mut target = format!("/v2/team/app/referrers/{subject}?{query}");
        let (mut lengths, mut digests) = (Vec::new(), std::collections::BTreeSet::new());
        while !target.is_empty() {
            let page = registry.by("dev", "GET", &target).send().await.expect(200);
            assert_eq!((page.header("content-type"), page.header("oci-filters-applied")), (OCI_INDEX, filters));
            let manifests = page.json()["manifests"].as_array().unwrap().clone();
            lengths.push(manifests.len());
            digests.extend(manifests.iter().map(|manifest| manifest["digest"].as_str().unwrap().to_owned()));
            target = next_page(&page);
        }
        assert_eq!((digests.len(), lengths), (expected.iter().sum(), expected));
    }
    let malformed = registry.by("dev", "GET", &format!("/v2/team/app/referrers/{subject}?last=x")).send().await;
    assert_eq!(malformed.refusal(), (400, "DIGEST_INVALID".to_owned()));
}

#[tokio::test]
async fn deletes_tags_manifests_and_blobs() {
    let registry = Registry::new();
    let manifest = registry.push_image("dev", "team/app", "v1", b"layer").await;
    let config = registry.push_blob("dev", "team/app", b"{}").await;
    let again = image(OCI_MANIFEST, &config, 2, &config, 2);
    registry.put_manifest("dev", "team/app", "v2", OCI_MANIFEST, &again).await.expect(201);

    registry.by("dev", "DELETE", "/v2/team/app/manifests/v2").send().await.expect(202);
    let gone = registry.by("dev", "GET", "/v2/team/app/manifests/v2").send().await;
    assert_eq!(gone.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    let by_digest = format!("/v2/team/app/manifests/{}", Digest::sha256(&again));
    registry.by("dev", "GET", &by_digest).send().await.expect(200);

    let target = format!("/v2/team/app/manifests/{}", Digest::sha256(&manifest));
    registry.by("dev", "DELETE", &target).send().await.expect(202);
    registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(404);
    registry.by("dev", "DELETE", &target).send().await.expect(404);

    let blob = format!("/v2/team/app/blobs/{}", Digest::sha256(b"layer"));
    registry.by("dev", "DELETE", &blob).send().await.expect(202);
    assert_eq!(registry.by("dev", "GET", &blob).send().await.refusal(), (404, "BLOB_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn head_tells_the_length_of_what_it_does_not_send() {
    let registry = Registry::new();
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    for target in ["/v2/", "/v2/team/app/tags/list", "/v2/_catalog", "/v2/team/app/manifests/none", "/v2/none"] {
        let get = registry.by("dev", "GET", target).send().await;
        let head = registry.by("dev", "HEAD", target).send().await;
        assert_eq!(head.status, get.status, "{target}");
        assert!(head.body.is_empty(), "{target}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{target}");
    }
}
