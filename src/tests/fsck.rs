//! `landfast fsck` as people and scripts meet it: exit status, output, and what it says when it can't run.

use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use landfast::registry::storage::filesystem::FilesystemStore;
use landfast::registry::storage::{Condition, Key, ObjectStore};
use serde_json::Value;

/// A store with one object, in the folder where `serve --manifests` has it.
async fn store(data: &Path, key: &str) -> FilesystemStore {
    let store = FilesystemStore::open(data.join("registry")).unwrap();
    store.put(&Key::new(key).unwrap(), Bytes::new(), Condition::Always).await.unwrap();
    store
}

fn fsck(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
    command.arg("fsck").arg("--data").arg(data).args(arguments).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

const EMPTY_BLOB: &str = "blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn a_whole_store_is_checked_while_it_is_in_use() {
    let data = tempfile::tempdir().unwrap();
    let _in_use = store(data.path(), EMPTY_BLOB).await;
    // The folder of the storage itself will do too.
    for folder in [data.path(), &data.path().join("registry")] {
        let output = fsck(folder, &[]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()));
        assert!(text(&output.stderr).contains("1 objects examined"), "{output:?}");
    }
}

#[tokio::test]
async fn the_storage_of_a_configuration_is_checked() {
    let data = tempfile::tempdir().unwrap();
    let _in_use = store(data.path(), EMPTY_BLOB).await;
    let config = data.path().join("config.yaml");
    let root = data.path().join("registry");
    std::fs::write(&config, format!("storage: {{filesystem: {{root: {}}}}}\n", root.display())).unwrap();
    let run = |extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
        command.env_remove("LANDFAST_DATA").arg("fsck").arg("--config").arg(&config).args(extra).output().unwrap()
    };
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("1 objects examined"), "{output:?}");
    assert_eq!(run(&["--repair"]).status.code(), Some(2));
}

#[tokio::test]
async fn findings_are_lines_with_advice_and_repairs_are_told() {
    let data = tempfile::tempdir().unwrap();
    let key = EMPTY_BLOB.replace("b855", "b856");
    drop(store(data.path(), &key).await);
    let output = fsck(data.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let line = text(&output.stdout);
    assert!(line.starts_with(&format!("{key}: ")) && line.contains("--repair") && line.lines().count() == 1, "{line}");
    let json: Value = serde_json::from_slice(&fsck(data.path(), &["--json"]).stdout).unwrap();
    assert_eq!(
        (&json["key"], &json["problem"], &json["repaired"]),
        (&key.into(), &"corrupt-blob".into(), &false.into())
    );

    let output = fsck(data.path(), &["--repair"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).ends_with("repaired\n"), "{output:?}");
    assert_eq!(fsck(data.path(), &[]).status.code(), Some(0));
}

#[tokio::test]
async fn what_keeps_it_from_running_is_said() {
    let data = tempfile::tempdir().unwrap();
    let output = fsck(data.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("holds no registry's storage"), "{output:?}");
    let _in_use = store(data.path(), EMPTY_BLOB).await;
    let output = fsck(data.path(), &["--repair"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("in use by another landfast process"), "{output:?}");
}
