//! Kills: of a registry's pod in the middle of a push, of the operator.

use crate::harness::{Cluster, Gate, Image, object, operator, serial_test, test};
use crate::steady_state;

const ON_A_VOLUME: &str = "{storage: {persistentVolumeClaim: {size: 1Gi}}}";
const PROJECT: &str = "{registryRef: {name: main}, pullSecrets: {serviceAccounts: [default]}}";

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_pod_killed_during_a_push_loses_nothing_that_it_acknowledged() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("push").await;
        let remote = cluster.registry(&namespace, "main", ON_A_VOLUME).await;
        cluster.project(&namespace, "team", PROJECT).await;
        let robot = cluster.robot(&namespace, "developer", "team", "Developer", &remote).await;
        let early = Image::build(cluster.folder.path(), &format!("{}-early", cluster.unique), 3_000_000);
        remote.push(&early, "team/app:early", Some(&robot)).await.unwrap();
        let blob = remote.upload_blob("team/app", cluster.unique.as_bytes(), &robot).await;

        let large = Image::build(cluster.folder.path(), &format!("{}-large", cluster.unique), 64_000_000);
        let gate = Gate::proxy(cluster.service_address(&namespace, "main").await, 24_000_000).await;
        let push = remote.push_through(&gate, &large, "team/app:large", &robot);
        let interrupted = gate.interrupt(push, cluster.kill_registry(&namespace, "main", &remote)).await;
        println!("the interrupted push: {interrupted:?}");

        assert_eq!(remote.pull("team/app:early", Some(&robot)).await.unwrap().0, early.digest);
        let kept = remote.request("HEAD", &format!("/v2/team/app/blobs/{blob}"), Some(&robot)).await;
        assert_eq!(kept.status, 200, "an acknowledged blob is there without a manifest that needs it");
        remote.push(&large, "team/app:large", Some(&robot)).await.expect("the client's retry succeeds");
        let expected = (large.digest.clone(), large.layers.clone());
        assert_eq!(remote.pull("team/app:large", Some(&robot)).await.unwrap(), expected);
    });
}

#[test]
fn an_operator_that_is_killed_and_comes_back_changes_no_object() {
    serial_test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("kill").await;
        let registry = "{storage: {persistentVolumeClaim: {size: 1Gi}}, projectNamespaces: {from: All}}";
        cluster.create(&namespace, object("Registry main", registry)).await;
        cluster.condition("Registry", &namespace, "main", "Ready", "True").await;
        cluster.project(&namespace, "team", PROJECT).await;
        let member = "{projectRef: {name: team}, role: Developer, subjects: [{kind: Robot, name: ci}]}";
        cluster.create(&namespace, object("Member ci", member)).await;
        cluster.condition("Member", &namespace, "ci", "Ready", "True").await;
        let policy = "{projectRef: {name: team}, repositories: ['**'], visibility: Internal}";
        cluster.create(&namespace, object("RepositoryPolicy all", policy)).await;
        cluster.condition("RepositoryPolicy", &namespace, "all", "Accepted", "True").await;
        // One that has a problem, since its status is written in another way.
        let problem = object("Project lost", "{registryRef: {name: nowhere}}");
        cluster.create(&namespace, problem).await;
        cluster.reason("Project", &namespace, "lost", "Accepted", "RegistryNotFound").await;

        let before = steady_state::settled(cluster).await;
        operator::kill(cluster).await;
        // It looks at everything when it starts, and at this one too.
        cluster.create(&namespace, object("Project afterwards", "{registryRef: {name: nowhere}}")).await;
        cluster.reason("Project", &namespace, "afterwards", "Accepted", "RegistryNotFound").await;
        let changes = steady_state::settled(cluster).await.changes_since(&before);
        assert_eq!(changes, [format!("new: Project {namespace}/afterwards")]);
    });
}
