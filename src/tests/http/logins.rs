//! Users with passwords: each way to log in, and each way not to; guessing; and keys that change meanwhile.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use landfast::policy::{FailureLimits, Grant, KeySet, Role, Scope, SigningKey, Snapshot, User};
use rstest::rstest;
use serde_json::json;
use std::sync::Arc;

use crate::harness::{Call, HOST, NOW, Registry, Reply, TOKEN_TTL, snapshot};

const HERE: &str = "192.0.2.1";
const NEIGHBOUR: &str = "192.0.2.77";
const ELSEWHERE: &str = "198.51.100.1";

/// The policy of the harness, with `alice` as Developer of `team`.
fn with_alice() -> Snapshot {
    let mut snapshot = snapshot();
    let scope = Scope::Project("team".to_owned());
    let grant = Grant::new(scope, Role::Developer);
    snapshot.users.insert(User::htpasswd("alice").unwrap(), vec![grant]);
    snapshot
}

/// `alice` and `bob`, whose password is `secret`; only `alice` is a member of anything.
fn registry() -> Registry {
    let registry = Registry::new();
    registry.publish(with_alice());
    registry.publish_users(&[("alice", "secret"), ("bob", "secret")]);
    registry
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn login<'a>(registry: &'a Registry, method: &str, target: &str, user: &str, password: &str) -> Call<'a> {
    registry.request(method, target).header("authorization", &basic(user, password))
}

fn form<'a>(registry: &'a Registry, form: &str) -> Call<'a> {
    let call = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
    call.body(form.to_owned())
}

async fn token(registry: &Registry, user: &str, password: &str, scope: &str) -> String {
    let target = format!("/token?service={HOST}&scope={scope}");
    let reply = login(registry, "GET", &target, user, password).send().await.expect(200);
    reply.json()["token"].as_str().unwrap().to_owned()
}

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";
const PUSH: &str = "repository:team/app:pull,push";

#[tokio::test]
async fn a_user_logs_in_in_every_way() {
    let registry = registry();
    login(&registry, "POST", UPLOADS, "alice", "secret").send().await.expect(202);
    login(&registry, "GET", "/v2/", "alice", "secret").send().await.expect(200);
    let by_get = token(&registry, "alice", "secret", PUSH).await;
    registry.request("POST", UPLOADS).bearer(&by_get).send().await.expect(202);

    let scope = "scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    let password = format!("grant_type=password&username=alice&password=secret&{scope}&access_type=offline");
    let by_form = form(&registry, &password).send().await.expect(200).json();
    registry.request("POST", UPLOADS).bearer(by_form["token"].as_str().unwrap()).send().await.expect(202);
    let refresh =
        format!("grant_type=refresh_token&refresh_token={}&{scope}", by_form["refresh_token"].as_str().unwrap());
    let refreshed = form(&registry, &refresh).send().await.expect(200).json();
    assert_eq!(refreshed["scope"], PUSH);
    registry.request("POST", UPLOADS).bearer(refreshed["token"].as_str().unwrap()).send().await.expect(202);
}

#[rstest]
#[case::wrong_password("alice", "Secret")]
#[case::nobody("carol", "secret")]
#[case::empty_password("alice", "")]
#[case::no_name("", "secret")]
#[case::printed_form("htpasswd:alice", "secret")]
#[case::like_a_robot("robot/ns/dev", "secret")]
#[case::no_name_at_all("a b", "secret")]
#[tokio::test]
async fn a_wrong_login_is_refused_in_every_way(#[case] user: &str, #[case] password: &str) {
    let registry = registry();
    let refused = |reply: Reply, challenge: &str| {
        let message = &reply.json()["errors"][0]["message"];
        assert_eq!(message, "user name or password is wrong, or the password has expired");
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, challenge));
    };
    let at_token = format!("Basic realm=\"{HOST}\"");
    refused(login(&registry, "GET", "/token", user, password).send().await, &at_token);
    let encoded = format!("grant_type=password&username={}&password={password}", user.replace(' ', "+"));
    refused(form(&registry, &encoded).send().await, &at_token);
    let bearer = format!("Bearer realm=\"http://{HOST}/token\",service=\"{HOST}\"");
    refused(login(&registry, "GET", "/v2/", user, password).send().await, &bearer);
    let scoped = format!("{bearer},scope=\"repository:public/app:pull\"");
    refused(login(&registry, "GET", "/v2/public/app/tags/list", user, password).send().await, &scoped);
}

#[tokio::test]
async fn a_user_has_the_rights_of_his_members_and_otherwise_those_of_any_user() {
    let registry = registry();
    registry.push_image("publisher", "public/app", "v1", b"layer").await;
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    let status = async |user: &str, method: &str, target: &str| {
        login(&registry, method, target, user, "secret").send().await.status.as_u16()
    };
    assert_eq!(status("alice", "GET", "/v2/team/app/manifests/v1").await, 200);
    assert_eq!(status("bob", "GET", "/v2/team/app/manifests/v1").await, 403);
    assert_eq!(status("bob", "GET", "/v2/public/app/manifests/v1").await, 200);
    assert_eq!(status("bob", "GET", "/v2/shared/app/manifests/v1").await, 404, "he may look, but nothing is there");
    assert_eq!(status("bob", "POST", UPLOADS).await, 403);
    let denied = login(&registry, "POST", UPLOADS, "bob", "secret").send().await.json();
    assert_eq!(denied["errors"][0]["message"], "htpasswd:bob may not push team/app");
}

/// A user who is called like a robot is not that robot.
#[tokio::test]
async fn names_of_users_and_robots_do_not_mix() {
    let registry = registry();
    registry.publish_users(&[("dev", "secret")]);
    login(&registry, "POST", UPLOADS, "dev", "secret").send().await.expect(403);
    login(&registry, "POST", UPLOADS, "dev", &registry.password("dev")).send().await.expect(401);
    registry.by("dev", "POST", UPLOADS).send().await.expect(202);
}

#[tokio::test]
async fn a_removed_user_is_refused_at_the_next_request() {
    let registry = registry();
    let bearer = token(&registry, "alice", "secret", PUSH).await;
    let offline = "grant_type=password&username=alice&password=secret&access_type=offline";
    let offline = form(&registry, offline).send().await.expect(200).json();
    let refresh = format!("grant_type=refresh_token&refresh_token={}", offline["refresh_token"].as_str().unwrap());
    let all = async || {
        [
            login(&registry, "POST", UPLOADS, "alice", "secret").send().await.status.as_u16(),
            registry.request("POST", UPLOADS).bearer(&bearer).send().await.status.as_u16(),
            registry.request("GET", "/v2/").bearer(&bearer).send().await.status.as_u16(),
            form(&registry, &refresh).send().await.status.as_u16(),
        ]
    };
    assert_eq!(all().await, [202, 202, 200, 200]);
    registry.publish_users(&[("bob", "secret")]);
    assert_eq!(all().await, [401; 4]);
    registry.publish_users(&[("alice", "other"), ("bob", "secret")]);
    assert_eq!(all().await, [401; 4], "another password is another login");
    login(&registry, "POST", UPLOADS, "alice", "other").send().await.expect(202);
}

#[tokio::test]
async fn what_was_verified_outlives_neither_revocation_nor_expiry() {
    let registry = registry();
    let header = registry.basic("dev");
    let push = || registry.request("POST", UPLOADS).header("authorization", &header).send();
    push().await.expect(202);
    push().await.expect(202);
    let mut without = snapshot();
    without.robots.remove("uid-dev");
    registry.publish(without);
    push().await.expect(401);
    registry.publish(snapshot());
    push().await.expect(202);
    registry.pass_time(86_400);
    push().await.expect(401);
    // With other keys it has to be verified again.
    let registry = self::registry();
    let header = registry.basic("dev");
    let push = || registry.request("POST", UPLOADS).header("authorization", &header).send();
    push().await.expect(202);
    registry.live.publish(Arc::new(snapshot()), crate::harness::keys(2));
    push().await.expect(401);
}

#[tokio::test]
async fn guessing_is_stopped_where_it_happens_and_nowhere_else() {
    let registry = registry();
    let FailureLimits { burst, per_minute } = FailureLimits::default();
    let attempt = async |user: &str, password: &str, from: &str| {
        login(&registry, "GET", "/token", user, password).from(from).send().await
    };
    attempt("alice", "secret", NEIGHBOUR).await.expect(200);
    for _ in 0..burst {
        attempt("alice", "wrong", HERE).await.expect(401);
    }
    let reply = attempt("alice", "wrong", HERE).await;
    assert_eq!(reply.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    let wait: i64 = reply.header("retry-after").parse().unwrap();
    assert_eq!(wait, 60 / i64::from(per_minute));
    assert_eq!(reply.header("www-authenticate"), "");
    let message = reply.json()["errors"][0]["message"].to_string();
    assert!(message.contains("try again in 6 seconds"), "{message}");

    // What a neighbour has shown is no way to find out that it was right.
    attempt("alice", "secret", HERE).await.expect(429);
    attempt("alice", "wrong", NEIGHBOUR).await.expect(429);
    attempt("alice", "secret", NEIGHBOUR).await.expect(200);
    attempt("alice", "secret", ELSEWHERE).await.expect(200);
    attempt("bob", "secret", HERE).await.expect(200);
    // A signature can't be guessed, so a credential is never kept out.
    registry.by("dev", "GET", "/token").from(HERE).send().await.expect(200);
    registry.pass_time(wait);
    attempt("alice", "wrong", HERE).await.expect(401);
    attempt("alice", "wrong", HERE).await.expect(429);
}

#[tokio::test]
async fn a_correct_password_is_kept_waiting_too_as_long_as_nobody_has_seen_it() {
    let registry = registry();
    let attempt = async |password: &str| {
        login(&registry, "GET", "/token", "alice", password).from(HERE).send().await.status.as_u16()
    };
    for _ in 0..FailureLimits::default().burst {
        attempt("wrong").await;
    }
    assert_eq!(attempt("secret").await, 429, "an attacker must not learn that this was it");
}

#[tokio::test]
async fn the_limits_are_the_registrys() {
    let registry = registry();
    let mut strict = with_alice();
    strict.registry.failures = FailureLimits { per_minute: 1, burst: 2 };
    registry.publish(strict);
    let attempt = async || login(&registry, "GET", "/token", "alice", "wrong").from(HERE).send().await;
    attempt().await.expect(401);
    attempt().await.expect(401);
    assert_eq!(attempt().await.expect(429).header("retry-after"), "60");
}

#[tokio::test]
async fn forged_tokens_count_and_those_that_have_ended_do_not() {
    let registry = registry();
    let mut strict = with_alice();
    strict.registry.failures = FailureLimits { per_minute: 1, burst: 1 };
    registry.publish(strict);
    let valid = registry.token(Some("dev"), &[]).await;
    let ended = registry.token(Some("guest"), &[]).await;
    let mut without = with_alice();
    without.registry.failures = FailureLimits { per_minute: 1, burst: 1 };
    without.robots.remove("uid-guest");
    registry.publish(without);
    let show =
        async |token: &str| registry.request("GET", "/v2/").bearer(token).from(HERE).send().await.status.as_u16();
    for _ in 0..20 {
        assert_eq!(show(&ended).await, 401, "revoked, which its holder can't know");
    }
    let forged = format!("{}x", &valid[..valid.len() - 2]);
    for _ in 0..5 {
        assert_eq!(show(&forged).await, 401);
    }
    assert_eq!(show(&forged).await, 429);
    assert_eq!(show(&valid).await, 200, "a valid one is taken all the same");
    registry.pass_time(TOKEN_TTL + 60);
    let registry = self::registry();
    let valid = registry.token(Some("dev"), &[]).await;
    registry.pass_time(TOKEN_TTL + 60);
    for _ in 0..200 {
        let reply = registry.request("GET", "/v2/").bearer(&valid).from(HERE).send().await.expect(401);
        assert!(reply.header("www-authenticate").ends_with("error=\"invalid_token\""));
    }
}

#[tokio::test]
async fn the_catalogue_wants_a_token_that_was_made_for_it() {
    let registry = registry();
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    let catalogue = |token: &str| registry.request("GET", "/v2/_catalog").bearer(token).send();
    let narrow = token(&registry, "alice", "secret", PUSH).await;
    let refused = catalogue(&narrow).await.expect(401);
    let challenge = refused.header("www-authenticate");
    assert!(challenge.ends_with(",scope=\"registry:catalog:*\",error=\"insufficient_scope\""), "{challenge}");
    for (user, seen) in [("alice", json!(["team/app"])), ("bob", json!([]))] {
        let wide = token(&registry, user, "secret", "registry:catalog:*").await;
        assert_eq!(catalogue(&wide).await.expect(200).json(), json!({"repositories": seen}));
        // It is good for nothing else.
        registry.request("GET", "/v2/team/app/tags/list").bearer(&wide).send().await;
    }
    let wide = token(&registry, "alice", "secret", "registry:catalog:*").await;
    registry.request("GET", "/v2/team/app/tags/list").bearer(&wide).send().await.expect(401);
}

#[rstest]
#[case::get_with_everything("/token?service=other&account=alice&client_id=docker&offline_token=true")]
#[case::unknown_things("/token?scope=repository(plugin):a:pull&scope=registry:other:*&scope=thing:x:y&foo=bar")]
#[tokio::test]
async fn what_a_client_adds_to_its_request_does_no_harm(#[case] target: &str) {
    let registry = registry();
    let reply = login(&registry, "GET", target, "alice", "secret").send().await.expect(200).json();
    assert_eq!((&reply["scope"], reply.get("refresh_token")), (&json!(""), None));
}

/// As a rotation goes on: the next key is trusted, signs, and the old one goes when nothing needs it any more.
#[tokio::test]
async fn nobody_is_refused_while_keys_change() {
    let registry = registry();
    let key = |seed: u8| SigningKey::from_seed(&[seed; 32]).unwrap();
    let snapshot = Arc::new(with_alice());
    let publish = |keys: KeySet| registry.live.publish(Arc::clone(&snapshot), Arc::new(keys));
    let password = registry.basic("dev");
    let mut tokens = vec![token(&registry, "alice", "secret", PUSH).await];
    let check = async |tokens: &[String]| {
        for token in tokens {
            registry.request("POST", UPLOADS).bearer(token).send().await.expect(202);
        }
        registry.request("POST", UPLOADS).header("authorization", &password).send().await.expect(202);
    };
    for keys in [KeySet::new(key(1), vec![key(2)]), KeySet::new(key(2), vec![key(1)])] {
        publish(keys);
        tokens.push(token(&registry, "alice", "secret", PUSH).await);
        check(&tokens).await;
    }
    // A replica that lags behind.
    publish(KeySet::new(key(1), vec![key(2)]));
    check(&tokens).await;
    publish(KeySet::new(key(2), vec![]));
    registry.request("POST", UPLOADS).bearer(&tokens[0]).send().await.expect(401);
    registry.request("POST", UPLOADS).bearer(&tokens[2]).send().await.expect(202);
    login(&registry, "POST", UPLOADS, "alice", "secret").send().await.expect(202);
}

#[tokio::test]
async fn a_role_of_a_user_ends_and_he_stays_a_user() {
    let registry = registry();
    let bearer = token(&registry, "alice", "secret", PUSH).await;
    let mut ending = with_alice();
    let grants = ending.users.get_mut(&User::htpasswd("alice").unwrap()).unwrap();
    grants[0].expires_at = Some(Timestamp::from_second(NOW).unwrap());
    registry.publish(ending);
    registry.request("POST", UPLOADS).bearer(&bearer).send().await.expect(403);
    registry.request("GET", "/v2/").bearer(&bearer).send().await.expect(200);
}

/// Many of the same login at once: each gets its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_one_login_is_answered() {
    let registry = registry();
    let calls = (0..300).map(|_| login(&registry, "GET", "/v2/", "alice", "secret").from(HERE).send());
    let replies = futures::future::join_all(calls).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 300);
}
