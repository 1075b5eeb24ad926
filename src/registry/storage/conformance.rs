//! The clauses of [`ObjectStore`], one test each, for every back end.
//!
//! After each clause the back end is looked at for leftovers.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::{join_all, try_join_all};

use super::filesystem::FilesystemStore;
use super::memory::MemoryStore;
#[cfg(feature = "s3")]
use super::s3::{Purpose, S3Store, server::S3Server};
use super::*;

/// A store to be tested, and what to look at afterwards.
trait Subject {
    fn store(&self) -> Arc<dyn ObjectStore>;
    /// Fails if there is anything that is neither an object nor a staged upload.
    fn check_leftovers(&self);
}

impl Subject for MemoryStore {
    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    fn check_leftovers(&self) {}
}

struct Folder {
    store: FilesystemStore,
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: FilesystemStore::open(folder.path()).unwrap(), folder }
    }
}

impl Subject for Folder {
    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    fn check_leftovers(&self) {
        let in_tmp: Vec<_> = std::fs::read_dir(self.folder.path().join("tmp")).unwrap().collect();
        assert!(in_tmp.is_empty(), "{in_tmp:?}");
    }
}

/// A bucket of a real service.
#[cfg(feature = "s3")]
struct Bucket {
    store: S3Store,
    server: S3Server,
}

#[cfg(feature = "s3")]
impl Bucket {
    async fn new() -> Self {
        let server = S3Server::start();
        let store = S3Store::connect(&server.settings(), Purpose::Write).await.unwrap();
        assert!(store.conditional().is_complete());
        Self { store, server }
    }
}

#[cfg(feature = "s3")]
impl Subject for Bucket {
    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    fn check_leftovers(&self) {
        let mut files = self.server.files();
        files.retain(|file| !file.starts_with("objects/"));
        assert_eq!(files, [""; 0]);
    }
}

macro_rules! conformance {
    ($($(#[$doc:meta])* async fn $clause:ident($store:ident) $body:block)*) => {
        mod clauses {
            use super::*;
            $($(#[$doc])* pub async fn $clause($store: Arc<dyn ObjectStore>) $body)*
        }
        conformance!(@back_end memory, [], MemoryStore::new(), $($clause)*);
        conformance!(@back_end filesystem, [], Folder::new(), $($clause)*);
        #[cfg(feature = "s3")]
        conformance!(@back_end s3, [#[ignore = "needs a service: make test"]], Bucket::new().await, $($clause)*);
    };
    (@back_end $name:ident, $attributes:tt, $subject:expr, $($clause:ident)*) => {
        mod $name {
            use super::*;
            $(conformance!(@test $attributes, $subject, $clause);)*
        }
    };
    (@test [$(#[$attribute:meta])*], $subject:expr, $clause:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $clause() {
            let subject = $subject;
            clauses::$clause(subject.store()).await;
            assert_eq!(subject.store().stage_list(None, 1).await.unwrap(), []);
            subject.check_leftovers();
        }
    };
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn prefix(text: &str) -> Prefix {
    Prefix::new(text).unwrap()
}

async fn put(store: &Arc<dyn ObjectStore>, at: &str, content: &'static str) -> Version {
    store.put(&key(at), Bytes::from_static(content.as_bytes()), Condition::Always).await.unwrap()
}

async fn read_all(body: BodyStream) -> Vec<u8> {
    body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap()
}

async fn read(store: &Arc<dyn ObjectStore>, at: &str) -> Vec<u8> {
    read_all(store.get(&key(at), None).await.unwrap().body).await
}

/// More than a few pieces of any back end, and no two parts alike.
fn large() -> Bytes {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

async fn texts(store: &Arc<dyn ObjectStore>, below: &str, delimiter: bool) -> Vec<String> {
    let page = store.list(&prefix(below), None, 100, delimiter).await.unwrap();
    assert!(!page.more);
    page.entries.iter().map(|entry| entry.as_str().to_owned()).collect()
}

async fn stage(store: &Arc<dyn ObjectStore>, content: &'static str) -> StageId {
    let id = StageId::random();
    store.stage_create(&id).await.unwrap();
    let mut writer = store.stage_append(&id, 0).await.unwrap();
    writer.write(vec![Bytes::from_static(content.as_bytes())]).await.unwrap();
    assert_eq!(writer.finish(Bytes::new()).await.unwrap(), content.len() as u64);
    id
}

macro_rules! assert_error {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("succeeded"),
        }
    };
}

conformance! {
    async fn reads_what_was_put(store) {
        let version = put(&store, "a/b", "content").await;
        let object = store.get(&key("a/b"), None).await.unwrap();
        assert_eq!((object.meta.size, object.range), (7, 0..7));
        assert_eq!(object.meta.version, version);
        assert_eq!(read_all(object.body).await, b"content");
        let meta = store.head(&key("a/b")).await.unwrap();
        assert_eq!((meta.size, meta.version), (7, version));
    }

    async fn reads_an_empty_object(store) {
        put(&store, "empty", "").await;
        assert_eq!(read(&store, "empty").await, b"");
    }

    async fn reads_content_of_many_pieces(store) {
        store.put(&key("large"), large(), Condition::Always).await.unwrap();
        let body = store.get(&key("large"), None).await.unwrap().body;
        let pieces: Vec<Bytes> = body.try_collect().await.unwrap();
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= 1 << 20));
        assert_eq!(pieces.concat(), large());
    }

    async fn reads_a_range(store) {
        store.put(&key("large"), large(), Condition::Always).await.unwrap();
        let size = large().len() as u64;
        let cases = [
            (ByteRange::Inclusive(1, 3), 1..4),
            (ByteRange::Inclusive(262_143, 524_288), 262_143..524_289),
            (ByteRange::From(size - 1), size - 1..size),
            (ByteRange::Suffix(5), size - 5..size),
            (ByteRange::Inclusive(7, u64::MAX), 7..size),
            (ByteRange::Suffix(u64::MAX), 0..size),
        ];
        for (range, expected) in cases {
            let object = store.get(&key("large"), Some(range)).await.unwrap();
            assert_eq!((object.meta.size, object.range.clone()), (size, expected.clone()));
            let content = read_all(object.body).await;
            assert!(content == large()[expected.start as usize..expected.end as usize], "{range:?}");
        }
    }

    async fn puts_several_objects_at_once(store) {
        let old = put(&store, "b", "old").await;
        put(&store, "d/1", "there").await;
        let one = |at: &str, content: &'static str, condition| Put { key: key(at), content: content.into(), condition };
        let puts = vec![
            one("a", "", Condition::IfAbsent),
            one("b", "new", Condition::IfVersion(old)),
            one("c", "c", Condition::Always),
            one("d/1", "other", Condition::IfAbsent),
            one("d/2", "two", Condition::IfAbsent),
        ];
        store.put_all(puts).await.unwrap();
        assert_eq!(texts(&store, "", false).await, ["a", "b", "c", "d/1", "d/2"]);
        for (at, content) in [("a", ""), ("b", "new"), ("c", "c"), ("d/1", "there"), ("d/2", "two")] {
            assert_eq!(read(&store, at).await, content.as_bytes(), "{at}");
        }
    }

    async fn says_that_one_of_several_objects_has_changed(store) {
        let old = put(&store, "a", "old").await;
        put(&store, "a", "new").await;
        let stale = Put { key: key("a"), content: "stale".into(), condition: Condition::IfVersion(old) };
        assert_error!(store.put_all(vec![stale]).await, StorageError::PreconditionFailed(_));
        assert_eq!(read(&store, "a").await, b"new");
    }

    async fn refuses_a_range_outside_of_the_object(store) {
        put(&store, "a", "content").await;
        let greatest = ByteRange::Inclusive(u64::MAX, u64::MAX);
        for range in [ByteRange::From(7), ByteRange::From(u64::MAX), greatest, ByteRange::Suffix(0)] {
            assert_error!(store.get(&key("a"), Some(range)).await, StorageError::RangeNotSatisfiable { size: 7 });
        }
    }

    async fn says_what_is_not_there(store) {
        put(&store, "a/b", "").await;
        for missing in ["b", "a/c", "a", "a/b/c"] {
            assert_error!(store.head(&key(missing)).await, StorageError::NotFound(_));
            assert_error!(store.get(&key(missing), None).await, StorageError::NotFound(_));
            let deleted = store.delete(&key(missing), DeleteCondition::Always).await;
            assert_error!(deleted, StorageError::NotFound(_));
        }
    }

    async fn put_replaces(store) {
        let old = put(&store, "a", "old").await;
        let new = put(&store, "a", "new").await;
        assert_ne!(old, new);
        assert_eq!(read(&store, "a").await, b"new");
    }

    async fn a_reader_goes_on_with_what_it_started_with(store) {
        store.put(&key("a"), large(), Condition::Always).await.unwrap();
        let replaced = store.get(&key("a"), None).await.unwrap();
        put(&store, "a", "new").await;
        assert!(read_all(replaced.body).await == large());
        store.put(&key("a"), large(), Condition::Always).await.unwrap();
        let deleted = store.get(&key("a"), None).await.unwrap();
        store.delete(&key("a"), DeleteCondition::Always).await.unwrap();
        assert!(read_all(deleted.body).await == large());
    }

    async fn put_if_absent_keeps_what_is_there(store) {
        let content = || Bytes::from_static(b"first");
        store.put(&key("a/b"), content(), Condition::IfAbsent).await.unwrap();
        let second = store.put(&key("a/b"), Bytes::from_static(b"second"), Condition::IfAbsent).await;
        assert_error!(second, StorageError::PreconditionFailed(_));
        assert_eq!(read(&store, "a/b").await, b"first");
        store.delete(&key("a/b"), DeleteCondition::Always).await.unwrap();
        store.put(&key("a/b"), content(), Condition::IfAbsent).await.unwrap();
    }

    async fn put_if_absent_has_one_winner(store) {
        let puts = (0..16u8).map(|task| {
            let store = store.clone();
            tokio::spawn(async move { store.put(&key("x/a"), vec![task].into(), Condition::IfAbsent).await })
        });
        let results: Vec<_> = join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..16u8).filter(|&task| results[usize::from(task)].is_ok()).collect();
        assert_eq!(read(&store, "x/a").await, winners);
    }

    async fn put_if_version_compares(store) {
        let swap = |content: &'static str, version| {
            let store = store.clone();
            async move { store.put(&key("a"), Bytes::from_static(content.as_bytes()), Condition::IfVersion(version)).await }
        };
        let first = put(&store, "a", "first").await;
        let second = swap("second", first.clone()).await.unwrap();
        assert_ne!(first, second);
        assert_error!(swap("late", first).await, StorageError::PreconditionFailed(_));
        assert_eq!(read(&store, "a").await, b"second");
        store.delete(&key("a"), DeleteCondition::Always).await.unwrap();
        assert_error!(swap("gone", second).await, StorageError::PreconditionFailed(_));
    }

    async fn no_increment_is_lost_with_put_if_version(store) {
        put(&store, "n", "").await;
        let increments = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    let object = store.get(&key("n"), None).await.unwrap();
                    let version = object.meta.version;
                    let mut next = read_all(object.body).await;
                    next.push(b'x');
                    match store.put(&key("n"), next.into(), Condition::IfVersion(version)).await {
                        Err(StorageError::PreconditionFailed(_)) => {}
                        other => break other.unwrap(),
                    }
                }
            })
        });
        try_join_all(increments).await.unwrap();
        assert_eq!(read(&store, "n").await, b"xxxxxxxx");
    }

    async fn delete_removes(store) {
        put(&store, "a/b", "x").await;
        store.delete(&key("a/b"), DeleteCondition::Always).await.unwrap();
        assert_error!(store.head(&key("a/b")).await, StorageError::NotFound(_));
        assert_eq!(texts(&store, "", true).await, [""; 0]);
    }

    async fn delete_if_version_compares(store) {
        let old = put(&store, "a", "old").await;
        let new = put(&store, "a", "new").await;
        let late = store.delete(&key("a"), DeleteCondition::IfVersion(old)).await;
        assert_error!(late, StorageError::PreconditionFailed(_));
        store.delete(&key("a"), DeleteCondition::IfVersion(new)).await.unwrap();
    }

    async fn refuses_an_object_below_another(store) {
        put(&store, "a/b", "x").await;
        for condition in [Condition::Always, Condition::IfAbsent] {
            for conflicting in ["a", "a/b/c", "a/b/c/d"] {
                let put = store.put(&key(conflicting), Bytes::from_static(b"y"), condition.clone()).await;
                assert_error!(put, StorageError::KeyConflict(_));
            }
        }
        assert_eq!(texts(&store, "", false).await, ["a/b"]);
        store.delete(&key("a/b"), DeleteCondition::Always).await.unwrap();
        put(&store, "a", "x").await;
    }

    /// `,` sorts before `/`, `0` behind it: a folder's place among its neighbours is that of its name with a slash.
    async fn lists_in_byte_order_of_the_keys(store) {
        for at in ["a/z", "a,b", "a0", "a/b/c", "B", "b", "a/,"] {
            put(&store, at, "").await;
        }
        assert_eq!(texts(&store, "", false).await, ["B", "a,b", "a/,", "a/b/c", "a/z", "a0", "b"]);
        assert_eq!(texts(&store, "", true).await, ["B", "a,b", "a/", "a0", "b"]);
        assert_eq!(texts(&store, "a/", true).await, ["a/,", "a/b/", "a/z"]);
        assert_eq!(texts(&store, "a/", false).await, ["a/,", "a/b/c", "a/z"]);
    }

    async fn tells_objects_from_prefixes(store) {
        put(&store, "a/b", "").await;
        put(&store, "b", "").await;
        let page = store.list(&Prefix::all(), None, 10, true).await.unwrap();
        assert_eq!(page.entries, [Entry::Prefix(prefix("a/")), Entry::Object(key("b"))]);
    }

    async fn lists_nothing_below_what_is_not_there(store) {
        put(&store, "a", "").await;
        assert_eq!(texts(&store, "b/", false).await, [""; 0]);
        assert_eq!(texts(&store, "a/", true).await, [""; 0]);
    }

    async fn pages_add_up_to_the_whole(store) {
        for at in ["a/1", "a/2/x", "a/2/y", "a/2,", "a/3", "b/1", "c"] {
            put(&store, at, "").await;
        }
        for (below, delimiter) in [("", false), ("", true), ("a/", false), ("a/", true)] {
            let whole = texts(&store, below, delimiter).await;
            for limit in 1..5 {
                let mut seen: Vec<String> = Vec::new();
                loop {
                    let page = store.list(&prefix(below), seen.last().map(String::as_str), limit, delimiter).await.unwrap();
                    assert_eq!(page.entries.len(), limit.min(whole.len() - seen.len()));
                    seen.extend(page.entries.iter().map(|entry| entry.as_str().to_owned()));
                    assert_eq!(page.more, seen.len() < whole.len());
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(seen, whole, "{below:?} {delimiter} {limit}");
            }
        }
    }

    async fn lists_after_what_is_not_there(store) {
        for at in ["a", "c/1", "d"] {
            put(&store, at, "").await;
        }
        for (after, expected) in [("", 3), ("b", 2), ("c/0", 2), ("c/1/2", 1), ("c0", 1), ("e", 0)] {
            let page = store.list(&Prefix::all(), Some(after), 10, false).await.unwrap();
            assert_eq!(page.entries.len(), expected, "{after}");
        }
    }

    async fn a_page_without_room_says_whether_there_is_more(store) {
        let page = |store: Arc<dyn ObjectStore>| async move { store.list(&Prefix::all(), None, 0, false).await.unwrap() };
        assert_eq!(page(store.clone()).await, Page { entries: vec![], more: false });
        put(&store, "a", "").await;
        assert_eq!(page(store.clone()).await, Page { entries: vec![], more: true });
    }

    async fn publishes_what_was_appended_over_several_writers(store) {
        let id = stage(&store, "one ").await;
        assert_eq!(store.stage_state(&id).await.unwrap().length, 4);
        let mut writer = store.stage_append(&id, 4).await.unwrap();
        let pieces = ["two ", "", "three"].map(|piece| Bytes::from_static(piece.as_bytes()));
        writer.write(pieces.to_vec()).await.unwrap();
        writer.write(vec![]).await.unwrap();
        assert_eq!(texts(&store, "", false).await, [""; 0]);
        writer.publish(&key("a/b")).await.unwrap();
        assert_eq!(read(&store, "a/b").await, b"one two three");
        assert_error!(store.stage_state(&id).await, StorageError::NotFound(_));
    }

    async fn a_memo_is_told_with_its_length_only(store) {
        let id = StageId::random();
        store.stage_create(&id).await.unwrap();
        assert_eq!(store.stage_state(&id).await.unwrap(), StageState::default());
        let mut writer = store.stage_append(&id, 0).await.unwrap();
        writer.write(vec![Bytes::from_static(b"abc")]).await.unwrap();
        writer.finish(Bytes::from_static(b"memo")).await.unwrap();
        let known = StageState { length: 3, memo: Some(Bytes::from_static(b"memo")) };
        assert_eq!(store.stage_state(&id).await.unwrap(), known);
        let mut writer = store.stage_append(&id, 3).await.unwrap();
        writer.write(vec![large()]).await.unwrap();
        drop(writer);
        let state = store.stage_state(&id).await.unwrap();
        assert!(state.length == 3 || state.memo.is_none(), "{state:?}");
        store.stage_abort(&id).await.unwrap();
    }

    async fn publishing_an_existing_key_keeps_it(store) {
        let version = put(&store, "a", "x").await;
        let id = stage(&store, "x").await;
        store.stage_append(&id, 1).await.unwrap().publish(&key("a")).await.unwrap();
        assert_eq!(store.head(&key("a")).await.unwrap().version, version);
        assert_error!(store.stage_state(&id).await, StorageError::NotFound(_));
    }

    async fn publishing_below_an_object_is_refused(store) {
        put(&store, "a", "x").await;
        let id = stage(&store, "y").await;
        let published = store.stage_append(&id, 1).await.unwrap().publish(&key("a/b")).await;
        assert_error!(published, StorageError::KeyConflict(_));
        store.stage_abort(&id).await.unwrap();
    }

    async fn a_published_object_is_like_any_other(store) {
        let id = stage(&store, "x").await;
        store.stage_append(&id, 1).await.unwrap().publish(&key("a")).await.unwrap();
        let version = store.head(&key("a")).await.unwrap().version;
        store.put(&key("a"), Bytes::from_static(b"y"), Condition::IfVersion(version)).await.unwrap();
        assert_eq!(read(&store, "a").await, b"y");
    }

    async fn one_writer_at_a_time(store) {
        let id = stage(&store, "").await;
        let writer = store.stage_append(&id, 0).await.unwrap();
        assert_error!(store.stage_append(&id, 0).await, StorageError::Busy(_));
        assert_error!(store.stage_abort(&id).await, StorageError::Busy(_));
        drop(writer);
        store.stage_append(&id, 0).await.unwrap().finish(Bytes::new()).await.unwrap();
        store.stage_append(&id, 0).await.unwrap().finish(Bytes::new()).await.unwrap();
        store.stage_abort(&id).await.unwrap();
    }

    async fn appends_only_at_the_end(store) {
        let id = stage(&store, "abc").await;
        for at in [0, 2, 4] {
            assert_error!(store.stage_append(&id, at).await, StorageError::PreconditionFailed(_));
        }
        store.stage_append(&id, 3).await.unwrap();
        store.stage_abort(&id).await.unwrap();
    }

    async fn a_dropped_writer_leaves_a_prefix_of_what_it_wrote(store) {
        let id = stage(&store, "abc").await;
        let mut writer = store.stage_append(&id, 3).await.unwrap();
        writer.write(vec![Bytes::from_static(b"def")]).await.unwrap();
        drop(writer);
        let length = store.stage_state(&id).await.unwrap().length;
        let content = read_all(store.stage_read(&id).await.unwrap()).await;
        assert!(length >= 3 && content.len() as u64 == length && b"abcdef".starts_with(&content));
        store.stage_append(&id, length).await.unwrap();
        store.stage_abort(&id).await.unwrap();
    }

    async fn a_staged_upload_can_be_read_while_a_writer_is_open(store) {
        let id = stage(&store, "").await;
        let mut writer = store.stage_append(&id, 0).await.unwrap();
        writer.write(vec![large()]).await.unwrap();
        let length = writer.finish(Bytes::new()).await.unwrap();
        let writer = store.stage_append(&id, length).await.unwrap();
        assert!(read_all(store.stage_read(&id).await.unwrap()).await == large());
        writer.publish(&key("a")).await.unwrap();
        assert!(read(&store, "a").await == large());
    }

    async fn an_aborted_staged_upload_is_gone(store) {
        let id = stage(&store, "abc").await;
        store.stage_abort(&id).await.unwrap();
        assert_error!(store.stage_abort(&id).await, StorageError::NotFound(_));
        assert_error!(store.stage_state(&id).await, StorageError::NotFound(_));
        assert_error!(store.stage_read(&id).await, StorageError::NotFound(_));
        assert_error!(store.stage_append(&id, 0).await, StorageError::NotFound(_));
    }

    async fn a_staged_upload_is_created_once(store) {
        let id = stage(&store, "abc").await;
        assert_error!(store.stage_create(&id).await, StorageError::PreconditionFailed(_));
        assert_eq!(store.stage_state(&id).await.unwrap().length, 3);
        store.stage_abort(&id).await.unwrap();
    }

    async fn lists_staged_uploads_in_pages(store) {
        let mut ids = [stage(&store, "a").await, stage(&store, "b").await, stage(&store, "c").await];
        ids.sort();
        let list = |after: Option<StageId>, limit| {
            let store = store.clone();
            async move {
                let listed = store.stage_list(after.as_ref(), limit).await.unwrap();
                listed.iter().map(|stage| stage.id).collect::<Vec<_>>()
            }
        };
        assert_eq!(list(None, 10).await, ids);
        assert_eq!(list(None, 2).await, ids[..2]);
        assert_eq!(list(Some(ids[1]), 2).await, ids[2..]);
        assert_eq!(list(Some(ids[2]), 2).await, []);
        for id in ids {
            store.stage_abort(&id).await.unwrap();
        }
    }

    async fn folders_come_and_go_under_concurrent_writers(store) {
        let tasks = (0..8).map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let at = format!("a/b/c/{task}");
                    put(&store, &at, "x").await;
                    assert_eq!(read(&store, &at).await, b"x");
                    store.delete(&key(&at), DeleteCondition::Always).await.unwrap();
                }
            })
        });
        try_join_all(tasks).await.unwrap();
        assert_eq!(texts(&store, "", true).await, [""; 0]);
    }
}
