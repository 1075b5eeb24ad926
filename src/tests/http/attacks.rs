//! What an attacker would try, each with what becomes of it. Names that can't be, and broken requests, are in the corpus;
//! guessing passwords is in `logins`; what providers of users say in their own tests.

use std::sync::Arc;

use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use landfast::policy::{CredentialClaims, CredentialSubject, Identity, Inputs, compile};
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::{NOW, Registry, keys, subject};

/// `object("Project team/app", spec)`: its UID is `team-app`, or what a third word says.
fn object<K: DeserializeOwned>(head: &str, spec: &str) -> Arc<K> {
    let mut words = head.split([' ', '/']);
    let (kind, namespace, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let uid = words.next().map_or(format!("{namespace}-{name}"), str::to_owned);
    let yaml = format!(
        "apiVersion: landfast.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, uid: {uid}}}\nspec: {spec}"
    );
    Arc::new(serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}")))
}

const ROBOT: &str = "role: Developer, subjects: [{kind: Robot, name: ci}]";

/// Registry `hub/main`, which takes Projects from everywhere, and Project `team/app` with the path `app`, whose Member
/// `team/builders` has the robot `ci`.
fn inputs() -> Inputs {
    let everywhere = "{from: All}";
    Inputs {
        registry: object(
            "Registry hub/main registry-uid",
            &format!("{{storage: {{emptyDir: {{}}}}, projectNamespaces: {everywhere}}}"),
        ),
        projects: vec![object("Project team/app", "{registryRef: {name: main, namespace: hub}}")],
        policies: vec![],
        members: vec![object("Member team/builders", &format!("{{projectRef: {{name: app}}, {ROBOT}}}"))],
        namespaces: Some(["hub", "team", "evil"].map(|name| (name.to_owned(), [].into())).into()),
    }
}

fn registry(inputs: &Inputs) -> Registry {
    let registry = Registry::new();
    registry.publish(compile(inputs).0);
    registry
}

fn robot(member_uid: &str, namespace: &str) -> CredentialSubject {
    let (member, namespace, name) = (member_uid.to_owned(), namespace.to_owned(), "ci".to_owned());
    CredentialSubject::Robot { member, namespace, name, generation: 0 }
}

/// Status of an upload to `app/image` with this credential.
async fn upload_by(registry: &Registry, subject: CredentialSubject) -> u16 {
    upload_to(registry, subject, "app/image").await
}

async fn upload_to(registry: &Registry, subject: CredentialSubject, repository: &str) -> u16 {
    let username = subject.username();
    let claims = CredentialClaims { aud: "registry-uid".to_owned(), subject, iat: NOW, exp: None };
    let password = claims.sign(&registry.keys).unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    let target = format!("/v2/{repository}/blobs/uploads/");
    let call = registry.request("POST", &target).header("authorization", &format!("Basic {basic}"));
    call.send().await.status.as_u16()
}

#[tokio::test]
async fn what_the_attacks_below_are_measured_against_works() {
    assert_eq!(upload_by(&registry(&inputs()), robot("team-builders", "team")).await, 202);
}

/// The name is free again once a Member is deleted: a new one of that name is somebody else's.
#[tokio::test]
async fn the_credential_of_a_member_that_was_made_anew_is_worth_nothing() {
    let mut inputs = inputs();
    inputs.members =
        vec![object("Member team/builders another-uid", &format!("{{projectRef: {{name: app}}, {ROBOT}}}"))];
    let registry = registry(&inputs);
    assert_eq!(upload_by(&registry, robot("team-builders", "team")).await, 401);
    assert_eq!(upload_by(&registry, robot("another-uid", "team")).await, 202);
}

#[tokio::test]
async fn the_pull_secret_of_a_project_that_was_made_anew_is_worth_nothing() {
    let mut inputs = inputs();
    let pull_secret = |uid: &str| CredentialSubject::PullSecret {
        project: uid.to_owned(),
        namespace: "team".to_owned(),
        name: "app".to_owned(),
        generation: 0,
    };
    inputs.registry = object(
        "Registry hub/main registry-uid",
        "{storage: {emptyDir: {}}, projectNamespaces: {from: All}, pullSecretNamespaces: {from: All}}",
    );
    inputs.projects = vec![object(
        "Project team/app another-uid",
        "{registryRef: {name: main, namespace: hub}, pullSecrets: {role: Developer}}",
    )];
    let registry = registry(&inputs);
    assert_eq!(upload_by(&registry, pull_secret("team-app")).await, 401);
    assert_eq!(upload_by(&registry, pull_secret("another-uid")).await, 202);
}

/// A tenant writes what it likes into its own namespace: nothing of it reaches another's Project.
#[rstest]
#[case::member_of_the_same_name("Member evil/builders", "{projectRef: {name: app}, ROBOT}")]
#[case::member_with_a_path_for_a_name("Member evil/m", "{projectRef: {name: team/app}, ROBOT}")]
#[case::member_of_the_registry("Member evil/m", "{registryRef: {name: main}, ROBOT}")]
#[case::member_of_a_registry_by_path("Member evil/m", "{registryRef: {name: hub/main}, ROBOT}")]
#[tokio::test]
async fn a_member_reaches_no_other_namespace(#[case] head: &str, #[case] spec: &str) {
    let mut inputs = inputs();
    inputs.members = vec![object(head, &spec.replace("ROBOT", ROBOT))];
    let name = head.rsplit_once('/').unwrap().1;
    assert_ne!(upload_by(&registry(&inputs), robot(&format!("evil-{name}"), "evil")).await, 202);
}

/// With its own Project `evil/app` a tenant has Members who do as it says; but the path is another's.
#[rstest]
#[case::same_path("{registryRef: {name: main, namespace: hub}, path: app}")]
#[case::within("{registryRef: {name: main, namespace: hub}, path: app/image}")]
#[case::around("{registryRef: {name: main, namespace: hub}, path: ap}")]
#[case::official("{registryRef: {name: main, namespace: hub}, path: app/x, official: true}")]
#[tokio::test]
async fn a_project_reaches_no_other_ones_path(#[case] spec: &str) {
    let mut inputs = inputs();
    let mut older = (*inputs.projects[0]).clone();
    older.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    let mut younger = (*object::<landfast::api::v1alpha1::Project>("Project evil/app", spec)).clone();
    younger.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(1).unwrap()));
    inputs.projects = vec![Arc::new(younger), Arc::new(older)];
    inputs.members = vec![object("Member evil/m", &format!("{{projectRef: {{name: app}}, {ROBOT}}}"))];
    let registry = registry(&inputs);
    for repository in ["app/image", "app/image/deep", "app/x"] {
        assert_ne!(upload_to(&registry, robot("evil-m", "evil"), repository).await, 202, "{repository}");
    }
}

#[tokio::test]
async fn a_policy_reaches_no_other_namespace() {
    let mut inputs = inputs();
    let spec = "{projectRef: {name: app}, repositories: ['**'], visibility: Public}";
    inputs.policies = vec![object("RepositoryPolicy evil/open", spec)];
    registry(&inputs).request("GET", "/v2/app/image/tags/list").send().await.expect(401);
    inputs.policies = vec![object("RepositoryPolicy team/open", spec)];
    registry(&inputs).request("GET", "/v2/app/image/tags/list").send().await.expect(404);
}

/// Patterns and paths say what lies below the Project: none leaves it.
#[rstest]
#[case::parent("../**")]
#[case::everything("**")]
#[case::other_project("other/**")]
#[case::with_the_host("registry.example:5000/other/**")]
#[tokio::test]
async fn a_pattern_does_not_leave_its_project(#[case] pattern: &str) {
    let mut inputs = inputs();
    inputs.projects.push(object("Project team/other", "{registryRef: {name: main, namespace: hub}}"));
    let spec = format!("{{projectRef: {{name: app}}, repositories: ['{pattern}'], {ROBOT}}}");
    inputs.members = vec![object("Member team/m", &spec)];
    assert_eq!(upload_to(&registry(&inputs), robot("team-m", "team"), "other/image").await, 403);
}

/// What the header of a token says about its key or its algorithm is never followed.
#[rstest]
#[case::no_algorithm(json!({"alg": "none", "typ": "landfast-access+jwt"}))]
#[case::no_algorithm_in_capitals(json!({"alg": "NONE", "typ": "landfast-access+jwt"}))]
#[case::public_key_as_a_password(json!({"alg": "HS256", "typ": "landfast-access+jwt"}))]
#[case::other_algorithm(json!({"alg": "RS256", "typ": "landfast-access+jwt"}))]
#[case::key_by_a_path(json!({"alg": "EdDSA", "typ": "landfast-access+jwt", "kid": "../../dev/null"}))]
#[case::no_key(json!({"alg": "EdDSA", "typ": "landfast-access+jwt", "kid": ""}))]
#[case::key_in_the_token(json!({"alg": "EdDSA", "typ": "landfast-access+jwt",
    "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}))]
#[case::key_from_elsewhere(json!({"alg": "EdDSA", "typ": "landfast-access+jwt", "jku": "https://evil.example/keys"}))]
#[case::critical_extension(json!({"alg": "EdDSA", "typ": "landfast-access+jwt", "crit": ["b64"], "b64": false}))]
#[tokio::test]
async fn a_downgraded_token_is_refused(#[case] header: Value) {
    let registry = Registry::new();
    let claims = json!({"aud": "registry-uid", "iat": NOW, "exp": NOW + 60, "jti": "x",
        "identity": Identity::Credential(subject("dev")),
        "access": [{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}]});
    let mut header = header;
    // With the right key's name too, where none is given.
    if header.get("kid").is_none() {
        header["kid"] = registry.keys.current().id().into();
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signing_input = format!("{}.{}", encode(&header), encode(&claims));
    let own = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public_key(&registry));
    let tag = aws_lc_rs::hmac::sign(&own, signing_input.as_bytes());
    for signature in [String::new(), URL_SAFE_NO_PAD.encode(tag.as_ref()), URL_SAFE_NO_PAD.encode([0; 64])] {
        let token = format!("{signing_input}.{signature}");
        let reply = registry.request("POST", "/v2/team/app/blobs/uploads/").bearer(&token).send().await;
        assert_eq!(reply.refusal(), (401, "UNAUTHORIZED".to_owned()));
    }
}

/// What everybody may know of the key that signs.
fn public_key(registry: &Registry) -> Vec<u8> {
    let pem: String = registry.keys.current().to_pem().lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(pem).unwrap();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap();
    pair.public_key().as_ref().to_vec()
}

/// Asking for more than one has gives what one has.
#[rstest]
#[case::other_action("guest", "repository:team/app:pull,push,delete", json!([["team/app", ["pull"]]]))]
#[case::every_action("guest", "repository:team/app:*", json!([["team/app", ["pull"]]]))]
#[case::other_repository("guest", "repository:base/app:pull", json!([]))]
#[case::every_repository("guest", "repository:**:pull", Value::Null)]
#[case::parent("guest", "repository:team/../base/app:pull", Value::Null)]
#[case::in_capitals("guest", "repository:TEAM/app:pull", Value::Null)]
#[case::asked_twice("guest", "repository:team/app:pull&scope=repository:team/app:push", json!([["team/app", ["pull"]]]))]
#[case::hidden_in_a_name("guest", "repository:team/app:pull,push%20repository:base/app:pull", json!([["team/app", ["pull"]]]))]
#[case::administration("guest", "registry:admin:*", json!([]))]
#[case::another_ones_account("guest", "repository:team/app:push&account=robot/ns/dev", json!([]))]
#[tokio::test]
async fn a_token_never_holds_more_than_its_holder_may(
    #[case] robot: &str,
    #[case] scope: &str,
    #[case] expected: Value,
) {
    let registry = Registry::new();
    let reply = registry.by(robot, "GET", &format!("/token?scope={scope}")).send().await;
    if expected.is_null() {
        assert_eq!(reply.status.as_u16(), 400, "a name that can't be");
        return;
    }
    let token = reply.expect(200).json()["token"].as_str().unwrap().to_owned();
    let claims: Value = registry.keys.verify("landfast-access+jwt", &token).unwrap();
    let access = claims["access"].as_array().unwrap().iter().map(|access| json!([access["name"], access["actions"]]));
    assert_eq!(Value::Array(access.collect()), expected);
}

/// A token that says more than the policy does, as if the policy had been different when it was made.
#[tokio::test]
async fn a_token_with_more_in_it_helps_nobody() {
    let registry = Registry::new();
    let token = registry
        .keys
        .sign(
            "landfast-access+jwt",
            &json!({"aud": "registry-uid", "iat": NOW, "exp": NOW + 60, "jti": "x",
                "identity": Identity::Credential(subject("guest")),
                "access": [{"type": "repository", "name": "team/app", "actions": ["pull", "push", "delete"]},
                    {"type": "repository", "name": "base/app", "actions": ["pull"]}]}),
        )
        .unwrap();
    for (method, target) in [("POST", "/v2/team/app/blobs/uploads/"), ("GET", "/v2/base/app/tags/list")] {
        assert_eq!(registry.request(method, target).bearer(&token).send().await.refusal(), (403, "DENIED".to_owned()));
    }
}

/// Two registries of one cluster, with different keys and with the same: what is made for one is nothing to the other.
#[rstest]
#[case::other_keys(2, "registry-uid")]
#[case::same_keys(1, "another-registry")]
#[tokio::test]
async fn what_another_registry_gives_is_worth_nothing_here(#[case] seed: u8, #[case] audience: &str) {
    let registry = Registry::new();
    let claims = CredentialClaims { aud: audience.to_owned(), subject: subject("dev"), iat: NOW, exp: None };
    let password = claims.sign(&keys(seed)).unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("robot/ns/dev:{password}"));
    registry.request("GET", "/v2/").header("authorization", &format!("Basic {basic}")).send().await.expect(401);
}
