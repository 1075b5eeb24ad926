//! The real binary, serving the standalone sample from a temporary folder.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Connection;

/// Only a server that never comes up reaches this.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    folder: TempDir,
    listen: SocketAddr,
    process: Option<Child>,
}

impl Server {
    pub fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), listen: free_port(), process: None }
    }

    pub fn start(&mut self) {
        // A port that was free a moment ago may have become a client's.
        while !self.try_start() {
            assert!(self.output().contains("is the port in use"), "the server does not start: {}", self.output());
        }
    }

    fn try_start(&mut self) -> bool {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples/standalone");
        self.listen = free_port();
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
        command.arg("serve").arg("--manifests").arg(sample).arg("--data").arg(self.folder.path().join("data"));
        command.args(["--listen", &self.listen.to_string(), "--health-listen", &free_port().to_string()]);
        // The test's own.
        command.env_remove("LANDFAST_CRASH_ROUNDS").env_remove("LANDFAST_CRASH_SEED");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = self.process.insert(command.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while process.try_wait().unwrap().is_none() {
            if is_up(self.listen) {
                return true;
            }
            assert!(Instant::now() < until, "the server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A connection of the robot that pushes to `demo`.
    pub fn connect(&self) -> Connection {
        let path = self.folder.path().join("data/credentials/default/demo/ci/config.json");
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (_, login) = config["auths"].as_object().unwrap().iter().next().unwrap();
        Connection::open(self.listen, login["auth"].as_str().unwrap()).unwrap()
    }

    /// The folder of the images.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("data/registry")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<_> = output.lines().collect();
            println!("the end of the server's log:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// That nobody else takes it in between is likely enough.
fn is_up(address: SocketAddr) -> bool {
    let answer = Connection::open(address, "").and_then(|mut connection| connection.get("/v2/"));
    answer.is_ok_and(|answer| answer.status != 503)
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A process that serves from a bucket of the service at `endpoint`.
#[cfg(feature = "s3")]
pub fn on_bucket(endpoint: &str, data: &Path) -> Child {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples/standalone");
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
    command.arg("serve").arg("--manifests").arg(sample).arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
    command.args(["--health-listen", "127.0.0.1:0", "--set", "storage.s3.bucket=images"]);
    command.args(["--set", &format!("storage.s3.endpoint={endpoint}"), "--set", "storage.s3.forcePathStyle=true"]);
    command.args(["--set", "storage.s3.region=eu-central-1"]);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.stdin(Stdio::null()).spawn().unwrap()
}

/// Waits for so long until the process has ended.
#[cfg(feature = "s3")]
pub fn wait(process: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(status) = process.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}
