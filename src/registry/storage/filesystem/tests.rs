//! What is particular to a folder: who may open it, and what outlives the process.

use std::fs;

use futures::TryStreamExt;
use futures::future::{join_all, try_join_all};
use proptest::prelude::*;

use super::super::memory::MemoryStore;
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
        writer.finish(Bytes::new()).await.unwrap();
    }
    let store = FilesystemStore::open(folder.path()).unwrap();
    assert_eq!(store.head(&key("a/b")).await.unwrap().size, 7);
    assert_eq!(store.stage_state(&id).await.unwrap().length, 4);
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
    assert_eq!(store.stage_list(None, 10).await.unwrap(), []);
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
    assert_eq!(store.stage_list(None, 10).await.unwrap(), []);
}

/// Somebody else's removal, of which nobody knows yet whether it survives a power failure.
#[tokio::test]
async fn a_new_staged_upload_has_no_memo_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, id) = (FilesystemStore::open(folder.path()).unwrap(), StageId::random());
    let finish = async |memo: &'static str| {
        store.stage_create(&id).await.unwrap();
        let mut writer = store.stage_append(&id, 0).await.unwrap();
        writer.write(vec![Bytes::from_static(b"part")]).await.unwrap();
        writer.finish(Bytes::from_static(memo.as_bytes())).await.unwrap();
    };
    finish("of the first").await;
    store.stage_abort(&id).await.unwrap();
    store.stage_create(&id).await.unwrap();
    // As a writer leaves it that goes away.
    fs::write(folder.path().join("stages").join(id.to_string()), "else").unwrap();
    assert_eq!(store.stage_state(&id).await.unwrap(), StageState { length: 4, memo: None });
    // Gone in some other way than by being aborted.
    fs::remove_file(folder.path().join("stages").join(id.to_string())).unwrap();
    finish("of the second").await;
    fs::remove_file(folder.path().join("stages").join(id.to_string())).unwrap();
    store.stage_create(&id).await.unwrap();
    fs::write(folder.path().join("stages").join(id.to_string()), "more").unwrap();
    assert_eq!(store.stage_state(&id).await.unwrap().memo, None);
}

#[tokio::test]
async fn that_there_was_nothing_to_delete_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    store.put(&key("a/b"), Bytes::new(), Condition::Always).await.unwrap();
    let objects = folder.path().join("objects/a");
    let change = store.root.change_folder(&objects);
    fs::remove_file(objects.join("b")).unwrap();
    drop(change);
    let deleted = store.delete(&key("a/b"), DeleteCondition::Always).await;
    assert!(matches!(deleted, Err(StorageError::NotFound(_))));
    assert!(store.root.is_settled(&objects));
    let nowhere = store.delete(&key("x/y"), DeleteCondition::Always).await;
    assert!(matches!(nowhere, Err(StorageError::NotFound(_))));
}

/// Found there without a look at the disk, which a folder has to earn by a sync.
#[tokio::test]
async fn what_others_have_not_made_durable_yet_is_made_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    let objects = folder.path().join("objects/a");
    let link = Put { key: key("a/b"), content: Bytes::new(), condition: Condition::IfAbsent };
    store.put_all(vec![link.clone()]).await.unwrap();
    assert!(write::is_there_for_good(&store.root, &link) || store.root.open_cached(&link.key).is_none());
    drop(store.root.change_folder(&objects));
    assert!(!write::is_there_for_good(&store.root, &link));
    store.put_all(vec![link.clone()]).await.unwrap();
    assert!(store.root.is_settled(&objects));
    store.delete(&link.key, DeleteCondition::Always).await.unwrap();
    assert!(!write::is_there_for_good(&store.root, &link));
    let above = Put { key: key("a"), ..link.clone() };
    store.put_all(vec![link]).await.unwrap();
    assert!(matches!(store.put_all(vec![above]).await, Err(StorageError::KeyConflict(_))));
}

#[test]
fn a_folder_that_could_not_be_synced_is_synced_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    let missing = folder.path().join("objects/a");
    store.root.sync_folder(&missing).unwrap_err();
    assert!(!store.root.is_settled(&missing));
    store.root.make_durable(&missing).unwrap();
    assert!(!store.root.is_settled(&missing));
    store.root.sync_folder(&missing).unwrap();
    assert!(store.root.is_settled(&missing));
}

#[derive(Clone, Debug)]
enum Step {
    Put(String),
    Delete(String),
    List { below: String, after: Option<String>, limit: usize, delimiter: bool },
    Forget(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || "([ab]/){0,3}[x-z,0]";
    let below = || "([ab]/){0,2}";
    let list = (below(), proptest::option::of("([ab]/){0,3}[w-z,0]?"), 0..5usize, any::<bool>())
        .prop_map(|(below, after, limit, delimiter)| Step::List { below, after, limit, delimiter });
    let step = prop_oneof![
        3 => at().prop_map(Step::Put),
        3 => at().prop_map(Step::Delete),
        4 => list,
        1 => below().prop_map(Step::Forget),
    ];
    proptest::collection::vec(step, 1..60)
}

async fn take(step: &Step, store: &FilesystemStore, model: &MemoryStore) {
    match step {
        Step::Put(at) => {
            for store in [store as &dyn ObjectStore, model] {
                store.put(&key(at), Bytes::new(), Condition::Always).await.unwrap();
            }
        }
        Step::Delete(at) => {
            let deleted = store.delete(&key(at), DeleteCondition::Always).await.is_ok();
            assert_eq!(deleted, model.delete(&key(at), DeleteCondition::Always).await.is_ok());
        }
        Step::List { below, after, limit, delimiter } => {
            let below = Prefix::new(below.as_str()).unwrap();
            let listed = store.list(&below, after.as_deref(), *limit, *delimiter).await.unwrap();
            assert_eq!(listed, model.list(&below, after.as_deref(), *limit, *delimiter).await.unwrap());
        }
        Step::Forget(below) => store.root.names.forget(below),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_remembered_of_folders_is_what_is_in_them(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let (store, model) = (FilesystemStore::open(folder.path()).unwrap(), MemoryStore::new());
            for step in &steps {
                take(step, &store, &model).await;
            }
        });
    }
}

async fn names_in(store: &FilesystemStore, below: &str) -> Vec<String> {
    let page = store.list(&Prefix::new(below).unwrap(), None, 1000, true).await.unwrap();
    page.entries.iter().map(|entry| entry.as_str().to_owned()).collect()
}

/// Each writer has names of its own, so that it knows at any time which of them are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_remembered_stays_right_under_concurrent_writers() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    let writers = (0..4usize).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut mine = std::collections::BTreeSet::new();
            for step in 0..150usize {
                let at = format!("{}/{writer}-{}", ["a", "a/b"][step / 7 % 2], step * 31 % 13);
                if mine.remove(&at) {
                    store.delete(&key(&at), DeleteCondition::Always).await.unwrap();
                } else {
                    store.put(&key(&at), Bytes::new(), Condition::Always).await.unwrap();
                    mine.insert(at);
                }
                for below in ["a/", "a/b/"] {
                    let start = format!("{below}{writer}-");
                    let expected: Vec<_> = mine.iter().filter(|at| at.starts_with(&start)).cloned().collect();
                    let mut listed = names_in(&store, below).await;
                    listed.retain(|at| at.starts_with(&start));
                    assert_eq!(listed, expected, "{step}");
                }
                if step % 10 == writer {
                    store.root.names.forget(["a/", "a/b/"][step % 2]);
                }
            }
            for at in mine {
                store.delete(&key(&at), DeleteCondition::Always).await.unwrap();
            }
        })
    });
    try_join_all(writers).await.unwrap();
    assert_eq!(names_in(&store, "").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_folder_is_listed_again_without_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path()).unwrap();
    let puts = ["a/1", "a/2", "a/3"].map(key);
    join_all(puts.iter().map(|at| store.put(at, Bytes::new(), Condition::Always))).await;
    assert_eq!(names_in(&store, "a/").await, ["a/1", "a/2", "a/3"]);
    // Behind the store's back, which nobody does.
    fs::remove_file(folder.path().join("objects/a/2")).unwrap();
    assert_eq!(names_in(&store, "a/").await, ["a/1", "a/2", "a/3"]);
    assert!(store.delete(&puts[1], DeleteCondition::Always).await.is_err());
}
