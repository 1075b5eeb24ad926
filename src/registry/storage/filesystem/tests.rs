//! What is particular to a folder: who may open it, and what outlives the process.

use std::fs;

use futures::TryStreamExt;

use super::*;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test]
async fn finds_everything_again_when_it_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let id = StageId::random();
    {
        let store = FilesystemStore::open(folder.path()).unwrap();
        store.put(&key("a/b"), Bytes::from_static(b"content"), Condition::Always).await.unwrap();
        store.stage_create(&id).await.unwrap();
        let mut writer = store.stage_append(&id, 0).await.unwrap();
        writer.write(vec![Bytes::from_static(b"part")]).await.unwrap();
        writer.finish().await.unwrap();
    }
    let store = FilesystemStore::open(folder.path()).unwrap();
    assert_eq!(store.head(&key("a/b")).await.unwrap().size, 7);
    assert_eq!(store.stage_len(&id).await.unwrap(), 4);
    let content: Vec<Bytes> = store.stage_read(&id).await.unwrap().try_collect().await.unwrap();
    assert_eq!(content.concat(), b"part");
}

#[test]
fn removes_what_was_on_its_way_when_the_process_died() {
    let folder = tempfile::tempdir().unwrap();
    drop(FilesystemStore::open(folder.path()).unwrap());
    fs::write(folder.path().join("tmp/7"), "half").unwrap();
    FilesystemStore::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn two_stores_cannot_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = FilesystemStore::open(folder.path()).unwrap();
    let second = FilesystemStore::open(folder.path()).err().unwrap();
    assert!(matches!(second, OpenError::Locked { .. }));
    assert!(second.to_string().contains("in use by another"), "{second}");
    drop(first);
    FilesystemStore::open(folder.path()).unwrap();
}

#[test]
fn says_which_folder_it_cannot_use_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = FilesystemStore::open(file.join("data")).err().unwrap().to_string();
    assert!(error.contains("file/data") && error.contains("write access"), "{error}");
}

#[tokio::test]
async fn the_layout_is_as_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    store.put(&key("a/b"), Bytes::from_static(b"content"), Condition::Always).await.unwrap();
    let id = StageId::random();
    store.stage_create(&id).await.unwrap();
    assert_eq!(fs::read(folder.path().join("objects/a/b")).unwrap(), b"content");
    assert!(folder.path().join("stages").join(id.to_string()).exists());
}

#[tokio::test]
async fn what_others_put_into_the_folder_is_no_object() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    fs::write(folder.path().join("objects/not a key"), "").unwrap();
    fs::write(folder.path().join("stages/not a stage"), "").unwrap();
    fs::create_dir_all(folder.path().join("objects/empty/folder")).unwrap();
    assert_eq!(store.list(&Prefix::all(), None, 10, true).await.unwrap().entries, []);
    assert_eq!(store.list(&Prefix::all(), None, 10, false).await.unwrap().entries, []);
    assert_eq!(store.stage_list().await.unwrap(), []);
}

#[tokio::test]
async fn an_interrupted_write_ends_the_writer_but_not_the_upload() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    let id = StageId::random();
    store.stage_create(&id).await.unwrap();
    let mut writer = store.stage_append(&id, 0).await.unwrap();
    let content = Bytes::from(vec![7; 1 << 20]);
    // Polled once, then dropped: the disk goes on with it.
    drop(futures::poll!(std::pin::pin!(writer.write(vec![content]))));
    drop(writer);
    while matches!(store.stage_abort(&id).await, Err(StorageError::Busy(_))) {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.stage_list().await.unwrap(), []);
}
