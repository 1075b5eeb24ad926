//! What the registry's pods are and may do.

use serde_json::json;

use crate::harness::{Cluster, Command, object, test};

/// Whether the ServiceAccount `main` of a namespace may do something; as `kubectl auth can-i` says it.
async fn may(namespace: &str, question: &[&str]) -> bool {
    let account = format!("--as=system:serviceaccount:{namespace}:main");
    let command = Command::new("kubectl").args(["auth", "can-i", &account]).args(question.iter().copied());
    // The exit status says no, too; the word tells it from a failure.
    let said = command.result().await.unwrap_or_else(|error| error);
    assert!(said.contains("yes") || said.contains("no"), "{said}");
    said.contains("yes")
}

#[test]
fn a_registry_runs_where_only_restricted_pods_may() {
    test(async |cluster: &Cluster| {
        let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace = cluster.labelled_namespace("restricted", restricted).await;
        let spec = "{storage: {persistentVolumeClaim: {size: 1Gi}}}";
        cluster.create(&namespace, object("Registry main", spec)).await;
        cluster.condition("Registry", &namespace, "main", "Ready", "True").await;
        let (labels, _) = cluster.registry_pods(&namespace, "main").await;
        for pod in cluster.list("Pod", &namespace, &labels).await {
            let context = &pod["spec"]["containers"][0]["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{context}");
        }
    });
}

#[test]
fn a_registry_pod_reads_its_own_keys_and_no_other_secret() {
    test(async |cluster: &Cluster| {
        let (namespace, other) = (cluster.namespace("home").await, cluster.namespace("other").await);
        let spec = "{replicas: 0, storage: {emptyDir: {}}, projectNamespaces: {from: All}}";
        cluster.create(&namespace, object("Registry main", spec)).await;
        cluster.appears("Deployment", &namespace, "main").await;
        let (here, there) = (["--namespace", &namespace], ["--namespace", &other]);
        assert!(may(&namespace, &[&["get", "secret/main-keys"], &here[..]].concat()).await);
        assert!(may(&namespace, &[&["list", "projects.landfast.dev"], &there[..]].concat()).await);
        for question in [["get", "secret/main-ca"], ["list", "secrets"], ["create", "pods"], ["update", "secrets"]] {
            assert!(!may(&namespace, &[&question, &here[..]].concat()).await, "{question:?}");
        }
        for question in [["get", "secret/main-keys"], ["list", "secrets"], ["patch", "projects.landfast.dev"]] {
            assert!(!may(&namespace, &[&question, &there[..]].concat()).await, "{question:?} elsewhere");
        }
    });
}
