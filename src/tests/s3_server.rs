//! An S3 service for tests: the program that `S3_SERVER` names (versitygw), on a folder of its own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::S3Storage;

pub const BUCKET: &str = "images";
pub const ACCESS_KEY: &str = "test";
pub const SECRET_KEY: &str = "test-secret";

/// A running service. It ends when this is dropped.
pub struct S3Server {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl S3Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in [BUCKET, "credentials"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let credentials = folder.path().join("credentials");
        std::fs::write(credentials.join("accessKeyId"), ACCESS_KEY).unwrap();
        std::fs::write(credentials.join("secretAccessKey"), SECRET_KEY).unwrap();
        // Free now, and nobody is given it again so soon.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut server = Self { folder, port, process: None };
        server.run();
        server
    }

    /// Starts it again, with what it has stored.
    pub fn run(&mut self) {
        let program = std::env::var("S3_SERVER").expect("S3_SERVER names the program versitygw: run `make test`");
        let mut process = Command::new(program)
            .args(["--port", &format!("127.0.0.1:{}", self.port), "--quiet", "posix"])
            .arg(self.folder.path())
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "the S3 service ended");
            assert!(started.elapsed() < Duration::from_secs(30), "the S3 service does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
    }

    /// Ends it at once, as a failure would. What it has stored stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// For a store in its bucket.
    pub fn settings(&self) -> S3Storage {
        S3Storage {
            bucket: BUCKET.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            prefix: String::new(),
            force_path_style: true,
            credentials: Some(self.credentials()),
            certificate_authority: None,
            require_conditional_writes: true,
            redirect: Default::default(),
        }
    }

    /// The folder with the files `accessKeyId` and `secretAccessKey`.
    pub fn credentials(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// What is in the bucket, as files.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// All files of the bucket, by their paths in it.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.bucket(), &mut |path| {
            found.push(path.strip_prefix(self.bucket()).unwrap().display().to_string());
        });
        found.sort();
        found
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn walk(folder: &Path, found: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found(&path) }
    }
}
