//! A registry without a cluster: `landfast serve --manifests` as a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Login, Remote, environment, within};

/// What the product promises for its start.
const STARTED: Duration = Duration::from_secs(1);

/// A server with a copy of the standalone sample, and the process while it runs. It is killed with this value.
pub struct Server {
    pub listen: SocketAddr,
    health: SocketAddr,
    /// Where its manifests are. They may be edited.
    pub manifests: PathBuf,
    data: PathBuf,
    /// Where users and their passwords are. It may be edited.
    pub users: PathBuf,
    folder: TempDir,
    process: Option<Child>,
}

impl Server {
    /// Starts a server with no data, and waits until it serves.
    pub async fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let manifests = folder.path().join("manifests");
        copy_folder(&environment::repository().join("config/samples/standalone"), &manifests);
        let (data, users) = (folder.path().join("data"), folder.path().join("htpasswd"));
        std::fs::write(&users, "# nobody yet\n").expect("the folder can be written");
        let (listen, health) = (free_port(), free_port());
        let mut server = Self { listen, health, manifests, data, users, folder, process: None };
        server.restart().await;
        server
    }

    /// Starts the process again on the same data. It must not be running.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the server is running");
        let log =
            std::fs::File::options().create(true).append(true).open(self.log_path()).expect("a log can be written");
        let process = std::process::Command::new(environment::landfast())
            .arg("serve")
            .arg("--manifests")
            .arg(&self.manifests)
            .arg("--data")
            .arg(&self.data)
            .arg("--htpasswd")
            .arg(&self.users)
            .args(["--listen", &self.listen.to_string(), "--health-listen", &self.health.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be used twice"))
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap_or_else(|error| panic!("{}: {error}", environment::landfast())));
        let health = Remote { host: self.health.to_string(), ..self.remote() };
        within(STARTED, "the server is ready", async || {
            let ended = self.process.as_mut().expect("it was started").try_wait().expect("it is a child");
            if let Some(status) = ended {
                panic!("the server ended with {status}");
            }
            let answer = health.try_get("/readyz").await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }

    /// Ends the process as a service manager does, and waits for it.
    pub fn stop(&mut self) {
        let process = self.process.as_ref().expect("the server is running");
        let pid = process.id().to_string();
        let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        assert!(killed.success());
        let status = self.process.take().map(|mut process| process.wait().expect("it is a child"));
        assert!(status.is_some_and(|status| status.success()), "the server ends well when asked to: {status:?}");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the server is running");
        process.kill().expect("it is a child");
        process.wait().expect("it is a child");
    }

    /// How clients reach it.
    pub fn remote(&self) -> Remote {
        Remote {
            scheme: "http",
            host: self.listen.to_string(),
            prefix: Vec::new(),
            certificates: None,
            folder: self.folder.path().to_owned(),
        }
    }

    /// The generated credential of a robot.
    pub fn login(&self, member: &str, robot: &str) -> Login {
        let path = self.data.join(format!("credentials/default/{member}/{robot}/config.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Login::from_docker_config(&text, &self.listen.to_string())
    }

    /// What the process has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Whether a credential of a robot is there.
    pub fn has_login(&self, member: &str, robot: &str) -> bool {
        self.data.join(format!("credentials/default/{member}/{robot}/config.json")).exists()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            println!("\n======== log of the server\n{}", self.output());
        }
    }
}

/// Two that are asked for at the same time are different; that nobody else takes it in between is likely enough.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder can be written");
    let entries = std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries {
        let entry = entry.expect("the folder can be read");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a manifest can be copied");
    }
}
