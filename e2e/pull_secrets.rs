//! Pull secrets: which namespaces get them, which ServiceAccounts name them, and what is not ours to touch.

use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, object, test};

/// A Registry without pods, whose pull secrets may go where a label with this value is.
fn registry(cluster: &Cluster) -> Value {
    let namespaces = format!("{{from: Selector, selector: {{matchLabels: {{e2e.test/images: i{}}}}}}}", cluster.unique);
    object(
        "Registry main",
        &format!("{{replicas: 0, storage: {{emptyDir: {{}}}}, pullSecretNamespaces: {namespaces}}}"),
    )
}

fn label(cluster: &Cluster) -> Value {
    json!({"e2e.test/images": format!("i{}", cluster.unique)})
}

const EVERYWHERE: &str =
    "{registryRef: {name: main}, pullSecrets: {namespaces: {from: All}, serviceAccounts: [builder], role: Guest}}";

async fn image_pull_secrets_become(cluster: &Cluster, namespace: &str, account: &str, expected: Value) {
    eventually(&format!("ServiceAccount {namespace}/{account} names {expected}"), async || {
        let account = cluster.get("ServiceAccount", namespace, account).await;
        let now = account["imagePullSecrets"].as_array().cloned().unwrap_or_default();
        if json!(now) == expected { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

async fn service_account(cluster: &Cluster, namespace: &str, name: &str, secrets: Value) {
    let metadata = json!({"name": name});
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "imagePullSecrets": secrets});
    cluster.create(namespace, account).await;
}

#[test]
fn a_pull_secret_is_where_both_registry_and_project_want_it() {
    test(async |cluster: &Cluster| {
        let home = cluster.labelled_namespace("home", label(cluster)).await;
        let entitled = cluster.labelled_namespace("entitled", label(cluster)).await;
        let stranger = cluster.namespace("stranger").await;
        cluster.create(&home, registry(cluster)).await;
        cluster.project(&home, "team", EVERYWHERE).await;
        cluster.project(&home, "modest", "{registryRef: {name: main}}").await;

        let secret = cluster.appears("Secret", &entitled, "team-pull").await;
        assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
        cluster.appears("Secret", &home, "team-pull").await;
        cluster.appears("Secret", &home, "modest-pull").await;
        for (namespace, name) in [(&stranger, "team-pull"), (&stranger, "modest-pull"), (&entitled, "modest-pull")] {
            assert!(cluster.find("Secret", namespace, name).await.is_none(), "{name} is in {namespace}");
        }
        let status = cluster.get("Project", &home, "team").await["status"].clone();
        assert_eq!(status["address"], format!("main.{home}.svc/team"));
        assert_eq!(status["pullSecretName"], "team-pull");
        assert_eq!(status["pullSecrets"], 2);
    });
}

#[test]
fn a_namespace_is_entitled_by_a_label_that_comes_and_goes() {
    test(async |cluster: &Cluster| {
        let home = cluster.labelled_namespace("home", label(cluster)).await;
        let late = cluster.namespace("late").await;
        let own = json!([{"name": "of-somebody-else"}]);
        service_account(cluster, &late, "builder", own.clone()).await;
        cluster.create(&home, registry(cluster)).await;
        cluster.project(&home, "team", EVERYWHERE).await;
        assert!(cluster.find("Secret", &late, "team-pull").await.is_none());

        cluster.patch("Namespace", "", &late, json!({"metadata": {"labels": label(cluster)}})).await;
        cluster.appears("Secret", &late, "team-pull").await;
        let both = json!([{"name": "of-somebody-else"}, {"name": "team-pull"}]);
        image_pull_secrets_become(cluster, &late, "builder", both).await;

        cluster.patch("Namespace", "", &late, json!({"metadata": {"labels": {"e2e.test/images": null}}})).await;
        cluster.gone("Secret", &late, "team-pull").await;
        image_pull_secrets_become(cluster, &late, "builder", own).await;
    });
}

#[test]
fn a_service_account_made_later_gets_the_pull_secret() {
    test(async |cluster: &Cluster| {
        let home = cluster.labelled_namespace("home", label(cluster)).await;
        cluster.create(&home, registry(cluster)).await;
        cluster.project(&home, "team", EVERYWHERE).await;
        service_account(cluster, &home, "builder", json!([])).await;
        service_account(cluster, &home, "other", json!([])).await;
        image_pull_secrets_become(cluster, &home, "builder", json!([{"name": "team-pull"}])).await;
        image_pull_secrets_become(cluster, &home, "other", json!([])).await;

        let all = json!({"spec": {"pullSecrets": {"serviceAccounts": ["*"]}}});
        cluster.patch("Project", &home, "team", all).await;
        image_pull_secrets_become(cluster, &home, "other", json!([{"name": "team-pull"}])).await;
        let none = json!({"spec": {"pullSecrets": {"serviceAccounts": []}}});
        cluster.patch("Project", &home, "team", none).await;
        image_pull_secrets_become(cluster, &home, "builder", json!([])).await;
        image_pull_secrets_become(cluster, &home, "other", json!([])).await;
    });
}

#[test]
fn a_renamed_pull_secret_leaves_no_old_one() {
    test(async |cluster: &Cluster| {
        let home = cluster.labelled_namespace("home", label(cluster)).await;
        service_account(cluster, &home, "builder", json!([])).await;
        cluster.create(&home, registry(cluster)).await;
        cluster.project(&home, "team", EVERYWHERE).await;
        image_pull_secrets_become(cluster, &home, "builder", json!([{"name": "team-pull"}])).await;
        cluster.patch("Project", &home, "team", json!({"spec": {"pullSecrets": {"secretName": "renamed"}}})).await;
        cluster.appears("Secret", &home, "renamed").await;
        cluster.gone("Secret", &home, "team-pull").await;
        image_pull_secrets_become(cluster, &home, "builder", json!([{"name": "renamed"}])).await;
    });
}

/// A Secret that somebody else made.
async fn foreign_secret(cluster: &Cluster, namespace: &str, name: &str) -> Value {
    let data = json!({"note": "this is mine"});
    cluster
        .create(
            namespace,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}),
        )
        .await
}

#[test]
fn a_secret_of_somebody_else_is_left_alone_and_reported() {
    test(async |cluster: &Cluster| {
        let home = cluster.labelled_namespace("home", label(cluster)).await;
        let entitled = cluster.labelled_namespace("entitled", label(cluster)).await;
        let pull = foreign_secret(cluster, &entitled, "team-pull").await;
        let robot = foreign_secret(cluster, &home, "ci-robot").await;
        cluster.create(&home, registry(cluster)).await;
        cluster.create(&home, object("Project team", EVERYWHERE)).await;
        let member = "{projectRef: {name: team}, role: Guest, subjects: [{kind: Robot, name: robot}]}";
        cluster.create(&home, object("Member ci", member)).await;

        for (kind, name, secret) in [("Project", "team", "team-pull"), ("Member", "ci", "ci-robot")] {
            let condition = cluster.reason(kind, &home, name, "Ready", "SecretConflict").await;
            assert_eq!(condition["status"], "False");
            let message = condition["message"].as_str().unwrap_or_default();
            assert!(message.contains(secret), "the message names the Secret: {message}");
        }
        // The other namespaces get theirs all the same.
        cluster.appears("Secret", &home, "team-pull").await;
        assert_eq!(cluster.get("Secret", &entitled, "team-pull").await, pull);
        assert_eq!(cluster.get("Secret", &home, "ci-robot").await, robot);

        cluster.start_deletion("Secret", &entitled, "team-pull").await;
        cluster.start_deletion("Secret", &home, "ci-robot").await;
        cluster.condition("Project", &home, "team", "Ready", "True").await;
        cluster.condition("Member", &home, "ci", "Ready", "True").await;
        let ours = cluster.get("Secret", &entitled, "team-pull").await;
        assert_eq!(ours["type"], "kubernetes.io/dockerconfigjson");
    });
}
