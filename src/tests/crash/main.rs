//! `kill -9` at random moments while clients push: what was acknowledged is there, nothing else is half visible.
//!
//! `LANDFAST_CRASH_ROUNDS=50` makes it thorough (5 rounds without), `LANDFAST_CRASH_SEED=…` repeats what clients did;
//! when the process dies differs from run to run all the same.

mod client;
mod pusher;
mod random;
mod server;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use landfast::registry::content::{Content, Finding, FsckMode, FsckObserver, FsckSummary};
use landfast::registry::storage::ObjectStore;
use landfast::registry::storage::filesystem::FilesystemStore;

use crate::pusher::Pusher;
use crate::random::Random;
use crate::server::Server;

const PUSHERS: u64 = 4;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn what_was_acknowledged_survives_kill_9_and_nothing_is_half_visible() {
    let rounds = number("LANDFAST_CRASH_ROUNDS").unwrap_or(5);
    let seed = number("LANDFAST_CRASH_SEED").unwrap_or_else(rand::random);
    println!("LANDFAST_CRASH_SEED={seed} LANDFAST_CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let mut pushers: Vec<_> = (0..PUSHERS).map(|n| Pusher::new(n, random.next())).collect();
    let mut server = Server::new();
    for round in 0..rounds {
        server.start();
        let moment = Duration::from_millis(20 + random.below(500));
        std::thread::scope(|scope| {
            for pusher in &mut pushers {
                let connection = server.connect();
                scope.spawn(move || pusher.push_until_it_breaks(connection));
            }
            std::thread::sleep(moment);
            server.kill();
        });
        server.start();
        for pusher in &mut pushers {
            pusher.check(&mut server.connect(), round);
        }
        server.kill();
    }
    let done: Vec<_> = pushers.iter().map(Pusher::summary).collect();
    println!("{}", done.join("\n"));
    assert!(pushers.iter().all(|pusher| pusher.acknowledged() > 0), "every pusher got somewhere");
    check_store(&server);
}

/// A service that takes connections and says nothing, which is told to be the one with the bucket.
#[cfg(feature = "s3")]
#[test]
fn a_server_that_waits_for_its_bucket_ends_when_it_is_asked_to() {
    let bucket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", bucket.local_addr().unwrap());
    bucket.set_nonblocking(true).unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut process = server::on_bucket(&endpoint, data.path());
    let connection = loop {
        match bucket.accept() {
            Ok((connection, _)) => break connection,
            Err(_) => assert_eq!(server::wait(&mut process, Duration::from_millis(20)), None, "it does not start"),
        }
    };
    let terminate = std::process::Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(terminate.success());
    // Without an answer it would go on for as long as it waits for one.
    let ended = server::wait(&mut process, Duration::from_secs(15));
    drop(connection);
    if ended.is_none() {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(ended.expect("it goes on").success());
}

/// What is left in the folder: no upload after the clean-up, and no damage but what an interrupted push may leave.
fn check_store(server: &Server) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(FilesystemStore::open(server.storage()).unwrap());
        let content = Content::new(store.clone());
        let later = SystemTime::now() + Duration::from_secs(1);
        let removed = content.remove_abandoned_uploads(Duration::ZERO, later).await.unwrap();
        println!("{removed} abandoned uploads removed");
        assert_eq!(store.stage_list(None, 1).await.unwrap(), []);
        let uploads = landfast::registry::storage::Prefix::new("uploads/").unwrap();
        assert!(!store.list(&uploads, None, 0, false).await.unwrap().more);
        let mut seen = Seen(Vec::new());
        let summary = content.fsck(FsckMode::Report { pause: Duration::ZERO }, &mut seen).await.unwrap();
        println!("{summary:?}");
        let harmless = ["referrer-to-nothing", "empty-repository"];
        seen.0.retain(|finding| !harmless.contains(&finding.problem.name()));
        assert_eq!(seen.0, []);
    });
}

struct Seen(Vec<Finding>);

impl FsckObserver for Seen {
    fn found(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }

    fn repaired(&mut self, _: &Finding) {}

    fn progress(&mut self, _: &FsckSummary) {}
}
