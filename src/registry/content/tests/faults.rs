//! The store fails, at each operation in each way: what is left is whole, what was acknowledged is there, and doing it
//! again helps.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::join_all;
use rstest::rstest;

use super::*;
use crate::registry::storage::faulty::{Fault, FaultyStore, Plan};

/// Comes in chunks, and so through a staged upload.
const LAYER: &[u8] = &[7; 3000];
const CONFIG: &[u8] = b"config";
/// Tries of a client that doesn't give up.
const TRIES: usize = 200;

/// What a client does in several requests, of which each may fail.
#[derive(Clone, Copy, Debug)]
enum Flow {
    /// A large blob at once, and an image of a layer in chunks and a config, under a tag.
    Push,
    /// The image once more.
    PushAgain,
    /// Another image under the same tag.
    MoveTag,
    /// An image whose blobs are taken over from another repository.
    Mount,
    /// An index with a subject.
    Referrer,
    /// An image with its tags and its referrer, until the repository is empty.
    DeleteManifests,
    DeleteTag,
    /// Of all that there can be in one: a referrer, an index with its image, tags.
    DeleteRepository,
    CancelUpload,
}

/// What a client was told.
enum Fact {
    Blob(RepositoryName, Digest),
    Manifest(RepositoryName, Reference, Digest),
    Gone(RepositoryName, Reference),
    NoRepository(RepositoryName),
    Referrer(RepositoryName, Digest, Digest),
}

/// A client, and what it was told. Its requests are those of one that knows of no failures before.
struct Client {
    content: Content,
    facts: Vec<Fact>,
}

type Done = Result<(), ContentError>;

impl Client {
    fn new(content: &Content) -> Self {
        Self { content: content.clone(), facts: Vec::new() }
    }

    /// What is there before the flow.
    async fn prepare(&mut self, flow: Flow) -> Done {
        match flow {
            Flow::Push | Flow::CancelUpload => Ok(()),
            Flow::Mount => self.push_blobs(&repository("library/base")).await,
            Flow::PushAgain | Flow::MoveTag | Flow::Referrer | Flow::DeleteTag => self.push("one", "v1").await,
            Flow::DeleteManifests => {
                self.push("one", "v1").await?;
                self.push("one", "v2").await?;
                self.push_referrer().await
            }
            Flow::DeleteRepository => {
                self.push("one", "v1").await?;
                self.push("one", "v2").await?;
                self.push_referrer().await?;
                self.put_manifest(index(&[&subject()])).await
            }
        }
    }

    async fn run(&mut self, flow: Flow) -> Done {
        match flow {
            Flow::Push => {
                self.push_large_blob().await?;
                self.push("one", "v1").await
            }
            Flow::PushAgain => self.push("one", "v1").await,
            Flow::MoveTag => self.push("two", "v1").await,
            Flow::Mount => self.mount().await,
            Flow::Referrer => self.push_referrer().await,
            Flow::DeleteManifests => {
                self.delete_manifest(&subject()).await?;
                self.delete_manifest(&digest_of(&referrer())).await
            }
            Flow::DeleteTag => self.delete_tag("v1").await,
            Flow::DeleteRepository => self.delete_repository().await,
            Flow::CancelUpload => self.cancel_upload().await,
        }
    }

    async fn push(&mut self, name: &str, tag: &str) -> Done {
        self.push_blobs(&app()).await?;
        self.put_manifest(image_of_both(name, Some(tag))).await
    }

    async fn push_blobs(&mut self, to: &RepositoryName) -> Done {
        let (layer, config) = (Digest::sha256(LAYER), Digest::sha256(CONFIG));
        let id = UploadId::random();
        let middle = self.content.append_upload(&id, Some(0), body(&LAYER[..1000])).await?;
        let end = self.content.append_upload(&id, Some(middle), body(&LAYER[1000..])).await?;
        self.content.finish_upload(to, &id, Some(end), body(b""), &layer).await?;
        self.facts.push(Fact::Blob(to.clone(), layer));
        self.content.put_blob(to, &config, body(CONFIG)).await?;
        self.facts.push(Fact::Blob(to.clone(), config));
        Ok(())
    }

    async fn push_large_blob(&mut self) -> Done {
        let large = vec![1; 300_000];
        let digest = Digest::sha256(&large);
        self.content.put_blob(&app(), &digest, body(&large)).await?;
        self.facts.push(Fact::Blob(app(), digest));
        Ok(())
    }

    async fn put_manifest(&mut self, new: NewManifest) -> Done {
        let (app, reference, digest) = (app(), new.reference.clone(), digest_of(&new));
        // From here on it may be the one or the other.
        let is_changed = |fact: &Fact| matches!(fact, Fact::Manifest(_, at, old) if *at == reference && *old != digest);
        self.facts.retain(|fact| !is_changed(fact));
        self.content.put_manifest(&app, new).await?;
        self.facts.push(Fact::Manifest(app.clone(), reference.clone(), digest.clone()));
        assert_eq!(self.content.get_manifest(&app, &reference).await?.digest, digest);
        Ok(())
    }

    async fn mount(&mut self) -> Done {
        for blob in [LAYER, CONFIG] {
            let digest = Digest::sha256(blob);
            assert!(self.content.mount_blob(&repository("library/base"), &app(), &digest).await?);
            self.facts.push(Fact::Blob(app(), digest));
        }
        self.put_manifest(image_of_both("one", Some("v1"))).await
    }

    async fn push_referrer(&mut self) -> Done {
        let new = referrer();
        let digest = digest_of(&new);
        self.put_manifest(new).await?;
        self.facts.push(Fact::Referrer(app(), subject(), digest));
        let listed = self.content.list_referrers(&app(), &subject(), None, None, 10).await?;
        assert_eq!(listed.manifests.len(), 1);
        Ok(())
    }

    /// That there is none is as good.
    async fn delete_manifest(&mut self, digest: &Digest) -> Done {
        self.facts.retain(|fact| match fact {
            Fact::Manifest(_, _, deleted) | Fact::Referrer(_, _, deleted) => deleted != digest,
            Fact::Blob(..) | Fact::Gone(..) | Fact::NoRepository(..) => true,
        });
        found_or_not(self.content.delete_manifest(&app(), digest, &none()).await)?;
        for reference in [Reference::Digest(digest.clone()), Reference::Tag(tag("v1")), Reference::Tag(tag("v2"))] {
            self.facts.push(Fact::Gone(app(), reference));
        }
        Ok(())
    }

    async fn delete_tag(&mut self, name: &str) -> Done {
        let reference = Reference::Tag(tag(name));
        self.facts.retain(|fact| !matches!(fact, Fact::Manifest(_, deleted, _) if *deleted == reference));
        found_or_not(self.content.delete_tag(&app(), &tag(name), &none()).await)?;
        self.facts.push(Fact::Gone(app(), reference));
        Ok(())
    }

    /// That there is none is as good.
    async fn delete_repository(&mut self) -> Done {
        self.facts.clear();
        match self.content.delete_repository(&app(), &none()).await {
            Ok(()) | Err(ContentError::RepositoryUnknown) => {}
            Err(other) => return Err(other),
        }
        for reference in [Reference::Digest(subject()), Reference::Tag(tag("v1")), Reference::Tag(tag("v2"))] {
            self.facts.push(Fact::Gone(app(), reference));
        }
        self.facts.push(Fact::Gone(app(), Reference::Digest(digest_of(&referrer()))));
        self.facts.push(Fact::NoRepository(app()));
        Ok(())
    }

    async fn cancel_upload(&mut self) -> Done {
        let id = UploadId::random();
        self.content.append_upload(&id, Some(0), body(LAYER)).await?;
        self.content.cancel_upload(&id).await?;
        assert_error!(self.content.upload_status(&id).await, ContentError::UploadUnknown);
        Ok(())
    }

    /// Looks by `content` whether what the client was told is so.
    async fn check_facts(&self, content: &Content) {
        for fact in &self.facts {
            match fact {
                Fact::Blob(repository, digest) => {
                    assert_eq!(Digest::sha256(&read_blob(content, repository, digest).await), *digest);
                }
                Fact::Manifest(repository, reference, digest) => {
                    assert_eq!(content.get_manifest(repository, reference).await.unwrap().digest, *digest);
                }
                Fact::Gone(repository, reference) => {
                    assert_error!(content.get_manifest(repository, reference).await, ContentError::ManifestUnknown);
                }
                Fact::NoRepository(repository) => {
                    assert_error!(content.list_tags(repository, None, 1).await, ContentError::RepositoryUnknown);
                    assert!(!content.list_repositories(None, ALL).await.unwrap().0.contains(repository));
                }
                Fact::Referrer(repository, subject, digest) => {
                    let listed = content.list_referrers(repository, subject, None, None, ALL).await.unwrap();
                    assert!(listed.manifests.iter().any(|manifest| manifest.digest == *digest));
                }
            }
        }
    }
}

fn found_or_not(result: Done) -> Done {
    match result {
        Err(ContentError::ManifestUnknown) => Ok(()),
        other => other,
    }
}

fn app() -> RepositoryName {
    repository("team/app")
}

fn image_of_both(name: &str, tag: Option<&str>) -> NewManifest {
    let json = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(&Digest::sha256(CONFIG)),
        "layers": [descriptor(&Digest::sha256(LAYER))], "annotations": {"name": name},
    });
    new_manifest(MediaType::OCI_MANIFEST, &json, tag)
}

fn subject() -> Digest {
    digest_of(&image_of_both("one", None))
}

fn referrer() -> NewManifest {
    let json = serde_json::json!({"schemaVersion": 2, "manifests": [], "subject": descriptor(&subject())});
    new_manifest(MediaType::OCI_INDEX, &json, None)
}

/// What `fsck` says.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl FsckObserver for Findings {
    fn found(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }

    fn repaired(&mut self, _: &Finding) {}

    fn progress(&mut self, _: &FsckSummary) {}
}

/// Everything in a store, and as another process sees it.
async fn check_whole(store: &MemoryStore, remains: &[&str]) -> Vec<Finding> {
    let content = Content::new(Arc::new(store.clone()));
    let mut findings = Findings::default();
    content.fsck(FsckMode::Report { pause: Duration::ZERO }, &mut findings).await.unwrap();
    for finding in &findings.0 {
        assert!(remains.contains(&finding.problem.name()), "{finding}");
    }
    for repository in content.list_repositories(None, 100).await.unwrap().0 {
        for tag in content.list_tags(&repository, None, ALL).await.unwrap().0 {
            content.get_manifest(&repository, &Reference::Tag(tag)).await.unwrap();
        }
        for referrer in content.list_referrers(&repository, &subject(), None, None, ALL).await.unwrap().manifests {
            content.get_manifest(&repository, &Reference::Digest(referrer.digest)).await.unwrap();
        }
    }
    findings.0
}

async fn objects(store: &MemoryStore) -> BTreeMap<String, Vec<u8>> {
    let page = store.list(&Prefix::all(), None, ALL, false).await.unwrap();
    let mut objects = BTreeMap::new();
    for entry in page.entries {
        let key = Key::new(entry.as_str()).unwrap();
        objects.insert(key.to_string(), read_all(store.get(&key, None).await.unwrap().body).await);
    }
    objects
}

fn over(store: &MemoryStore, is_shared: bool) -> FaultyStore {
    let faulty = FaultyStore::new(Arc::new(store.clone()));
    if is_shared { faulty.shared() } else { faulty }
}

/// How it is without failures: the operations and the objects after them.
async fn without_faults(flow: Flow, is_shared: bool) -> (Vec<&'static str>, BTreeMap<String, Vec<u8>>) {
    let store = MemoryStore::new();
    let faulty = over(&store, is_shared);
    let mut client = Client::new(&Content::new(Arc::new(faulty.clone())));
    client.prepare(flow).await.unwrap();
    faulty.plan(Plan::none());
    client.run(flow).await.unwrap();
    let operations = faulty.operations();
    client.check_facts(&client.content).await;
    assert_eq!(check_whole(&store, &[]).await, []);
    assert_eq!(store.stage_list(None, 10).await.unwrap(), []);
    (operations, objects(&store).await)
}

/// What `fsck` may find after a failure: nobody sees it.
fn remains(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::SecondHalf => &["empty-repository", "referrer-to-nothing", "link-to-nothing"],
        _ => &["empty-repository", "referrer-to-nothing"],
    }
}

/// Whether it is one failure, or the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    OneOperation,
    ToTheEnd,
}

/// One run with a failure, and a second one without.
#[derive(Clone, Copy, Debug)]
struct Run {
    flow: Flow,
    is_shared: bool,
    /// Of the operation that fails.
    number: usize,
    fault: Fault,
    length: Length,
}

async fn fail(run: Run, expected: &BTreeMap<String, Vec<u8>>) {
    let Run { flow, is_shared, number, fault, length } = run;
    let store = MemoryStore::new();
    let faulty = over(&store, is_shared);
    let content = Content::new(Arc::new(faulty.clone()));
    let mut client = Client::new(&content);
    client.prepare(flow).await.unwrap();
    faulty.plan(match length {
        Length::OneOperation => Plan::one(number, fault),
        Length::ToTheEnd => Plan::away_after(number, fault),
    });
    let done = client.run(flow).await;
    faulty.plan(Plan::none());
    match &done {
        Ok(()) | Err(ContentError::Storage(_)) => {}
        Err(other) => panic!("a failure of the store is told as {other:?}"),
    }
    check_whole(&store, remains(fault)).await;
    let content = if length == Length::ToTheEnd { Content::new(Arc::new(faulty)) } else { content };
    client.check_facts(&content).await;
    if done.is_err() {
        let mut again = Client::new(&content);
        again.run(flow).await.unwrap();
        again.check_facts(&content).await;
    }
    let left = check_whole(&store, &["referrer-to-nothing"]).await;
    let mut objects = objects(&store).await;
    left.iter().for_each(|finding| drop(objects.remove(finding.key.as_str())));
    assert!(objects == *expected, "{:?} instead of {:?}", objects.keys(), expected.keys());
    content.remove_abandoned_uploads(Duration::ZERO, SystemTime::now()).await.unwrap();
    assert_eq!(store.stage_list(None, 10).await.unwrap(), []);
}

#[rstest]
#[case::push(Flow::Push)]
#[case::push_again(Flow::PushAgain)]
#[case::move_tag(Flow::MoveTag)]
#[case::mount(Flow::Mount)]
#[case::referrer(Flow::Referrer)]
#[case::delete_manifests(Flow::DeleteManifests)]
#[case::delete_tag(Flow::DeleteTag)]
#[case::delete_repository(Flow::DeleteRepository)]
#[case::cancel_upload(Flow::CancelUpload)]
#[tokio::test]
async fn a_failure_anywhere_leaves_nothing_half_done(#[case] flow: Flow, #[values(false, true)] is_shared: bool) {
    let (operations, expected) = without_faults(flow, is_shared).await;
    for (number, operation) in (1..).zip(&operations) {
        for fault in Fault::ALL {
            for length in [Length::OneOperation, Length::ToTheEnd] {
                let run = Run { flow, is_shared, number, fault, length };
                let outcome = AssertUnwindSafe(fail(run, &expected)).catch_unwind().await;
                assert!(outcome.is_ok(), "{run:?}, {operation} of {operations:?}");
            }
        }
    }
}

/// Clients repeat a request that was not answered, or with a 5xx. It must not turn out to be wrong then.
#[rstest]
#[case::without_an_offset(false)]
#[case::with_an_offset(true)]
#[tokio::test]
async fn the_end_of_an_upload_may_be_repeated(#[case] with_offset: bool) {
    let digest = Digest::sha256(LAYER);
    let mut number = 1;
    loop {
        for (fault, is_for_good) in Fault::ALL.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
            let faulty = over(&MemoryStore::new(), false);
            let content = Content::new(Arc::new(faulty.clone()));
            let id = UploadId::random();
            let end = content.append_upload(&id, None, body(LAYER)).await.unwrap();
            let at = with_offset.then_some(end);
            faulty.plan(if is_for_good { Plan::away_after(number, fault) } else { Plan::one(number, fault) });
            let first = content.finish_upload(&app(), &id, at, body(b""), &digest).await;
            if first.is_ok() && faulty.operations().len() < number {
                return;
            }
            faulty.plan(Plan::none());
            match content.finish_upload(&app(), &id, at, body(b""), &digest).await {
                Ok(()) => assert!(read_blob(&content, &app(), &digest).await == LAYER),
                // The client begins anew.
                Err(ContentError::UploadUnknown | ContentError::OffsetMismatch { expected: 0 }) => {
                    assert!(first.is_err(), "{fault:?} at {number}")
                }
                Err(other) => panic!("{other:?} after {fault:?} at {number}"),
            }
        }
        number += 1;
    }
}

#[tokio::test]
async fn content_that_was_published_without_an_answer_is_the_repositorys() {
    let store = MemoryStore::new();
    let faulty = over(&store, false);
    let content = Content::new(Arc::new(faulty.clone()));
    let (id, digest) = (UploadId::random(), Digest::sha256(LAYER));
    content.append_upload(&id, None, body(LAYER)).await.unwrap();
    faulty.plan(Plan::one(3, Fault::LostAnswer));
    content.finish_upload(&app(), &id, None, body(b""), &digest).await.unwrap();
    assert_eq!(faulty.operations()[..3], ["stage_state", "stage_append", "stage_publish"]);
    assert!(read_blob(&content, &app(), &digest).await == LAYER);
    assert_error!(content.upload_status(&id).await, ContentError::UploadUnknown);
    assert_eq!(store.stage_list(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_left_of_a_blob_whose_upload_was_begun_without_an_answer() {
    let store = MemoryStore::new();
    let faulty = over(&store, false);
    let (content, large) = (Content::new(Arc::new(faulty.clone())), large());
    faulty.plan(Plan::one(1, Fault::LostAnswer));
    let failed = content.put_blob(&app(), &Digest::sha256(&large), body(&large)).await;
    assert_error!(failed, ContentError::Storage(_));
    assert_eq!(faulty.operations(), ["stage_create", "stage_abort"]);
    assert_eq!(store.stage_list(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_wrong_digest_is_told_though_what_is_left_can_not_be_removed() {
    let faulty = over(&MemoryStore::new(), false);
    let (content, large, wrong) = (Content::new(Arc::new(faulty.clone())), large(), Digest::sha256(b"wrong"));
    faulty.plan(Plan::none());
    assert_error!(content.put_blob(&app(), &wrong, body(&large)).await, ContentError::DigestMismatch { .. });
    let operations = faulty.operations();
    assert_eq!(operations.last(), Some(&"stage_abort"));
    faulty.plan(Plan::one(operations.len(), Fault::Unavailable));
    assert_error!(content.put_blob(&app(), &wrong, body(&large)).await, ContentError::DigestMismatch { .. });
}

/// A client that goes on with an upload where the registry says that it is, and only begins anew if told so.
async fn upload_patiently(content: &Content, to: &RepositoryName, blob: &[u8]) {
    let digest = Digest::sha256(blob);
    let mut id = UploadId::random();
    for _ in 0..TRIES {
        let try_once = async {
            let at = content.upload_status(&id).await?;
            let middle = (at as usize).midpoint(blob.len());
            content.append_upload(&id, Some(at), body(&blob[at as usize..middle])).await?;
            content.append_upload(&id, Some(middle as u64), body(&blob[middle..])).await?;
            content.finish_upload(to, &id, Some(blob.len() as u64), body(b""), &digest).await
        };
        match try_once.await {
            Ok(()) => return,
            Err(ContentError::UploadUnknown) => id = UploadId::random(),
            other => assert_error!(other, ContentError::Storage(_) | ContentError::OffsetMismatch { .. }),
        }
    }
    panic!("an upload never succeeds");
}

/// Tries again as long as the store fails.
async fn patiently<T>(mut work: impl AsyncFnMut() -> Result<T, ContentError>) -> Result<T, ContentError> {
    for _ in 0..TRIES {
        match work().await {
            Err(ContentError::Storage(_)) => {}
            other => return other,
        }
    }
    panic!("a request never succeeds");
}

/// Pushes three images under two tags each, and deletes one of the images and one of the tags.
async fn work_patiently(content: Content, app: RepositoryName, worker: usize) -> Client {
    let mut client = Client::new(&content);
    upload_patiently(&content, &app, LAYER).await;
    patiently(async || content.put_blob(&app, &Digest::sha256(CONFIG), body(CONFIG)).await).await.unwrap();
    let (mut digests, tag_of) = (Vec::new(), |image: usize, of: char| tag(&format!("w{worker}-{image}{of}")));
    for image in 0..3 {
        for of in ['a', 'b'] {
            let new = image_of_both(&format!("{worker} {image}"), Some(tag_of(image, of).as_str()));
            let digest = patiently(async || content.put_manifest(&app, new.clone()).await).await.unwrap();
            if image > 0 {
                client.facts.push(Fact::Manifest(app.clone(), new.reference.clone(), digest.clone()));
            }
            digests.push(digest);
        }
    }
    found_or_not(patiently(async || content.delete_manifest(&app, &digests[0], &none()).await).await).unwrap();
    for of in ['a', 'b'] {
        client.facts.push(Fact::Gone(app.clone(), Reference::Tag(tag_of(0, of))));
    }
    client.facts.push(Fact::Gone(app, Reference::Digest(digests[0].clone())));
    client
}

/// Several clients of one process, or of two over one store that both may change.
#[rstest]
#[case::of_one_process(1)]
#[case::of_two_processes(2)]
#[tokio::test]
async fn patient_clients_of_a_failing_store_get_what_they_want(#[case] processes: usize) {
    for seed in 0..24 {
        let store = MemoryStore::new();
        let faulty = over(&store, processes > 1);
        let contents: Vec<_> = (0..processes).map(|_| Content::new(Arc::new(faulty.clone()))).collect();
        // From seldom to every sixth operation: a deletion that reads many tags has to succeed at last.
        faulty.plan(Plan::random(seed, 0.01 + 0.006 * seed as f64));
        let work = |worker: usize| {
            work_patiently(contents[worker % processes].clone(), repository(["app", "other"][worker / 2 % 2]), worker)
        };
        let clients = join_all((0..8).map(work)).await;
        faulty.plan(Plan::none());
        for client in clients {
            client.check_facts(&Content::new(Arc::new(store.clone()))).await;
        }
        check_whole(&store, &["referrer-to-nothing"]).await;
        contents[0].remove_abandoned_uploads(Duration::ZERO, SystemTime::now()).await.unwrap();
        assert_eq!(store.stage_list(None, 10).await.unwrap(), [], "seed {seed}");
    }
}

/// One process deletes the whole repository while the other pushes to it: what has been acknowledged at last is whole.
#[rstest]
#[case::a_new_image(Flow::Push)]
#[case::the_same_image(Flow::PushAgain)]
#[case::another_image(Flow::MoveTag)]
#[case::a_referrer(Flow::Referrer)]
#[tokio::test]
async fn a_repository_is_deleted_whole_or_pushed_whole(
    #[case] pushing: Flow,
    #[values(0.0, 0.1)] of_removals_that_fail: f64,
) {
    let mut ends = BTreeMap::<bool, usize>::new();
    for seed in 0..300 {
        let store = MemoryStore::new();
        let faulty = over(&store, true);
        let [mut deleter, mut pusher] = [(); 2].map(|()| Client::new(&Content::new(Arc::new(faulty.clone()))));
        deleter.prepare(Flow::DeleteRepository).await.unwrap();
        faulty.plan(Plan::random_at(|operation| operation == "delete", seed, of_removals_that_fail));
        let push = async {
            match pushing {
                Flow::Referrer => pusher.put_manifest(referrer()).await,
                // The blobs are there: only the manifest comes.
                Flow::PushAgain => pusher.put_manifest(image_of_both("one", Some("v1"))).await,
                Flow::MoveTag => pusher.put_manifest(image_of_both("two", Some("v1"))).await,
                other => pusher.run(other).await,
            }
        };
        let (deleted, pushed) = tokio::join!(deleter.delete_repository(), push);
        match deleted {
            Err(ContentError::Storage(_)) if of_removals_that_fail > 0.0 => {}
            other => other.unwrap(),
        }
        match pushed {
            Ok(()) | Err(ContentError::ManifestUnknown | ContentError::ManifestBlobUnknown(_)) => {}
            // It was undone too often, and the client is told to try again.
            Err(ContentError::Storage(StorageError::Unavailable { .. })) => {}
            Err(other) => panic!("{seed}: {other:?}"),
        }
        faulty.plan(Plan::none());
        // Nothing is missing of what is there.
        check_whole(&store, &["empty-repository", "referrer-to-nothing"]).await;
        let content = Content::new(Arc::new(store.clone()));
        let is_there = !content.list_repositories(None, ALL).await.unwrap().0.is_empty();
        *ends.entry(is_there).or_default() += 1;
    }
    assert!(ends.contains_key(&false), "the deletion never came last: {ends:?}");
}

/// An index of the image that is there already.
fn multi_arch(tag: Option<&str>) -> NewManifest {
    let new = index(&[&subject()]);
    let reference = tag.map_or(new.reference.clone(), |tag| tag.parse().unwrap());
    NewManifest { reference, is_immutable: tag.is_some_and(|tag| tag.starts_with('x')), ..new }
}

/// An index comes at any moment of the deletion of what it lists, which perhaps doesn't get to its end. In a store that
/// two processes share, it doesn't if the tag is immutable.
#[rstest]
#[case::with_an_immutable_tag(Some("x1"), 0.0, false)]
#[case::with_an_immutable_tag_of_another_process(Some("x1"), 0.0, true)]
#[case::with_a_tag_while_removals_fail(Some("v3"), 0.2, false)]
#[case::without_a_tag_while_removals_fail(None, 0.2, false)]
#[case::with_an_immutable_tag_while_removals_fail(Some("x1"), 0.2, false)]
#[tokio::test]
async fn no_index_is_left_without_what_it_lists(
    #[case] tag: Option<&str>,
    #[case] of_removals_that_fail: f64,
    #[case] is_shared: bool,
) {
    let (mut kept, mut stopped) = (0, 0);
    for seed in 0..600 {
        let store = MemoryStore::new();
        let faulty = over(&store, is_shared);
        let deleter = Content::new(Arc::new(faulty.clone()));
        let pusher = if is_shared { Content::new(Arc::new(faulty.clone())) } else { deleter.clone() };
        Client::new(&deleter).prepare(Flow::DeleteManifests).await.unwrap();
        faulty.plan(Plan::random_at(|operation| operation == "delete", seed, of_removals_that_fail));
        let push = async {
            for _ in 0..seed % 60 * 12 {
                tokio::task::yield_now().await;
            }
            pusher.put_manifest(&app(), multi_arch(tag)).await
        };
        let (app, immutable) = (app(), ImmutableTags::new(["x*"]));
        let (deleted, pushed) = tokio::join!(deleter.delete_repository(&app, &immutable), push);
        faulty.plan(Plan::none());
        check_whole(&store, &["empty-repository", "referrer-to-nothing"]).await;
        match pushed {
            Ok(_) | Err(ContentError::ManifestBlobUnknown(_) | ContentError::Storage(_)) => {}
            Err(other) => panic!("{seed}: {other:?}"),
        }
        match deleted {
            Ok(()) => {}
            Err(ContentError::TagImmutable { .. }) => kept += 1,
            Err(ContentError::Storage(_)) if of_removals_that_fail > 0.0 => stopped += 1,
            Err(other) => panic!("{seed}: {other:?}"),
        }
    }
    assert_eq!(kept > 0, tag == Some("x1"), "{kept} kept");
    assert_eq!(stopped > 0, of_removals_that_fail > 0.0, "{stopped} stopped");
}

/// Another process deletes what an index lists just as that is pushed once more.
#[tokio::test]
async fn a_push_that_fails_undoes_nothing_that_was_there_before() {
    let mut failed = 0;
    for seed in 0..150 {
        let store = MemoryStore::new();
        let faulty = over(&store, true);
        let [deleter, pusher] = [(); 2].map(|()| Content::new(Arc::new(faulty.clone())));
        Client::new(&deleter).prepare(Flow::DeleteTag).await.unwrap();
        let digest = digest_of(&multi_arch(None));
        for tag in ["x1", "v3"] {
            deleter.put_manifest(&app(), multi_arch(Some(tag))).await.unwrap();
        }
        faulty.plan(Plan::random(seed, 0.0));
        let tag = ["x1", "v3", "v4"][seed as usize % 3];
        let (app, child, none) = (app(), subject(), none());
        let push = pusher.put_manifest(&app, multi_arch(Some(tag)));
        let (deleted, pushed) = tokio::join!(deleter.delete_manifest(&app, &child, &none), push);
        deleted.unwrap();
        faulty.plan(Plan::none());
        let reader = Content::new(Arc::new(store.clone()));
        for tag in ["x1", "v3"] {
            let found = reader.get_manifest(&app, &Reference::Tag(tag.parse().unwrap())).await.unwrap();
            assert_eq!(found.digest, digest, "{seed}");
        }
        let is_tagged = reader.get_manifest(&app, &"v4".parse().unwrap()).await.is_ok();
        assert_eq!(is_tagged, tag == "v4" && pushed.is_ok(), "{seed}: {pushed:?}");
        failed += usize::from(pushed.is_err());
    }
    assert!(failed > 0);
}

/// The same with an index that comes for the first time: nothing is left of it.
#[tokio::test]
async fn a_push_that_fails_leaves_nothing_of_its_own() {
    let mut failed = 0;
    for seed in 0..150 {
        let store = MemoryStore::new();
        let faulty = over(&store, true);
        let [deleter, pusher] = [(); 2].map(|()| Content::new(Arc::new(faulty.clone())));
        Client::new(&deleter).prepare(Flow::DeleteTag).await.unwrap();
        faulty.plan(Plan::random(seed, 0.0));
        let (app, child, none) = (app(), subject(), none());
        let push = pusher.put_manifest(&app, multi_arch(Some("v3")));
        let (deleted, pushed) = tokio::join!(deleter.delete_manifest(&app, &child, &none), push);
        deleted.unwrap();
        faulty.plan(Plan::none());
        let reader = Content::new(Arc::new(store.clone()));
        let by_digest = reader.get_manifest(&app, &Reference::Digest(digest_of(&multi_arch(None)))).await.is_ok();
        let tags = reader.list_tags(&app, None, ALL).await.unwrap_or_default().0;
        assert_eq!((by_digest, tags.len()), (pushed.is_ok(), usize::from(pushed.is_ok())), "{seed}: {pushed:?}");
        failed += usize::from(pushed.is_err());
    }
    assert!(failed > 0);
}

#[tokio::test]
async fn a_tag_that_moves_while_its_repository_is_deleted_goes_with_its_manifest_or_not_at_all() {
    let store = MemoryStore::new();
    let faulty = over(&store, false);
    let content = Content::new(Arc::new(faulty.clone()));
    Client::new(&content).prepare(Flow::DeleteTag).await.unwrap();
    let mut is_late = false;
    faulty.plan(Plan::by_operation(move |operation| match operation {
        // It has been looked at by then. After it the deletion breaks off.
        "delete" if !std::mem::replace(&mut is_late, true) => Some(Fault::Delay),
        "delete" | "list" if is_late => Some(Fault::Unavailable),
        _ => None,
    }));
    let push = async {
        while !faulty.operations().contains(&"delete") {
            tokio::task::yield_now().await;
        }
        content.put_manifest(&app(), image_of_both("two", Some("v1"))).await
    };
    let (app, none) = (app(), none());
    let (deleted, pushed) = tokio::join!(content.delete_repository(&app, &none), push);
    assert_error!(deleted, ContentError::Storage(_));
    faulty.plan(Plan::none());
    let found = content.get_manifest(&app, &"v1".parse().unwrap()).await.unwrap();
    assert_eq!(found.digest, pushed.unwrap());
}

/// Others wait for so many removals at most.
#[tokio::test]
async fn links_are_removed_a_few_at_a_time() {
    let faulty = over(&MemoryStore::new(), false);
    let content = Content::new(Arc::new(faulty.clone()));
    for n in 0..300u32 {
        push_blob(&content, &app(), &n.to_le_bytes()).await;
    }
    faulty.plan(Plan::none());
    content.delete_repository(&app(), &none()).await.unwrap();
    let operations = faulty.operations();
    let removals = operations.split(|operation| *operation != "delete").map(<[_]>::len);
    assert!(removals.max() <= Some(65), "{operations:?}");
}

/// What one process deletes while the other pushes.
#[rstest]
#[case::the_last_image_but_the_new_one(Flow::Push, Flow::MoveTag)]
#[case::the_same_image(Flow::Push, Flow::PushAgain)]
#[case::a_referrer_and_its_subject(Flow::DeleteManifests, Flow::Referrer)]
#[case::a_tag(Flow::DeleteTag, Flow::PushAgain)]
#[tokio::test]
async fn two_processes_leave_nothing_that_points_to_nothing(#[case] before: Flow, #[case] pushing: Flow) {
    for seed in 0..150 {
        let store = MemoryStore::new();
        let faulty = over(&store, true);
        let [one, other] = [(); 2].map(|()| Client::new(&Content::new(Arc::new(faulty.clone()))));
        let (mut deleter, mut pusher) = (one, other);
        deleter.prepare(before).await.unwrap();
        if let Flow::Push = before {
            deleter.push("one", "v1").await.unwrap();
        }
        faulty.plan(Plan::random(seed, 0.0));
        let deletion = if let Flow::Push = before { Flow::DeleteManifests } else { before };
        let pushing = async {
            match pushing {
                Flow::Referrer => pusher.put_manifest(referrer()).await,
                other => pusher.run(other).await,
            }
        };
        // What it reads may be gone again.
        let (deleted, pushed) = tokio::join!(deleter.run(deletion), pushing);
        deleted.unwrap();
        found_or_not(pushed).unwrap();
        faulty.plan(Plan::none());
        check_whole(&store, &[]).await;
    }
}
