//! Requests that make no sense: each is the client's fault, and none the server's.

use rstest::rstest;

use crate::harness::{HOST, OCI_MANIFEST, Registry};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "00000000-0000-4000-8000-000000000000.AAAAAAAAAAAAAAAAAAAAAA";

#[rstest]
#[case::upper_case_name("GET", "/v2/Team/manifests/v1", 400, "NAME_INVALID")]
#[case::long_name("GET", &format!("/v2/{}/manifests/v1", "a".repeat(256)), 400, "NAME_INVALID")]
#[case::empty_name("GET", "/v2//manifests/v1", 400, "NAME_INVALID")]
#[case::parent_folder("GET", "/v2/team/../x/manifests/v1", 400, "NAME_INVALID")]
#[case::encoded_parent_folder("GET", "/v2/team/%2e%2e/x/manifests/v1", 400, "NAME_INVALID")]
#[case::nul("GET", "/v2/te%00am/manifests/v1", 400, "NAME_INVALID")]
#[case::bad_escape("GET", "/v2/te%zzam/manifests/v1", 400, "UNSUPPORTED")]
#[case::not_utf8("GET", "/v2/te%ffam/manifests/v1", 400, "UNSUPPORTED")]
#[case::impossible_tag("GET", "/v2/team/app/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN")]
#[case::push_of_impossible_tag("PUT", "/v2/team/app/manifests/.x", 400, "TAG_INVALID")]
#[case::long_tag("PUT", &format!("/v2/team/app/manifests/{}", "a".repeat(129)), 400, "TAG_INVALID")]
#[case::digest_of_manifest("GET", "/v2/team/app/manifests/sha256:abc", 400, "DIGEST_INVALID")]
#[case::digest_of_blob("GET", "/v2/team/app/blobs/sha256:abc", 400, "DIGEST_INVALID")]
#[case::algorithm("HEAD", "/v2/team/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "")]
#[case::digest_of_referrers("GET", "/v2/team/app/referrers/latest", 400, "DIGEST_INVALID")]
#[case::digest_of_upload("POST", "/v2/team/app/blobs/uploads/?digest=x", 400, "DIGEST_INVALID")]
#[case::digest_of_mount("POST", "/v2/team/app/blobs/uploads/?mount=x&from=base/app", 400, "DIGEST_INVALID")]
#[case::source_of_mount("POST", &format!("/v2/team/app/blobs/uploads/?mount={DIGEST}&from=B"), 400, "NAME_INVALID")]
#[case::no_digest("PUT", &format!("/v2/team/app/blobs/uploads/{ID}"), 400, "DIGEST_INVALID")]
#[case::malformed_upload("PATCH", "/v2/team/app/blobs/uploads/x", 404, "BLOB_UPLOAD_UNKNOWN")]
#[case::unknown_upload("PATCH", &format!("/v2/team/app/blobs/uploads/{ID}"), 404, "BLOB_UPLOAD_UNKNOWN")]
#[case::negative_n("GET", "/v2/team/app/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID")]
#[case::word_as_n("GET", "/v2/_catalog?n=x", 400, "PAGINATION_NUMBER_INVALID")]
#[case::last_tag("GET", "/v2/team/app/tags/list?last=%00", 400, "TAG_INVALID")]
#[case::last_name("GET", "/v2/_catalog?last=..", 400, "NAME_INVALID")]
#[case::forged_cursor("GET", "/v2/_catalog?last=~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 400, "NAME_INVALID")]
#[case::scope("GET", "/token?scope=repository:team/app", 400, "UNSUPPORTED")]
#[case::scope_name("GET", "/token?scope=repository:Team:pull", 400, "UNSUPPORTED")]
#[case::method("POST", "/v2/team/app/manifests/v1", 405, "UNSUPPORTED")]
#[case::made_up_method("BREW", "/v2/", 405, "UNSUPPORTED")]
#[case::path("GET", "/v2/team/app/layers/x", 404, "UNSUPPORTED")]
#[case::other_path("GET", "/admin", 404, "UNSUPPORTED")]
#[case::version_1("GET", "/v1/_ping", 404, "UNSUPPORTED")]
#[tokio::test]
async fn targets(#[case] method: &str, #[case] target: &str, #[case] status: u16, #[case] code: &str) {
    let reply = Registry::new().by("dev", method, target).send().await;
    assert_eq!(reply.status.as_u16(), status, "{:?}", reply.body);
    if method != "HEAD" {
        assert_eq!(reply.refusal().1, code);
        assert_eq!(reply.header("content-type"), "application/json");
    }
    assert_eq!(reply.status == 405, !reply.header("allow").is_empty());
}

#[rstest]
#[case::null("null")]
#[case::empty_object("{}")]
#[case::array("[]")]
#[case::nothing("")]
#[case::not_json("{")]
#[case::not_utf8("{\"schemaVersion\":2,\"mediaType\":\"\u{fffd}\"}")]
#[case::deep(&"[".repeat(100_000))]
#[case::bad_digest(r#"{"schemaVersion":2,"config":{"digest":"sha256:x","size":1},"layers":[]}"#)]
#[case::schema_1(r#"{"schemaVersion":1,"name":"a","tag":"b"}"#)]
#[tokio::test]
async fn manifests(#[case] content: &str) {
    let registry = Registry::new();
    let reply = registry.put_manifest("dev", "team/app", "v1", OCI_MANIFEST, content.as_bytes()).await;
    assert_eq!(reply.refusal(), (400, "MANIFEST_INVALID".to_owned()));
}

#[rstest]
#[case::missing(None)]
#[case::malformed(Some("x"))]
#[case::other(Some("application/json"))]
#[tokio::test]
async fn manifest_types(#[case] media_type: Option<&str>) {
    let registry = Registry::new();
    let mut call = registry.by("dev", "PUT", "/v2/team/app/manifests/v1").body("{}");
    if let Some(media_type) = media_type {
        call = call.header("content-type", media_type);
    }
    assert_eq!(call.send().await.refusal(), (400, "MANIFEST_INVALID".to_owned()));
}

#[rstest]
#[case::no_type(None, "grant_type=password")]
#[case::json(Some("application/json"), "{}")]
#[case::no_grant(Some("application/x-www-form-urlencoded"), "a=b")]
#[case::bad_escape(Some("application/x-www-form-urlencoded"), "grant_type=%z")]
#[case::too_long(Some("application/x-www-form-urlencoded"), &"a".repeat(70_000))]
#[tokio::test]
async fn forms(#[case] content_type: Option<&str>, #[case] form: &str) {
    let registry = Registry::new();
    let mut call = registry.request("POST", "/token").body(form.to_owned());
    if let Some(content_type) = content_type {
        call = call.header("content-type", content_type);
    }
    call.send().await.expect(400);
}

#[rstest]
#[case::quote("a\"b")]
#[case::path("a/b")]
#[case::blank("a b")]
#[tokio::test]
async fn hosts(#[case] host: &str) {
    let registry = Registry::new();
    // A second Host header would be the server's business; here the first one is replaced.
    let request = http::Request::get("/v2/").header("host", host).body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(registry.router.clone(), request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(registry.request("GET", "/v2/").send().await.header("www-authenticate").matches(HOST).count(), 2);
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
