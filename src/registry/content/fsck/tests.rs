//! Each kind of damage, planted behind the store's back, and what comes of it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rstest::rstest;

use super::super::tests::{body, digest_of, image, index, large, push_blob, push_image, repository, tag};
use super::*;
use crate::oci::Digest;
use crate::registry::content::{UploadId, keys};
use crate::registry::storage::filesystem::FilesystemStore;
use crate::registry::storage::{Condition, DeleteCondition, ObjectStore};

#[derive(Default)]
struct Seen {
    found: Vec<(String, &'static str)>,
    repaired: Vec<(String, &'static str)>,
    objects: u64,
}

impl FsckObserver for Seen {
    fn found(&mut self, Finding { key, problem }: &Finding) {
        self.found.push((key.to_string(), problem.name()));
    }

    fn repaired(&mut self, Finding { key, problem }: &Finding) {
        self.repaired.push((key.to_string(), problem.name()));
    }

    fn progress(&mut self, summary: &FsckSummary) {
        self.objects = summary.objects;
    }
}

/// A folder with one of everything, and where it is.
struct Store {
    folder: tempfile::TempDir,
    store: FilesystemStore,
    content: Content,
    app: RepositoryName,
    layer: Digest,
    subject: Digest,
    referrer: Digest,
    index: Digest,
}

impl Store {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = FilesystemStore::open(folder.path()).unwrap();
        let content = Content::new(Arc::new(store.clone()));
        let app = repository("team/app");
        let layer = push_blob(&content, &app, &large()).await;
        let subject = push_image(&content, &app, "subject", Some("v1")).await;
        let signature = image("signature", &layer, Some(&subject), None);
        let referrer = digest_of(&signature);
        content.put_manifest(&app, signature).await.unwrap();
        let both = index(&[&subject, &referrer]);
        let index = digest_of(&both);
        content.put_manifest(&app, both).await.unwrap();
        content.append_upload(&UploadId::random(), None, body(b"half")).await.unwrap();
        Self { folder, store, content, app, layer, subject, referrer, index }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.path().join("objects").join(key.as_str())
    }

    async fn report(&self) -> (Seen, FsckSummary) {
        let (mut seen, pause) = (Seen::default(), Duration::ZERO);
        // As another process, while this one has the store open.
        let content = Content::new(Arc::new(FilesystemStore::open_read_only(self.folder.path()).unwrap()));
        let summary = content.fsck(FsckMode::Report { pause }, &mut seen).await.unwrap();
        (seen, summary)
    }

    async fn repair(&self) -> (Seen, FsckSummary) {
        let mut seen = Seen::default();
        let quarantine = Arc::new(self.store.clone());
        let summary = self.content.fsck(FsckMode::Repair { quarantine }, &mut seen).await.unwrap();
        (seen, summary)
    }

    async fn write(&self, key: &Key, content: &'static [u8]) {
        self.store.put(key, Bytes::from_static(content), Condition::Always).await.unwrap();
    }

    async fn delete(&self, key: &Key) {
        self.store.delete(key, DeleteCondition::Always).await.unwrap();
    }

    /// Everything in the folder.
    fn listing(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn visit(folder: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    visit(&path, all);
                } else {
                    all.push((path.clone(), std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut all = Vec::new();
        visit(self.folder.path(), &mut all);
        all.sort();
        all
    }
}

#[tokio::test]
async fn a_whole_store_has_no_findings_and_is_not_touched() {
    let store = Store::new().await;
    let before = store.listing();
    let (seen, summary) = store.report().await;
    assert_eq!((seen.found, summary.findings, summary.repaired), (vec![], 0, 0));
    assert!(seen.objects > 10 && summary.objects == seen.objects && summary.bytes > large().len() as u64);
    assert!(store.listing() == before);
    let (seen, summary) = store.repair().await;
    assert_eq!((seen.repaired, summary.findings, summary.repaired), (vec![], 0, 0));
    assert!(store.listing() == before);
}

type Plant = for<'a> fn(&'a Store) -> BoxFuture<'a, Vec<(Key, &'static str)>>;

fn corrupt_blob(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::blob(&store.layer);
        let mut content = large();
        content[70_000] ^= 1;
        std::fs::write(store.path(&key), content).unwrap();
        vec![(key, "corrupt-blob")]
    }
    .boxed()
}

fn truncated_blob(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::blob(&store.layer);
        std::fs::write(store.path(&key), b"").unwrap();
        vec![(key, "corrupt-blob")]
    }
    .boxed()
}

fn lost_blob(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        store.delete(&keys::blob(&store.layer)).await;
        vec![
            (keys::blob_link(&store.app, &store.layer), "link-to-nothing"),
            (keys::manifest(&store.app, &store.referrer), "incomplete"),
        ]
    }
    .boxed()
}

fn lost_link(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        store.delete(&keys::blob_link(&store.app, &store.layer)).await;
        vec![(keys::manifest(&store.app, &store.referrer), "incomplete")]
    }
    .boxed()
}

fn lost_child(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        store.delete(&keys::manifest(&store.app, &store.subject)).await;
        vec![
            (keys::manifest(&store.app, &store.index), "incomplete"),
            (keys::tag(&store.app, &tag("v1")), "tag-to-nothing"),
        ]
    }
    .boxed()
}

fn lost_manifest_content(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        store.delete(&keys::blob(&store.index)).await;
        vec![(keys::manifest(&store.app, &store.index), "manifest-to-nothing")]
    }
    .boxed()
}

fn damaged_manifest_record(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::manifest(&store.app, &store.index);
        store.write(&key, b"{\"mediaType\":").await;
        vec![(key, "malformed")]
    }
    .boxed()
}

fn wrong_manifest_record(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::manifest(&store.app, &store.index);
        let record = br#"{"mediaType":"application/vnd.oci.image.index.v1+json","size":1,"pushedBy":"x","pushedAt":1}"#;
        store.write(&key, record).await;
        vec![(key, "record-differs")]
    }
    .boxed()
}

fn manifest_of_another_type(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::manifest(&store.app, &store.index);
        let record =
            br#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"pushedBy":"x","pushedAt":1}"#;
        store.write(&key, record).await;
        vec![(key, "no-manifest")]
    }
    .boxed()
}

fn damaged_tag(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::tag(&store.app, &tag("v1"));
        store.write(&key, b"").await;
        vec![(key, "malformed")]
    }
    .boxed()
}

fn lost_referrer(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        store.delete(&keys::referrer(&store.app, &store.subject, &store.referrer)).await;
        vec![(keys::manifest(&store.app, &store.referrer), "referrer-missing")]
    }
    .boxed()
}

fn damaged_referrer(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::referrer(&store.app, &store.subject, &store.referrer);
        store.write(&key, b"[]").await;
        vec![(key, "malformed")]
    }
    .boxed()
}

fn stale_referrer(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let from = keys::referrer(&store.app, &store.subject, &store.referrer);
        let to = keys::referrer(&store.app, &store.index, &store.referrer);
        let entry = Bytes::from(std::fs::read(store.path(&from)).unwrap());
        store.store.put(&to, entry, Condition::Always).await.unwrap();
        vec![(to, "referrer-to-nothing")]
    }
    .boxed()
}

fn lost_catalogue_entry(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        store.delete(&keys::catalogue_entry(&store.app)).await;
        // One of its manifests, whichever comes first, says so.
        let first = [&store.subject, &store.referrer, &store.index].into_iter().min().unwrap();
        vec![(keys::manifest(&store.app, first), "not-in-catalogue")]
    }
    .boxed()
}

fn empty_repository(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let key = keys::catalogue_entry(&repository("nothing"));
        store.write(&key, b"").await;
        vec![(key, "empty-repository")]
    }
    .boxed()
}

fn strays(store: &Store) -> BoxFuture<'_, Vec<(Key, &'static str)>> {
    async move {
        let strays = ["blobs/sha256/00/x", "file", "folder/file", "repositories/app/tags/Upper"];
        let keys = strays.map(|stray| Key::new(stray).unwrap());
        for key in &keys {
            store.write(key, b"").await;
        }
        keys.map(|key| (key, "stray")).to_vec()
    }
    .boxed()
}

/// `left`: what remains for a person to do once it is repaired.
#[rstest]
#[case::corrupt_blob(corrupt_blob, &["incomplete"])]
#[case::truncated_blob(truncated_blob, &["incomplete"])]
#[case::lost_blob(lost_blob, &["incomplete"])]
#[case::lost_link(lost_link, &["incomplete"])]
#[case::lost_child(lost_child, &["incomplete"])]
#[case::lost_manifest_content(lost_manifest_content, &[])]
#[case::damaged_manifest_record(damaged_manifest_record, &[])]
#[case::wrong_manifest_record(wrong_manifest_record, &[])]
#[case::manifest_of_another_type(manifest_of_another_type, &[])]
#[case::damaged_tag(damaged_tag, &[])]
#[case::lost_referrer(lost_referrer, &[])]
#[case::damaged_referrer(damaged_referrer, &[])]
#[case::stale_referrer(stale_referrer, &[])]
#[case::lost_catalogue_entry(lost_catalogue_entry, &[])]
#[case::empty_repository(empty_repository, &[])]
#[case::strays(strays, &["stray", "stray", "stray", "stray"])]
#[tokio::test]
async fn damage_is_found_and_repaired(#[case] plant: Plant, #[case] left: &[&str]) {
    let store = Store::new().await;
    let mut expected: Vec<_> = plant(&store).await.into_iter().map(|(key, name)| (key.to_string(), name)).collect();
    expected.sort();
    let before = store.listing();
    let (mut seen, summary) = store.report().await;
    seen.found.sort();
    assert_eq!(seen.found, expected);
    assert_eq!(summary.findings, expected.len() as u64);
    assert!(store.listing() == before, "a report changes nothing");

    let (seen, summary) = store.repair().await;
    assert_eq!(seen.found.iter().map(|(_, name)| *name).collect::<Vec<_>>(), left);
    assert_eq!(summary.findings, left.len() as u64);
    let (again, _) = store.report().await;
    assert_eq!(again.found, seen.found, "what was repaired stays so");
}

#[tokio::test]
async fn what_is_corrupt_is_set_aside_and_can_be_pushed_again() {
    let store = Store::new().await;
    corrupt_blob(&store).await;
    let key = keys::blob(&store.layer);
    let corrupt = std::fs::read(store.path(&key)).unwrap();
    store.repair().await;
    assert!(std::fs::read(store.folder.path().join("quarantine/1").join(key.as_str())).unwrap() == corrupt);
    push_blob(&store.content, &store.app, &large()).await;
    assert_eq!(store.report().await.0.found, []);
    // The same again, beside the first.
    corrupt_blob(&store).await;
    store.repair().await;
    assert!(store.folder.path().join("quarantine/2").join(key.as_str()).exists());
    assert!(store.folder.path().join("quarantine/1").join(key.as_str()).exists());
}

#[tokio::test]
async fn a_restored_record_makes_the_image_whole_again() {
    let store = Store::new().await;
    store.write(&keys::manifest(&store.app, &store.referrer), b"").await;
    store.delete(&keys::referrer(&store.app, &store.subject, &store.referrer)).await;
    store.repair().await;
    let listed = store.content.list_referrers(&store.app, &store.subject, None, None, 10).await.unwrap();
    assert_eq!(listed.manifests.len(), 1);
    assert_eq!(store.report().await.0.found, []);
}

/// What a pusher is in the middle of looks wrong for a moment only.
#[tokio::test]
async fn what_is_right_when_looked_at_again_is_no_finding() {
    let store = Store::new().await;
    store.delete(&keys::catalogue_entry(&store.app)).await;
    let content = Content::new(Arc::new(FilesystemStore::open_read_only(store.folder.path()).unwrap()));
    let mut seen = Seen::default();
    let pause = Duration::from_millis(300);
    let check = content.fsck(FsckMode::Report { pause }, &mut seen);
    let push = async {
        tokio::time::sleep(pause).await;
        store.write(&keys::catalogue_entry(&store.app), b"").await;
    };
    assert_eq!(tokio::join!(check, push).0.unwrap().findings, 0);
}

#[tokio::test]
async fn a_store_that_is_read_only_refuses_to_be_changed() {
    let store = Store::new().await;
    let read_only = FilesystemStore::open_read_only(store.folder.path()).unwrap();
    let key = keys::blob(&store.layer);
    assert!(read_only.put(&key, Bytes::new(), Condition::Always).await.is_err());
    assert!(read_only.delete(&key, DeleteCondition::Always).await.is_err());
    assert!(read_only.set_aside(&key).await.is_err());
    assert!(store.path(&key).exists());
}
