//! Logins by tokens of others: ID tokens of an issuer that runs in the test, and ServiceAccount tokens about which a cluster
//! is asked that is made up.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use landfast::policy::{
    ClaimCondition, FailureLimits, Glob, Grant, Group, NamespaceSet, OidcIssuer, Provider, Providers, Role, Scope,
    ServiceAccounts, Snapshot, User,
};
use landfast::registry::auth::{ReviewError, Reviewed, TokenReviewer};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{NOW, Registry, Reply, snapshot};
use crate::issuer::{Issuer, Key};

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";
const PUSH: &str = "repository:team/app:pull,push";
const AUDIENCE: &str = "registry.example";

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn developer() -> Vec<Grant> {
    vec![Grant::new(Scope::Project("team".to_owned()), Role::Developer)]
}

/// What a login is refused with at `/token` and as a bearer token: the same text.
async fn refused(registry: &Registry, token: &str) -> String {
    let at_token = registry.request("GET", "/token").header("authorization", &basic("x", token)).send().await;
    let message = at_token.expect(401).json()["errors"][0]["message"].as_str().unwrap().to_owned();
    let direct = registry.request("GET", "/v2/").bearer(token).send().await.expect(401);
    assert!(direct.header("www-authenticate").ends_with("error=\"invalid_token\""), "{:?}", direct.headers);
    assert_eq!(direct.json()["errors"][0]["message"], message);
    message
}

async fn push(registry: &Registry, header: &str) -> Reply {
    registry.request("POST", UPLOADS).header("authorization", header).send().await
}

mod oidc {
    use super::*;

    struct Stage {
        registry: Registry,
        issuer: Issuer,
        key: Key,
    }

    fn definition(issuer: &Issuer) -> OidcIssuer {
        OidcIssuer {
            name: "corp".to_owned(),
            url: issuer.url.clone(),
            discovery_url: None,
            certificate_authority: Some(issuer.authority.clone()),
            audiences: vec![AUDIENCE.to_owned()],
            username_claim: "sub".to_owned(),
            groups_claim: Some("groups".to_owned()),
            conditions: vec![],
        }
    }

    /// `alice` and the group `developers` are Developers of `team`.
    fn policy(issuers: Vec<OidcIssuer>) -> Snapshot {
        let mut snapshot = snapshot();
        snapshot.registry.providers = Providers::new(issuers, None, None);
        let provider = || Provider::Oidc("corp".to_owned());
        snapshot.users.insert(User::of(provider(), "alice").unwrap(), developer());
        snapshot.groups.insert(Group::of(provider(), "developers").unwrap(), developer());
        // Whom a token must not be able to name.
        for group in ["kubernetes:system:masters", "certificate:admins"] {
            snapshot.groups.insert(group.parse().unwrap(), developer());
        }
        snapshot.users.insert(User::htpasswd("alice").unwrap(), developer());
        snapshot
    }

    impl Stage {
        async fn new() -> Self {
            Self::with(|definition| definition).await
        }

        async fn with(change: impl FnOnce(OidcIssuer) -> OidcIssuer) -> Self {
            Self::with_key(Key::new("one", Algorithm::ES256), change).await
        }

        async fn with_key(key: Key, change: impl FnOnce(OidcIssuer) -> OidcIssuer) -> Self {
            let issuer = Issuer::start("127.0.0.1", &[&key]).await;
            let registry = Registry::new();
            let mut policy = policy(vec![change(definition(&issuer))]);
            // A test that is refused often wants to know why.
            policy.registry.failures = FailureLimits { per_minute: 6000, burst: 10_000 };
            registry.publish(policy);
            Self { registry, issuer, key }
        }

        fn claims(&self, change: Value) -> Value {
            let mut claims = json!({
                "iss": self.issuer.url, "sub": "alice", "aud": AUDIENCE, "iat": NOW, "nbf": NOW, "exp": NOW + 3600,
            });
            let map = claims.as_object_mut().unwrap();
            for (name, value) in change.as_object().unwrap() {
                match value {
                    Value::Null => drop(map.remove(name)),
                    value => drop(map.insert(name.clone(), value.clone())),
                }
            }
            claims
        }

        fn token(&self, change: Value) -> String {
            self.key.sign(&self.claims(change))
        }

        async fn push(&self, token: &str) -> u16 {
            push(&self.registry, &basic("anything", token)).await.status.as_u16()
        }

        async fn refused(&self, token: &str) -> String {
            refused(&self.registry, token).await
        }
    }

    #[tokio::test]
    async fn an_id_token_lets_in_in_every_way() {
        let stage = Stage::new().await;
        let (registry, token) = (&stage.registry, stage.token(json!({})));
        push(registry, &basic("anything", &token)).await.expect(202);
        push(registry, &basic("", &token)).await.expect(202);
        push(registry, &format!("Bearer {token}")).await.expect(202);
        let target = format!("/token?scope={PUSH}");
        let got = registry.request("GET", &target).header("authorization", &basic("oidc", &token)).send().await;
        let got = got.expect(200).json();
        assert_eq!(got["scope"], PUSH);
        let by_bearer = registry.request("GET", &target).bearer(&token).send().await.expect(401).json();
        let message = by_bearer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("as the password"), "{message}");
        push(registry, &format!("Bearer {}", got["token"].as_str().unwrap())).await.expect(202);
        let form = format!(
            "grant_type=password&username=x&password={token}&access_type=offline&scope=repository%3Ateam%2Fapp%3Apush"
        );
        let call = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
        let got = call.body(form).send().await.expect(200).json();
        assert_eq!(got.get("refresh_token"), None, "who has a way to renew his login needs no other");
        push(registry, &format!("Bearer {}", got["token"].as_str().unwrap())).await.expect(202);
        assert_eq!(stage.issuer.fetched(), 1, "the keys are kept");
    }

    #[rstest]
    #[case::rs256(Algorithm::RS256)]
    #[case::rs512(Algorithm::RS512)]
    #[case::ps384(Algorithm::PS384)]
    #[case::es256(Algorithm::ES256)]
    #[case::es384(Algorithm::ES384)]
    #[case::eddsa(Algorithm::EdDSA)]
    #[tokio::test]
    async fn signatures_that_are_accepted(#[case] algorithm: Algorithm) {
        let stage = Stage::with_key(Key::new("k", algorithm), |definition| definition).await;
        assert_eq!(stage.push(&stage.token(json!({}))).await, 202);
        let (rest, _) = stage.token(json!({})).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let other = Key::new("k", algorithm).sign(&stage.claims(json!({})));
        let forged = format!("{rest}.{}", other.rsplit_once('.').unwrap().1);
        assert_eq!(stage.refused(&forged).await, "the token's signature is wrong");
    }

    #[rstest]
    #[case::other_issuer(json!({"iss": "https://other.example"}), "the token is of an issuer that this registry does not trust")]
    #[case::no_issuer(json!({"iss": null}), "the token is of an issuer that this registry does not trust")]
    #[case::other_audience(json!({"aud": "api"}), "the token is for somebody else: get one with the audience registry.example")]
    #[case::no_audience(json!({"aud": null}), "the token is for somebody else: get one with the audience registry.example")]
    #[case::several_audiences(json!({"aud": [AUDIENCE, "api"]}), "the token is for several audiences and was not given to this registry (azp): get one for this registry's audience alone")]
    #[case::expired(json!({"exp": NOW}), "the token has expired; get a new one")]
    #[case::no_end(json!({"exp": null}), "the token says no time at which it ends (exp)")]
    #[case::not_yet(json!({"nbf": NOW + 61}), "the token is not valid yet: compare the clocks of its issuer and of this registry")]
    #[case::from_the_future(json!({"iat": NOW + 61}), "the token is not valid yet: compare the clocks of its issuer and of this registry")]
    #[case::no_subject(json!({"sub": null}), "the token does not say for whom it is (sub)")]
    #[case::line_break(json!({"sub": "a\nb"}), "\"a\\nb\" can't be a name: it has at most 256 bytes, no control characters, and neither begins nor ends with a space")]
    #[tokio::test]
    async fn a_token_that_says_something_else_is_refused(#[case] change: Value, #[case] expected: &str) {
        let stage = Stage::new().await;
        assert_eq!(stage.push(&stage.token(json!({}))).await, 202, "without the change it is fine");
        assert_eq!(stage.refused(&stage.token(change)).await, expected);
    }

    #[tokio::test]
    async fn what_the_issuer_has_not_signed_is_refused() {
        let stage = Stage::with_key(Key::new("one", Algorithm::RS256), |definition| definition).await;
        let claims = stage.claims(json!({}));
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let unsigned = |header: Value| format!("{}.{}.", encoded(&header), encoded(&claims));
        let algorithm =
            "the token is signed in a way that is not accepted: use RS256, PS256, ES256, EdDSA or a longer one of them";
        assert_eq!(stage.refused(&unsigned(json!({"alg": "none", "kid": "one"}))).await, algorithm);
        // The public key as the secret that both sides share.
        let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
        header.kid = Some("one".to_owned());
        for secret in [stage.key.pem.clone(), stage.key.jwk.clone()["n"].as_str().unwrap().to_owned()] {
            let secret = EncodingKey::from_secret(secret.as_bytes());
            assert_eq!(stage.refused(&jsonwebtoken::encode(&header, &claims, &secret).unwrap()).await, algorithm);
        }
        // Another kind of signature by the key than the one that it is published for.
        let token = stage.key.sign_with(|header| header.alg = Algorithm::PS256, &claims);
        assert_eq!(stage.refused(&token).await, "the token's signature is wrong");
        let token = stage.key.sign_with(|header| header.crit = Some(vec!["b64".to_owned()]), &claims);
        assert_eq!(stage.refused(&token).await, algorithm);
        let token = stage.key.sign_with(|header| header.typ = Some("logout+jwt".to_owned()), &claims);
        assert_eq!(stage.refused(&token).await, "a token of the type \"logout+jwt\" is no login: show an ID token");
        // One that brings its key along.
        let own = Key::new("two", Algorithm::ES256);
        let jwk = serde_json::from_value(own.jwk.clone()).unwrap();
        let token = own.sign_with(|header| header.jwk = Some(jwk), &claims);
        assert_eq!(stage.refused(&token).await, "the token is signed by a key that its issuer does not publish");
        let (rest, signature) =
            stage.token(json!({})).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let (header, _) = rest.split_once('.').unwrap();
        let changed = format!("{header}.{}.{signature}", encoded(&stage.claims(json!({"sub": "bob"}))));
        assert_eq!(stage.refused(&changed).await, "the token's signature is wrong");
    }

    #[tokio::test]
    async fn keys_for_something_else_verify_nothing() {
        let stage = Stage::new().await;
        let mut key = stage.key.jwk.clone();
        for (field, value) in [("use", json!("enc")), ("key_ops", json!(["sign"])), ("alg", json!("RS256"))] {
            key[field] = value;
            let other = Key::new("other", Algorithm::ES256).jwk.clone();
            stage.issuer.publish_content(json!({"keys": [key, other, {"kty": "?"}, 5]}).to_string());
            let message = stage.refused(&stage.token(json!({}))).await;
            assert_eq!(message, "the token is signed by a key that its issuer does not publish", "{field}");
            key = stage.key.jwk.clone();
        }
    }

    #[tokio::test]
    async fn the_user_is_whom_the_claim_names_and_never_anybody_elses() {
        let stage = Stage::new().await;
        let registry = &stage.registry;
        let bob = |groups: Value| stage.token(json!({"sub": "bob", "groups": groups}));
        let denied = push(registry, &basic("alice", &bob(json!([])))).await.expect(403).json();
        assert_eq!(denied["errors"][0]["message"], "oidc:corp:bob may not push team/app");
        assert_eq!(stage.push(&bob(json!(["x", "developers"]))).await, 202);
        assert_eq!(stage.push(&bob(json!("developers"))).await, 202);
        for name in ["kubernetes:system:masters", "certificate:admins", "htpasswd:alice", "oidc:corp:developers"] {
            assert_eq!(stage.push(&bob(json!([name]))).await, 403, "{name}");
            assert_eq!(stage.push(&stage.token(json!({"sub": name}))).await, 403, "{name}");
        }
    }

    /// Groups count in access tokens too, and those that nobody has named are left out of them.
    #[tokio::test]
    async fn an_access_token_has_the_groups_that_matter() {
        let stage = Stage::new().await;
        let many: Vec<_> = (0..1000).map(|number| format!("group-{number}")).chain(["developers".to_owned()]).collect();
        let small = stage.token(json!({"sub": "bob", "groups": many}));
        let form =
            format!("grant_type=password&username=x&password={small}&scope=repository%3Ateam%2Fapp%3Apull%2Cpush");
        let call = stage.registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
        let got = call.body(form).send().await.expect(200).json();
        let token = got["token"].as_str().unwrap();
        assert!(token.len() < 1000, "{}", token.len());
        push(&stage.registry, &format!("Bearer {token}")).await.expect(202);
        // Who loses the right loses it at once.
        let mut without = policy(vec![definition(&stage.issuer)]);
        without.groups.clear();
        stage.registry.publish(without);
        push(&stage.registry, &format!("Bearer {token}")).await.expect(403);
    }

    #[tokio::test]
    async fn demands_on_claims_have_to_be_met() {
        let condition = |claim: &str, value: &str| ClaimCondition {
            claim: claim.to_owned(),
            values: vec![Glob::new(value), Glob::new("never")],
        };
        let conditions = vec![condition("repository", "acme/*"), condition("ref", "refs/heads/**")];
        let stage = Stage::with(|issuer| OidcIssuer { conditions, ..issuer }).await;
        let token =
            |repository: &str, reference: Value| stage.token(json!({"repository": repository, "ref": reference}));
        assert_eq!(stage.push(&token("acme/app", json!("refs/heads/a/b"))).await, 202);
        for (repository, reference, claim) in [
            ("evil/app", json!("refs/heads/a"), "repository"),
            ("acme/app", json!("refs/tags/a"), "ref"),
            ("acme/app", Value::Null, "ref"),
        ] {
            let message = stage.refused(&token(repository, reference)).await;
            assert_eq!(message, format!("the token does not fulfil what this registry demands of the claim {claim:?}"));
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_verified_names_nobody() {
        let stage = Stage::with(|issuer| OidcIssuer { username_claim: "email".to_owned(), ..issuer }).await;
        let token = |verified: bool| stage.token(json!({"email": "alice", "email_verified": verified}));
        assert_eq!(stage.push(&token(true)).await, 202);
        assert_eq!(stage.refused(&token(false)).await, "the token's e-mail address is not verified");
        assert_eq!(
            stage.refused(&stage.token(json!({}))).await,
            "the token names nobody: its claim \"email\" is missing or no text"
        );
    }

    /// Two issuers of the Registry that are the same one: for people, and for workloads of one repository.
    #[tokio::test]
    async fn of_two_definitions_of_one_issuer_the_one_that_fits_counts() {
        let stage = Stage::new().await;
        let people = definition(&stage.issuer);
        let workloads = OidcIssuer {
            name: "ci".to_owned(),
            audiences: vec!["ci".to_owned()],
            conditions: vec![ClaimCondition { claim: "repository".to_owned(), values: vec![Glob::new("acme/app")] }],
            ..people.clone()
        };
        for issuers in [vec![people.clone(), workloads.clone()], vec![workloads, people]] {
            stage.registry.publish(policy(issuers));
            assert_eq!(stage.push(&stage.token(json!({}))).await, 202);
            let workload = stage.token(json!({"aud": "ci", "repository": "acme/app"}));
            let denied = push(&stage.registry, &basic("x", &workload)).await.expect(403).json();
            assert_eq!(denied["errors"][0]["message"], "oidc:ci:alice may not push team/app");
            let message = stage.refused(&stage.token(json!({"aud": "ci"}))).await;
            assert!(message.contains("\"repository\""), "{message}");
            assert!(stage.refused(&stage.token(json!({"aud": "x"}))).await.contains("audience"));
        }
        assert_eq!(stage.issuer.fetched(), 1, "they share their keys");
    }

    /// A token that one definition knows does not wait for another one that can't be reached.
    #[tokio::test]
    async fn keys_that_are_at_hand_are_tried_first() {
        let stage = Stage::new().await;
        let away = Issuer::start("127.0.0.1", &[]).await;
        let good = definition(&stage.issuer);
        let discovery_url = Some(format!("{}/.well-known/openid-configuration", away.url));
        let bad = OidcIssuer {
            name: "away".to_owned(),
            discovery_url,
            certificate_authority: Some(away.authority.clone()),
            ..good.clone()
        };
        stage.registry.publish(policy(vec![bad.clone(), good.clone()]));
        assert_eq!(stage.push(&stage.token(json!({}))).await, 202);
        assert_eq!(stage.registry.issuers.is_usable(&bad), Some(false));
        let stage = Stage { registry: Registry::new(), ..stage };
        stage.registry.publish(policy(vec![good.clone()]));
        assert_eq!(stage.push(&stage.token(json!({}))).await, 202);
        stage.registry.publish(policy(vec![bad.clone(), good]));
        assert_eq!(stage.push(&stage.token(json!({}))).await, 202);
        assert_eq!(stage.registry.issuers.is_usable(&bad), None, "nobody has asked there");
    }

    #[tokio::test]
    async fn a_token_ends_with_the_definition_of_its_issuer() {
        let stage = Stage::new().await;
        let token = stage.token(json!({}));
        let target = format!("/token?scope={PUSH}");
        let get = async || {
            let reply =
                stage.registry.request("GET", &target).header("authorization", &basic("x", &token)).send().await;
            reply.expect(200).json()["token"].as_str().unwrap().to_owned()
        };
        let access = get().await;
        let by_access = async |access: &str| push(&stage.registry, &format!("Bearer {access}")).await.status.as_u16();
        assert_eq!(by_access(&access).await, 202);
        let other = OidcIssuer { groups_claim: None, ..definition(&stage.issuer) };
        for issuers in [vec![other], vec![]] {
            stage.registry.publish(policy(issuers.clone()));
            assert_eq!(by_access(&access).await, 401, "{issuers:?}");
        }
        assert_eq!(stage.push(&token).await, 401);
        stage.registry.publish(policy(vec![definition(&stage.issuer)]));
        assert_eq!(by_access(&access).await, 202, "nothing was remembered of it");
    }

    #[tokio::test]
    async fn an_access_token_does_not_outlive_the_id_token() {
        let stage = Stage::new().await;
        let token = stage.token(json!({"exp": NOW + 40}));
        let target = format!("/token?scope={PUSH}");
        let got = stage.registry.request("GET", &target).header("authorization", &basic("x", &token)).send().await;
        let got = got.expect(200).json();
        assert_eq!(got["expires_in"], 40);
        let access = format!("Bearer {}", got["token"].as_str().unwrap());
        push(&stage.registry, &access).await.expect(202);
        stage.registry.pass_time(40);
        push(&stage.registry, &access).await.expect(401);
    }

    #[tokio::test]
    async fn users_with_passwords_and_robots_stay_what_they_are() {
        let stage = Stage::new().await;
        let (registry, token) = (&stage.registry, stage.token(json!({})));
        registry.publish_users(&[("carol", "secret")]);
        push(registry, &basic("robot/ns/dev", &token)).await.expect(401);
        registry.by("dev", "POST", UPLOADS).send().await.expect(202);
        let access = registry.token(Some("dev"), &[PUSH]).await;
        push(registry, &format!("Bearer {access}")).await.expect(202);
        registry.request("GET", "/v2/").header("authorization", &basic("carol", "secret")).send().await.expect(200);
    }

    /// What is shown with a name that is in the password file is answered as with any other: nobody learns who is in it.
    #[tokio::test]
    async fn a_token_is_a_token_with_any_name() {
        let stage = Stage::new().await;
        let registry = &stage.registry;
        registry.publish_users(&[("carol", "secret")]);
        let mut policy = policy(vec![definition(&stage.issuer)]);
        policy.registry.failures = FailureLimits { per_minute: 1, burst: 1 };
        policy.users.insert(User::htpasswd("carol").unwrap(), vec![]);
        registry.publish(policy);
        let answers = async |name: &str, address: &str| {
            let mut answers = Vec::new();
            let forged = stage.token(json!({"aud": "other"}));
            let tokens = [stage.token(json!({})), stage.token(json!({"sub": "bob"})), stage.token(json!({"exp": NOW}))];
            for token in tokens.iter().chain(std::iter::repeat_n(&forged, 6)) {
                let call = registry.request("POST", UPLOADS).header("authorization", &basic(name, token));
                let reply = call.from(address).send().await;
                let message = (reply.status != 202).then(|| reply.json()["errors"][0]["message"].to_string());
                answers.push((reply.status.as_u16(), message));
            }
            answers
        };
        let (taken, free) = (answers("carol", "192.0.2.1").await, answers("dave", "192.0.2.2").await);
        assert_eq!(taken, free);
        assert_eq!(
            taken.iter().map(|(status, _)| *status).collect::<Vec<_>>(),
            [202, 403, 401, 401, 401, 401, 401, 401, 429]
        );
        assert_eq!(taken[1].1.as_deref(), Some("\"oidc:corp:bob may not push team/app\""));
    }

    /// The issuer signs with a new key as soon as it has published it, again and again, while logins go on.
    #[tokio::test(flavor = "multi_thread")]
    async fn no_valid_token_is_refused_while_keys_are_rotated() {
        let stage = Stage::new().await;
        let mut keys = vec![stage.key.clone()];
        for round in 0..3 {
            let next = Key::new(&format!("next-{round}"), [Algorithm::EdDSA, Algorithm::ES384][round % 2]);
            keys.push(next);
            keys = keys.split_off(keys.len() - 2);
            stage.issuer.publish(&keys.iter().collect::<Vec<_>>());
            let logins = (0..100).map(|number| {
                let token = keys[number % keys.len()].sign(&stage.claims(json!({})));
                let from = format!("192.0.2.{}", number % 5 + 1);
                let call = stage.registry.request("POST", UPLOADS).header("authorization", &basic("x", &token));
                async move { call.from(&from).send().await.status.as_u16() }
            });
            assert_eq!(futures::future::join_all(logins).await, [202; 100], "round {round}");
        }
        assert!(stage.issuer.fetched() <= 8, "many wait for one fetch: {}", stage.issuer.fetched());
    }

    #[tokio::test]
    async fn keys_are_fetched_again_in_time_and_a_withdrawn_one_is_worth_nothing() {
        let stage = Stage::new().await;
        let token = stage.token(json!({}));
        assert_eq!(stage.push(&token).await, 202);
        let other = Key::new("two", Algorithm::ES256);
        stage.issuer.publish(&[&other]);
        stage.registry.pass_time(300);
        assert_eq!((stage.push(&token).await, stage.issuer.fetched()), (202, 1), "still fresh");
        stage.registry.pass_time(1);
        assert_eq!(stage.refused(&token).await, "the token is signed by a key that its issuer does not publish");
        assert_eq!(stage.push(&other.sign(&stage.claims(json!({})))).await, 202);
    }

    #[tokio::test]
    async fn an_issuer_may_be_away_for_an_hour() {
        let stage = Stage::new().await;
        let token = stage.token(json!({"exp": NOW + 10_000}));
        assert_eq!(stage.push(&token).await, 202);
        stage.issuer.stop();
        stage.registry.pass_time(3600);
        assert_eq!(stage.push(&token).await, 202);
        // Who can't be told apart from a new key is not called wrong.
        let new = Key::new("new", Algorithm::ES256).sign(&stage.claims(json!({"exp": NOW + 10_000})));
        assert_eq!(stage.push(&new).await, 503);
        stage.registry.pass_time(1);
        let reply = push(&stage.registry, &basic("x", &token)).await.expect(503);
        assert_eq!((reply.refusal().1.as_str(), reply.header("retry-after")), ("UNAVAILABLE", "5"));
        let message = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert_eq!(message, "oidc:corp can't be reached to verify the token; try again");
        let shown = |registry: &Registry| registry.issuers.is_usable(&definition(&stage.issuer));
        assert_eq!(shown(&stage.registry), Some(false));
        stage.issuer.resume().await;
        assert_eq!(stage.push(&token).await, 202);
        assert_eq!(shown(&stage.registry), Some(true));
    }

    /// What an issuer does wrong, or somebody in its place: it counts as away.
    #[rstest]
    #[case::no_keys(|issuer: &Issuer| issuer.publish_content("{\"keys\": []}"))]
    #[case::no_json(|issuer: &Issuer| issuer.publish_content("<html>"))]
    #[case::error(|issuer: &Issuer| issuer.answer("/keys", 500, ""))]
    #[case::keys_without_tls(|issuer: &Issuer| {
        issuer.configure(&json!({"issuer": issuer.url, "jwks_uri": issuer.url.replace("https", "http") + "/keys"}));
    })]
    #[case::other_issuer(|issuer: &Issuer| {
        issuer.configure(&json!({"issuer": format!("{}/", issuer.url), "jwks_uri": format!("{}/keys", issuer.url)}));
    })]
    #[tokio::test]
    async fn an_issuer_that_makes_no_sense_lets_nobody_in(#[case] change: fn(&Issuer)) {
        let stage = Stage::new().await;
        change(&stage.issuer);
        assert_eq!(stage.push(&stage.token(json!({}))).await, 503);
    }

    #[tokio::test]
    async fn a_key_set_has_a_bounded_size() {
        const MOST: usize = 1024 * 1024;
        for (length, expected) in [(MOST + 1, 503), (MOST, 202)] {
            let stage = Stage::new().await;
            let mut content = json!({"keys": [stage.key.jwk]}).to_string().into_bytes();
            content.resize(length, b' ');
            stage.issuer.publish_content(content);
            assert_eq!(stage.push(&stage.token(json!({}))).await, expected, "{length}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_followed_to_the_same_server_only() {
        let stage = Stage::new().await;
        let elsewhere = Issuer::start("127.0.0.1", &[&stage.key]).await;
        // Its certificate would do, and so would its keys.
        let both = format!("{}{}", stage.issuer.authority, elsewhere.authority);
        let trusting = OidcIssuer { certificate_authority: Some(both), ..definition(&stage.issuer) };
        stage.registry.publish(policy(vec![trusting]));
        stage.issuer.redirect_keys(&format!("{}/keys", elsewhere.url));
        assert_eq!(stage.push(&stage.token(json!({}))).await, 503);
        assert_eq!(elsewhere.fetched(), 0);
        stage.issuer.redirect_keys("/moved");
        stage.issuer.answer("/moved", 200, json!({"keys": [stage.key.jwk.clone()]}).to_string());
        assert_eq!(stage.push(&stage.token(json!({}))).await, 202);
    }

    #[tokio::test]
    async fn only_the_given_authority_vouches_for_the_issuers_server() {
        let stage = Stage::new().await;
        let other = Issuer::start("127.0.0.1", &[]).await;
        for certificate_authority in [Some(other.authority.clone()), Some("nonsense".to_owned()), None] {
            let issuer = OidcIssuer { certificate_authority, ..definition(&stage.issuer) };
            stage.registry.publish(policy(vec![issuer]));
            assert_eq!(stage.push(&stage.token(json!({}))).await, 503);
        }
        assert_eq!(stage.issuer.fetched(), 0);
    }

    #[tokio::test]
    async fn the_configuration_may_be_elsewhere() {
        let stage =
            Stage::with(|issuer| OidcIssuer { discovery_url: Some(format!("{}/elsewhere?x", issuer.url)), ..issuer })
                .await;
        let configuration = json!({"issuer": stage.issuer.url, "jwks_uri": format!("{}/keys", stage.issuer.url)});
        stage.issuer.answer("/elsewhere", 200, configuration.to_string());
        stage.issuer.answer("/.well-known/openid-configuration", 404, "");
        assert_eq!(stage.push(&stage.token(json!({}))).await, 202);
    }

    #[tokio::test]
    async fn junk_makes_no_fetch_and_counts_as_forged() {
        let stage = Stage::new().await;
        let mut strict = policy(vec![definition(&stage.issuer)]);
        strict.registry.failures = FailureLimits { per_minute: 1, burst: 1 };
        stage.registry.publish(strict);
        let show = async |token: &str| {
            let call = stage.registry.request("GET", "/v2/").header("authorization", &basic("x", token));
            call.from("192.0.2.9").send().await.status.as_u16()
        };
        for _ in 0..20 {
            assert_eq!(show(&stage.token(json!({"exp": NOW - 1}))).await, 401, "its holder did nothing wrong");
        }
        for _ in 0..5 {
            assert_eq!(show(&stage.token(json!({"aud": "other"}))).await, 401);
        }
        assert_eq!(show(&stage.token(json!({"aud": "other"}))).await, 429);
        assert_eq!(stage.issuer.fetched(), 0);
        assert_eq!(show(&stage.token(json!({}))).await, 200, "a valid one is taken all the same");
        let unknown = Key::new("unknown", Algorithm::ES256).sign(&stage.claims(json!({})));
        assert_eq!((show(&unknown).await, stage.issuer.fetched()), (429, 1), "nobody looks for its key");
    }

    #[tokio::test]
    async fn what_is_genuine_and_not_enough_keeps_its_reason_and_does_not_count() {
        let condition = ClaimCondition { claim: "ref".to_owned(), values: vec![Glob::new("main")] };
        let demanding =
            |issuer| OidcIssuer { conditions: vec![condition.clone()], username_claim: "email".to_owned(), ..issuer };
        let stage = Stage::with(demanding).await;
        let mut strict = policy(vec![demanding(definition(&stage.issuer))]);
        strict.registry.failures = FailureLimits { per_minute: 1, burst: 1 };
        stage.registry.publish(strict);
        for (change, reason) in [
            (json!({}), "\"ref\""),
            (json!({"ref": "main"}), "names nobody"),
            (json!({"ref": "main", "email": "a", "email_verified": false}), "not verified"),
            (json!({"ref": "main", "email": "a\u{200b}"}), "can't be a name"),
        ] {
            for _ in 0..6 {
                let message = stage.refused(&stage.token(change.clone())).await;
                assert!(message.contains(reason), "{message}");
            }
        }
    }

    #[tokio::test]
    async fn the_background_fetches_before_anybody_comes() {
        let stage = Stage::new().await;
        let shutdown = tokio_util::sync::CancellationToken::new();
        let (issuers, live) = (Arc::clone(&stage.registry.issuers), Arc::clone(&stage.registry.live));
        let task = tokio::spawn(issuers.keep_fresh(live, shutdown.clone()));
        while stage.registry.issuers.is_usable(&definition(&stage.issuer)).is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.issuer.fetched(), 1);
        // A new issuer is noticed when it comes into force.
        let other = Issuer::start("127.0.0.1", &[&stage.key]).await;
        stage.registry.publish(policy(vec![definition(&other)]));
        let noticed = async {
            while stage.registry.issuers.is_usable(&definition(&other)).is_none() {
                tokio::task::yield_now().await;
            }
        };
        // Without a change it would look again in half a minute.
        tokio::time::timeout(Duration::from_secs(20), noticed).await.unwrap();
        shutdown.cancel();
        task.await.unwrap();
    }
}

mod service_accounts {
    use super::*;

    /// A cluster that is made up.
    #[derive(Default)]
    struct Cluster {
        /// Whom it knows by a token.
        accounts: Mutex<HashMap<String, Reviewed>>,
        asked: AtomicUsize,
        is_away: AtomicBool,
        /// Whether it gives no answer about whom it doesn't know.
        hangs: AtomicBool,
    }

    #[async_trait]
    impl TokenReviewer for Cluster {
        async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, ReviewError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            assert_eq!(audiences.len(), 1, "that of the policy in force");
            // Others have time to come.
            tokio::task::yield_now().await;
            if self.is_away.load(Ordering::Relaxed) {
                return Err(ReviewError("connection refused".into()));
            }
            let account = self.accounts.lock().unwrap().get(token).cloned();
            if account.is_none() && self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Ok(account)
        }
    }

    struct Stage {
        registry: Registry,
        cluster: Arc<Cluster>,
    }

    fn policy() -> Snapshot {
        let mut snapshot = snapshot();
        let namespaces = NamespaceSet::These(BTreeSet::from(["team".to_owned()]));
        let accounts = ServiceAccounts { audiences: vec![AUDIENCE.to_owned()], namespaces };
        snapshot.registry.providers = Providers::new(vec![], Some(accounts), None);
        snapshot.registry.failures = FailureLimits { per_minute: 6000, burst: 10_000 };
        snapshot.users.insert(User::service_account("team", "ci"), developer());
        snapshot.users.insert(User::service_account("other", "ci"), developer());
        let group = "kubernetes:system:serviceaccounts:team:builders".parse().unwrap();
        snapshot.groups.insert(group, developer());
        snapshot
    }

    fn token(change: Value) -> String {
        let mut claims = json!({
            "iss": "https://kubernetes.default.svc", "aud": [AUDIENCE], "exp": NOW + 3600, "iat": NOW, "nbf": NOW,
            "sub": "system:serviceaccount:team:ci",
        });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", encode(json!({"alg": "RS256", "kid": "k"})), encode(claims))
    }

    impl Stage {
        fn new() -> Self {
            let cluster = Arc::new(Cluster::default());
            let registry = Registry::asking(Arc::clone(&cluster) as Arc<dyn TokenReviewer>);
            registry.publish(policy());
            Self { registry, cluster }
        }

        /// The cluster knows somebody by this token.
        fn knows(&self, token: &str, username: &str, audience: &str) {
            let groups = vec!["system:authenticated".to_owned(), format!("{username}:groups")];
            let reviewed = Reviewed { username: username.to_owned(), groups, audiences: vec![audience.to_owned()] };
            self.cluster.accounts.lock().unwrap().insert(token.to_owned(), reviewed);
        }

        fn asked(&self) -> usize {
            self.cluster.asked.load(Ordering::Relaxed)
        }

        async fn push(&self, token: &str) -> u16 {
            push(&self.registry, &basic("serviceaccount", token)).await.status.as_u16()
        }
    }

    #[tokio::test]
    async fn a_token_that_the_cluster_knows_lets_in_in_every_way() {
        let (stage, token) = (Stage::new(), token(json!({})));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        assert_eq!(stage.push(&token).await, 202);
        push(&stage.registry, &format!("Bearer {token}")).await.expect(202);
        let form = format!(
            "grant_type=password&username=x&password={token}&access_type=offline&scope=repository%3Ateam%2Fapp%3Apush"
        );
        let call = stage.registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
        let got = call.body(form).send().await.expect(200).json();
        assert_eq!(got.get("refresh_token"), None);
        push(&stage.registry, &format!("Bearer {}", got["token"].as_str().unwrap())).await.expect(202);
        assert_eq!(stage.asked(), 1, "the answer is kept");
    }

    /// The cluster may be an issuer of the Registry too, for another audience.
    #[tokio::test]
    async fn what_is_for_no_issuer_may_be_an_accounts() {
        let (stage, token) = (Stage::new(), token(json!({})));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        let mut both = policy();
        let issuer = OidcIssuer {
            name: "cluster".to_owned(),
            url: "https://kubernetes.default.svc".to_owned(),
            discovery_url: None,
            certificate_authority: None,
            audiences: vec!["other".to_owned()],
            username_claim: "sub".to_owned(),
            groups_claim: None,
            conditions: vec![],
        };
        let accounts = both.registry.providers.service_accounts().cloned();
        both.registry.providers = Providers::new(vec![issuer], accounts, None);
        stage.registry.publish(both);
        assert_eq!(stage.push(&token).await, 202);
        let person = super::service_accounts::token(json!({"sub": "alice"}));
        let message = refused(&stage.registry, &person).await;
        assert_eq!(message, "the token is for somebody else: get one with the audience other");
    }

    #[tokio::test]
    async fn groups_of_the_cluster_count() {
        let (stage, token) = (Stage::new(), token(json!({"sub": "system:serviceaccount:team:x"})));
        let username = "system:serviceaccount:team:x".to_owned();
        let groups = vec!["system:serviceaccounts:team:builders".to_owned(), "\n".to_owned()];
        let reviewed = Reviewed { username, groups, audiences: vec![AUDIENCE.to_owned()] };
        stage.cluster.accounts.lock().unwrap().insert(token.clone(), reviewed);
        assert_eq!(stage.push(&token).await, 202);
    }

    #[rstest]
    #[case::other_audience(json!({"aud": ["https://kubernetes.default.svc"]}), "the token is for somebody else: get one with the audience registry.example")]
    #[case::expired(json!({"exp": NOW}), "the token has expired; get a new one")]
    #[case::not_yet(json!({"nbf": NOW + 61}), "the token is not valid yet: compare the clocks of its issuer and of this registry")]
    #[case::person(json!({"sub": "alice"}), "the token is of an issuer that this registry does not trust")]
    #[case::no_end(json!({"exp": null}), "the token says no time at which it ends (exp)")]
    #[tokio::test]
    async fn what_looks_like_no_account_for_this_registry_reaches_no_cluster(
        #[case] change: Value,
        #[case] expected: &str,
    ) {
        let (stage, token) = (Stage::new(), token(change));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        assert_eq!(refused(&stage.registry, &token).await, expected);
        assert_eq!(stage.asked(), 0);
    }

    /// What the cluster says counts, not what the token says.
    #[tokio::test]
    async fn what_the_cluster_does_not_confirm_is_refused() {
        let stage = Stage::new();
        let rejected = "the cluster does not accept the token, or not for this registry";
        for (number, (username, audience)) in
            [("", AUDIENCE), ("alice", AUDIENCE), ("system:serviceaccount:team:ci", "other")].into_iter().enumerate()
        {
            let token = token(json!({"jti": number}));
            if !username.is_empty() {
                stage.knows(&token, username, audience);
            }
            assert_eq!(refused(&stage.registry, &token).await, rejected);
        }
        let token = token(json!({"jti": "namespace"}));
        stage.knows(&token, "system:serviceaccount:other:ci", AUDIENCE);
        assert_eq!(refused(&stage.registry, &token).await, "ServiceAccounts of the namespace other can't log in here");
    }

    #[tokio::test]
    async fn an_account_that_is_gone_is_refused_within_a_minute() {
        let (stage, token) = (Stage::new(), token(json!({})));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        assert_eq!(stage.push(&token).await, 202);
        stage.cluster.accounts.lock().unwrap().clear();
        stage.registry.pass_time(59);
        assert_eq!((stage.push(&token).await, stage.asked()), (202, 1));
        stage.registry.pass_time(1);
        assert_eq!((stage.push(&token).await, stage.asked()), (401, 2));
        assert_eq!((stage.push(&token).await, stage.asked()), (401, 2), "no is an answer too");
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        stage.registry.pass_time(10);
        assert_eq!((stage.push(&token).await, stage.asked()), (202, 3));
    }

    #[tokio::test]
    async fn an_answer_is_kept_no_longer_than_the_token_lives() {
        let (stage, token) = (Stage::new(), token(json!({"exp": NOW + 30})));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        assert_eq!(stage.push(&token).await, 202);
        stage.registry.pass_time(30);
        assert_eq!(stage.push(&token).await, 401);
    }

    #[tokio::test]
    async fn an_answer_does_not_outlive_what_it_was_asked_for() {
        let (stage, token) = (Stage::new(), token(json!({"aud": [AUDIENCE, "second"]})));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        assert_eq!(stage.push(&token).await, 202);
        let target = format!("/token?scope={PUSH}");
        let got = stage.registry.request("GET", &target).header("authorization", &basic("x", &token)).send().await;
        let access = format!("Bearer {}", got.expect(200).json()["token"].as_str().unwrap());
        push(&stage.registry, &access).await.expect(202);
        // Another namespace is selected; the audiences are others; none are let in any more.
        let publish = |audience: &str, namespace: &str| {
            let namespaces = NamespaceSet::These(BTreeSet::from([namespace.to_owned()]));
            let accounts = ServiceAccounts { audiences: vec![audience.to_owned()], namespaces };
            let mut changed = policy();
            changed.registry.providers = Providers::new(vec![], Some(accounts), None);
            stage.registry.publish(changed);
        };
        publish(AUDIENCE, "elsewhere");
        push(&stage.registry, &access).await.expect(401);
        assert_eq!((stage.push(&token).await, stage.asked()), (401, 1));
        publish("second", "team");
        push(&stage.registry, &access).await.expect(401);
        assert_eq!((stage.push(&token).await, stage.asked()), (401, 2));
        let mut without = policy();
        without.registry.providers = Providers::default();
        stage.registry.publish(without);
        push(&stage.registry, &access).await.expect(401);
        assert_eq!((stage.push(&token).await, stage.asked()), (401, 2));
        stage.registry.publish(policy());
        push(&stage.registry, &access).await.expect(202);
    }

    #[tokio::test]
    async fn a_cluster_that_is_away_is_no_wrong_password() {
        let (stage, known, new) = (Stage::new(), token(json!({})), token(json!({"jti": 1})));
        for token in [&known, &new] {
            stage.knows(token, "system:serviceaccount:team:ci", AUDIENCE);
        }
        assert_eq!(stage.push(&known).await, 202);
        stage.cluster.is_away.store(true, Ordering::Relaxed);
        assert_eq!(stage.push(&known).await, 202, "the answer is still there");
        let reply = push(&stage.registry, &basic("x", &new)).await.expect(503);
        assert_eq!((reply.refusal().1.as_str(), reply.header("retry-after")), ("UNAVAILABLE", "5"));
        let message = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert_eq!(message, "kubernetes can't be reached to verify the token; try again");
        stage.cluster.is_away.store(false, Ordering::Relaxed);
        assert_eq!(stage.push(&new).await, 202, "nothing was remembered of it");
    }

    #[tokio::test]
    async fn of_many_equal_logins_few_ask() {
        let (stage, token) = (Stage::new(), token(json!({})));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        let logins = futures::future::join_all((0..300).map(|_| stage.push(&token))).await;
        assert_eq!(logins, [202; 300]);
        assert!(stage.asked() <= 8, "{}", stage.asked());
    }

    /// Tokens that look like an account's, each another one, from one address.
    async fn show_junk(stage: &Stage, number: usize) -> Vec<u16> {
        let junk = (0..number).map(|number| {
            let (call, token) = (stage.registry.request("GET", "/v2/"), token(json!({"jti": number})));
            async move { call.bearer(&token).from("192.0.2.9").send().await.status.as_u16() }
        });
        futures::future::join_all(junk).await
    }

    async fn show_good(stage: &Stage, address: &str) -> u16 {
        let token = token(json!({"jti": address}));
        stage.knows(&token, "system:serviceaccount:team:ci", AUDIENCE);
        stage.registry.request("GET", "/v2/").bearer(&token).from(address).send().await.status.as_u16()
    }

    /// A cluster that gives no answer keeps nobody waiting for what others have asked, nor long for what he has.
    #[rstest]
    #[case::harmless_so_far(10_000, 2)]
    #[case::after_much_that_was_forged(1, 1)]
    #[tokio::test]
    async fn junk_of_one_client_leaves_room_for_others(#[case] burst: u32, #[case] together: usize) {
        let stage = Stage::new();
        let mut policy = policy();
        policy.registry.failures = FailureLimits { per_minute: 1, burst };
        stage.registry.publish(policy);
        assert!(show_junk(&stage, 5).await.iter().all(|status| *status == 401));
        stage.registry.pass_time(10);
        let before = stage.asked();
        stage.cluster.hangs.store(true, Ordering::Relaxed);
        let junk = Box::pin(show_junk(&stage, 20));
        let good = Box::pin(async {
            while stage.asked() == before {
                tokio::task::yield_now().await;
            }
            show_good(&stage, "192.0.2.10").await
        });
        let futures::future::Either::Right((good, junk)) = futures::future::select(junk, good).await else {
            panic!("the other one has to wait");
        };
        assert_eq!((good, stage.asked()), (200, before + together + 1));
        assert_eq!(junk.await, [503; 20]);
        assert_eq!(stage.asked(), before + 2 * together + 1, "all others have waited long enough");
    }

    #[tokio::test]
    async fn without_a_cluster_nobody_is_let_in() {
        let registry = Registry::new();
        registry.publish(policy());
        let message = refused(&registry, &token(json!({}))).await;
        assert_eq!(message, "the token is of an issuer that this registry does not trust");
    }
}
