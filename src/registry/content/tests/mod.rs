//! Each behaviour of [`Content`], over memory, over a folder and over a bucket.

mod blobs;
mod concurrency;
mod crash;
mod deletion;
mod faults;
mod immutable;
mod listings;
mod manifests;
mod uploads;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;

pub use super::*;
pub use crate::oci::{Algorithm, Digest, Manifest, MediaType, Reference, Tag};
pub use crate::policy::ImmutableTags;
use crate::registry::storage::filesystem::FilesystemStore;
use crate::registry::storage::memory::MemoryStore;
#[cfg(feature = "s3")]
use crate::registry::storage::s3::{Purpose, S3Store, server::S3Server};

/// A registry's content, and the store below it to look behind the scenes.
pub struct Fixture {
    pub content: Content,
    pub store: Arc<dyn ObjectStore>,
    /// Where it is kept, as long as it is needed.
    _place: Box<dyn Send + Sync>,
}

impl Fixture {
    pub fn in_memory() -> Self {
        let store = Arc::new(MemoryStore::new());
        Self { content: Content::new(store.clone()), store, _place: Box::new(()) }
    }

    pub fn in_a_folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FilesystemStore::open(folder.path()).unwrap());
        Self { content: Content::new(store.clone()), store, _place: Box::new(folder) }
    }

    #[cfg(feature = "s3")]
    pub async fn in_a_bucket() -> Self {
        let server = S3Server::start();
        let store = Arc::new(S3Store::connect(&server.settings(), Purpose::Write).await.unwrap());
        Self { content: Content::new(store.clone()), store, _place: Box::new(server) }
    }

    /// No staged upload.
    pub async fn assert_no_upload_left(&self) {
        assert_eq!(self.store.stage_list(None, 10).await.unwrap(), []);
    }
}

/// Defines each test once and runs it over every store.
macro_rules! over_each_store {
    ($($(#[$meta:meta])* async fn $test:ident($fixture:ident) $body:block)*) => {
        mod cases {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* pub async fn $test($fixture: Fixture) $body)*
        }
        mod memory {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    cases::$test(Fixture::in_memory()).await;
                }
            )*
        }
        mod filesystem {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    cases::$test(Fixture::in_a_folder()).await;
                }
            )*
        }
        #[cfg(feature = "s3")]
        mod s3 {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "needs a service: make test"]
                async fn $test() {
                    cases::$test(Fixture::in_a_bucket().await).await;
                }
            )*
        }
    };
}
use over_each_store;

macro_rules! assert_error {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("succeeded"),
        }
    };
}
use assert_error;

pub fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// What a policy without immutable tags says.
pub fn none() -> ImmutableTags {
    ImmutableTags::default()
}

/// Three pieces of a body, of which the last may be empty.
pub fn body(content: &[u8]) -> BodyStream {
    let third = content.len().div_ceil(3).max(1);
    let pieces: Vec<io::Result<Bytes>> = content.chunks(third).map(|part| Ok(part.to_vec().into())).collect();
    futures::stream::iter(pieces).boxed()
}

/// A connection that breaks off after `content`.
pub fn broken_body(content: &[u8]) -> BodyStream {
    body(content).chain(futures::stream::iter([Err(io::ErrorKind::ConnectionReset.into())])).boxed()
}

/// Several blocks, and no two parts alike.
pub fn large() -> Vec<u8> {
    (0..500_000u32).flat_map(u32::to_le_bytes).collect()
}

pub async fn read_all(stream: BodyStream) -> Vec<u8> {
    let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
    pieces.concat()
}

pub async fn push_blob(content: &Content, to: &RepositoryName, blob: &[u8]) -> Digest {
    let digest = Digest::sha256(blob);
    content.put_blob(to, &digest, body(blob)).await.unwrap();
    digest
}

pub async fn read_blob(content: &Content, from: &RepositoryName, digest: &Digest) -> Vec<u8> {
    read_all(content.read_blob(from, digest, None).await.unwrap().stream).await
}

/// More than any listing holds.
pub const ALL: usize = usize::MAX;

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A manifest as it comes from a client, by tag or by digest.
pub fn new_manifest(media_type: &str, json: &serde_json::Value, tag: Option<&str>) -> NewManifest {
    let bytes = Bytes::from(serde_json::to_vec(json).unwrap());
    let reference = tag.map_or_else(|| Reference::Digest(Digest::sha256(&bytes)), |tag| tag.parse().unwrap());
    NewManifest {
        reference,
        is_immutable: false,
        manifest: Manifest::parse(&media_type.parse().unwrap(), &bytes).unwrap(),
        bytes,
        pusher: "alice".to_owned(),
        now: at(1_700_000_000),
        memory: None,
    }
}

fn descriptor(digest: &Digest) -> serde_json::Value {
    serde_json::json!({"mediaType": "application/vnd.test.config", "digest": digest, "size": 1})
}

/// An image; `name` makes it differ from others.
pub fn image(name: &str, config: &Digest, subject: Option<&Digest>, tag: Option<&str>) -> NewManifest {
    let mut json = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(config), "layers": [descriptor(config)],
        "annotations": {"name": name},
    });
    if let Some(subject) = subject {
        json["subject"] = descriptor(subject);
    }
    new_manifest(MediaType::OCI_MANIFEST, &json, tag)
}

pub fn index(children: &[&Digest]) -> NewManifest {
    let child =
        |digest: &&Digest| serde_json::json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": 1});
    let children: Vec<_> = children.iter().map(child).collect();
    new_manifest(MediaType::OCI_INDEX, &serde_json::json!({"schemaVersion": 2, "manifests": children}), None)
}

/// Pushes an image with its config.
pub async fn push_image(content: &Content, to: &RepositoryName, name: &str, tag: Option<&str>) -> Digest {
    let config = push_blob(content, to, b"config").await;
    let new = image(name, &config, None, tag);
    content.put_manifest(to, new).await.unwrap()
}

pub fn digest_of(new: &NewManifest) -> Digest {
    Digest::sha256(&new.bytes)
}

/// Opens a folder anew; whoever had it open may take a moment to let go of it.
pub async fn reopen(folder: &PathBuf) -> Arc<dyn ObjectStore> {
    loop {
        match FilesystemStore::open(folder) {
            Ok(store) => return Arc::new(store),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
