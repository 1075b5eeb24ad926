//! ID tokens of an issuer that runs in the test; and what needs a cluster.

use jsonwebtoken::Algorithm;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::promised;
use crate::harness::{Command, Image, Login, Server, environment, local_test};
use crate::issuer::{Issuer, Key};

const REGISTRY: &str = "
apiVersion: landfast.dev/v1alpha1
kind: Registry
metadata: {name: local, namespace: default}
";
const MEMBER: &str = "
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: people, namespace: default}
spec: {projectRef: {name: demo}, role: Developer, subjects: [{kind: User, name: 'oidc:corp:alice'}]}
";

/// The sample's Registry, with one way more to log in.
fn registry(authentication: &serde_json::Value) -> String {
    let spec = json!({"storage": {"emptyDir": {}}, "tls": {"disabled": {}}, "authentication": authentication});
    format!("{REGISTRY}spec: {spec}\n")
}

#[test]
fn an_id_token_logs_in_and_its_issuer_rotates_its_keys() {
    local_test(async || {
        let first = Key::new("first", Algorithm::ES256);
        let issuer = Issuer::start("127.0.0.1", &[&first]).await;
        let server = Server::start().await;
        let definition = json!({
            "name": "corp",
            "issuerURL": issuer.url,
            "certificateAuthority": issuer.authority,
            "audiences": ["registry"],
        });
        std::fs::write(server.manifests.join("people.yaml"), MEMBER).expect("the folder can be written");
        let path = server.manifests.join("registry.yaml");
        std::fs::write(&path, registry(&json!({"oidc": [definition]}))).expect("the folder can be written");
        let remote = server.remote();
        let login = |key: &Key| {
            let now = Timestamp::now().as_second();
            let claims = json!({"iss": issuer.url, "sub": "alice", "aud": "registry", "iat": now, "exp": now + 600});
            Login::new("oidc", &key.sign(&claims), &remote.host)
        };
        promised("alice may look", &remote, "/v2/demo/app/manifests/v1", Some(&login(&first)), 404).await;
        let image = Image::build(&remote.folder, "id-token", 10_000);
        remote.push(&image, "demo/app:v1", Some(&login(&first))).await.expect("a Developer pushes");
        let second = Key::new("second", Algorithm::RS256);
        issuer.publish(&[&first, &second]);
        for key in [&second, &first] {
            assert_eq!(remote.pull("demo/app:v1", Some(&login(key))).await.expect("and pulls").0, image.digest);
        }
        std::fs::write(&path, registry(&json!({}))).expect("the folder can be written");
        promised("the issuer is not trusted any more", &remote, "/v2/", Some(&login(&first)), 401).await;
    });
}

#[test]
fn service_accounts_need_a_cluster() {
    local_test(async || {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let content = registry(&json!({"serviceAccounts": {}}));
        std::fs::write(folder.path().join("registry.yaml"), content).expect("the folder can be written");
        let command = Command::new(environment::landfast()).args(["serve", "--listen", "127.0.0.1:0"]);
        let command = command.args(["--health-listen", "127.0.0.1:0", "--manifests"]).arg(folder.path());
        let ended = command.arg("--data").arg(folder.path().join("data")).output().await;
        assert!(!ended.success, "it serves");
        let says = "there is no cluster to ask about their tokens: take spec.authentication.serviceAccounts out";
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    });
}
