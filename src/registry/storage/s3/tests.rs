//! What is this back end's own, against a real service.

use std::io;

use futures::TryStreamExt;

use super::chunks::{CHUNK, MIN_CHUNK};
use super::server::S3Server;
use super::*;

async fn store(server: &S3Server) -> S3Store {
    S3Store::connect(&server.settings(), Purpose::Write).await.unwrap()
}

/// Content in which no two places look alike.
fn content(length: usize) -> Bytes {
    (0..length.div_ceil(4) as u32).flat_map(u32::to_le_bytes).take(length).collect::<Vec<u8>>().into()
}

async fn read(store: &S3Store, key: &Key) -> Vec<u8> {
    let pieces: io::Result<Vec<Bytes>> = store.get(key, None).await.unwrap().body.try_collect().await;
    pieces.unwrap().concat()
}

async fn append(store: &S3Store, id: &StageId, at: usize, content: Bytes) -> Result<u64, StorageError> {
    let mut writer = store.stage_append(id, at as u64).await?;
    writer.write(vec![content]).await?;
    writer.finish(Bytes::new()).await
}

fn key() -> Key {
    Key::new("a/b").unwrap()
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn uploads_of_every_size_arrive_whole() {
    let server = S3Server::start();
    let store = store(&server).await;
    let small = MIN_CHUNK as usize;
    for (number, lengths) in [
        vec![0],
        vec![1],
        vec![CHUNK],
        vec![CHUNK + 1],
        vec![small - 1, 1, small],
        vec![1, 1, CHUNK * 2],
        vec![small, small, 1],
        vec![CHUNK * 6 + 17],
    ]
    .into_iter()
    .enumerate()
    {
        let whole = content(lengths.iter().sum());
        let (id, key) = (StageId::random(), Key::new(format!("sizes/{number}")).unwrap());
        store.stage_create(&id).await.unwrap();
        let mut at = 0;
        // Each by another process.
        for length in &lengths[..lengths.len() - 1] {
            let other = super::tests::store(&server).await;
            append(&other, &id, at, whole.slice(at..at + length)).await.unwrap();
            at += length;
        }
        let mut writer = store.stage_append(&id, at as u64).await.unwrap();
        writer.write(vec![whole.slice(at..)]).await.unwrap();
        writer.publish(&key).await.unwrap();
        assert!(read(&store, &key).await == whole, "{lengths:?}");
    }
    assert!(server.files().iter().all(|file| file.starts_with("objects/")), "{:?}", server.files());
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn of_two_processes_that_append_one_gets_through() {
    let server = S3Server::start();
    let (one, two) = (store(&server).await, store(&server).await);
    let id = StageId::random();
    one.stage_create(&id).await.unwrap();
    let (mut first, mut second) = (one.stage_append(&id, 0).await.unwrap(), two.stage_append(&id, 0).await.unwrap());
    first.write(vec![content(100)]).await.unwrap();
    second.write(vec![content(200)]).await.unwrap();
    assert_eq!(second.finish(Bytes::new()).await.unwrap(), 200);
    let lost = first.finish(Bytes::new()).await;
    assert!(matches!(lost, Err(StorageError::Busy(_))), "{lost:?}");
    assert_eq!(one.stage_state(&id).await.unwrap().length, 200);
    one.stage_append(&id, 200).await.unwrap().publish(&key()).await.unwrap();
    assert_eq!(read(&two, &key()).await, content(200));
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn an_upload_that_is_published_twice_is_there_once() {
    let server = S3Server::start();
    let (one, two) = (store(&server).await, store(&server).await);
    let id = StageId::random();
    one.stage_create(&id).await.unwrap();
    append(&one, &id, 0, content(CHUNK + 5)).await.unwrap();
    let (first, second) = (
        one.stage_append(&id, CHUNK as u64 + 5).await.unwrap(),
        two.stage_append(&id, CHUNK as u64 + 5).await.unwrap(),
    );
    let key = key();
    // One may find that the chunks are gone, but not before the object is there.
    let (first, second) = tokio::join!(first.publish(&key), second.publish(&key));
    first.unwrap();
    second.unwrap();
    assert!(read(&two, &key).await == content(CHUNK + 5));
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn chunks_of_a_lost_writer_go_with_the_upload() {
    let server = S3Server::start();
    let store = store(&server).await;
    let id = StageId::random();
    store.stage_create(&id).await.unwrap();
    let mut writer = store.stage_append(&id, 0).await.unwrap();
    writer.write(vec![content(CHUNK * 6)]).await.unwrap();
    drop(writer);
    assert!(server.files().len() > 1, "{:?}", server.files());
    assert_eq!(store.stage_list(None, 10).await.unwrap().len(), 1);
    store.stage_abort(&id).await.unwrap();
    // One that was on its way may arrive after that: then the upload is found again.
    while let [stage] = &store.stage_list(None, 10).await.unwrap()[..] {
        store.stage_abort(&stage.id).await.unwrap();
    }
    assert_eq!(server.files(), [""; 0]);
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn what_a_lost_process_has_left_is_removed_once_it_is_old() {
    let server = S3Server::start();
    let store = store(&server).await;
    let (client, objects) = (&store.bucket.client, store.bucket.objects());
    let begun = client.create_multipart_upload().bucket(&store.bucket.name).key(format!("{objects}blobs/x"));
    begun.send().await.unwrap();
    store.bucket.put("probe/x", content(1), Condition::Always).await.unwrap();
    let unfinished = async || {
        let listed = client.list_multipart_uploads().bucket(&store.bucket.name).prefix(&objects).send().await.unwrap();
        listed.uploads().len()
    };
    let hour = Duration::from_secs(3600);
    assert_eq!(store.remove_remains(SystemTime::now() - hour).await.unwrap(), 0);
    assert_eq!(unfinished().await, 1);
    assert_eq!(store.remove_remains(SystemTime::now() + hour).await.unwrap(), 2);
    assert_eq!((unfinished().await, server.files().len()), (0, 0));
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn without_conditional_writes_one_process_decides_itself() {
    let server = S3Server::start();
    let mut bucket = connect::connect(&server.settings(), Purpose::Write).await.unwrap();
    bucket.conditional = Conditional::default();
    let store = S3Store { bucket: Arc::new(bucket), writing: Arc::default() };
    let puts = (0..16u8).map(|task| {
        let store = store.clone();
        tokio::spawn(async move { store.put(&key(), vec![task].into(), Condition::IfAbsent).await.is_ok() })
    });
    let won = futures::future::join_all(puts).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(won, 1);
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn a_service_that_is_away_is_told_from_other_failures() {
    let mut server = S3Server::start();
    let store = store(&server).await;
    store.put(&key(), content(3), Condition::Always).await.unwrap();
    server.kill();
    assert!(matches!(store.head(&key()).await, Err(StorageError::Unavailable { .. })));
    assert!(matches!(store.get(&key(), None).await.map(drop), Err(StorageError::Unavailable { .. })));
    let put = store.put(&key(), content(4), Condition::IfAbsent).await;
    assert!(matches!(put, Err(StorageError::Unavailable { .. })), "{put:?}");
    server.run();
    assert_eq!(read(&store, &key()).await, content(3));
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn says_what_is_wrong_with_the_settings() {
    let server = S3Server::start();
    let fails = async |change: fn(&mut S3Storage)| {
        let mut settings = server.settings();
        change(&mut settings);
        S3Store::connect(&settings, Purpose::Write).await.map(drop).unwrap_err().to_string()
    };
    let error = fails(|settings| settings.bucket = "missing".to_owned()).await;
    assert!(error.contains("\"missing\"") && error.contains("NoSuchBucket"), "{error}");
    let error = fails(|settings| settings.endpoint = Some("localhost:1".to_owned())).await;
    assert!(error.contains("write https://host"), "{error}");
    let error = fails(|settings| settings.prefix = "a//b".to_owned()).await;
    assert!(error.contains("a//b"), "{error}");
    let error = fails(|settings| settings.credentials = Some("/nowhere".into())).await;
    assert!(error.contains("/nowhere/"), "{error}");
    std::fs::write(server.credentials().join("secretAccessKey"), "wrong").unwrap();
    let error = fails(|_| {}).await;
    assert!(error.contains("SignatureDoesNotMatch") && !error.contains("wrong"), "{error}");
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn keeps_to_its_prefix() {
    let server = S3Server::start();
    let mut settings = server.settings();
    settings.prefix = "registries/main".to_owned();
    let store = S3Store::connect(&settings, Purpose::Write).await.unwrap();
    store.put(&key(), content(3), Condition::IfAbsent).await.unwrap();
    assert_eq!(server.files(), ["registries/main/objects/a/b"]);
    let listed = store.list(&Prefix::all(), None, 10, true).await.unwrap();
    assert_eq!(listed.entries, [super::super::Entry::Prefix(Prefix::new("a/").unwrap())]);
}

#[tokio::test]
#[ignore = "needs a service: make test"]
async fn a_signed_address_needs_no_credentials() {
    let server = S3Server::start();
    let mut settings = server.settings();
    settings.redirect.enabled = true;
    let store = S3Store::connect(&settings, Purpose::Write).await.unwrap();
    store.put(&key(), content(3), Condition::Always).await.unwrap();
    let url: http::Uri = store.signed_url(&key()).await.unwrap().parse().unwrap();
    assert!(url.query().unwrap().contains("X-Amz-Signature="), "{url}");
    let stream = tokio::net::TcpStream::connect(url.authority().unwrap().as_str()).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request =
        http::Request::get(url.path_and_query().unwrap().as_str()).header("host", url.authority().unwrap().as_str());
    let response = sender.send_request(request.body(String::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes(), content(3));
}
