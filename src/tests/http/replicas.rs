//! Several processes that serve one bucket, and clients whose every request comes to another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{join_all, try_join_all};
use landfast::oci::{Algorithm, Digest};

use crate::harness::{Call, OCI_MANIFEST, Registry, connect, image};
use crate::s3_server::S3Server;

/// Three replicas behind a proxy that takes turns.
struct Replicas {
    replicas: Vec<Registry>,
    next: AtomicUsize,
    server: S3Server,
}

impl Replicas {
    fn start() -> Self {
        let server = S3Server::start();
        let replica = |_| Registry::over(Arc::new(connect(&server.settings())), None);
        Self { replicas: (0..3).map(replica).collect(), next: AtomicUsize::new(0), server }
    }

    fn turn(&self) -> &Registry {
        &self.replicas[self.next.fetch_add(1, Ordering::Relaxed) % self.replicas.len()]
    }

    fn by(&self, method: &str, target: &str) -> Call<'_> {
        self.turn().by("dev", method, target)
    }

    /// In chunks, as docker does: each request to another replica.
    async fn push_in_chunks(&self, repository: &str, content: &[u8], chunk: usize, digest: &Digest) {
        let begun = self.by("POST", &format!("/v2/{repository}/blobs/uploads/")).send().await.expect(202);
        let mut location = begun.header("location").to_owned();
        for (number, part) in content.chunks(chunk).enumerate() {
            let first = number * chunk;
            let range = format!("{first}-{}", first + part.len() - 1);
            let call = self.by("PATCH", &location).header("content-range", &range);
            let patched = call.body(part.to_vec()).send().await.expect(202);
            assert_eq!(patched.header("range"), format!("0-{}", first + part.len() - 1));
            location = patched.header("location").to_owned();
            let status = self.by("GET", &location).send().await.expect(204);
            assert_eq!(status.header("range"), patched.header("range"));
        }
        let separator = if location.contains('?') { '&' } else { '?' };
        self.by("PUT", &format!("{location}{separator}digest={digest}")).body("").send().await.expect(201);
        let pulled = self.by("GET", &format!("/v2/{repository}/blobs/{digest}")).send().await.expect(200);
        assert!(pulled.body == content);
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(4) as u32).flat_map(u32::to_be_bytes).take(length).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a service: make test"]
async fn any_replica_goes_on_with_any_upload() {
    let replicas = Replicas::start();
    let content = content(21_000_000);
    // Chunks of one and more parts of an object, smaller than a part, and not divisible by anything.
    for chunk in [1_000_003, 5_300_000, 17_000_000] {
        let part = &content[..content.len() - chunk / 2];
        replicas.push_in_chunks("team/app", part, chunk, &Digest::sha256(part)).await;
    }
    let long = Digest::of(Algorithm::Sha512, &content);
    replicas.push_in_chunks("team/long", &content, 9_000_000, &long).await;
    assert!(replicas.server.files().iter().all(|file| file.starts_with("objects/")), "{:?}", replicas.server.files());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a service: make test"]
async fn what_one_replica_takes_all_others_have() {
    let replicas = Replicas::start();
    let manifest = replicas.replicas[0].push_image("dev", "team/app", "v1", b"layer").await;
    for replica in &replicas.replicas {
        let pulled = replica.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(200);
        assert_eq!(pulled.body, manifest);
        let tags = replica.by("dev", "GET", "/v2/team/app/tags/list").send().await.expect(200);
        assert_eq!(tags.json()["tags"], serde_json::json!(["v1"]));
    }
    let digest = Digest::sha256(&manifest);
    replicas.replicas[1].by("dev", "DELETE", &format!("/v2/team/app/manifests/{digest}")).send().await.expect(202);
    let listed = replicas.replicas[0].by("dev", "GET", "/v2/team/app/tags/list").send().await;
    assert_eq!(listed.json()["tags"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a service: make test"]
async fn writers_of_a_thousand_tags_lose_none() {
    const WRITERS: usize = 16;
    const TAGS: usize = 1000;
    let replicas = Replicas::start();
    let config = replicas.turn().push_blob("dev", "team/app", b"{}").await;
    let layer = replicas.turn().push_blob("dev", "team/app", b"layer").await;
    let manifest = image(OCI_MANIFEST, &config, 2, &layer, 5);
    let write = |writer: usize| {
        let (replicas, manifest) = (&replicas, &manifest);
        async move {
            for tag in (writer..TAGS).step_by(WRITERS) {
                let tag = format!("t{tag:04}");
                replicas.turn().put_manifest("dev", "team/app", &tag, OCI_MANIFEST, manifest).await.expect(201);
            }
        }
    };
    join_all((0..WRITERS).map(write)).await;
    let listed = replicas.by("GET", "/v2/team/app/tags/list?n=1000").send().await.expect(200);
    let expected: Vec<String> = (0..TAGS).map(|tag| format!("t{tag:04}")).collect();
    assert_eq!(listed.json()["tags"], serde_json::json!(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a service: make test"]
async fn a_service_that_comes_back_is_used_again_and_nothing_acknowledged_is_lost() {
    let mut replicas = Replicas::start();
    let before = replicas.turn().push_blob("dev", "team/app", b"before").await;
    replicas.server.kill();
    let push = |content: &'static str| {
        let digest = Digest::sha256(content.as_bytes());
        let target = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        replicas.by("POST", &target).body(content).send()
    };
    let (pushed, pulled, listed) = tokio::join!(
        push("meanwhile"),
        replicas.by("GET", &format!("/v2/team/app/blobs/{before}")).send(),
        replicas.by("GET", "/v2/team/app/tags/list").send(),
    );
    for reply in [pushed, pulled, listed] {
        let reply = reply.expect(503);
        assert_eq!(reply.header("retry-after"), "5");
    }
    replicas.server.run();
    let pulled = replicas.by("GET", &format!("/v2/team/app/blobs/{before}")).send().await.expect(200);
    assert_eq!(pulled.body, "before");
    replicas.turn().push_blob("dev", "team/app", b"after").await;
}

/// The service is killed again and again under load. What was acknowledged is there in the end; what was not was
/// refused as something to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a service: make test"]
async fn nothing_acknowledged_is_lost_when_the_service_is_killed_under_load() {
    let Replicas { replicas, server, .. } = Replicas::start();
    let (replicas, stop) = (Arc::new(replicas), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let writers = (0..4usize).map(|writer| {
        let (replicas, stop) = (Arc::clone(&replicas), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut acknowledged, mut refused) = (Vec::new(), 0);
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Every third is large enough to be staged.
                let length = if number % 3 == 0 { 600_000 } else { 100 };
                let content = [format!("{writer} {number} ").into_bytes(), content(length)].concat();
                let digest = Digest::sha256(&content);
                let target = format!("/v2/team/app/blobs/uploads/?digest={digest}");
                let replica = &replicas[(writer + number) % replicas.len()];
                let reply = replica.by("dev", "POST", &target).body(content).send().await;
                match reply.status.as_u16() {
                    201 => acknowledged.push(digest),
                    503 => refused += 1,
                    other => panic!("{other}: {:?}", reply.body),
                }
            }
            (acknowledged, refused)
        })
    });
    let writers: Vec<_> = writers.collect();
    let chaos = tokio::task::spawn_blocking(move || {
        let mut server = server;
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(700));
            server.kill();
            std::thread::sleep(std::time::Duration::from_millis(1500));
            server.run();
        }
        std::thread::sleep(std::time::Duration::from_millis(700));
        server
    });
    let _server = chaos.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let (mut checked, mut refused) = (0, 0);
    for (acknowledged, turned_away) in try_join_all(writers).await.unwrap() {
        refused += turned_away;
        for digest in acknowledged {
            let replica = &replicas[checked % replicas.len()];
            let reply = replica.by("dev", "GET", &format!("/v2/team/app/blobs/{digest}")).send().await.expect(200);
            assert_eq!(Digest::sha256(&reply.body), digest);
            checked += 1;
        }
    }
    assert!(checked > 0 && refused > 0, "{checked} acknowledged, {refused} refused");
}
