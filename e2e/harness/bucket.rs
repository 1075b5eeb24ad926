//! An S3 service with a bucket, for the registries of one test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{environment, within};

/// Its name: that of the sample.
const NAME: &str = "images";

/// A running service. It ends with this value.
pub struct Bucket {
    address: SocketAddr,
    pub access_key_id: String,
    pub secret_access_key: String,
    folder: TempDir,
    process: Child,
}

impl Bucket {
    /// Starts a service with an empty bucket where pods reach it, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_at(environment::machine_address()).await
    }

    /// The same for processes of this machine.
    pub async fn start_local() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    async fn start_at(address: IpAddr) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(NAME)).expect("the folder can be written");
        let address = free_port(address);
        let secret = || uuid::Uuid::new_v4().simple().to_string();
        let (access_key_id, secret_access_key) = (secret(), secret());
        let log = std::fs::File::create(folder.path().join("server.log")).expect("the folder can be written");
        let process = std::process::Command::new("versitygw")
            .args(["--port", &address.to_string(), "--quiet", "posix"])
            .arg(folder.path())
            .env("ROOT_ACCESS_KEY", &access_key_id)
            .env("ROOT_SECRET_KEY", &secret_access_key)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be used twice"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("versitygw: {error}"));
        let credentials = folder.path().join("credentials");
        std::fs::create_dir(&credentials).expect("the folder can be written");
        for (name, value) in [("accessKeyId", &access_key_id), ("secretAccessKey", &secret_access_key)] {
            std::fs::write(credentials.join(name), value).expect("the folder can be written");
        }
        let bucket = Self { address, access_key_id, secret_access_key, folder, process };
        within(Duration::from_secs(30), "the S3 service listens", async || {
            TcpStream::connect(address).map(drop).map_err(|error| error.to_string())
        })
        .await;
        bucket
    }

    /// Where pods find it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings of a server that keeps its images here, and sends clients that follow for their blobs.
    pub fn settings(&self) -> Vec<String> {
        let port = self.address.port();
        let credentials = self.folder.path().join("credentials");
        [
            format!("bucket={NAME}"),
            format!("endpoint={}", self.endpoint()),
            "forcePathStyle=true".to_owned(),
            "requireConditionalWrites=true".to_owned(),
            format!("credentials={}", credentials.display()),
            "redirect.enabled=true".to_owned(),
            format!("redirect.endpoint=http://localhost:{port}"),
        ]
        .map(|setting| format!("storage.s3.{setting}"))
        .to_vec()
    }

    /// What is in it now, by name.
    pub fn folder(&self) -> std::path::PathBuf {
        self.folder.path().join(NAME)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            println!("\n======== log of the S3 service");
            tail.into_iter().rev().for_each(|line| println!("{line}"));
        }
    }
}

fn free_port(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap_or_else(|error| panic!("{address}: {error}"));
    listener.local_addr().expect("it is bound")
}
