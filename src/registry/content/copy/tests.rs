//! Copies between stores, from Distribution's layout, and what becomes of what is wrong.

use bytes::Bytes;
use serde_json::json;

use super::super::tests::*;
use super::*;
use crate::oci::MediaType;
use crate::registry::content::{FsckMode, FsckObserver, FsckSummary};
use crate::registry::storage::filesystem::FilesystemStore;
use crate::registry::storage::memory::MemoryStore;
use crate::registry::storage::{Condition, Key, Prefix};

const OPTIONS: CopyOptions = CopyOptions { delete: false, parallel_blobs: 2 };

/// Copies, and gives what was told.
async fn copy_with(source: CopySource, target: &Content, options: CopyOptions) -> (CopySummary, Vec<CopyProblem>) {
    let problems = Mutex::new(Vec::new());
    let progress = Arc::new(CopyProgress::default());
    let report = |problem: &CopyProblem| problems.lock().unwrap().push(problem.clone());
    let summary = target.copy_from(source, options, &progress, &report).await.unwrap();
    (summary, problems.into_inner().unwrap())
}

async fn copy(source: &Arc<dyn ObjectStore>, target: &Content) -> (CopySummary, Vec<CopyProblem>) {
    copy_with(CopySource::Registry(source.clone()), target, OPTIONS).await
}

/// Every object, by its key.
async fn objects(store: &dyn ObjectStore) -> Vec<(String, Vec<u8>)> {
    let keys: Vec<_> = source::entries(store, Prefix::all(), false).try_collect().await.unwrap();
    let mut found = Vec::new();
    for entry in keys {
        let object = store.get(&Key::new(entry.as_str()).unwrap(), None).await.unwrap();
        found.push((entry.as_str().to_owned(), read_all(object.body).await));
    }
    found
}

/// Nothing may be wrong with it.
async fn assert_whole(content: &Content) {
    struct Panics;
    impl FsckObserver for Panics {
        fn found(&mut self, finding: &crate::registry::content::Finding) {
            panic!("{finding}");
        }
        fn repaired(&mut self, _: &crate::registry::content::Finding) {}
        fn progress(&mut self, _: &FsckSummary) {}
    }
    content.fsck(FsckMode::Report { pause: Duration::ZERO }, &mut Panics).await.unwrap();
}

/// Two repositories that share blobs: an index of two images, a referrer, tags, a large blob.
async fn fill(content: &Content) {
    let (app, other) = (repository("team/app"), repository("team/app/deep"));
    let config = push_blob(content, &app, b"config").await;
    let large = push_blob(content, &app, &large()).await;
    push_blob(content, &other, b"config").await;
    let (one, two) = (image("one", &config, None, Some("v1")), image("two", &large, None, None));
    for new in [&one, &two] {
        content.put_manifest(&app, new.clone()).await.unwrap();
    }
    let list = index(&[&digest_of(&one), &digest_of(&two)]);
    let list = NewManifest { reference: "Latest".parse().unwrap(), ..list };
    content.put_manifest(&app, list).await.unwrap();
    content.put_manifest(&app, image("signature", &config, Some(&digest_of(&one)), None)).await.unwrap();
    content.put_manifest(&other, image("one", &config, None, Some("v1"))).await.unwrap();
}

#[tokio::test]
async fn everything_arrives_and_a_second_run_has_nothing_to_do() {
    let (from, to) = (Fixture::in_a_folder(), Fixture::in_memory());
    fill(&from.content).await;
    let (summary, problems) = copy(&from.store, &to.content).await;
    assert_eq!((problems, summary.removed), (vec![], 0));
    assert_eq!(objects(&*to.store).await, objects(&*from.store).await);
    assert_whole(&to.content).await;
    to.assert_no_upload_left().await;
    let (again, _) = copy(&from.store, &to.content).await;
    assert_eq!((again.copied, again.bytes, again.examined), (0, 0, summary.examined));
}

#[tokio::test]
async fn a_source_is_read_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let in_use: Arc<dyn ObjectStore> = Arc::new(FilesystemStore::open(folder.path()).unwrap());
    fill(&Content::new(in_use.clone())).await;
    let read_only: Arc<dyn ObjectStore> = Arc::new(FilesystemStore::open_read_only(folder.path()).unwrap());
    let to = Fixture::in_memory();
    assert_eq!(copy(&read_only, &to.content).await.1, []);
    assert_eq!(objects(&*to.store).await, objects(&*in_use).await);
}

/// The copy is dropped after each of its first steps, as when its process dies.
#[tokio::test]
async fn a_copy_that_is_broken_off_goes_on_where_it_was() {
    let from = Fixture::in_memory();
    fill(&from.content).await;
    let expected = objects(&*from.store).await;
    let to = Fixture::in_a_folder();
    let mut broken_off = 0;
    for steps in 0.. {
        let (progress, report) = (Arc::default(), |_: &CopyProblem| {});
        let source = CopySource::Registry(from.store.clone());
        let mut copying = Box::pin(to.content.copy_from(source, OPTIONS, &progress, &report));
        let mut ended = false;
        for _ in 0..steps {
            ended = futures::poll!(&mut copying).is_ready();
            if ended {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(copying);
        if ended {
            break;
        }
        broken_off += 1;
        for (key, _) in objects(&*to.store).await {
            assert!(expected.iter().any(|(known, _)| *known == key), "{key}");
        }
    }
    assert!(broken_off > 3, "{broken_off}");
    assert_eq!(copy(&from.store, &to.content).await.1, []);
    assert_eq!(objects(&*to.store).await, expected);
    assert_whole(&to.content).await;
}

#[tokio::test]
async fn a_damaged_blob_and_what_needs_it_are_left_out_and_told() {
    let (from, to) = (Fixture::in_memory(), Fixture::in_memory());
    fill(&from.content).await;
    let digest = Digest::sha256(&large());
    let mut damaged = large();
    damaged[1_000_000] ^= 1;
    let actual = Digest::sha256(&damaged);
    from.store.put(&keys::blob(&digest), damaged.into(), Condition::Always).await.unwrap();
    let (summary, problems) = copy(&from.store, &to.content).await;
    assert_eq!(problems[0], CopyProblem::DamagedBlob { digest, actual });
    let names: Vec<_> = problems.iter().map(CopyProblem::name).collect();
    let expected = ["DamagedBlob", "ManifestLeftOut", "ManifestLeftOut", "TagLeftOut"];
    assert_eq!((names.as_slice(), summary.problems), (expected.as_slice(), 4), "{problems:?}");
    assert_eq!(to.content.list_tags(&repository("team/app"), None, ALL).await.unwrap().0, [tag("v1")]);
    assert_whole(&to.content).await;
    to.assert_no_upload_left().await;
}

#[tokio::test]
async fn content_of_another_size_in_the_target_is_replaced() {
    let (from, to) = (Fixture::in_memory(), Fixture::in_memory());
    let app = repository("app");
    let digest = push_blob(&from.content, &app, b"content").await;
    to.store.put(&keys::blob(&digest), Bytes::from_static(b"cont"), Condition::Always).await.unwrap();
    assert_eq!(copy(&from.store, &to.content).await.1, []);
    assert_eq!(read_blob(&to.content, &app, &digest).await, b"content");
}

#[tokio::test]
async fn tags_follow_the_source_and_go_only_when_asked_for() {
    let (from, to) = (Fixture::in_memory(), Fixture::in_memory());
    let app = repository("app");
    let first = push_image(&from.content, &app, "first", Some("moved")).await;
    push_image(&from.content, &app, "first", Some("gone")).await;
    copy(&from.store, &to.content).await;

    let second = push_image(&from.content, &app, "second", Some("moved")).await;
    from.content.delete_manifest(&app, &first, &none()).await.unwrap();
    let (_, problems) = copy(&from.store, &to.content).await;
    assert_eq!(problems, []);
    let tagged = async |name: &str| {
        let read = to.content.get_manifest(&app, &Reference::Tag(tag(name))).await;
        read.ok().map(|manifest| manifest.digest.clone())
    };
    assert_eq!((tagged("moved").await, tagged("gone").await), (Some(second), Some(first)));

    let delete = CopyOptions { delete: true, ..OPTIONS };
    let (summary, problems) = copy_with(CopySource::Registry(from.store.clone()), &to.content, delete).await;
    assert_eq!((problems, summary.removed), (vec![], 2));
    assert_eq!(tagged("gone").await, None);
    assert_whole(&to.content).await;
}

#[tokio::test]
async fn an_empty_source_removes_nothing() {
    let (from, to) = (Fixture::in_memory(), Fixture::in_memory());
    fill(&to.content).await;
    let before = objects(&*to.store).await;
    let delete = CopyOptions { delete: true, ..OPTIONS };
    let (_, problems) = copy_with(CopySource::Registry(from.store.clone()), &to.content, delete).await;
    assert_eq!(problems, [CopyProblem::EmptySource]);
    assert_eq!(objects(&*to.store).await, before);
}

/// A manifest that came after its blobs were listed brings them along.
#[tokio::test]
async fn what_a_manifest_lacks_is_brought_with_it() {
    let (from, to) = (Fixture::in_memory(), Fixture::in_memory());
    fill(&from.content).await;
    let app = repository("team/app");
    let source = Own::new(Content::new(from.store.clone()));
    let (progress, report) = (Arc::default(), |problem: &CopyProblem| panic!("{problem}"));
    let copying = Copying {
        source: &source,
        target: &to.content,
        progress: &progress,
        report: &report,
        blobs: Semaphore::new(1),
        broken: Mutex::default(),
    };
    assert!(copying.tag(&app, &tag("Latest")).await.is_ok());
    assert_eq!(to.content.list_tags(&app, None, ALL).await.unwrap().0, [tag("Latest")]);
    assert_whole(&to.content).await;
}

/// A store in Distribution's layout.
struct Adopted {
    store: Arc<dyn ObjectStore>,
}

impl Adopted {
    fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new()) }
    }

    async fn put(&self, path: &str, content: &[u8]) {
        let key = Key::new(format!("docker/registry/v2/{path}")).unwrap();
        self.store.put(&key, content.to_vec().into(), Condition::Always).await.unwrap();
    }

    async fn blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let hex = digest.hex();
        self.put(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), content).await;
        digest
    }

    async fn link(&self, repository: &str, folder: &str, digest: &Digest) {
        let path = format!("repositories/{repository}/{folder}/sha256/{}/link", digest.hex());
        self.put(&path, digest.as_str().as_bytes()).await;
    }

    async fn layer(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = self.blob(content).await;
        self.link(repository, "_layers", &digest).await;
        digest
    }

    async fn manifest(&self, repository: &str, json: &serde_json::Value, tags: &[&str]) -> Digest {
        let digest = self.blob(&serde_json::to_vec(json).unwrap()).await;
        self.link(repository, "_manifests/revisions", &digest).await;
        for tag in tags {
            let path = format!("repositories/{repository}/_manifests/tags/{tag}/current/link");
            self.put(&path, digest.as_str().as_bytes()).await;
            self.link(repository, &format!("_manifests/tags/{tag}/index"), &digest).await;
        }
        digest
    }

    fn source(&self) -> CopySource {
        CopySource::Distribution(self.store.clone())
    }
}

fn part(digest: &Digest, size: usize) -> serde_json::Value {
    json!({"mediaType": "application/vnd.test", "digest": digest, "size": size})
}

#[tokio::test]
async fn a_distribution_registry_is_adopted() {
    let (from, to) = (Adopted::new(), Fixture::in_memory());
    let config = from.layer("team/app", b"{}").await;
    let layer = from.layer("team/app", &large()).await;
    let image = json!({"schemaVersion": 2, "config": part(&config, 2), "layers": [part(&layer, large().len())]});
    let one = from.manifest("team/app", &image, &["v1", "Latest"]).await;
    let mut docker = image.clone();
    docker["mediaType"] = MediaType::DOCKER_MANIFEST.into();
    let docker = from.manifest("team/app", &docker, &[]).await;
    let child = |digest: &Digest, media_type| json!({"mediaType": media_type, "digest": digest, "size": 1});
    let children = [child(&one, MediaType::OCI_MANIFEST), child(&docker, MediaType::DOCKER_MANIFEST)];
    let list = from.manifest("team/app", &json!({"schemaVersion": 2, "manifests": children}), &["all"]).await;
    let mut signature = image.clone();
    signature["subject"] = child(&one, MediaType::OCI_MANIFEST);
    signature["layers"] = json!([]);
    let fallback = format!("sha256-{}", one.hex());
    let signature = from.manifest("team/app", &signature, &[]).await;
    let referrers = json!({"schemaVersion": 2, "manifests": [child(&signature, MediaType::OCI_MANIFEST)]});
    from.manifest("team/app", &referrers, &[&fallback]).await;
    // A repository within another, an upload that is under way, a blob of nobody, a link whose blob was collected.
    from.layer("team/app/deep", b"{}").await;
    let nested = json!({"schemaVersion": 2, "config": part(&config, 2), "layers": []});
    from.manifest("team/app/deep", &nested, &["v1"]).await;
    from.put("repositories/team/app/_uploads/5f0d/startedat", b"now").await;
    from.link("team/app", "_layers", &Digest::sha256(b"collected")).await;
    let orphan = from.blob(b"orphan").await;

    let (_, problems) = copy_with(from.source(), &to.content, OPTIONS).await;
    assert_eq!(problems, []);
    assert_whole(&to.content).await;
    let app = repository("team/app");
    let names = to.content.list_repositories(None, ALL).await.unwrap().0;
    assert_eq!(names, [app.clone(), repository("team/app/deep")]);
    let tags = to.content.list_tags(&app, None, ALL).await.unwrap().0;
    assert_eq!(tags, [tag("all"), tag("Latest"), tag(&fallback), tag("v1")]);
    for (digest, media_type) in
        [(&one, MediaType::OCI_MANIFEST), (&docker, MediaType::DOCKER_MANIFEST), (&list, MediaType::OCI_INDEX)]
    {
        let stored = to.content.get_manifest(&app, &Reference::Digest(digest.clone())).await.unwrap();
        assert_eq!(stored.media_type.as_str(), media_type);
    }
    let referrers = to.content.list_referrers(&app, &one, None, None, ALL).await.unwrap().manifests;
    assert_eq!(referrers.into_iter().map(|referrer| referrer.digest).collect::<Vec<_>>(), [signature]);
    assert!(read_blob(&to.content, &app, &layer).await == large());
    assert!(!to.content.exists(&keys::blob(&orphan)).await.unwrap());

    let before = objects(&*to.store).await;
    assert_eq!(copy_with(from.source(), &to.content, OPTIONS).await.0.copied, 0);
    assert_eq!(objects(&*to.store).await, before);
}

#[tokio::test]
async fn what_can_not_be_adopted_is_told() {
    let (from, to) = (Adopted::new(), Fixture::in_memory());
    let config = from.layer("app", b"{}").await;
    let image = json!({"schemaVersion": 2, "config": part(&config, 2), "layers": []});
    from.manifest("app", &image, &["good"]).await;
    from.manifest("app", &json!({"schemaVersion": 1, "name": "app"}), &["old"]).await;
    let lost = json!({"schemaVersion": 2, "config": part(&Digest::sha256(b"lost"), 4), "layers": []});
    from.manifest("app", &lost, &["lost"]).await;
    from.put("repositories/app/_manifests/tags/odd/current/link", b"no digest").await;
    let (_, problems) = copy_with(from.source(), &to.content, OPTIONS).await;
    let mut names: Vec<_> = problems.iter().map(CopyProblem::name).collect();
    names.sort_unstable();
    assert_eq!(names, ["ManifestLeftOut", "ManifestLeftOut", "TagLeftOut", "TagLeftOut", "Unreadable"]);
    assert!(problems.iter().any(|problem| problem.to_string().contains("schema 1 has been retired")), "{problems:?}");
    assert_eq!(to.content.list_tags(&repository("app"), None, ALL).await.unwrap().0, [tag("good")]);
    assert_whole(&to.content).await;
}

#[tokio::test]
async fn who_has_pushed_and_when_is_kept() {
    let (from, to) = (Fixture::in_memory(), Fixture::in_memory());
    let app = repository("app");
    push_image(&from.content, &app, "one", Some("v1")).await;
    copy(&from.store, &to.content).await;
    let tagged: TagRecord = to.content.read_record(&keys::tag(&app, &tag("v1"))).await.unwrap().unwrap();
    assert_eq!((tagged.pushed.pushed_by.as_str(), tagged.pushed.pushed_at), ("alice", 1_700_000_000));
}

#[cfg(feature = "s3")]
mod s3 {
    use super::*;
    use crate::config::S3Storage;
    use crate::registry::storage::s3::server::S3Server;
    use crate::registry::storage::s3::{Purpose, S3Store};

    async fn bucket(server: &S3Server, prefix: &str, purpose: Purpose) -> Arc<dyn ObjectStore> {
        let settings = S3Storage { prefix: prefix.to_owned(), ..server.settings() };
        Arc::new(S3Store::connect(&settings, purpose).await.unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a service: make test"]
    async fn a_registry_moves_to_s3_and_back() {
        let server = S3Server::start();
        let (from, back) = (Fixture::in_a_folder(), Fixture::in_a_folder());
        fill(&from.content).await;
        let to = bucket(&server, "moved", Purpose::Write).await;
        assert_eq!(copy(&from.store, &Content::new(to)).await.1, []);
        let source = bucket(&server, "moved", Purpose::Read).await;
        assert_eq!(copy(&source, &back.content).await.1, []);
        assert_eq!(objects(&*back.store).await, objects(&*from.store).await);
        assert_whole(&back.content).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a service: make test"]
    async fn a_distribution_registry_in_s3_is_adopted() {
        let server = S3Server::start();
        // Where this store's own objects are, any can be.
        let from = Adopted { store: bucket(&server, "root", Purpose::Write).await };
        let config = from.layer("team/app", b"{}").await;
        let image = json!({"schemaVersion": 2, "config": part(&config, 2), "layers": []});
        let digest = from.manifest("team/app", &image, &["v1"]).await;
        let (source, to) = (bucket(&server, "root/objects", Purpose::ReadTree).await, Fixture::in_memory());
        assert_eq!(copy_with(CopySource::Distribution(source), &to.content, OPTIONS).await.1, []);
        let stored = to.content.get_manifest(&repository("team/app"), &Reference::Tag(tag("v1"))).await.unwrap();
        assert_eq!(stored.digest, digest);
        assert_whole(&to.content).await;
    }
}
