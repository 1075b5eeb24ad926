//! Forged and broken tokens, and requests for tokens that can't be had.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use landfast::policy::Identity;
use serde_json::{Value, json};

use super::{Row, Target, targets};
use crate::harness::{HOST, NOW, Registry, keys, subject};

const TYPE: &str = "landfast-access+jwt";

const REQUESTS: &[Target] = &[
    ("scope of one part", "GET", "/token?scope=repository", 400, "UNSUPPORTED"),
    ("scope of two parts", "GET", "/token?scope=repository:team/app", 400, "UNSUPPORTED"),
    ("scope without type", "GET", "/token?scope=:team/app:pull", 400, "UNSUPPORTED"),
    ("scope without name", "GET", "/token?scope=repository::pull", 400, "UNSUPPORTED"),
    ("scope of an upper-case name", "GET", "/token?scope=repository:Team:pull", 400, "UNSUPPORTED"),
    ("scope of a parent folder", "GET", "/token?scope=repository:team/../x:pull", 400, "UNSUPPORTED"),
    ("scope of a host", "GET", "/token?scope=repository:registry.example:5000/app:pull", 400, "UNSUPPORTED"),
    ("scope of everything", "GET", "/token?scope=repository:*:pull", 400, "UNSUPPORTED"),
    ("scope that can't be decoded", "GET", "/token?scope=%zz", 400, "UNSUPPORTED"),
    ("scope that is not UTF-8", "GET", "/token?scope=%ff", 400, "UNSUPPORTED"),
];

/// Forms without credentials in the header.
const FORMS: &[(&str, &str, &str, u16, &str)] = &[
    ("JSON", "application/json", "{}", 400, "UNSUPPORTED"),
    ("a form of many parts", "multipart/form-data; boundary=x", "grant_type=password", 400, "UNSUPPORTED"),
    ("no type", "", "grant_type=password", 400, "UNSUPPORTED"),
    ("no grant", "application/x-www-form-urlencoded", "a=b", 400, "UNSUPPORTED"),
    ("nothing", "application/x-www-form-urlencoded", "", 400, "UNSUPPORTED"),
    ("an unknown grant", "application/x-www-form-urlencoded", "grant_type=client_credentials", 400, "UNSUPPORTED"),
    ("an empty grant", "application/x-www-form-urlencoded", "grant_type=", 400, "UNSUPPORTED"),
    ("no password", "application/x-www-form-urlencoded", "grant_type=password&username=x", 400, "UNSUPPORTED"),
    ("no refresh token", "application/x-www-form-urlencoded", "grant_type=refresh_token", 400, "UNSUPPORTED"),
    ("a malformed escape", "application/x-www-form-urlencoded", "grant_type=%z", 400, "UNSUPPORTED"),
    ("what is not UTF-8", "application/x-www-form-urlencoded", "grant_type=%ff", 400, "UNSUPPORTED"),
    (
        "a malformed scope",
        "application/x-www-form-urlencoded",
        "grant_type=refresh_token&refresh_token=x&scope=y",
        400,
        "UNSUPPORTED",
    ),
    (
        "a wrong password",
        "application/x-www-form-urlencoded",
        "grant_type=password&username=x&password=y",
        401,
        "UNAUTHORIZED",
    ),
    (
        "a wrong refresh token",
        "application/x-www-form-urlencoded",
        "grant_type=refresh_token&refresh_token=a.b.c",
        401,
        "UNAUTHORIZED",
    ),
];

pub async fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let mut rows = targets(registry, REQUESTS);
    let scopes = "&scope=repository:team/app:pull".repeat(33);
    rows.push(Row::new("33 scopes", registry.by("dev", "GET", &format!("/token?{scopes}")), 400, "UNSUPPORTED"));
    for &(name, media_type, form, status, code) in FORMS {
        let mut call = registry.request("POST", "/token").body(form);
        if !media_type.is_empty() {
            call = call.header("content-type", media_type);
        }
        rows.push(Row::new(format!("form: {name}"), call, status, code));
    }
    let large = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
    rows.push(Row::new("form: 70,000 bytes", large.body("a".repeat(70_000)), 400, "UNSUPPORTED"));
    rows.extend(forged(registry).await);
    rows.extend(headers(registry));
    rows
}

fn claims(expiry: i64, robot: &str, repository: &str) -> Value {
    json!({"aud": "registry-uid", "iat": NOW, "exp": expiry, "jti": "x", "identity": Identity::Credential(subject(robot)),
        "access": [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]})
}

/// Header and payload, encoded as they are signed.
fn encode(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

async fn forged(registry: &Registry) -> Vec<Row<'_>> {
    let good = claims(NOW + 60, "dev", "team/app");
    let sign = |claims: &Value| registry.keys.sign(TYPE, claims).unwrap();
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    let valid = sign(&good);
    registry.request("GET", "/v2/team/app/tags/list").bearer(&valid).send().await.expect(200);
    let [header, payload, signature] = valid.split('.').collect::<Vec<_>>()[..] else { panic!("no JWT") };
    let kid = registry.keys.current().id();
    // `keys(1)` of the harness.
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let public = pair.public_key().as_ref();
    let by_hash = |algorithm, name: &str, key: &[u8]| {
        let signed = encode(&json!({"alg": name, "typ": TYPE, "kid": kid}), &good);
        let tag = hmac::sign(&hmac::Key::new(algorithm, key), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let unsigned = |algorithm: &str| format!("{}.", encode(&json!({"alg": algorithm, "typ": TYPE, "kid": kid}), &good));
    let own_key = json!({"alg": "EdDSA", "typ": TYPE, "kid": "x", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public)}});
    let tokens = [
        ("signed with another key", keys(2).sign(TYPE, &good).unwrap()),
        ("of no algorithm", unsigned("none")),
        ("of no algorithm, upper case", unsigned("NONE")),
        ("of no algorithm, with a signature", format!("{}{signature}", unsigned("none"))),
        ("of an unknown algorithm", unsigned("XX256")),
        ("of HS256 with the public key", by_hash(hmac::HMAC_SHA256, "HS256", public)),
        ("of HS512 with the public key", by_hash(hmac::HMAC_SHA512, "HS512", public)),
        (
            "of HS256 with the public key in Base64",
            by_hash(hmac::HMAC_SHA256, "HS256", STANDARD.encode(public).as_bytes()),
        ),
        ("of HS256 with no key", by_hash(hmac::HMAC_SHA256, "HS256", b"")),
        ("that brings its key", format!("{}.{signature}", encode(&own_key, &good))),
        (
            "of an unknown key",
            format!("{}.{signature}", encode(&json!({"alg": "EdDSA", "typ": TYPE, "kid": "../x"}), &good)),
        ),
        ("without a key's name", format!("{}.{signature}", encode(&json!({"alg": "EdDSA", "typ": TYPE}), &good))),
        ("without a kind", format!("{}.{signature}", encode(&json!({"alg": "EdDSA", "kid": kid}), &good))),
        ("of JWT's kind", registry.keys.sign("JWT", &good).unwrap()),
        ("of a refresh token's kind", registry.keys.sign("landfast-refresh+jwt", &good).unwrap()),
        ("that is a password", registry.password("dev")),
        ("that has expired", sign(&claims(NOW, "dev", "team/app"))),
        ("that expired long ago", sign(&claims(-1, "dev", "team/app"))),
        ("without expiry", sign(&with("exp", Value::Null))),
        ("of a text as expiry", sign(&with("exp", json!("9999999999")))),
        ("for another registry", sign(&with("aud", json!("other")))),
        ("for several registries", sign(&with("aud", json!(["registry-uid", "other"])))),
        ("for nobody", sign(&with("identity", Value::Null))),
        ("of access that is a text", sign(&with("access", json!("*")))),
        ("of a robot that is gone", sign(&claims(NOW + 60, "gone", "team/app"))),
        ("edited for a longer life", edited(&valid, &claims(NOW + 9999, "dev", "team/app"))),
        ("edited for another scope", edited(&valid, &claims(NOW + 60, "dev", "base/app"))),
        ("edited for another robot", edited(&valid, &claims(NOW + 60, "librarian", "team/app"))),
        ("without signature", format!("{header}.{payload}.")),
        ("of two parts", format!("{header}.{payload}")),
        ("of four parts", format!("{valid}.{signature}")),
        ("that is cut", valid[..valid.len() - 1].to_owned()),
        ("with a longer signature", format!("{valid}AAAA")),
        ("with a padded signature", format!("{valid}==")),
        ("that is no Base64", "!!!.!!!.!!!".to_owned()),
        ("of dots", "...".to_owned()),
        ("that is garbage", "x".to_owned()),
        ("of 15 KiB", "a".repeat(15 << 10)),
        ("of 20 KiB", "a".repeat(20 << 10)),
    ];
    let row = |(name, token): (&str, String)| {
        let call = registry.request("GET", "/v2/team/app/tags/list").bearer(&token);
        Row::new(format!("token {name}"), call, 401, "UNAUTHORIZED")
    };
    let mut rows: Vec<_> = tokens.into_iter().map(row).collect();
    let pull = registry.token(Some("dev"), &["repository:team/app:pull"]).await;
    let push = |token: &str| registry.request("POST", "/v2/team/app/blobs/uploads/").bearer(token);
    rows.push(Row::new("token for less", push(&pull), 401, "UNAUTHORIZED"));
    let for_others = sign(&claims(NOW + 60, "dev", "base/app"));
    let others = registry.request("GET", "/v2/base/app/tags/list").bearer(&for_others);
    rows.push(Row::new("token for more than is allowed", others, 403, "DENIED"));
    rows.push(Row::new("token for a token", registry.request("GET", "/token").bearer(&valid), 401, "UNAUTHORIZED"));
    rows
}

/// Another payload under the same signature.
fn edited(token: &str, claims: &Value) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

fn headers(registry: &Registry) -> Vec<Row<'_>> {
    let pair = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let password = registry.password("dev");
    let values = [
        ("of nothing", String::new()),
        ("without value", "Basic".to_owned()),
        ("of a blank", "Basic ".to_owned()),
        ("of malformed Base64", "Basic !!!".to_owned()),
        ("of Base64 without padding", format!("Basic {}", STANDARD.encode("ab:c").trim_end_matches('='))),
        ("without colon", format!("Basic {}", STANDARD.encode("user"))),
        ("that is not UTF-8", format!("Basic {}", STANDARD.encode(b"\xff:\xff"))),
        ("of an unknown scheme", "Negotiate abc".to_owned()),
        ("of a digest", format!("Digest username=\"dev\", realm=\"{HOST}\"")),
        ("of an empty token", "Bearer ".to_owned()),
        ("of a token in quotation marks", "Bearer \"x\"".to_owned()),
        ("of a wrong password", pair("robot/ns/dev", "x")),
        ("of another's name", pair("robot/ns/guest", &password)),
        ("of no name", pair("", &password)),
        ("of a name with NUL", pair("robot/ns/dev\0", &password)),
    ];
    let row = |(name, value): (&str, String)| {
        let call = registry.request("GET", "/v2/").header("authorization", &value);
        Row::new(format!("credentials {name}"), call, 401, "UNAUTHORIZED")
    };
    let mut rows: Vec<_> = values.into_iter().map(row).collect();
    let twice = registry.by("dev", "GET", "/v2/").header("authorization", &registry.basic("dev"));
    rows.push(Row::new("two Authorization headers", twice, 401, "UNAUTHORIZED"));
    rows
}
