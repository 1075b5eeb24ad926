//! What another registry keeps is taken over by `landfast copy-storage`, and served as it was.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::harness::{Command, Image, Remote, Server, environment, eventually, local_test};

/// CNCF Distribution's registry, as the system's package has it. It is killed with this value.
struct Distribution {
    folder: TempDir,
    address: SocketAddr,
    process: Child,
}

impl Distribution {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = address.expect("a port is free");
        let configuration = folder.path().join("config.yml");
        let root = folder.path().join("root").display().to_string();
        let text =
            format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {root}\nhttp:\n  addr: {address}\n");
        std::fs::write(&configuration, text).expect("the folder can be written");
        let log = std::fs::File::create(folder.path().join("log")).expect("the folder can be written");
        let process = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be used twice"))
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed");
        let started = Self { folder, address, process };
        eventually("docker-registry answers", async || {
            let answer = started.remote().try_get("/v2/").await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        })
        .await;
        started
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn remote(&self) -> Remote {
        Remote {
            scheme: "http",
            host: self.address.to_string(),
            prefix: Vec::new(),
            certificates: None,
            folder: self.folder.path().to_owned(),
        }
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn adopt(from: &Distribution, data: &Path) -> String {
    let command = Command::new(environment::landfast()).args(["copy-storage", "--json", "--from-distribution"]);
    command.arg(from.root()).arg("--to").arg(data.join("registry")).run().await
}

#[test]
fn images_of_a_distribution_registry_are_served_as_they_were() {
    local_test(async || {
        let (distribution, data) = (Distribution::start().await, TempDir::new().expect("a temporary folder"));
        let (from, folder) = (distribution.remote(), distribution.folder.path());
        let first = Image::build(folder, "first", 3_000_000);
        from.push(&first, "demo/app:v1", None).await.unwrap();
        from.push(&first, "demo/nested/app:Stable", None).await.unwrap();
        // In Docker's format.
        let docker = format!("docker://{}/demo/docker:v1", from.host);
        let converted = ["copy", "--quiet", "--format", "v2s2", "--dest-tls-verify=false"];
        Command::new("skopeo").args(converted).arg(format!("oci:{}", first.layout.display())).arg(docker).run().await;
        adopt(&distribution, data.path()).await;

        // It went on serving. A tag has moved since, and one has come.
        let second = Image::build(folder, "second", 100_000);
        from.push(&second, "demo/app:v1", None).await.unwrap();
        from.push(&second, "demo/app:v2", None).await.unwrap();
        let summary = adopt(&distribution, data.path()).await;
        assert!(summary.contains("\"problems\":0"), "{summary}");
        let summary = adopt(&distribution, data.path()).await;
        assert!(summary.contains("\"copied\":0"), "{summary}");

        let images = ["demo/app:v1", "demo/app:v2", "demo/nested/app:Stable", "demo/docker:v1"];
        let mut expected = Vec::new();
        for image in images {
            expected.push(from.pull(image, None).await.unwrap());
        }
        assert_eq!(expected[0].0, second.digest);
        drop(distribution);

        let server = Server::start_in(Some(data.path().to_owned())).await;
        let robot = server.login("demo", "ci");
        for (image, expected) in images.into_iter().zip(expected) {
            assert_eq!(server.remote().pull(image, Some(&robot)).await.unwrap(), expected, "{image}");
        }
        let by_digest = format!("demo/app@{}", first.digest);
        assert_eq!(server.remote().pull(&by_digest, Some(&robot)).await.unwrap().1, first.layers);
        let fsck = Command::new(environment::landfast()).args(["fsck", "--data"]).arg(data.path()).run().await;
        assert_eq!(fsck, "");
    });
}
