//! What is as it should be is left alone, and what is not is put right.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Cluster, Inventory, eventually, object, test, writes_since};

/// Longer than any of the operator's intervals would have to be for it to write "every now and then".
const WATCHED: Duration = Duration::from_secs(30);

/// Everything, once it has been the same for a while: Kubernetes' own controllers need their time.
pub async fn settled(cluster: &Cluster) -> Inventory {
    let mut last = Inventory::with_installation(cluster).await;
    eventually("all objects have settled", async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = Inventory::with_installation(cluster).await;
        let changes = now.changes_since(&last);
        last = now.clone();
        if changes.is_empty() { Ok(now) } else { Err(changes.join(", ")) }
    })
    .await
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    test(async |cluster: &Cluster| {
        let (namespace, target) = (cluster.namespace("home").await, cluster.namespace("target").await);
        let registry = "{storage: {persistentVolumeClaim: {size: 1Gi}}, pullSecretNamespaces: {from: All}}";
        cluster.create(&namespace, object("Registry main", registry)).await;
        let selected = format!("{{kubernetes.io/metadata.name: {target}}}");
        let namespaces = format!("{{from: Selector, selector: {{matchLabels: {selected}}}}}");
        let project = format!(
            "{{registryRef: {{name: main}}, pullSecrets: {{namespaces: {namespaces}, serviceAccounts: ['*']}}}}"
        );
        cluster.create(&namespace, object("Project team", &project)).await;
        let member = "{projectRef: {name: team}, role: Guest, subjects: [{kind: Robot, name: ci}], rotation: 1h}";
        cluster.create(&namespace, object("Member ci", member)).await;
        cluster.create(&namespace, object("Project lost", "{registryRef: {name: nowhere}}")).await;
        for (kind, name) in [("Registry", "main"), ("Project", "team"), ("Member", "ci")] {
            cluster.condition(kind, &namespace, name, "Ready", "True").await;
        }

        let before = settled(cluster).await;
        let of_this_test = |writes: Vec<String>| -> Vec<String> {
            writes.into_iter().filter(|line| line.contains(&cluster.unique)).collect()
        };
        let log = writes_since(0).map(|(writes, length)| {
            assert!(!of_this_test(writes).is_empty(), "the audit log knows who made all this");
            length
        });
        // What must not happen can't be waited for: this is the time in which it does not.
        tokio::time::sleep(WATCHED).await;
        let changes = Inventory::with_installation(cluster).await.changes_since(&before);
        assert!(changes.is_empty(), "{changes:#?}");
        let Some((writes, _)) = log.and_then(writes_since) else { return };
        // An apply that changes nothing is a write too, and only the audit log knows of it.
        let writes = of_this_test(writes);
        assert!(writes.is_empty(), "{writes:#?}");
    });
}

#[test]
fn what_somebody_changed_or_deleted_is_put_right() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("drift").await;
        cluster.create(&namespace, object("Registry main", "{storage: {emptyDir: {}}}")).await;
        let project = "{registryRef: {name: main}, pullSecrets: {serviceAccounts: [default]}}";
        cluster.project(&namespace, "team", project).await;
        let member = "{projectRef: {name: team}, role: Guest, subjects: [{kind: Robot, name: ci}]}";
        cluster.create(&namespace, object("Member ci", member)).await;
        cluster.condition("Member", &namespace, "ci", "Ready", "True").await;
        cluster.condition("Registry", &namespace, "main", "Ready", "True").await;

        let secret = cluster.get("Secret", &namespace, "ci-ci").await;
        cluster.patch("Secret", &namespace, "ci-ci", json!({"data": {"password": "c3BvaWxlZA=="}})).await;
        eventually("the robot's Secret is as it was", async || {
            let now = cluster.get("Secret", &namespace, "ci-ci").await;
            if now["data"] == secret["data"] { Ok(()) } else { Err("it is not".to_owned()) }
        })
        .await;

        let pull_secret = cluster.get("Secret", &namespace, "team-pull").await;
        cluster.start_deletion("Secret", &namespace, "team-pull").await;
        eventually("the pull secret is there again, the same", async || {
            let now = cluster.find("Secret", &namespace, "team-pull").await.ok_or("it is not there")?;
            if now["data"] == pull_secret["data"] { Ok(()) } else { Err("it is another one".to_owned()) }
        })
        .await;

        cluster.patch("ServiceAccount", &namespace, "default", json!({"imagePullSecrets": null})).await;
        eventually("the ServiceAccount names the pull secret again", async || {
            let account = cluster.get("ServiceAccount", &namespace, "default").await;
            let expected = json!([{"name": "team-pull"}]);
            if account["imagePullSecrets"] == expected { Ok(()) } else { Err(account["imagePullSecrets"].to_string()) }
        })
        .await;

        let service = cluster.get("Service", &namespace, "main").await;
        cluster.patch("Service", &namespace, "main", json!({"spec": {"selector": {"spoiled": "yes"}}})).await;
        cluster.delete("Deployment", &namespace, "main").await;
        eventually("Service and Deployment are as they were", async || {
            cluster.find("Deployment", &namespace, "main").await.ok_or("no Deployment")?;
            let now = cluster.get("Service", &namespace, "main").await;
            let selector = &now["spec"]["selector"];
            if *selector == service["spec"]["selector"] { Ok(()) } else { Err(selector.to_string()) }
        })
        .await;
    });
}
