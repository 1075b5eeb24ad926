//! Signing keys and robots' credentials as files, readable by the owner alone.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::FileError;
use crate::api::v1alpha1::{Project, Role};
use crate::policy::compile::claims;
use crate::policy::{Inputs, KeyPlan, KeyRing, KeySet, SigningKey, docker_config_json};

/// Where the credential of a robot lies.
#[derive(Clone, Debug)]
pub struct RobotFiles {
    pub member: String,
    pub robot: String,
    pub username: String,
    pub pushes: bool,
    /// Path of its Project; none for a member of the whole Registry.
    pub project: Option<String>,
    /// A folder with `config.json` (the form of a docker configuration), `username` and `password`.
    pub folder: PathBuf,
}

fn state(path: &Path) -> impl Fn(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::State { path: path.clone(), source }
}

/// Reads the keys below `root`; makes one at the first start.
pub(super) fn open_keys(root: &Path, now: Timestamp) -> Result<KeyRing, FileError> {
    let folder = root.join("keys");
    make_folder(&folder)?;
    let path = folder.join(KeySet::CURRENT_FILE);
    let key_error = |source| FileError::Key { path: folder.clone(), source };
    if !path.exists() {
        let key = SigningKey::from_seed(&rand::random()).map_err(key_error)?;
        write_keys(&folder, &KeyRing::new(key, now))?;
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(state(&folder))? {
        let path = entry.map_err(state(&folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".pem") || name.ends_with(".json") {
            files.push((name, fs::read(&path).map_err(state(&path))?));
        }
    }
    let files = files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
    KeyRing::from_files(files, now).map_err(key_error)
}

/// Brings the keys a step forward, if it is time.
pub(super) fn rotate_keys(root: &Path, ring: KeyRing, inputs: &Inputs, now: Timestamp) -> Result<KeyRing, FileError> {
    let folder = root.join("keys");
    let rotation = inputs.registry.spec.authentication.signing_key_rotation.as_ref();
    let rotation = rotation.map(|rotation| SignedDuration::from_secs(rotation.as_secs() as i64));
    let needed_until = |stopped| {
        let (projects, members) = (inputs.projects.iter(), inputs.members.iter());
        claims::key_needed_until(projects.map(|project| &**project), members.map(|member| &**member), stopped)
    };
    let plan = ring.advance(rotation, needed_until, now, || SigningKey::from_seed(&rand::random()));
    let KeyPlan { ring, steps, is_held, .. } =
        plan.map_err(|source| FileError::Key { path: folder.clone(), source })?;
    if !steps.is_empty() {
        tracing::info!(?steps, "signing keys changed");
        write_keys(&folder, &ring)?;
    }
    if is_held {
        tracing::warn!("the signing key is not replaced: set rotation or expiresAt in the Members with robots");
    }
    Ok(ring)
}

/// The signing key last, and only then takes away what is gone: a crash on the way leaves every key that counts.
fn write_keys(folder: &Path, ring: &KeyRing) -> Result<(), FileError> {
    let mut files: Vec<_> = ring.to_files().into_iter().collect();
    files.sort_by_key(|(name, _)| name == KeySet::CURRENT_FILE);
    for (name, content) in &files {
        write_private(&folder.join(name), content)?;
    }
    for entry in fs::read_dir(folder).map_err(state(folder))? {
        let path = entry.map_err(state(folder))?.path();
        let is_key = path.extension().is_some_and(|extension| extension == "pem");
        if is_key && !files.iter().any(|(name, _)| path.ends_with(name)) {
            fs::remove_file(&path).map_err(state(&path))?;
        }
    }
    Ok(())
}

/// Writes the credentials of all robots, and removes those of robots that are no more.
pub(super) fn write(
    root: &Path,
    inputs: &Inputs,
    hosts: &[String],
    keys: &KeySet,
    now: Timestamp,
) -> Result<Vec<RobotFiles>, FileError> {
    let all = root.join("credentials");
    make_folder(&all)?;
    let mut written = Vec::new();
    for member in &inputs.members {
        for robot in member.robots() {
            let Some(issued) = claims::robot(&inputs.registry, member, robot, now) else { continue };
            let username = issued.claims.subject.username();
            let sign_error = |error| FileError::State { path: all.clone(), source: io::Error::other(error) };
            let password = issued.claims.sign(keys).map_err(sign_error)?;
            let namespace = member.namespace().unwrap_or_default();
            let folder = all.join(namespace).join(member.name_any()).join(&robot.name);
            make_folder(&folder)?;
            let hosts = hosts.iter().chain(&inputs.registry.spec.hostnames).map(String::as_str);
            let config = docker_config_json(hosts, &username, &password);
            for (name, content) in [("config.json", &config), ("username", &username), ("password", &password)] {
                write_private(&folder.join(name), content.as_bytes())?;
            }
            let project = member.spec.project_ref.as_ref().and_then(|reference| {
                let named = |project: &&Arc<Project>| {
                    project.name_any() == reference.name && project.namespace() == member.namespace()
                };
                inputs.projects.iter().find(named).map(|project| project.path().to_owned())
            });
            let pushes = member.spec.role >= Role::Developer;
            let (member, robot) = (member.name_any(), robot.name.clone());
            written.push(RobotFiles { member, robot, username, pushes, project, folder });
        }
    }
    remove_others(&all, &written)?;
    Ok(written)
}

/// Removes the folders of robots that are no more.
fn remove_others(folder: &Path, written: &[RobotFiles]) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(state(folder))? {
        let path = entry.map_err(state(folder))?.path();
        if !path.is_dir() || written.iter().any(|robot| robot.folder == path) {
            continue;
        }
        if written.iter().any(|robot| robot.folder.starts_with(&path)) {
            remove_others(&path, written)?;
        } else {
            fs::remove_dir_all(&path).map_err(state(&path))?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(state(path))
}

/// Writes a file whole or not at all, and only if its content differs.
fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    if fs::read(path).is_ok_and(|existing| existing == content) {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    // Left by a process that was killed; opening it again would keep its mode.
    let _ = fs::remove_file(&temporary);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(state(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn inputs(manifests: &str) -> Inputs {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), manifests).unwrap();
        super::super::read(folder.path()).unwrap()
    }

    const MANIFESTS: &str = "apiVersion: landfast.dev/v1alpha1
kind: Registry
metadata: {name: r}
spec: {storage: {emptyDir: {}}}
---
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: m}
spec: {registryRef: {name: r}, role: Developer, subjects: [{kind: Robot, name: ci}]}
";

    #[test]
    fn keys_and_credentials_outlive_a_restart_and_are_private() {
        let root = tempfile::tempdir().unwrap();
        let first = open_keys(root.path(), Timestamp::now()).unwrap().keys();
        assert_eq!(open_keys(root.path(), Timestamp::now()).unwrap().keys().current().id(), first.current().id());
        let robots =
            write(root.path(), &inputs(MANIFESTS), &["localhost:5000".to_owned()], &first, Timestamp::now()).unwrap();
        let password = fs::read_to_string(robots[0].folder.join("password")).unwrap();
        let again = write(root.path(), &inputs(MANIFESTS), &[], &first, Timestamp::now()).unwrap();
        assert_eq!(fs::read_to_string(again[0].folder.join("password")).unwrap(), password);
        for path in [root.path().join("keys/signing.pem"), robots[0].folder.join("password")] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn the_credential_of_a_removed_robot_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let keys = open_keys(root.path(), Timestamp::now()).unwrap().keys();
        let robots = write(root.path(), &inputs(MANIFESTS), &[], &keys, Timestamp::now()).unwrap();
        assert!(robots[0].folder.exists());
        let without = MANIFESTS.split("---").next().unwrap();
        assert!(write(root.path(), &inputs(without), &[], &keys, Timestamp::now()).unwrap().is_empty());
        assert!(!robots[0].folder.exists());
    }

    #[test]
    fn keys_are_replaced_step_by_step_and_each_is_trusted_throughout() {
        let root = tempfile::tempdir().unwrap();
        let spec = "spec: {storage: {emptyDir: {}}";
        let rotating = MANIFESTS.replacen(spec, &format!("{spec}, authentication: {{signingKeyRotation: 10d}}"), 1);
        let rotating = rotating.replace("role: Developer,", "role: Developer, rotation: 1d,");
        let inputs = inputs(&rotating);
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let at = |now| rotate_keys(root.path(), open_keys(root.path(), now).unwrap(), &inputs, now).unwrap().keys();
        let first = at(day(0)).current().id().to_owned();
        let count = || fs::read_dir(root.path().join("keys")).unwrap().count();
        assert_eq!(count(), 2, "a key and its date");
        assert_eq!(at(day(9)).current().id(), first, "the next one is there and does not sign");
        assert_eq!(count(), 3);
        let switched = at(day(10));
        assert_ne!(switched.current().id(), first);
        assert!(switched.trusted().any(|key| key.id() == first));
        assert_eq!(count(), 3);
        assert!(!at(day(13)).trusted().any(|key| key.id() == first), "two days of robots and two of tokens are over");
        assert_eq!(count(), 2);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_an_error_and_is_kept() {
        let root = tempfile::tempdir().unwrap();
        open_keys(root.path(), Timestamp::now()).unwrap();
        let path = root.path().join("keys/signing.pem");
        fs::write(&path, "garbage").unwrap();
        assert!(matches!(open_keys(root.path(), Timestamp::now()), Err(FileError::Key { .. })));
        assert_eq!(fs::read_to_string(path).unwrap(), "garbage");
    }
}
