//! The servers that are compared: each one a process with its default configuration, on a folder of its own.

pub mod distribution;
pub mod landfast;
pub mod nginx;
pub mod s3;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::client::{Body, Client, SMALL_BUFFER, Target};
use crate::process::Tree;
use crate::trust::Trust;

/// A file of passwords: `bench:bench` by bcrypt of cost 5.
pub const HTPASSWD: &str = "bench:$2y$05$6Q3gm5bo22smxcbMtzmsxeS3xUDVrgWehyou3apZprn7icW9rpZ3G\n";

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_micros(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Landfast,
    /// The same on a bucket.
    LandfastS3,
    Distribution,
    Nginx,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Landfast, Self::LandfastS3, Self::Distribution, Self::Nginx];

    pub fn name(self) -> &'static str {
        match self {
            Self::Landfast => "landfast",
            Self::LandfastS3 => "landfast-s3",
            Self::Distribution => "Distribution",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it asks for tokens.
    pub fn is_landfast(self) -> bool {
        matches!(self, Self::Landfast | Self::LandfastS3)
    }

    /// Whether one can push to it.
    pub fn is_registry(self) -> bool {
        self != Self::Nginx
    }
}

/// How a server is asked to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Tls,
    /// Plain, with passwords of a file.
    Htpasswd,
}

/// Addresses and files that a server is started with.
pub struct Place {
    pub folder: PathBuf,
    pub address: SocketAddr,
    pub health: SocketAddr,
    pub trust: Rc<Trust>,
}

impl Place {
    /// Where a server keeps what is pushed, and nginx finds what it serves.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Writes the file of passwords.
    fn htpasswd(&self) -> anyhow::Result<PathBuf> {
        let path = self.folder.join("htpasswd");
        std::fs::write(&path, HTPASSWD)?;
        Ok(path)
    }
}

struct Running {
    child: Child,
    mode: Mode,
}

pub struct Server {
    pub kind: Kind,
    pub binary: PathBuf,
    pub place: Place,
    running: Option<Running>,
    /// Where it keeps what is pushed, if that is not its folder.
    service: Option<s3::Service>,
    /// A line of each request's head.
    authorization: String,
}

impl Server {
    /// A server that is not started yet, on an empty folder.
    pub fn new(kind: Kind, binary: PathBuf, folder: &Path, trust: Rc<Trust>) -> anyhow::Result<Self> {
        let folder = folder.join(kind.name());
        std::fs::create_dir_all(folder.join("data"))?;
        let place = Place { folder, address: free_port()?, health: free_port()?, trust };
        let service = (kind == Kind::LandfastS3).then(|| s3::Service::start(&place.folder)).transpose()?;
        Ok(Self { kind, binary, place, running: None, service, authorization: String::new() })
    }

    /// Has it run in this mode. Returns whether it was started for it.
    pub async fn ensure(&mut self, mode: Mode) -> anyhow::Result<bool> {
        if self.running.as_ref().is_some_and(|running| running.mode == mode) {
            return Ok(false);
        }
        self.restart(mode).await?;
        Ok(true)
    }

    /// Stops it if it runs, and starts it. Returns the time from the start to the first answer to a GET of `/v2/`.
    pub async fn restart(&mut self, mode: Mode) -> anyhow::Result<Duration> {
        self.stop()?;
        let mut command = match self.kind {
            Kind::Landfast | Kind::LandfastS3 => {
                let mut command = landfast::command(&self.binary, &self.place, mode)?;
                for setting in self.service.iter().flat_map(s3::Service::settings) {
                    command.arg("--set").arg(setting);
                }
                command
            }
            Kind::Distribution => distribution::command(&self.binary, &self.place, mode)?,
            Kind::Nginx => nginx::command(&self.binary, &self.place, mode)?,
        };
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let target = self.target_of(mode)?;
        let head = self.head("GET", "/v2/", "");
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("{} can't be started", self.binary.display()))?;
        self.running = Some(Running { child, mode });
        loop {
            let mut body = Vec::new();
            if let Ok(answer) = Client::new(target.clone(), SMALL_BUFFER).send(&head, Body::None, &mut body).await {
                ensure!(matches!(answer.status, 200 | 401), "status {} of /v2/", answer.status);
                return Ok(started.elapsed());
            }
            self.check_running()?;
            ensure!(started.elapsed() < START_TIMEOUT, "it doesn't answer: see {}", self.log().display());
            tokio::time::sleep(POLL).await;
        }
    }

    fn check_running(&mut self) -> anyhow::Result<()> {
        let running = self.running.as_mut().context("it is not started")?;
        match running.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended with {status}: see {}", self.log().display()),
        }
    }

    /// Ends the process as a service manager does.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        // SAFETY: a plain call; the process is our child and has not been waited for, so the number is still its own.
        unsafe { libc::kill(running.child.id().try_into()?, libc::SIGTERM) };
        let asked = Instant::now();
        while running.child.try_wait()?.is_none() {
            if asked.elapsed() > STOP_TIMEOUT {
                running.child.kill()?;
                running.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub fn log(&self) -> PathBuf {
        self.place.folder.join("server.log")
    }

    pub fn tree(&self) -> anyhow::Result<Tree> {
        Ok(Tree { root: self.running.as_ref().context("it is not started")?.child.id() })
    }

    /// How clients reach it now, with HTTP/1.1.
    pub fn target(&self) -> anyhow::Result<Target> {
        self.target_of(self.running.as_ref().context("it is not started")?.mode)
    }

    fn target_of(&self, mode: Mode) -> anyhow::Result<Target> {
        let tls = match mode {
            Mode::Tls => Some(self.place.trust.connector(b"http/1.1")?),
            Mode::Plain | Mode::Htpasswd => None,
        };
        Ok(Target { address: self.place.address, tls })
    }

    pub fn client(&self, buffer: usize) -> anyhow::Result<Client> {
        Ok(Client::new(self.target()?, buffer))
    }

    /// From now on requests carry what the server wants for these repositories: a token made for them, or nothing.
    pub async fn authorize(&mut self, repositories: &[String]) -> anyhow::Result<()> {
        if self.kind.is_landfast() {
            let token = landfast::token(self, repositories).await?;
            self.authorization = format!("Authorization: Bearer {token}\r\n");
        }
        Ok(())
    }

    /// The same with a line of one's own.
    pub fn authorize_with(&mut self, line: String) {
        self.authorization = line;
    }

    /// The head of a request: what it is, what it may do, what it takes, and `more` lines that end in CRLF.
    pub fn head(&self, method: &str, path: &str, more: &str) -> Vec<u8> {
        let (address, authorization) = (self.place.address, &self.authorization);
        let accept = crate::content::MANIFEST_TYPE;
        let fixed = format!("Host: {address}\r\nUser-Agent: bench\r\nAccept: {accept}\r\n");
        format!("{method} {path} HTTP/1.1\r\n{fixed}{authorization}{more}\r\n").into_bytes()
    }

    /// What HTTP/2 wants instead.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.strip_prefix("Authorization: ").map(str::trim_end)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.stop();
    }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Finds a program in `PATH`, and where administrators' programs are.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What a program says of its version.
pub fn version(binary: &Path) -> String {
    // nginx knows only the short form.
    let answers = ["--version", "-v"].into_iter().filter_map(|flag| Command::new(binary).arg(flag).output().ok());
    let answer = answers.into_iter().find(|answer| answer.status.success());
    let text = answer.map(|answer| [answer.stdout, answer.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown version").trim().to_owned()
}
