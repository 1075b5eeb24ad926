//! The policy of a Registry from a folder of manifests, for `serve` without a cluster.
//!
//! # Flow
//! The folder is looked at twice a second. When something in it has changed all of it is read, validated with the rules of
//! the CRDs, compiled and published, and the credentials of robots are written next to the data. So are the signing keys,
//! which are read again with the policy and at least once a minute, and replaced when the Registry asks for it.
//!
//! # Guarantees
//! A folder that can't be used leaves the last policy in force, and the log says what to mend. At the start it is an error.

mod credentials;
mod manifests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use self::credentials::RobotFiles;
pub use self::manifests::{DEFAULT_NAMESPACE, ManifestsError, read, read_all};
use crate::policy::{Inputs, KeyError, KeySet, Problem, compile};
use crate::registry::auth::{Live, Published};

const INTERVAL: Duration = Duration::from_millis(500);
/// Credentials that end are replaced in time, and those of an expired Member go.
const REISSUE: Duration = Duration::from_secs(60);

/// Why the folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    #[error("signing key in {path}: {source}")]
    Key { path: PathBuf, source: KeyError },
    #[error("can't read or write {path}: {source}")]
    State { path: PathBuf, source: io::Error },
    #[error("{}", .0.iter().map(|p| format!("{} {}/{}: {}", p.object.kind, p.object.namespace, p.object.name, p.message)).collect::<Vec<_>>().join("; "))]
    Policy(Vec<Problem>),
}

/// A folder of manifests, and one for keys and credentials.
pub struct FileSource {
    directory: PathBuf,
    state: PathBuf,
    /// Addresses at which clients reach the registry, for the credentials' files.
    hosts: Vec<String>,
    /// As they were when they were last read, and the same as long as they are.
    keys: Mutex<Arc<KeySet>>,
    live: Arc<Live>,
    /// Of the folder before it was read for the first time.
    fingerprint: u64,
}

/// What was put in force.
pub struct Loaded {
    pub inputs: Inputs,
    pub robots: Vec<RobotFiles>,
}

impl FileSource {
    /// Makes the signing key if there is none yet.
    pub fn open(directory: PathBuf, state: PathBuf, hosts: Vec<String>, live: Arc<Live>) -> Result<Self, FileError> {
        let keys = Mutex::new(Arc::new(credentials::open_keys(&state, Timestamp::now())?.keys()));
        let fingerprint = manifests::fingerprint(&directory);
        Ok(Self { directory, state, hosts, keys, live, fingerprint })
    }

    /// Reads the folder and puts its policy in force.
    pub fn load(&self) -> Result<Loaded, FileError> {
        let inputs = read(&self.directory)?;
        let (snapshot, problems) = compile(&inputs);
        self.live.note_problems(problems.len());
        // Nobody reads conditions here: what would be one is an error.
        if !problems.is_empty() {
            return Err(FileError::Policy(problems));
        }
        let keys = self.keys(&inputs, Timestamp::now());
        let is_new = |published: &Published| *published.snapshot != snapshot || !Arc::ptr_eq(&published.keys, &keys);
        if self.live.current().is_none_or(|published| is_new(&published)) {
            let (projects, robots) = (snapshot.projects.len(), snapshot.robots.len());
            tracing::info!(projects, robots, "policy in force");
            self.live.publish(Arc::new(snapshot), Arc::clone(&keys));
        }
        // After the policy is in force: a full disk must not hold up a revocation.
        let robots = credentials::write(&self.state, &inputs, &self.hosts, &keys, Timestamp::now())?;
        Ok(Loaded { inputs, robots })
    }

    /// The keys as they are in their folder, a step further if it is time. Where that fails the ones before stay in use: it
    /// must not hold up a change of policy.
    fn keys(&self, inputs: &Inputs, now: Timestamp) -> Arc<KeySet> {
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let read = credentials::open_keys(&self.state, now);
        match read.and_then(|ring| credentials::rotate_keys(&self.state, ring, inputs, now)) {
            Ok(ring) => {
                let read = ring.keys();
                let ids = |keys: &KeySet| keys.trusted().map(|key| key.id().to_owned()).collect::<Vec<_>>();
                if ids(&read) != ids(&known) {
                    *known = Arc::new(read);
                }
            }
            Err(error) => tracing::error!(%error, "signing keys can't be read or replaced, they stay as they were"),
        }
        Arc::clone(&known)
    }

    /// Follows the folder until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let source = Arc::new(self);
        let mut read = source.fingerprint;
        let mut seen = read;
        let mut since = tokio::time::Instant::now();
        while shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            let found = manifests::fingerprint(&source.directory);
            // A file that is being written is left alone until it looks the same twice.
            let settled = std::mem::replace(&mut seen, found) == found;
            if !settled || (found == read && since.elapsed() < REISSUE) {
                continue;
            }
            (read, since) = (found, tokio::time::Instant::now());
            let reader = Arc::clone(&source);
            let result = tokio::task::spawn_blocking(move || reader.load()).await;
            if let Ok(Err(error)) = result {
                tracing::error!(%error, "manifests can't be used, the policy stays as it was");
            }
        }
    }
}
