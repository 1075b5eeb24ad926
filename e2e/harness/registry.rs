//! What nearly every test begins with: a Registry that serves, a Project in it, a robot that may push.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Cluster, Login, Remote, environment, eventually, object};

impl Cluster {
    /// Makes a Registry, waits until it is Ready, and has the node and the clients trust it.
    pub async fn registry(&self, namespace: &str, name: &str, spec: &str) -> Remote {
        self.create(namespace, object(&format!("Registry {name}"), spec)).await;
        self.condition("Registry", namespace, name, "Ready", "True").await;
        self.remote(namespace, name).await
    }

    /// How clients reach a Registry that is Ready.
    pub async fn remote(&self, namespace: &str, name: &str) -> Remote {
        let registry = self.get("Registry", namespace, name).await;
        let url = registry["status"]["url"].as_str().expect("a Registry that is Ready has a URL");
        let host = url.strip_prefix("https://").expect("the URL is one of HTTPS").to_owned();
        let authority = registry["status"]["tls"]["caBundle"].as_str().expect("status publishes the authority");
        let certificates = environment::certificates().join(&host);
        std::fs::create_dir_all(&certificates).expect("the node's folder can be written");
        std::fs::write(certificates.join("ca.crt"), authority).expect("the node's folder can be written");
        let remote = Remote {
            scheme: "https",
            host,
            prefix: environment::node_exec(),
            certificates: Some(certificates),
            folder: self.folder.path().to_owned(),
        };
        remote.reachable().await;
        remote
    }

    /// The address of a Registry's Service, for what can't ask the cluster's DNS.
    pub async fn service_address(&self, namespace: &str, name: &str) -> SocketAddr {
        let service = self.get("Service", namespace, name).await;
        let address: IpAddr = service["spec"]["clusterIP"].as_str().unwrap_or_default().parse().expect("a ClusterIP");
        let port = service["spec"]["ports"][0]["port"].as_u64().expect("a port");
        SocketAddr::new(address, u16::try_from(port).expect("a port"))
    }

    /// Makes a Project and waits until it is Ready.
    pub async fn project(&self, namespace: &str, name: &str, spec: &str) {
        self.create(namespace, object(&format!("Project {name}"), spec)).await;
        self.condition("Project", namespace, name, "Ready", "True").await;
    }

    /// Makes a Member of a Project with one robot, `ci`. Gives the robot's credential.
    pub async fn robot(&self, namespace: &str, member: &str, project: &str, role: &str, remote: &Remote) -> Login {
        let spec = format!("{{projectRef: {{name: {project}}}, role: {role}, subjects: [{{kind: Robot, name: ci}}]}}");
        self.create(namespace, object(&format!("Member {member}"), &spec)).await;
        self.condition("Member", namespace, member, "Ready", "True").await;
        let login = self.login(namespace, &format!("{member}-ci"), &remote.host).await;
        self.in_force(remote, &login).await;
        login
    }

    /// The credential in a robot's Secret.
    pub async fn login(&self, namespace: &str, secret: &str, host: &str) -> Login {
        let secret = self.appears("Secret", namespace, secret).await;
        let login = Login::from_docker_config(&secret_text(&secret, ".dockerconfigjson"), host);
        assert_eq!(login.username, secret_text(&secret, "username"), "both forms name the same user");
        assert!(login.password == secret_text(&secret, "password"), "both forms hold the same password");
        login
    }

    /// Waits until the registry takes a credential: its pods hear of a new Member on their own, next to the operator.
    pub async fn in_force(&self, remote: &Remote, login: &Login) {
        eventually(&format!("the registry knows {}", login.username), async || {
            let answer = remote.try_request("GET", "/v2/", Some(login)).await?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
        })
        .await;
    }

    /// Kills the pods of a Registry, and waits until others serve.
    pub async fn kill_registry(&self, namespace: &str, name: &str, remote: &Remote) {
        let (labels, before) = self.registry_pods(namespace, name).await;
        self.kill_pods(namespace, &labels).await;
        eventually("another pod is ready", async || {
            let pods = self.list("Pod", namespace, &labels).await;
            let dead = |pod: &Value| before.iter().any(|before| pod["metadata"]["uid"] == before.uid.as_str());
            let ready = |pod: &Value| {
                let conditions = pod["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|found| found["type"] == "Ready" && found["status"] == "True")
            };
            let right = !pods.iter().any(dead) && pods.iter().any(ready);
            if right { Ok(()) } else { Err(format!("{} pods", pods.len())) }
        })
        .await;
        remote.reachable().await;
    }

    /// The registry's pods.
    pub async fn registry_pods(&self, namespace: &str, name: &str) -> (String, Vec<super::pods::Pod>) {
        let registry = self.get("Registry", namespace, name).await;
        let labels = registry["status"]["selector"].as_str().expect("status has the selector of the pods").to_owned();
        let pods = self.pods(namespace, &labels).await;
        (labels, pods)
    }
}

/// A text in a Secret.
pub fn secret_text(secret: &Value, key: &str) -> String {
    let data = secret["data"][key].as_str().unwrap_or_else(|| panic!("the Secret has no {key}"));
    let bytes = STANDARD.decode(data).expect("the data of a Secret is base64");
    String::from_utf8(bytes).expect("the data is text")
}
