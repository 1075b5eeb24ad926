//! An S3 service for landfast to keep its content in: versitygw on a folder of the same disk.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

const PROGRAM: &str = "versitygw";
const BUCKET: &str = "images";
const ACCESS_KEY: &str = "bench";
const SECRET_KEY: &str = "bench-secret";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The program: what `S3_SERVER` names, or one in `PATH`.
pub fn program() -> Option<PathBuf> {
    let named = std::env::var_os("S3_SERVER").map(PathBuf::from).filter(|program| program.is_file());
    named.or_else(|| super::find_program(PROGRAM))
}

/// A running service. It ends when this is dropped.
pub struct Service {
    child: Child,
    address: SocketAddr,
    credentials: PathBuf,
}

impl Service {
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = program().context("there is no S3 service")?;
        let (objects, credentials) = (folder.join("objects"), folder.join("credentials"));
        fs::create_dir_all(objects.join(BUCKET))?;
        fs::create_dir_all(&credentials)?;
        fs::write(credentials.join("accessKeyId"), ACCESS_KEY)?;
        fs::write(credentials.join("secretAccessKey"), SECRET_KEY)?;
        let address = super::free_port()?;
        let child = Command::new(&program)
            .args(["--port", &address.to_string(), "--quiet", "posix"])
            .arg(&objects)
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} can't be started", program.display()))?;
        let mut service = Self { child, address, credentials };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(service.child.try_wait()?.is_none(), "the S3 service ended");
            ensure!(started.elapsed() < START_TIMEOUT, "the S3 service doesn't answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(service)
    }

    /// What `landfast serve` is told of it.
    pub fn settings(&self) -> [String; 4] {
        [
            format!("storage.s3.bucket={BUCKET}"),
            format!("storage.s3.endpoint=http://{}", self.address),
            "storage.s3.forcePathStyle=true".to_owned(),
            format!("storage.s3.credentials={}", self.credentials.display()),
        ]
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
