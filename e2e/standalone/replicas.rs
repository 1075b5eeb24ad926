//! Three processes that serve one bucket, behind a proxy that takes turns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Bucket, Image, Login, Remote, Server, eventually, local_test};

/// What a client does that is told to try again: once.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

struct Replicas {
    bucket: Bucket,
    servers: Vec<Server>,
    remote: Remote,
    robot: Login,
    _keys: TempDir,
}

impl Replicas {
    async fn start() -> Self {
        let bucket = Bucket::start_local().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        // Keys and credentials are the same for all, as Secrets are in a cluster.
        let keys = TempDir::new().expect("a temporary folder");
        let mut servers = Vec::new();
        for _ in 0..3 {
            let mut settings = bucket.settings();
            settings.push(format!("policy.manifests.hosts=[\"{address}\"]"));
            settings.push("storage.s3.redirect.enabled=false".to_owned());
            servers.push(Server::start_with(Some(keys.path().to_owned()), settings).await);
        }
        tokio::spawn(take_turns(listener, servers.iter().map(|server| server.listen).collect()));
        let remote = Remote { host: address.to_string(), ..servers[0].remote() };
        let config = servers[0].credential("demo", "ci").join("config.json");
        let config = std::fs::read_to_string(config).expect("the robot has a credential");
        let robot = Login::from_docker_config(&config, &remote.host);
        Self { bucket, servers, remote, robot, _keys: keys }
    }

    async fn push(&self, image: &Image, to: &str) -> Result<(), String> {
        self.remote.push(image, to, Some(&self.robot)).await
    }

    async fn pull(&self, from: &str) -> Result<(String, Vec<String>), String> {
        self.remote.pull(from, Some(&self.robot)).await
    }
}

/// Each connection goes to the next server that takes it.
async fn take_turns(listener: TcpListener, servers: Vec<SocketAddr>) {
    let (servers, next) = (Arc::new(servers), Arc::new(AtomicUsize::new(0)));
    while let Ok((mut client, _)) = listener.accept().await {
        let (servers, next) = (Arc::clone(&servers), Arc::clone(&next));
        tokio::spawn(async move {
            for _ in 0..servers.len() {
                let turn = next.fetch_add(1, Ordering::Relaxed) % servers.len();
                if let Ok(mut server) = TcpStream::connect(servers[turn]).await {
                    // It ends with either of them.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    return;
                }
            }
        });
    }
}

/// Does it, and once more if that fails. Says whether it had to.
async fn with_a_retry<T>(attempt: impl AsyncFn() -> Result<T, String>) -> (T, bool) {
    match attempt().await {
        Ok(done) => (done, false),
        Err(first) => {
            tokio::time::sleep(RETRY_PAUSE).await;
            let second = attempt().await;
            (second.unwrap_or_else(|second| panic!("first: {first}\nthen: {second}")), true)
        }
    }
}

#[test]
fn a_replica_that_is_killed_costs_a_client_at_most_a_retry() {
    local_test(async || {
        let mut replicas = Replicas::start().await;
        let mut retries = 0;
        for round in 0..3 {
            let image = Image::build(&replicas.remote.folder, &format!("killed-{round}"), 30_000_000);
            let to = format!("demo/app:v{round}");
            let victim = round % replicas.servers.len();
            // While its content is being pushed, and while it is being pulled.
            let mut dying = replicas.servers.remove(victim);
            let staged = replicas.bucket.folder();
            let kill = async {
                eventually("something of the image has arrived", async || {
                    let uploads = staged.join("uploads");
                    let begun = std::fs::read_dir(uploads).is_ok_and(|mut uploads| uploads.next().is_some());
                    if begun { Ok(()) } else { Err("nothing".to_owned()) }
                })
                .await;
                dying.kill();
            };
            let push = with_a_retry(async || replicas.push(&image, &to).await);
            let ((), (_, retried)) = futures::join!(kill, push);
            retries += usize::from(retried);
            dying.restart().await;

            let expected = (image.digest.clone(), image.layers.clone());
            let kill = async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                dying.kill();
            };
            let pull = with_a_retry(async || replicas.pull(&to).await);
            let ((), (pulled, retried)) = futures::join!(kill, pull);
            assert_eq!(pulled, expected);
            retries += usize::from(retried);
            dying.restart().await;
            replicas.servers.insert(victim, dying);
        }
        println!("{retries} of 6 had to be tried again");
        // All that was pushed is there, whoever is asked.
        for server in &replicas.servers {
            let remote = Remote { host: server.listen.to_string(), ..replicas.remote.clone() };
            let tags = remote.request("GET", "/v2/demo/app/tags/list", Some(&replicas.robot)).await;
            assert_eq!(tags.text(), r#"{"name":"demo/app","tags":["v0","v1","v2"]}"#);
        }
    });
}

#[test]
fn skopeo_is_sent_to_the_bucket_for_blobs_and_follows() {
    local_test(async || {
        let bucket = Bucket::start_local().await;
        let server = Server::start_on(&bucket).await;
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        let image = Image::build(&remote.folder, "redirected", 3_000_000);
        remote.push(&image, "demo/app:v1", Some(&robot)).await.unwrap();
        let pulled = remote.pull("demo/app:v1", Some(&robot)).await.unwrap();
        assert_eq!(pulled, (image.digest, image.layers));
        let metrics = server.metrics().await;
        let redirects = |line: &&str| line.contains("requests_total") && line.contains("status=\"307\"");
        assert!(metrics.lines().any(|line| redirects(&line)), "{metrics}");
    });
}
