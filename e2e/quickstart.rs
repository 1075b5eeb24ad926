//! The first minutes of a stranger on a cluster: the commands of the README, in their order.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use serde_json::json;

use crate::harness::{Cluster, Command, Image, environment, serial_test};

/// The whole main path: two commands, a push with the generated robot Secret, and a pod whose manifest names a private
/// image and nothing to pull it with. It is the same however the operator was installed.
pub async fn main_path(cluster: &Cluster) {
    let sample = environment::repository().join("config/samples/quickstart.yaml");
    let stranger = cluster.namespace("stranger").await;
    cluster.adopt("default", false);
    cluster.adopt("team-a", true);
    let outcome = AssertUnwindSafe(async {
        Command::new("kubectl").args(["apply", "-f"]).arg(&sample).run().await;
        let wait = ["wait", "--namespace=default", "--for=condition=Ready", "registry/main", "--timeout=2m"];
        Command::new("kubectl").args(wait).run().await;
        let remote = cluster.remote("default", "main").await;
        assert_eq!(remote.host, "main.default.svc");
        cluster.condition("Project", "team-a", "team-a", "Ready", "True").await;
        cluster.condition("Member", "team-a", "ci", "Ready", "True").await;
        let robot = cluster.login("team-a", "ci-credentials", &remote.host).await;
        cluster.in_force(&remote, &robot).await;
        let image = Image::build(cluster.folder.path(), &cluster.unique, 1_000_000);
        remote.push(&image, "team-a/app:v1", Some(&robot)).await.unwrap();

        let reference = format!("{}/team-a/app:v1", remote.host);
        cluster.deploy("team-a", "app", &reference, "default").await;
        cluster.deploy(&stranger, "app", &reference, "default").await;
        cluster.available("team-a", "app").await;
        let why = cluster.image_pull_back_off(&stranger, "app").await;
        let refused = ["401", "authoriz", "denied"].iter().any(|word| why.contains(word));
        assert!(refused && !why.contains("x509"), "the pull fails for want of a credential: {why}");
    })
    .catch_unwind()
    .await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    for (kind, namespace, name) in
        [("Member", "team-a", "ci"), ("Project", "team-a", "team-a"), ("Registry", "default", "main")]
    {
        cluster.delete(kind, namespace, name).await;
    }
    let claim = cluster.get("PersistentVolumeClaim", "default", "main-data").await;
    assert_eq!(claim["metadata"]["deletionTimestamp"], json!(null), "the images are retained");
    cluster.delete("PersistentVolumeClaim", "default", "main-data").await;
}

#[test]
#[ignore = "needs a node that trusts the registry and reaches it"]
fn two_commands_make_a_registry_that_a_pod_pulls_from() {
    // Its names are those of the sample, not of this test alone.
    serial_test(async |cluster: &Cluster| main_path(cluster).await);
}
