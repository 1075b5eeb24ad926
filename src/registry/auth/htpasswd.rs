//! The file of users and passwords, read again when it changes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use super::Live;
use crate::policy::htpasswd::MAX_FILE;
use crate::policy::{HtpasswdError, Users};

const INTERVAL: Duration = Duration::from_millis(500);

/// Why the file can't be used. It names the file; the line is in its source's text.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdFileError {
    #[error("can't read the password file {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the password file {path} can't be used: {source}")]
    Content { path: PathBuf, source: HtpasswdError },
}

/// A file as `htpasswd -B` writes it.
///
/// # Guarantees
/// A change is in force about a second later. A file that can't be used leaves the users as they were, and the log says
/// what to mend, the metrics that there is something. One that is gone leaves nobody: taking it away is a way of taking access away.
pub struct HtpasswdFile {
    path: PathBuf,
    live: Arc<Live>,
    /// What the last look found, and what was found when the users were last replaced or a file was refused.
    seen: Option<Found>,
    decided: Option<Found>,
    /// Whether what was decided about is in force.
    is_in_force: bool,
}

/// The file's content; `None`: there is none.
type Found = Option<Vec<u8>>;

impl HtpasswdFile {
    pub fn new(path: PathBuf, live: Arc<Live>) -> Self {
        Self { path, live, seen: None, decided: None, is_in_force: false }
    }

    /// Reads the file for the first time.
    pub async fn load(&mut self) -> Result<(), HtpasswdFileError> {
        self.live.note_password_file(false);
        let found = self.read().await?;
        let missing = || HtpasswdFileError::Read { path: self.path.clone(), source: io::ErrorKind::NotFound.into() };
        let result = found.as_deref().ok_or_else(missing).and_then(|content| self.take(content));
        self.decide(found.clone(), result.is_ok());
        self.seen = Some(found);
        result
    }

    /// Looks at the file from time to time, until it is told to stop.
    pub async fn watch(mut self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            if let Err(error) = self.look().await {
                tracing::error!(%error, "the users stay as they were");
            }
        }
    }

    /// An error is told once for each change of the file.
    async fn look(&mut self) -> Result<(), HtpasswdFileError> {
        let found = match self.read().await {
            Ok(found) => found,
            // Told when it begins.
            Err(error) => {
                self.live.note_password_file(false);
                return if self.seen.take().is_some() { Err(error) } else { Ok(()) };
            }
        };
        // A file that is being written is left alone until it looks the same twice.
        let settled = self.seen.as_ref() == Some(&found);
        self.seen = Some(found.clone());
        if self.decided.as_ref() == Some(&found) {
            // It could perhaps not be read in between.
            self.live.note_password_file(self.is_in_force);
            return Ok(());
        }
        if !settled {
            return Ok(());
        }
        let result = match &found {
            Some(content) => self.take(content),
            None => {
                tracing::warn!(path = %self.path.display(), "the password file is gone: none of its users can log in");
                self.live.publish_users(Arc::default());
                Ok(())
            }
        };
        self.decide(found.clone(), result.is_ok() && found.is_some());
        result
    }

    fn decide(&mut self, found: Found, is_in_force: bool) {
        (self.decided, self.is_in_force) = (Some(found), is_in_force);
        self.live.note_password_file(is_in_force);
    }

    fn take(&self, content: &[u8]) -> Result<(), HtpasswdFileError> {
        let path = || self.path.clone();
        let users = Users::parse(content).map_err(|source| HtpasswdFileError::Content { path: path(), source })?;
        tracing::info!(path = %self.path.display(), users = users.len(), "password file in force");
        self.live.publish_users(Arc::new(users));
        Ok(())
    }

    /// Of a file that is too large, only so much that this shows.
    async fn read(&self) -> Result<Found, HtpasswdFileError> {
        let read = async {
            let file = tokio::fs::File::open(&self.path).await?;
            let mut content = Vec::new();
            file.take(MAX_FILE as u64 + 1).read_to_end(&mut content).await?;
            Ok(content)
        };
        match read.await {
            Ok(content) => Ok(Some(content)),
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HtpasswdFileError::Read { path: self.path.clone(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{KeySet, RegistryFacts, SigningKey, Snapshot};

    fn line(name: &str) -> String {
        format!("{name}:$2y$04${}\n", ".".repeat(53))
    }

    struct Stage {
        folder: tempfile::TempDir,
        live: Arc<Live>,
        file: HtpasswdFile,
    }

    impl Stage {
        fn new() -> Self {
            let snapshot = Snapshot::new(RegistryFacts::new("r", "ns/r"));
            let live = Arc::new(Live::new());
            live.publish(Arc::new(snapshot), Arc::new(KeySet::new(SigningKey::from_seed(&[1; 32]).unwrap(), vec![])));
            let folder = tempfile::tempdir().unwrap();
            let file = HtpasswdFile::new(folder.path().join("htpasswd"), Arc::clone(&live));
            Self { folder, live, file }
        }

        fn write(&self, content: &str) {
            std::fs::write(self.folder.path().join("htpasswd"), content).unwrap();
        }

        fn has(&self, name: &str) -> bool {
            self.live.current().unwrap().users.stamp(name).is_some()
        }
    }

    #[tokio::test]
    async fn a_change_counts_once_it_looks_the_same_twice() {
        let mut stage = Stage::new();
        stage.write(&line("alice"));
        stage.file.load().await.unwrap();
        assert!(stage.has("alice"));
        stage.write(&line("bob"));
        stage.file.look().await.unwrap();
        assert!(stage.has("alice") && !stage.has("bob"));
        stage.file.look().await.unwrap();
        assert!(!stage.has("alice") && stage.has("bob"));
    }

    #[tokio::test]
    async fn a_broken_file_leaves_the_users_and_is_told_once() {
        let mut stage = Stage::new();
        stage.write(&line("alice"));
        stage.file.load().await.unwrap();
        stage.write("bob:{SHA}x\n");
        stage.file.look().await.unwrap();
        let error = stage.file.look().await.unwrap_err().to_string();
        assert!(error.contains("htpasswd") && error.contains("line 1"), "{error}");
        stage.file.look().await.unwrap();
        assert!(stage.has("alice"));
        assert_eq!(stage.live.password_file(), Some(false));
        stage.write(&line("carol"));
        for _ in 0..2 {
            stage.file.look().await.unwrap();
        }
        assert!(stage.has("carol") && !stage.has("alice"));
        assert_eq!(stage.live.password_file(), Some(true));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_for_a_while_is_told() {
        let mut stage = Stage::new();
        stage.write(&line("alice"));
        stage.file.load().await.unwrap();
        let path = stage.folder.path().join("htpasswd");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        stage.file.look().await.unwrap_err();
        assert_eq!((stage.has("alice"), stage.live.password_file()), (true, Some(false)));
        std::fs::remove_dir(&path).unwrap();
        stage.write(&line("alice"));
        stage.file.look().await.unwrap();
        assert_eq!(stage.live.password_file(), Some(true));
    }

    #[tokio::test]
    async fn a_file_that_is_gone_leaves_nobody_and_may_come_back() {
        let mut stage = Stage::new();
        assert_eq!(stage.live.password_file(), None);
        assert!(matches!(stage.file.load().await, Err(HtpasswdFileError::Read { .. })));
        assert_eq!(stage.live.password_file(), Some(false));
        for (content, expected) in [(Some(line("alice")), true), (None, false), (Some(line("alice")), true)] {
            match content {
                Some(content) => stage.write(&content),
                None => std::fs::remove_file(stage.folder.path().join("htpasswd")).unwrap(),
            }
            stage.file.look().await.unwrap();
            stage.file.look().await.unwrap();
            assert_eq!((stage.has("alice"), stage.live.password_file()), (expected, Some(expected)));
        }
    }
}
