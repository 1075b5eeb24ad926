//! What is shown when a test fails: our objects with their status, pods with logs, events. Never a Secret's data.

use super::{Command, operator};

/// Prints the state of these namespaces and the operator's log.
pub async fn print(namespaces: &[String]) {
    for namespace in namespaces {
        println!("\n======== state of namespace {namespace}");
        let ours = "registries,projects,repositorypolicies,members";
        section("objects", namespace, &["get", ours, "--output=yaml"]).await;
        let others = "deployments,pods,services,persistentvolumeclaims,serviceaccounts,secrets,roles,rolebindings";
        section("the rest", namespace, &["get", others, "--output=wide"]).await;
        section("pods", namespace, &["describe", "pods"]).await;
        section("events", namespace, &["get", "events", "--sort-by=.metadata.creationTimestamp"]).await;
        logs(namespace).await;
    }
    println!("\n======== operator");
    section("pods", operator::NAMESPACE, &["get", "pods", "--output=wide"]).await;
    section("events", operator::NAMESPACE, &["get", "events", "--sort-by=.metadata.creationTimestamp"]).await;
    logs(operator::NAMESPACE).await;
}

async fn logs(namespace: &str) {
    let pods = kubectl(namespace, &["get", "pods", "--output=name"]).await;
    for pod in pods.lines().filter(|line| line.starts_with("pod/")) {
        section(&format!("log of {pod}"), namespace, &["logs", pod, "--all-containers", "--tail=150"]).await;
        let previous = kubectl(namespace, &["logs", pod, "--all-containers", "--tail=50", "--previous"]).await;
        // Most pods have no earlier container, and kubectl calls that an error.
        if !previous.contains("not found") && !previous.is_empty() {
            println!("---- log of {pod} before its restart\n{previous}");
        }
    }
}

async fn section(title: &str, namespace: &str, arguments: &[&str]) {
    println!("---- {title}\n{}", kubectl(namespace, arguments).await);
}

async fn kubectl(namespace: &str, arguments: &[&str]) -> String {
    let command = Command::new("kubectl").arg("--namespace").arg(namespace).args(arguments.iter().copied());
    command.result().await.unwrap_or_else(|error| error)
}
