//! `landfast copy-storage` as people and scripts meet it: exit status, output, and what it says when it can't run.

use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use landfast::registry::storage::filesystem::FilesystemStore;
use landfast::registry::storage::{Condition, Key, ObjectStore};
use rstest::rstest;
use serde_json::Value;

const EMPTY_BLOB: &str = "blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

async fn store(folder: &Path, key: &str, content: &'static str) -> FilesystemStore {
    let store = FilesystemStore::open(folder).unwrap();
    store.put(&Key::new(key).unwrap(), Bytes::from_static(content.as_bytes()), Condition::Always).await.unwrap();
    store
}

fn copy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfast")).arg("copy-storage").args(arguments).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

#[tokio::test]
async fn a_folder_that_is_in_use_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from/registry"), folder.path().join("to"));
    let _in_use = store(&from, EMPTY_BLOB, "").await;
    let [data, target] = [folder.path().join("from"), to.clone()].map(|path| path.display().to_string());
    let output = copy(&["--from", &data, "--to", &target, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["copied"], &summary["problems"]), (&1.into(), &0.into()));
    assert!(text(&output.stderr).contains("1 copied"), "{output:?}");
    assert!(to.join("objects").join(EMPTY_BLOB).is_file());
}

#[tokio::test]
async fn what_is_left_out_is_a_line_and_a_status() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(&folder.path().join("from"), EMPTY_BLOB, "other").await);
    let [from, to] = ["from", "to"].map(|name| folder.path().join(name).display().to_string());
    let output = copy(&["--from", &from, "--to", &to]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("is damaged in the source"), "{output:?}");
    assert!(!folder.path().join("to/objects").join(EMPTY_BLOB).exists());
    let json = text(&copy(&["--from", &from, "--to", &to, "--json"]).stdout);
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["problem"], "DamagedBlob");
}

#[tokio::test]
async fn storage_is_taken_from_a_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("images");
    drop(store(&root, EMPTY_BLOB, "").await);
    let file = folder.path().join("serve.yaml");
    std::fs::write(&file, format!("storage: {{filesystem: {{root: {}}}}}\n", root.display())).unwrap();
    let [file, to] = [file, folder.path().join("to")].map(|path| path.display().to_string());
    let output = copy(&["--from-config", &file, "--to", &to]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[rstest]
#[case::nothing(&[], "--from")]
#[case::no_target(&["--from", "/nowhere"], "--to")]
#[case::two_sources(&["--from", "/a", "--from-distribution", "/b", "--to", "/c"], "cannot be used with")]
#[case::no_storage(&["--from", "/nowhere", "--to", "/dev/null/x"], "holds no registry's storage")]
#[case::no_distribution(&["--from-distribution", "/nowhere", "--to", "/dev/null/x"], "holds no docker/registry/v2")]
#[case::no_bucket(&["--from", "s3://", "--to", "/dev/null/x"], "names no bucket")]
fn what_can_not_be_done_says_why(#[case] arguments: &[&str], #[case] expected: &str) {
    let output = copy(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains(expected), "{output:?}");
}
