//! A registry without a cluster: `landfast serve --manifests` as a process of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Bucket, Command, Login, Remote, environment, within};

/// What the product promises for its start.
const STARTED: Duration = Duration::from_secs(1);

/// What a server with TLS needs.
struct Certificates {
    /// Folder with the authority's `ca.crt`, and nothing else.
    trust: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// A server with a copy of the standalone sample, and the process while it runs. It is killed with this value.
pub struct Server {
    pub listen: SocketAddr,
    tls: Option<Certificates>,
    health: SocketAddr,
    /// Where its manifests are. They may be edited.
    pub manifests: PathBuf,
    data: PathBuf,
    /// Where users and their passwords are. It may be edited.
    pub users: PathBuf,
    /// Settings such as `limits.uploads=100`, for the next start.
    pub settings: Vec<String>,
    folder: TempDir,
    process: Option<Child>,
}

impl Server {
    /// Starts a server with no data, and waits until it serves.
    pub async fn start() -> Self {
        Self::start_in(None).await
    }

    /// Starts a server that has its data in this folder.
    pub async fn start_in(data: Option<PathBuf>) -> Self {
        Self::start_with(data, Vec::new()).await
    }

    /// Starts a server that has its images in a bucket.
    pub async fn start_on(bucket: &Bucket) -> Self {
        Self::start_with(None, bucket.settings()).await
    }

    /// Starts a server with settings such as `limits.uploads=100`.
    pub async fn start_with(data: Option<PathBuf>, settings: Vec<String>) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self::serving(free_port(Ipv4Addr::LOCALHOST), None, folder, data, settings).await
    }

    /// Starts one that serves TLS, with a certificate of an authority that is made for it.
    ///
    /// Its address is none of those that clients take for an insecure registry's.
    pub async fn start_tls() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let listen = free_port(Ipv4Addr::new(127, 0, 0, 2));
        let certificates = Certificates::make(folder.path(), &listen.ip().to_string()).await;
        Self::serving(listen, Some(certificates), folder, None, Vec::new()).await
    }

    async fn serving(
        listen: SocketAddr,
        tls: Option<Certificates>,
        folder: TempDir,
        data: Option<PathBuf>,
        settings: Vec<String>,
    ) -> Self {
        let manifests = folder.path().join("manifests");
        copy_folder(&environment::repository().join("config/samples/standalone"), &manifests);
        let (data, users) = (data.unwrap_or_else(|| folder.path().join("data")), folder.path().join("htpasswd"));
        std::fs::write(&users, "# nobody yet\n").expect("the folder can be written");
        let health = free_port(Ipv4Addr::LOCALHOST);
        let mut server = Self { listen, tls, health, manifests, data, users, settings, folder, process: None };
        server.restart().await;
        server
    }

    /// Starts the process again on the same data. It must not be running.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the server is running");
        let log =
            std::fs::File::options().create(true).append(true).open(self.log_path()).expect("a log can be written");
        let mut command = std::process::Command::new(environment::landfast());
        command.arg("serve").arg("--manifests").arg(&self.manifests).arg("--data").arg(&self.data);
        command.arg("--htpasswd").arg(&self.users);
        command.args(["--listen", &self.listen.to_string(), "--health-listen", &self.health.to_string()]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        if let Some(Certificates { certificate, key, .. }) = &self.tls {
            command.arg("--tls-certificate").arg(certificate).arg("--tls-key").arg(key);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be used twice")).stderr(log);
        let process = command.spawn();
        self.process = Some(process.unwrap_or_else(|error| panic!("{}: {error}", environment::landfast())));
        let health = Remote { scheme: "http", host: self.health.to_string(), ..self.remote() };
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

    /// What its health endpoint answers.
    pub async fn readiness(&self) -> u16 {
        let health = Remote { host: self.health.to_string(), ..self.remote() };
        health.send("GET", "/readyz", &[]).await.status
    }

    /// What it counts.
    pub async fn metrics(&self) -> String {
        let health = Remote { scheme: "http", host: self.health.to_string(), ..self.remote() };
        health.send("GET", "/metrics", &[]).await.text()
    }

    /// Ends the process as a service manager does, and waits for it.
    pub fn stop(&mut self) {
        self.ask_to_stop();
        let status = self.process.take().map(|mut process| process.wait().expect("it is a child"));
        assert!(status.is_some_and(|status| status.success()), "the server ends well when asked to: {status:?}");
    }

    /// Asks the process to end, and doesn't wait for it.
    pub fn ask_to_stop(&self) {
        let process = self.process.as_ref().expect("the server is running");
        let pid = process.id().to_string();
        let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        assert!(killed.success());
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
            scheme: if self.tls.is_some() { "https" } else { "http" },
            host: self.listen.to_string(),
            prefix: Vec::new(),
            certificates: self.tls.as_ref().map(|tls| tls.trust.clone()),
            folder: self.folder.path().to_owned(),
        }
    }

    /// The generated credential of a robot.
    pub fn login(&self, member: &str, robot: &str) -> Login {
        let path = self.credential(member, robot).join("config.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Login::from_docker_config(&text, &self.listen.to_string())
    }

    /// What the process has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Whether a credential of a robot is there.
    pub fn has_login(&self, member: &str, robot: &str) -> bool {
        self.credential(member, robot).join("config.json").exists()
    }

    /// The folder of a robot's generated credential.
    pub fn credential(&self, member: &str, robot: &str) -> PathBuf {
        self.data.join(format!("credentials/default/{member}/{robot}"))
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

impl Certificates {
    async fn make(folder: &Path, address: &str) -> Self {
        let trust = folder.join("trust");
        std::fs::create_dir_all(&trust).expect("the folder can be written");
        let (authority, certificate, key) = (trust.join("ca.crt"), folder.join("tls.crt"), folder.join("tls.key"));
        let authority_key = folder.join("ca.key");
        let request = |subject: &str, key: &Path, certificate: &Path| {
            let command = Command::new("openssl").args(["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"]);
            let command = command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", subject]);
            command.arg("-keyout").arg(key).arg("-out").arg(certificate)
        };
        request("/CN=authority", &authority_key, &authority).run().await;
        request("/CN=registry", &key, &certificate)
            .args(["-addext", &format!("subjectAltName=IP:{address}"), "-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-CA")
            .arg(authority)
            .arg("-CAkey")
            .arg(authority_key)
            .run()
            .await;
        Self { trust, certificate, key }
    }
}

/// Two that are asked for at the same time are different; that nobody else takes it in between is likely enough.
fn free_port(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a port is free");
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
