//! What is deleted takes with it all that it made, except images that are to be kept.

use serde_json::json;

use crate::harness::{Cluster, Image, Inventory, object, test};

fn registry(deletion_policy: &str) -> String {
    format!(
        "{{storage: {{persistentVolumeClaim: {{size: 1Gi}}}}, deletionPolicy: {deletion_policy}, \
         projectNamespaces: {{from: All}}, pullSecretNamespaces: {{from: All}}}}"
    )
}

const PROJECT: &str = "{registryRef: {name: main}, pullSecrets: {namespaces: {from: All}, serviceAccounts: [default]}}";
const MEMBER: &str = "{projectRef: {name: team}, role: Developer, subjects: [{kind: Robot, name: ci}]}";
const POLICY: &str = "{projectRef: {name: team}, repositories: ['**'], visibility: Internal}";

/// The claim of a Registry `main`, with its volume.
fn claim(namespace: &str) -> Vec<String> {
    vec![format!("PersistentVolumeClaim {namespace}/main-data"), "PersistentVolume ".to_owned()]
}

#[test]
fn each_kind_leaves_nothing_behind() {
    test(async |cluster: &Cluster| {
        let (home, target) = (cluster.namespace("home").await, cluster.namespace("target").await);
        let nothing = Inventory::of(cluster).await;
        cluster.create(&home, object("Registry main", &registry("Retain"))).await;
        cluster.condition("Registry", &home, "main", "Ready", "True").await;
        let with_registry = Inventory::of(cluster).await;
        cluster.project(&home, "team", PROJECT).await;
        cluster.appears("Secret", &target, "team-pull").await;
        let with_project = Inventory::of(cluster).await;
        cluster.create(&home, object("Member ci", MEMBER)).await;
        cluster.condition("Member", &home, "ci", "Ready", "True").await;
        let with_member = Inventory::of(cluster).await;
        cluster.create(&home, object("RepositoryPolicy all", POLICY)).await;
        cluster.condition("RepositoryPolicy", &home, "all", "Accepted", "True").await;

        cluster.delete("RepositoryPolicy", &home, "all").await;
        Inventory::returns_to(&with_member, cluster, &[]).await;
        cluster.delete("Member", &home, "ci").await;
        Inventory::returns_to(&with_project, cluster, &[]).await;
        cluster.delete("Project", &home, "team").await;
        Inventory::returns_to(&with_registry, cluster, &[]).await;
        for namespace in [&home, &target] {
            let account = cluster.get("ServiceAccount", namespace, "default").await;
            let secrets = account["imagePullSecrets"].as_array().cloned().unwrap_or_default();
            assert!(secrets.is_empty(), "{secrets:?} in {namespace}");
            let annotations = account["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
            assert!(annotations.is_empty(), "{annotations:?} on the ServiceAccount in {namespace}");
        }
        cluster.delete("Registry", &home, "main").await;
        Inventory::returns_to(&nothing, cluster, &claim(&home)).await;
    });
}

#[test]
fn a_registry_deleted_first_frees_what_refers_to_it() {
    test(async |cluster: &Cluster| {
        let (home, target) = (cluster.namespace("home").await, cluster.namespace("target").await);
        let nothing = Inventory::of(cluster).await;
        cluster.create(&home, object("Registry main", &registry("Delete"))).await;
        cluster.project(&home, "team", PROJECT).await;
        cluster.create(&home, object("Member ci", MEMBER)).await;
        cluster.create(&home, object("RepositoryPolicy all", POLICY)).await;
        cluster.condition("Member", &home, "ci", "Ready", "True").await;
        cluster.appears("Secret", &target, "team-pull").await;

        cluster.delete("Registry", &home, "main").await;
        cluster.reason("Project", &home, "team", "Accepted", "RegistryNotFound").await;
        // A credential of a registry that is gone is good for nothing.
        cluster.gone("Secret", &target, "team-pull").await;
        cluster.delete("Project", &home, "team").await;
        cluster.reason("Member", &home, "ci", "Accepted", "ProjectNotFound").await;
        cluster.delete("Member", &home, "ci").await;
        cluster.delete("RepositoryPolicy", &home, "all").await;
        Inventory::returns_to(&nothing, cluster, &[]).await;
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_new_registry_takes_up_the_images_that_the_old_one_retained() {
    test(async |cluster: &Cluster| {
        let home = cluster.namespace("home").await;
        let nothing = Inventory::of(cluster).await;
        let remote = cluster.registry(&home, "main", &registry("Retain")).await;
        cluster.project(&home, "team", PROJECT).await;
        let robot = cluster.robot(&home, "ci", "team", "Developer", &remote).await;
        let image = Image::build(cluster.folder.path(), &cluster.unique, 500_000);
        remote.push(&image, "team/app:v1", Some(&robot)).await.unwrap();
        for (kind, name) in [("Member", "ci"), ("Project", "team"), ("Registry", "main")] {
            cluster.delete(kind, &home, name).await;
        }
        Inventory::returns_to(&nothing, cluster, &claim(&home)).await;

        let remote = cluster.registry(&home, "main", &registry("Retain")).await;
        cluster.project(&home, "team", PROJECT).await;
        let robot = cluster.robot(&home, "ci", "team", "Developer", &remote).await;
        let expected = (image.digest.clone(), image.layers.clone());
        assert_eq!(remote.pull("team/app:v1", Some(&robot)).await.unwrap(), expected);

        // The policy counts that is there in the end.
        cluster.patch("Registry", &home, "main", json!({"spec": {"deletionPolicy": "Delete"}})).await;
        for (kind, name) in [("Member", "ci"), ("Project", "team"), ("Registry", "main")] {
            cluster.delete(kind, &home, name).await;
        }
        Inventory::returns_to(&nothing, cluster, &[]).await;
    });
}

#[test]
fn a_claim_that_was_named_is_never_deleted() {
    test(async |cluster: &Cluster| {
        let home = cluster.namespace("home").await;
        let claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "mine"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        cluster.create(&home, claim).await;
        let before = Inventory::of(cluster).await;
        let spec = "{storage: {persistentVolumeClaim: {existingClaim: mine}}, deletionPolicy: Delete}";
        cluster.create(&home, object("Registry main", spec)).await;
        cluster.condition("Registry", &home, "main", "Ready", "True").await;
        cluster.delete("Registry", &home, "main").await;
        Inventory::returns_to(&before, cluster, &["PersistentVolume ".to_owned()]).await;
        assert!(cluster.get("PersistentVolumeClaim", &home, "mine").await["metadata"]["deletionTimestamp"].is_null());
    });
}
