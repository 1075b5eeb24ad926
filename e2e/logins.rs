//! Users with passwords from a Secret, on a Registry in the cluster; and signing keys that are replaced.

use serde_json::{Value, json};

use crate::harness::{Cluster, Image, Login, PROMISED, Remote, eventually, test, within, yaml};

const REGISTRY: &str = "{storage: {emptyDir: {}}, authentication: {htpasswdSecretRef: {name: people}}}";
const MEMBER: &str = "
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: people}
spec: {projectRef: {name: team}, role: Developer, subjects: [{kind: User, name: 'htpasswd:alice'}]}
";

/// A Secret with the password `secret` for each of these users.
fn people(users: &[&str]) -> Value {
    let line = |user: &&str| format!("{user}:{}\n", bcrypt::hash("secret", 5).expect("bcrypt works"));
    let file: String = users.iter().map(line).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "people"}, "stringData": {"htpasswd": file}})
}

/// Kubernetes brings a changed Secret to the pods in its own time.
async fn answers(what: &str, remote: &Remote, path: &str, login: &Login, status: u16) {
    eventually(what, async || {
        let answer = remote.try_request("GET", path, Some(login)).await?;
        if answer.status == status { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
    })
    .await;
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn users_come_and_go_with_the_secret() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("logins").await;
        cluster.create(&namespace, crate::harness::object("Registry main", REGISTRY)).await;
        let missing = cluster.reason("Registry", &namespace, "main", "Ready", "HtpasswdNotFound").await;
        let message = missing["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("kubectl") && message.contains("create secret generic people"), "{message}");

        cluster.create(&namespace, people(&["alice", "bob"])).await;
        cluster.condition("Registry", &namespace, "main", "Ready", "True").await;
        let remote = cluster.remote(&namespace, "main").await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}}").await;
        cluster.create(&namespace, yaml(MEMBER)).await;
        cluster.condition("Member", &namespace, "people", "Ready", "True").await;

        let (alice, bob) = (Login::new("alice", "secret", &remote.host), Login::new("bob", "secret", &remote.host));
        answers("alice logs in", &remote, "/v2/", &alice, 200).await;
        let image = Image::build(cluster.folder.path(), &cluster.unique, 10_000);
        remote.push(&image, "team/app:v1", Some(&alice)).await.expect("a Developer pushes");
        assert_eq!(remote.pull("team/app:v1", Some(&alice)).await.expect("and pulls").0, image.digest);
        let foreign = remote.request("GET", "/v2/team/app/manifests/v1", Some(&bob)).await;
        assert_eq!(foreign.status, 403, "bob is in no Member: {}", foreign.text());
        let wrong = remote.request("GET", "/v2/", Some(&Login::new("alice", "wrong", &remote.host))).await;
        assert_eq!((wrong.status, wrong.oci_error().as_deref()), (401, Some("UNAUTHORIZED")), "{}", wrong.text());

        let (_, before) = cluster.registry_pods(&namespace, "main").await;
        cluster.patch("Secret", &namespace, "people", people(&["bob"])).await;
        answers("alice is refused", &remote, "/v2/", &alice, 401).await;
        let other = remote.request("GET", "/v2/", Some(&bob)).await;
        assert_eq!(other.status, 200, "bob goes on: {}", other.text());
        assert_eq!(cluster.registry_pods(&namespace, "main").await.1, before, "no pod was restarted");
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_role_of_a_user_is_taken_away_at_once() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("logins").await;
        cluster.create(&namespace, people(&["alice"])).await;
        let remote = cluster.registry(&namespace, "main", REGISTRY).await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}}").await;
        cluster.create(&namespace, yaml(MEMBER)).await;
        let alice = Login::new("alice", "secret", &remote.host);
        answers("alice sees that nothing is there", &remote, "/v2/team/app/manifests/v1", &alice, 404).await;
        cluster.start_deletion("Member", &namespace, "people").await;
        within(PROMISED, "alice may not look any more", async || {
            let answer = remote.request("GET", "/v2/team/app/manifests/v1", Some(&alice)).await;
            if answer.status == 403 { Ok(()) } else { Err(answer.status.to_string()) }
        })
        .await;
        let still = remote.request("GET", "/v2/", Some(&alice)).await;
        assert_eq!(still.status, 200, "she is still a user: {}", still.text());
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_secret_with_another_kind_of_hash_is_told_with_its_line() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("logins").await;
        let mut secret = people(&["alice"]);
        secret["stringData"]["htpasswd"] = json!("# people\nalice:$apr1$abcdefgh$0123456789abcdefghijkl\n");
        cluster.create(&namespace, secret).await;
        cluster.create(&namespace, crate::harness::object("Registry main", REGISTRY)).await;
        let invalid = cluster.reason("Registry", &namespace, "main", "Ready", "HtpasswdInvalid").await;
        let message = invalid["message"].as_str().unwrap_or_default();
        assert!(message.contains("line 2") && message.contains("htpasswd -B"), "{message}");
    });
}
