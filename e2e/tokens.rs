//! Logins by tokens that others have signed: the cluster's ServiceAccounts, an OpenID Connect issuer that runs in the test,
//! and the API server as an issuer of its own.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{
    Cluster, Command, Image, Login, PROMISED, Remote, environment, eventually, object, test, within, yaml,
};
use crate::issuer::{Issuer, Key};

/// For how long the answer of the API server is kept, and some time for it to hear of what has happened.
const FORGOTTEN: Duration = Duration::from_secs(75);

async fn service_account(cluster: &Cluster, namespace: &str, name: &str) {
    let metadata = json!({"name": name});
    cluster.create(namespace, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).await;
}

/// What `kubectl create token` prints, as a login.
async fn token(namespace: &str, name: &str, audience: Option<&str>, remote: &Remote) -> Login {
    let command = Command::new("kubectl").args(["create", "token", name, "--namespace", namespace]);
    let command = match audience {
        Some(audience) => command.args(["--audience", audience]),
        None => command,
    };
    Login::new("serviceaccount", command.run().await.trim(), &remote.host)
}

async fn status(remote: &Remote, login: &Login) -> (u16, String) {
    let answer = remote.request("GET", "/v2/", Some(login)).await;
    (answer.status, answer.text())
}

async fn comes_to(what: &str, limit: Duration, remote: &Remote, login: &Login, path: &str, expected: u16) {
    within(limit, what, async || {
        let answer = remote.try_request("GET", path, Some(login)).await?;
        if answer.status == expected { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
    })
    .await;
}

fn member(name: &str, namespace: &str) -> Value {
    let spec = format!(
        "{{projectRef: {{name: team}}, role: Developer, subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]}}"
    );
    object("Member accounts", &spec)
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn service_accounts_log_in_with_tokens_for_the_registry() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("accounts").await;
        let labels = json!({"e2e-tenant": cluster.unique});
        let team = cluster.labelled_namespace("team", labels).await;
        let spec = format!(
            "{{storage: {{emptyDir: {{}}}}, authentication: {{serviceAccounts: {{namespaces: {{from: Selector, selector: {{matchLabels: {{e2e-tenant: '{}'}}}}}}}}}}}}",
            cluster.unique
        );
        let remote = cluster.registry(&namespace, "main", &spec).await;
        let audience = format!("main.{namespace}.svc");
        cluster.project(&namespace, "team", "{registryRef: {name: main}}").await;
        cluster.create(&namespace, member("ci", &team)).await;
        cluster.condition("Member", &namespace, "accounts", "Ready", "True").await;
        service_account(cluster, &team, "ci").await;
        service_account(cluster, &namespace, "ci").await;

        let ci = token(&team, "ci", Some(&audience), &remote).await;
        comes_to("ci logs in", PROMISED, &remote, &ci, "/v2/", 200).await;
        let image = Image::build(cluster.folder.path(), &cluster.unique, 10_000);
        remote.push(&image, "team/app:v1", Some(&ci)).await.expect("a Developer pushes");
        assert_eq!(remote.pull("team/app:v1", Some(&ci)).await.expect("and pulls").0, image.digest);

        for (what, login, says) in [
            ("for the API server", token(&team, "ci", None, &remote).await, "audience"),
            ("for another registry", token(&team, "ci", Some("other.example.com"), &remote).await, "audience"),
            ("of another namespace", token(&namespace, "ci", Some(&audience), &remote).await, "can't log in here"),
        ] {
            let (status, text) = status(&remote, &login).await;
            assert!(status == 401 && text.contains(says), "{what}: {status} {text}");
        }

        // Its namespace is not selected any more, and again.
        let label = async |value: Value| {
            cluster.patch("Namespace", "", &team, json!({"metadata": {"labels": {"e2e-tenant": value}}})).await
        };
        label(Value::Null).await;
        comes_to("ci is refused", PROMISED, &remote, &ci, "/v2/", 401).await;
        label(json!(cluster.unique)).await;
        comes_to("ci logs in again", PROMISED, &remote, &ci, "/v2/", 200).await;

        let unseen = token(&team, "ci", Some(&audience), &remote).await;
        cluster.delete("ServiceAccount", &team, "ci").await;
        comes_to("a token of nobody is refused", PROMISED, &remote, &unseen, "/v2/", 401).await;
        comes_to("so is one that was seen before", FORGOTTEN, &remote, &ci, "/v2/", 401).await;
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_pod_logs_in_with_its_own_token() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("accounts").await;
        let spec = "{storage: {emptyDir: {}}, authentication: {serviceAccounts: {}}}";
        let remote = cluster.registry(&namespace, "main", spec).await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}, visibility: Public}").await;
        let robot = cluster.robot(&namespace, "robots", "team", "Developer", &remote).await;
        let image = Image::build(cluster.folder.path(), &cluster.unique, 10_000);
        remote.push(&image, "team/app:v1", Some(&robot)).await.expect("a robot pushes");
        cluster.create(&namespace, member("default", &namespace)).await;
        let token = json!({"path": "token", "audience": format!("main.{namespace}.svc"), "expirationSeconds": 600});
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "build"},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "app",
                    "image": format!("{}/team/app:v1", remote.host),
                    "volumeMounts": [{"name": "registry", "mountPath": "/registry"}],
                }],
                "volumes": [{"name": "registry", "projected": {"sources": [{"serviceAccountToken": token}]}}],
            },
        });
        cluster.create(&namespace, pod).await;
        let token = eventually("the pod has its token", async || {
            let arguments =
                ["exec", "--namespace", &namespace, "build", "--", "/bin/busybox", "cat", "/registry/token"];
            Command::new("kubectl").args(arguments).result().await
        })
        .await;
        let login = Login::new("pod", token.trim(), &remote.host);
        remote.push(&image, "team/app:v2", Some(&login)).await.expect("the pod's account is a Developer");
        cluster.delete("Pod", &namespace, "build").await;
        comes_to("its token ends with the pod", FORGOTTEN, &remote, &login, "/v2/", 401).await;
    });
}

#[test]
fn rights_in_the_cluster_go_with_the_login_and_with_the_registry() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("accounts").await;
        let spec = "{storage: {emptyDir: {}}, authentication: {serviceAccounts: {}}}";
        cluster.create(&namespace, object("Registry main", spec)).await;
        let reviews = format!("landfast-registry-tokenreview:{namespace}:main");
        let namespaces = format!("landfast-registry-namespaces:{namespace}:main");
        cluster.appears("ClusterRoleBinding", "", &reviews).await;
        assert!(cluster.find("ClusterRoleBinding", "", &namespaces).await.is_none());
        let selector = json!({"from": "Selector", "selector": {"matchLabels": {"e2e": "x"}}});
        let accounts = json!({"spec": {"authentication": {"serviceAccounts": {"namespaces": selector}}}});
        cluster.patch("Registry", &namespace, "main", accounts).await;
        cluster.appears("ClusterRoleBinding", "", &namespaces).await;
        let none = json!({"spec": {"authentication": {"serviceAccounts": null}}});
        cluster.patch("Registry", &namespace, "main", none).await;
        for name in [&reviews, &namespaces] {
            cluster.gone("ClusterRoleBinding", "", name).await;
        }
        let accounts = json!({"spec": {"authentication": {"serviceAccounts": {}}}});
        cluster.patch("Registry", &namespace, "main", accounts).await;
        cluster.appears("ClusterRoleBinding", "", &reviews).await;
        cluster.delete("Registry", &namespace, "main").await;
        assert!(cluster.find("ClusterRoleBinding", "", &reviews).await.is_none(), "it goes before the Registry does");
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn people_log_in_with_id_tokens_while_the_issuer_rotates_its_keys() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("oidc").await;
        let mut keys = vec![Key::new("first", Algorithm::RS256)];
        let issuer = Issuer::start(&environment::machine_address().to_string(), &[&keys[0]]).await;
        let definition = json!({
            "name": "corp",
            "issuerURL": issuer.url,
            "certificateAuthority": issuer.authority,
            "audiences": ["registry"],
            "usernameClaim": "email",
            "groupsClaim": "groups",
            "conditions": [{"claim": "hd", "values": ["*.example.com"]}],
        });
        let spec = json!({"storage": {"emptyDir": {}}, "authentication": {"oidc": [definition]}});
        let remote = cluster.registry(&namespace, "main", &spec.to_string()).await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}}").await;
        let people =
            "{projectRef: {name: team}, role: Developer, subjects: [{kind: Group, name: 'oidc:corp:developers'}]}";
        cluster.create(&namespace, object("Member people", people)).await;
        cluster.condition("Member", &namespace, "people", "Ready", "True").await;

        let login = |key: &Key, change: Value| {
            let now = Timestamp::now().as_second();
            let mut claims = json!({
                "iss": issuer.url, "sub": "1", "aud": "registry", "iat": now, "exp": now + 600,
                "email": "alice@example.com", "email_verified": true, "groups": ["developers"], "hd": "eu.example.com",
            });
            claims
                .as_object_mut()
                .expect("claims are an object")
                .extend(change.as_object().cloned().unwrap_or_default());
            Login::new("alice", &key.sign(&claims), &remote.host)
        };
        let alice = login(&keys[0], json!({}));
        let image = Image::build(cluster.folder.path(), &cluster.unique, 10_000);
        comes_to("alice may look", PROMISED, &remote, &alice, "/v2/team/app/manifests/v1", 404).await;
        remote.push(&image, "team/app:v1", Some(&alice)).await.expect("a Developer pushes");
        assert_eq!(remote.pull("team/app:v1", Some(&alice)).await.expect("and pulls").0, image.digest);
        let nobody =
            remote.request("GET", "/v2/team/app/manifests/v1", Some(&login(&keys[0], json!({"groups": []})))).await;
        assert_eq!(nobody.status, 403, "{}", nobody.text());
        for change in
            [json!({"aud": "api"}), json!({"hd": "evil.com"}), json!({"email_verified": false}), json!({"exp": 5})]
        {
            let (status, text) = status(&remote, &login(&keys[0], change.clone())).await;
            assert_eq!(status, 401, "{change}: {text}");
        }

        for round in 0..3 {
            keys.push(Key::new(&format!("key-{round}"), Algorithm::ES256));
            issuer.publish(&keys.iter().collect::<Vec<_>>());
            let logins: Vec<_> = (0..8).map(|number| login(&keys[number % keys.len()], json!({}))).collect();
            let answers = logins.iter().map(|login| remote.request("GET", "/v2/team/app/tags/list", Some(login)));
            for answer in futures::future::join_all(answers).await {
                assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
            }
        }

        // It is away: who is known goes on, and who can't be told is not called wrong.
        issuer.stop();
        let (known, _) = status(&remote, &login(&keys[1], json!({}))).await;
        let (unknown, text) = status(&remote, &login(&Key::new("x", Algorithm::ES256), json!({}))).await;
        assert_eq!((known, unknown), (200, 503), "{text}");

        // Its definition changes, and all that it has vouched for ends.
        let definition = json!({"spec": {"authentication": {"oidc": []}}});
        cluster.patch("Registry", &namespace, "main", definition).await;
        comes_to("alice is refused", PROMISED, &remote, &alice, "/v2/", 401).await;
    });
}

/// The API server is an issuer for its ServiceAccounts: this is how another cluster's workloads log in.
#[test]
#[ignore = "needs a node to reach the registry from"]
fn workloads_of_a_cluster_log_in_with_its_api_server_as_the_issuer() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("oidc").await;
        // Clusters that vouch for others let anybody read their keys.
        let binding = format!("e2e-{}-discovery", cluster.unique);
        let public = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {
                "name": binding,
                // It goes with the test's namespace.
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "name": namespace,
                    "uid": cluster.get("Namespace", "", &namespace).await["metadata"]["uid"],
                }],
            },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:service-account-issuer-discovery",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
        });
        cluster.create("", public).await;
        let configuration = Command::new("kubectl").args(["get", "--raw", "/.well-known/openid-configuration"]);
        let configuration = yaml(&configuration.run().await);
        let authority = cluster.get("ConfigMap", &namespace, "kube-root-ca.crt").await;
        let definition = json!({
            "name": "cluster",
            "issuerURL": configuration["issuer"],
            "discoveryURL": "https://kubernetes.default.svc/.well-known/openid-configuration",
            "certificateAuthority": authority["data"]["ca.crt"],
            "audiences": ["registry"],
            "conditions": [{"claim": "sub", "values": [format!("system:serviceaccount:{namespace}:*")]}],
        });
        let spec = json!({"storage": {"emptyDir": {}}, "authentication": {"oidc": [definition]}});
        let remote = cluster.registry(&namespace, "main", &spec.to_string()).await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}}").await;
        let workload = format!(
            "{{projectRef: {{name: team}}, role: Developer, subjects: [{{kind: User, name: 'oidc:cluster:system:serviceaccount:{namespace}:default'}}]}}"
        );
        cluster.create(&namespace, object("Member workloads", &workload)).await;
        cluster.condition("Member", &namespace, "workloads", "Ready", "True").await;
        let login = token(&namespace, "default", Some("registry"), &remote).await;
        comes_to("the workload may look", PROMISED, &remote, &login, "/v2/team/app/manifests/v1", 404).await;
        let image = Image::build(cluster.folder.path(), &cluster.unique, 10_000);
        remote.push(&image, "team/app:v1", Some(&login)).await.expect("a Developer pushes");
        let foreign = token("kube-system", "default", Some("registry"), &remote).await;
        let (status, text) = status(&remote, &foreign).await;
        assert!(status == 401 && text.contains("\\\"sub\\\""), "{status} {text}");
    });
}
