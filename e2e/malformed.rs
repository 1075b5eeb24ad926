//! An object that no schema would let through: written while the CRD was another one, say by an older version.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::harness::{Cluster, Login, PROMISED, Remote, eventually, operator, serial_test, within};

const CRD: &str = "members.landfast.dev";

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_malformed_object_stops_no_other() {
    serial_test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("odd").await;
        let remote = cluster.registry(&namespace, "main", "{storage: {emptyDir: {}}}").await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}}").await;
        let early = cluster.robot(&namespace, "early", "team", "Guest", &remote).await;
        let crd = cluster.get("CustomResourceDefinition", "", CRD).await;

        let outcome = AssertUnwindSafe(lives_on(cluster, &namespace, &remote, &early)).catch_unwind().await;
        // Also after a failure: all other tests need the real schema.
        set_schema(cluster, crd["spec"]["versions"][0]["schema"].clone()).await;
        cluster.start_deletion("Member", &namespace, "odd").await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn lives_on(cluster: &Cluster, namespace: &str, remote: &Remote, early: &Login) {
    let operator_before = operator::pods(cluster).await;
    let (_, registry_before) = cluster.registry_pods(namespace, "main").await;
    let anything = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    set_schema(cluster, anything).await;
    let odd = json!({
        "apiVersion": "landfast.dev/v1alpha1",
        "kind": "Member",
        "metadata": {"name": "odd"},
        "spec": {"projectRef": {"name": "team"}, "role": 5, "subjects": "nobody"},
    });
    eventually("the API server takes the malformed Member", async || cluster.create_unjudged(namespace, &odd).await)
        .await;

    let refused = cluster.try_create(namespace, renamed(&odd), false).await.expect_err("the webhook reads it");
    assert!(refused.contains("can't be read: spec.role"), "{refused}");

    // New ones work, in the operator and in the registry; old ones still do; and a deletion is heard.
    let late = cluster.robot(namespace, "late", "team", "Guest", remote).await;
    assert_eq!(remote.request("GET", "/v2/", Some(early)).await.status, 200);
    cluster.start_deletion("Member", namespace, "late").await;
    within(PROMISED, "a deleted Member is refused", async || {
        let status = remote.request("GET", "/v2/", Some(&late)).await.status;
        if status == 401 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    cluster.gone("Secret", namespace, "late-ci").await;
    // Those that start with the odd one there must do as well.
    operator::kill(cluster).await;
    cluster.kill_registry(namespace, "main", remote).await;
    let latest = cluster.robot(namespace, "latest", "team", "Guest", remote).await;
    assert_eq!(remote.request("GET", "/v2/", Some(&latest)).await.status, 200);
    assert_eq!(remote.request("GET", "/v2/", Some(early)).await.status, 200);

    let restarts = |pods: &[crate::harness::Pod]| pods.iter().map(|pod| pod.restarts).sum::<i64>();
    assert_eq!(restarts(&operator::pods(cluster).await), restarts(&operator_before), "the operator never crashed");
    let (_, registry_now) = cluster.registry_pods(namespace, "main").await;
    assert_eq!(restarts(&registry_now), restarts(&registry_before), "the registry never crashed");
}

fn renamed(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["name"] = json!("odder");
    object
}

async fn set_schema(cluster: &Cluster, schema: Value) {
    // A merge patch would leave in place what the new schema does not have.
    let mut crd = cluster.get("CustomResourceDefinition", "", CRD).await;
    crd["spec"]["versions"][0]["schema"] = schema;
    let crd = serde_json::from_value(crd).expect("a CRD is an object");
    let api = cluster.api("CustomResourceDefinition", "");
    api.replace(CRD, &PostParams::default(), &crd).await.unwrap_or_else(|error| panic!("{CRD}: {error}"));
}
