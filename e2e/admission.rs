//! The admission webhook: that it is asked, by whom it is answered, and what happens while nobody does.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::harness::operator::{self, NAMESPACE};
use crate::harness::{Cluster, Command, eventually, object, serial_test, test};

const SERVICE: &str = "landfast-operator-webhook";
const SECRET: &str = "landfast-webhook";

fn project(name: &str) -> Value {
    object(&format!("Project {name}"), "{registryRef: {name: nowhere}}")
}

async fn configuration(cluster: &Cluster) -> Value {
    cluster.get("ValidatingWebhookConfiguration", "", "landfast").await
}

/// In base64, as it stands there.
async fn bundle(cluster: &Cluster) -> String {
    configuration(cluster).await["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()
}

/// Writes the authorities that the API server trusts into a file, and gives its path.
async fn trusted(cluster: &Cluster) -> String {
    let decoded = Command::new("base64").arg("--decode").input(bundle(cluster).await).run().await;
    let file = cluster.folder.path().join("webhook-ca.crt");
    std::fs::write(&file, decoded).expect("the folder can be written");
    file.to_str().expect("a path in UTF-8").to_owned()
}

/// That the API server asks, and gets an answer, without another try.
async fn asked_at_once(cluster: &Cluster, namespace: &str) {
    let made = cluster.try_create(namespace, project("asked"), true).await;
    assert!(made.is_ok(), "{made:?}");
}

#[test]
#[ignore = "needs a node to reach the Service from"]
fn the_api_server_trusts_what_the_service_serves() {
    test(async |cluster: &Cluster| {
        let (address, trusted) = (cluster.service_address(NAMESPACE, SERVICE).await, trusted(cluster).await);
        let name = format!("{SERVICE}.{NAMESPACE}.svc");
        let connect = ["s_client", "-connect", &address.to_string(), "-CAfile", &trusted].map(str::to_owned);
        let verify = ["-servername", &name, "-verify_hostname", &name, "-verify_return_error", "-brief"];
        Command::new("openssl").args(connect).args(verify).run().await;
    });
}

#[test]
fn what_somebody_did_to_the_certificate_is_put_right() {
    serial_test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("home").await;
        let before = bundle(cluster).await;
        let emptied = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]).to_string();
        let patch = ["patch", "validatingwebhookconfigurations", "landfast", "--type=json", "--patch", &emptied];
        Command::new("kubectl").args(patch).run().await;
        eventually("the API server trusts the same authority again", async || {
            let now = bundle(cluster).await;
            if now == before { Ok(()) } else { Err(format!("{} bytes", now.len())) }
        })
        .await;
        operator::answers().await;

        cluster.start_deletion("Secret", NAMESPACE, SECRET).await;
        eventually("the API server trusts a new authority", async || {
            let now = bundle(cluster).await;
            if now != before && !now.is_empty() { Ok(()) } else { Err("the old one".to_owned()) }
        })
        .await;
        operator::answers().await;
        asked_at_once(cluster, &namespace).await;
    });
}

#[test]
#[ignore = "needs a node to reach a pod from"]
fn a_replica_that_stands_by_answers_and_takes_over() {
    serial_test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("home").await;
        operator::scale(2).await;
        let outcome = AssertUnwindSafe(stands_by(cluster, &namespace)).catch_unwind().await;
        operator::scale(1).await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn stands_by(cluster: &Cluster, namespace: &str) {
    let leader = operator::lease_holder().await;
    let pods = operator::pods(cluster).await;
    for pod in &pods {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name);
        let metrics = Command::new("kubectl").args(["get", "--raw", &path]).run().await;
        let memory = metrics.lines().find(|line| line.starts_with("process_resident_memory_bytes"));
        println!("{} (the leader is {leader}): {memory:?}", pod.name);
    }
    let standby = pods.iter().find(|pod| pod.name != leader).expect("a replica that is not the leader");
    let address = cluster.get("Pod", NAMESPACE, &standby.name).await["status"]["podIP"].as_str().unwrap().to_owned();
    let name = format!("{SERVICE}.{NAMESPACE}.svc");
    let path = configuration(cluster).await["webhooks"][0]["clientConfig"]["service"]["path"].clone();
    let path = path.as_str().expect("the operator has told where to ask").to_owned();
    let (resolve, url) = (format!("{name}:9443:{address}"), format!("https://{name}:9443{path}"));
    let review = review(namespace).to_string();
    let curl = ["--silent", "--show-error", "--fail", "--cacert", &trusted(cluster).await, "--resolve", &resolve, &url]
        .map(str::to_owned);
    let answer = Command::new("curl").args(curl).args(["--data-binary", "@-"]).input(review).run().await;
    assert!(answer.contains(r#""uid":"e2e""#), "{answer}");

    Command::new("kubectl").args(["delete", "pod", "--wait=false", "--namespace", NAMESPACE, &leader]).run().await;
    for _ in 0..20 {
        asked_at_once(cluster, namespace).await;
    }
    // It lingers, so that nobody is turned away, but works no more.
    eventually("another replica holds the Lease", async || {
        let now = operator::lease_holder().await;
        if now != leader && !now.is_empty() { Ok(()) } else { Err(now) }
    })
    .await;
    asked_at_once(cluster, namespace).await;
    cluster.create(namespace, project("later")).await;
    cluster.condition("Project", namespace, "later", "Ready", "False").await;
}

/// What an API server would send.
fn review(namespace: &str) -> Value {
    let mut object = project("asked");
    object["metadata"]["namespace"] = json!(namespace);
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "e2e",
            "kind": {"group": "landfast.dev", "version": "v1alpha1", "kind": "Project"},
            "resource": {"group": "landfast.dev", "version": "v1alpha1", "resource": "projects"},
            "name": "asked", "namespace": namespace, "operation": "CREATE",
            "userInfo": {"username": "admin", "groups": ["system:masters"]},
            "object": object, "oldObject": null,
        },
    })
}

#[test]
fn without_an_operator_changes_are_refused_and_deletions_wait_for_it() {
    serial_test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("home").await;
        cluster.create(&namespace, object("Registry main", "{storage: {emptyDir: {}}}")).await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}}").await;
        operator::scale(0).await;
        let outcome = AssertUnwindSafe(nobody_answers(cluster, &namespace)).catch_unwind().await;
        operator::scale(1).await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        cluster.gone("Namespace", "", &namespace).await;
    });
}

async fn nobody_answers(cluster: &Cluster, namespace: &str) {
    eventually("no operator is there", async || {
        let pods = cluster.list("Pod", NAMESPACE, "app.kubernetes.io/name=landfast").await;
        if pods.is_empty() { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    })
    .await;
    let refused = cluster.try_create(namespace, project("late"), false).await.expect_err("nobody can judge it");
    assert!(refused.contains("failed calling webhook") && refused.contains(SERVICE), "{refused}");

    // Kubernetes itself needs no leave.
    cluster.start_deletion("Namespace", "", namespace).await;
    eventually("what needs no operator to go is gone, the rest waits", async || {
        let project = cluster.find("Project", namespace, "team").await;
        match project {
            Some(project) if project["metadata"]["deletionTimestamp"].is_null() => {
                Err("it is not asked to go".to_owned())
            }
            _ => Ok(()),
        }
    })
    .await;
}
