//! Logins by client certificates, with the files and flags that people give their clients.

use std::path::{Path, PathBuf};

use super::promised_by;
use crate::harness::{Command, Image, Server, local_test};

const MEMBER: &str = "
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: people, namespace: default}
spec: {projectRef: {name: demo}, role: Developer, subjects: [{kind: User, name: 'certificate:alice'}]}
---
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: readers, namespace: default}
spec: {projectRef: {name: demo}, role: Guest, subjects: [{kind: Group, name: 'certificate:readers'}]}
";

/// Somebody who signs, with openssl.
struct Authority {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    async fn make(folder: &Path, name: &str) -> Self {
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        request(&format!("/CN={name}"), &certificate, &key).run().await;
        Self { certificate, key }
    }

    /// A folder as clients take it: `client.cert` and `client.key` beside the `ca.crt` to trust.
    async fn sign(&self, server: &Server, name: &str, subject: &str, usage: &str) -> PathBuf {
        let remote = server.remote();
        let folder = remote.folder.join(name);
        std::fs::create_dir_all(&folder).expect("the folder can be written");
        let trusted = remote.certificates.expect("it serves TLS").join("ca.crt");
        std::fs::copy(trusted, folder.join("ca.crt")).expect("the authority can be copied");
        request(subject, &folder.join("client.cert"), &folder.join("client.key"))
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext"])
            .arg(format!("extendedKeyUsage={usage}"))
            .arg("-CA")
            .arg(&self.certificate)
            .arg("-CAkey")
            .arg(&self.key)
            .run()
            .await;
        folder
    }
}

fn request(subject: &str, certificate: &Path, key: &Path) -> Command {
    let command = Command::new("openssl").args(["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"]);
    let command = command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", subject]);
    command.arg("-keyout").arg(key).arg("-out").arg(certificate)
}

/// Has the Registry of the sample take certificates of this authority.
fn take_certificates(server: &Server, authority: &Authority) {
    let pem = std::fs::read_to_string(&authority.certificate).expect("it was made");
    let manifest = serde_json::json!({
        "apiVersion": "landfast.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "local", "namespace": "default"},
        "spec": {
            "storage": {"emptyDir": {}},
            "authentication": {"clientCertificates": {"certificateAuthority": pem}},
        },
    });
    // JSON is YAML.
    std::fs::write(server.manifests.join("registry.yaml"), manifest.to_string()).expect("it can be written");
}

async fn curl(server: &Server, certificates: Option<&Path>, path: &str) -> (u16, String) {
    let remote = server.remote();
    let mut command = Command::new("curl").args(["--silent", "--show-error", "--write-out", "\n%{http_code}"]);
    command = command.arg("--cacert").arg(remote.certificates.expect("it serves TLS").join("ca.crt"));
    if let Some(folder) = certificates {
        command = command.arg("--cert").arg(folder.join("client.cert")).arg("--key").arg(folder.join("client.key"));
    }
    let output = command.arg(format!("https://{}{path}", remote.host)).run().await;
    let (body, status) = output.rsplit_once('\n').expect("the status comes last");
    (status.parse().expect("a status is a number"), body.to_owned())
}

#[test]
fn a_client_certificate_pushes_and_pulls() {
    local_test(async || {
        let server = Server::start_tls().await;
        let remote = server.remote();
        let authority = Authority::make(&remote.folder, "people").await;
        let alice = authority.sign(&server, "alice", "/CN=alice", "clientAuth").await;
        std::fs::write(server.manifests.join("people.yaml"), MEMBER).unwrap();
        take_certificates(&server, &authority);
        promised_by("alice is let in", async || curl(&server, Some(&alice), "/v2/").await, 200).await;

        let image = Image::build(&remote.folder, "by-certificate", 300_000);
        let to = format!("docker://{}/demo/app:v1", remote.host);
        let skopeo = |side: &str, folder: &Path| {
            let command = Command::new("skopeo").args(["copy", "--quiet", "--preserve-digests"]);
            command.arg(format!("--{side}-no-creds")).arg(format!("--{side}-cert-dir")).arg(folder)
        };
        skopeo("dest", &alice).arg(format!("oci:{}", image.layout.display())).arg(&to).run().await;
        let manifest = "/v2/demo/app/manifests/v1";
        let reader = authority.sign(&server, "reader", "/O=readers/CN=bob", "clientAuth").await;
        let pulled = remote.folder.join("pulled");
        skopeo("src", &reader).arg(&to).arg(format!("dir:{}", pulled.display())).run().await;
        assert!(pulled.join("manifest.json").exists());
        skopeo("dest", &reader).arg(format!("oci:{}", image.layout.display())).arg(&to).result().await.unwrap_err();

        let stranger = Authority::make(&remote.folder, "strangers").await;
        let rows = [
            (stranger.sign(&server, "stranger", "/CN=alice", "clientAuth").await, 401, "not signed by an authority"),
            (authority.sign(&server, "for-servers", "/CN=alice", "serverAuth").await, 401, "extended key usage"),
            (authority.sign(&server, "nameless", "/O=readers", "clientAuth").await, 401, "0 common names"),
            (authority.sign(&server, "carol", "/CN=carol", "clientAuth").await, 403, "certificate:carol may not pull"),
        ];
        for (folder, status, text) in rows {
            let answer = curl(&server, Some(&folder), manifest).await;
            assert!(answer.0 == status && answer.1.contains(text), "{}: {answer:?}", folder.display());
        }
        assert_eq!(curl(&server, None, manifest).await.0, 401, "nobody is asked for more than a certificate");

        take_certificates(&server, &stranger);
        promised_by("alice is out", async || curl(&server, Some(&alice), manifest).await, 401).await;
        let audit = server.output();
        assert!(audit.contains("certificate:alice"), "the audit names who pushed: {audit}");
    });
}

#[test]
fn client_certificates_without_tls_are_told_at_the_start() {
    local_test(async || {
        let server = Server::start().await;
        let folder = server.remote().folder;
        let authority = Authority::make(&folder, "people").await;
        take_certificates(&server, &authority);
        let start = |arguments: &[&str]| {
            let command = Command::new(crate::harness::environment::landfast()).arg("serve").arg("--manifests");
            let command = command.arg(&server.manifests).arg("--data").arg(folder.join("other"));
            command.args(["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]).args(arguments)
        };
        let refused = start(&[]).result().await.unwrap_err();
        assert!(
            refused.contains("takes client certificates, which come with TLS: give --tls-certificate"),
            "{refused}"
        );
    });
}
