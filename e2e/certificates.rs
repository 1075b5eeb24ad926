//! Certificates that running pods serve: the operator's own, and those that somebody brings.

use serde_json::json;

use crate::harness::{Cluster, Command, Remote, environment, eventually, object, test};

/// Fingerprint of the certificate that the registry serves.
async fn served(remote: &Remote) -> String {
    let address = format!("{}:443", remote.host);
    let show = format!("openssl s_client -connect {address} </dev/null 2>&1 | openssl x509 -noout -fingerprint 2>&1");
    let shell = Command::prefixed(&environment::node_exec(), "sh").args(["-c", &show]);
    shell.result().await.unwrap_or_else(|error| error)
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_certificate_issued_anew_is_served_by_running_pods() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("tls").await;
        let remote = cluster.registry(&namespace, "main", "{storage: {emptyDir: {}}}").await;
        let (_, pods) = cluster.registry_pods(&namespace, "main").await;
        let first = served(&remote).await;
        assert!(first.contains("Fingerprint="), "{first}");
        let authority = cluster.get("Registry", &namespace, "main").await["status"]["tls"]["caBundle"].clone();

        cluster.start_deletion("Secret", &namespace, "main-tls").await;
        eventually("another certificate is served", async || {
            let now = served(&remote).await;
            if now != first && now.contains("Fingerprint=") { Ok(()) } else { Err(now) }
        })
        .await;
        let registry = cluster.get("Registry", &namespace, "main").await;
        assert_eq!(registry["status"]["tls"]["caBundle"], authority, "clients need to trust nothing new");
        remote.reachable().await;
        assert_eq!(cluster.registry_pods(&namespace, "main").await.1, pods, "no pod was restarted");
    });
}

/// A certificate that signs itself, with its key.
async fn certificate(cluster: &Cluster, host: &str) -> (String, String) {
    let path = |name: &str| cluster.folder.path().join(name);
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    Command::new("openssl")
        .args(request)
        .args(["-days", "30", "-subj", "/CN=brought", "-addext", &format!("subjectAltName=DNS:{host}")])
        .arg("-keyout")
        .arg(path("tls.key"))
        .arg("-out")
        .arg(path("tls.crt"))
        .run()
        .await;
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("openssl has written it");
    (read("tls.crt"), read("tls.key"))
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_certificate_that_was_brought_is_served() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("tls").await;
        let spec = "{storage: {emptyDir: {}}, tls: {secretRef: {name: brought}}}";
        cluster.create(&namespace, object("Registry main", spec)).await;
        let condition = cluster.reason("Registry", &namespace, "main", "Ready", "CertificateNotFound").await;
        let message = condition["message"].as_str().unwrap_or_default();
        assert!(message.contains("brought") && message.contains("create it"), "{message}");

        let (certificate, key) = certificate(cluster, &format!("main.{namespace}.svc")).await;
        let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": certificate});
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "brought"},
            "type": "kubernetes.io/tls",
            "stringData": data,
        });
        cluster.create(&namespace, secret).await;
        cluster.condition("Registry", &namespace, "main", "Ready", "True").await;
        let remote = cluster.remote(&namespace, "main").await;
        let registry = cluster.get("Registry", &namespace, "main").await;
        assert_eq!(registry["status"]["tls"]["secretName"], "brought");
        assert_eq!(registry["status"]["tls"]["caBundle"].as_str().map(str::trim), Some(certificate.trim()));
        remote.reachable().await;
    });
}
