//! Logging in, tokens, and what becomes of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use landfast::policy::Identity;
use rstest::rstest;
use serde_json::json;

use crate::harness::{HOST, NOW, Registry, TOKEN_TTL, keys, snapshot, subject};

#[tokio::test]
async fn a_client_is_told_where_to_log_in() {
    let registry = Registry::new();
    let reply = registry.request("GET", "/v2/").send().await.expect(401);
    assert_eq!(reply.json(), json!({"errors": [{"code": "UNAUTHORIZED", "message": "log in first", "detail": null}]}));
    let base = format!("Bearer realm=\"http://{HOST}/token\",service=\"{HOST}\"");
    assert_eq!(reply.header("www-authenticate"), base);
    assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");

    let push = registry.request("POST", "/v2/team/app/blobs/uploads/").send().await.expect(401);
    assert_eq!(push.header("www-authenticate"), format!("{base},scope=\"repository:team/app:pull,push\""));
}

#[tokio::test]
async fn a_token_holds_what_is_allowed_of_what_is_asked_for() {
    let registry = Registry::new();
    let target = "/token?service=x&account=y&scope=repository:team/app:pull,push&scope=repository:base/app:*%20registry:catalog:*";
    let reply = registry.by("dev", "GET", target).send().await.expect(200).json();
    assert_eq!(reply["scope"], "repository:team/app:pull,push registry:catalog:*");
    assert_eq!(reply["expires_in"], TOKEN_TTL);
    assert_eq!(reply["issued_at"], "2027-01-15T08:00:00Z");
    assert_eq!(reply["token"], reply["access_token"]);
    assert_eq!(reply.get("refresh_token"), None);

    let token = reply["token"].as_str().unwrap();
    let upload = |repository: &str| registry.request("POST", &format!("/v2/{repository}/blobs/uploads/")).bearer(token);
    upload("team/app").send().await.expect(202);
    assert_eq!(upload("base/app").send().await.refusal(), (403, "DENIED".to_owned()));
    registry.request("GET", "/v2/").bearer(token).send().await.expect(200);
}

#[tokio::test]
async fn a_token_is_an_upper_bound() {
    let registry = Registry::new();
    let token = registry.token(Some("dev"), &["repository:team/app:pull"]).await;
    let push = registry.request("POST", "/v2/team/app/blobs/uploads/").bearer(&token).send().await.expect(401);
    assert!(push.header("www-authenticate").ends_with(",error=\"insufficient_scope\""), "{:?}", push.headers);
    let other = registry.request("GET", "/v2/team/other/tags/list").bearer(&token).send().await;
    assert_eq!(other.refusal(), (401, "UNAUTHORIZED".to_owned()));
}

#[tokio::test]
async fn a_form_gives_tokens_too_and_refresh_tokens_if_asked() {
    let registry = Registry::new();
    let post = async |form: String| {
        let call = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
        call.body(form).send().await
    };
    let password = registry.password("dev");
    let scope = "scope=repository%3Ateam%2Fapp%3Apull";
    let form = format!("grant_type=password&username=robot%2Fns%2Fdev&password={password}&{scope}");
    let plain = post(form.clone()).await.expect(200).json();
    assert_eq!((&plain["scope"], plain.get("refresh_token")), (&json!("repository:team/app:pull"), None));

    let offline = post(format!("{form}&access_type=offline")).await.expect(200).json();
    let refresh = offline["refresh_token"].as_str().unwrap();
    let refreshed = |token: &str| post(format!("grant_type=refresh_token&refresh_token={token}&{scope}"));
    assert_eq!(refreshed(refresh).await.expect(200).json()["scope"], "repository:team/app:pull");

    // One kind of token is not another.
    refreshed(offline["access_token"].as_str().unwrap()).await.expect(401);
    refreshed(&password).await.expect(401);
    registry.request("GET", "/v2/").bearer(refresh).send().await.expect(401);

    let mut without = snapshot();
    without.robots.remove("uid-dev");
    registry.publish(without);
    refreshed(refresh).await.expect(401);
}

#[tokio::test]
async fn a_token_ends() {
    let registry = Registry::new();
    let token = registry.token(Some("dev"), &[]).await;
    registry.request("GET", "/v2/").bearer(&token).send().await.expect(200);
    // A replica whose clock is a little ahead must not refuse what a client takes for valid.
    registry.pass_time(TOKEN_TTL + 29);
    registry.request("GET", "/v2/").bearer(&token).send().await.expect(200);
    registry.pass_time(1);
    let reply = registry.request("GET", "/v2/").bearer(&token).send().await.expect(401);
    assert!(reply.header("www-authenticate").ends_with("error=\"invalid_token\""));
}

#[tokio::test]
async fn a_revocation_works_at_once() {
    let registry = Registry::new();
    let token = registry.token(Some("dev"), &["repository:team/app:pull,push"]).await;
    let start = || registry.request("POST", "/v2/team/app/blobs/uploads/").bearer(&token).send();
    start().await.expect(202);

    let mut without = snapshot();
    without.robots.remove("uid-dev");
    registry.publish(without);
    let reply = start().await.expect(401);
    assert!(reply.header("www-authenticate").ends_with(",error=\"invalid_token\""));
    registry.request("GET", "/v2/").bearer(&token).send().await.expect(401);
    registry.request("GET", "/v2/_catalog").bearer(&token).send().await.expect(401);
    registry.by("dev", "GET", "/v2/").send().await.expect(401);

    let mut raised = snapshot();
    raised.robots.get_mut("uid-dev").unwrap().generation = 1;
    registry.publish(raised);
    start().await.expect(401);
}

#[tokio::test]
async fn other_keys_end_every_token_of_the_old_ones() {
    let registry = Registry::new();
    let token = registry.token(Some("dev"), &[]).await;
    registry.request("GET", "/v2/").bearer(&token).send().await.expect(200);
    registry.live.publish(Arc::new(snapshot()), keys(2));
    registry.request("GET", "/v2/").bearer(&token).send().await.expect(401);
}

#[tokio::test]
async fn refuses_forged_tokens() {
    let registry = Registry::new();
    let claims = |audience: &str, expiry: i64| {
        json!({"aud": audience, "iat": NOW, "exp": expiry, "jti": "x",
            "identity": Identity::Credential(subject("dev")),
            "access": [{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}]})
    };
    let good = claims("registry-uid", NOW + 60);
    let valid = registry.keys.sign("landfast-access+jwt", &good).unwrap();
    registry.request("GET", "/v2/").bearer(&valid).send().await.expect(200);

    let parts: Vec<&str> = valid.split('.').collect();
    let with_payload = |claims: &serde_json::Value| {
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
    };
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"landfast-access+jwt"}"#), parts[1]);
    let forged = [
        ("other key", keys(2).sign("landfast-access+jwt", &good).unwrap()),
        ("other kind", registry.keys.sign("landfast-refresh+jwt", &good).unwrap()),
        ("other registry", registry.keys.sign("landfast-access+jwt", &claims("other", NOW + 60)).unwrap()),
        ("expired", registry.keys.sign("landfast-access+jwt", &claims("registry-uid", NOW)).unwrap()),
        ("changed", with_payload(&claims("registry-uid", NOW + 9999))),
        ("unsigned", unsigned),
        ("credential", registry.password("dev")),
        ("cut", valid[..valid.len() - 1].to_owned()),
        ("garbage", "a.b.c".to_owned()),
    ];
    for (name, token) in forged {
        // Twice: what has been refused must not be remembered as good.
        for _ in 0..2 {
            let reply = registry.request("GET", "/v2/").bearer(&token).send().await;
            assert_eq!(reply.refusal(), (401, "UNAUTHORIZED".to_owned()), "{name}");
            assert!(reply.header("www-authenticate").contains("invalid_token"), "{name}");
        }
    }
}

#[rstest]
#[case::empty("Basic ")]
#[case::empty_pair("Basic Og==")]
#[case::bare("Basic")]
#[case::other_scheme("Negotiate abc")]
#[case::empty_token("Bearer ")]
#[tokio::test]
async fn bad_credentials_are_never_taken_for_none(#[case] header: &str) {
    let registry = Registry::new();
    for target in ["/v2/", "/token", "/v2/public/app/tags/list", "/v2/_catalog"] {
        registry.request("GET", target).header("authorization", header).send().await.expect(401);
    }
}

#[tokio::test]
async fn the_user_name_has_to_go_with_the_password() {
    let registry = Registry::new();
    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let password = registry.password("dev");
    let login = |header: String| registry.request("GET", "/token").header("authorization", &header).send();
    login(basic("robot/ns/dev", &password)).await.expect(200);
    login(basic("robot/ns/guest", &password)).await.expect(401);
    login(basic("", &password)).await.expect(401);
    let reply = login(basic("robot/ns/dev", "wrong")).await.expect(401);
    // A token doesn't help here.
    assert_eq!(reply.header("www-authenticate"), format!("Basic realm=\"{HOST}\""));
}

#[tokio::test]
async fn a_token_buys_no_other_token() {
    let registry = Registry::new();
    let token = registry.token(Some("dev"), &[]).await;
    registry.request("GET", "/token").bearer(&token).send().await.expect(401);
}

#[tokio::test]
async fn a_token_does_not_outlive_its_credential() {
    let registry = Registry::new();
    registry.publish(snapshot());
    let header = registry.basic("dev");
    registry.pass_time(86_400 - 10);
    let reply = registry.request("GET", "/token").header("authorization", &header).send().await.expect(200);
    assert_eq!(reply.json()["expires_in"], 10);
}

#[tokio::test]
async fn without_a_policy_everything_waits() {
    let registry = Registry::without_policy();
    let reply = registry.by("dev", "GET", "/v2/").send().await;
    assert_eq!(reply.refusal(), (503, "UNAVAILABLE".to_owned()));
    assert!(!reply.header("retry-after").is_empty());
}
