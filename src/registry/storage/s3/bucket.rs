//! Single requests to the bucket, in the store's terms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{AggregatedBytes, ByteStream, DateTime};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::super::{ByteRange, Condition, Key, Object, ObjectMeta, StageId, StorageError, Version};
use super::body::STALL;
use super::buffers::Buffers;
use super::connect::{CONNECT, Purpose};
use super::error::{Failure, failure, storage_error};
use super::probe::Conditional;
use super::{body, pause_before};

/// Tries of a write with a condition, which the client library must not repeat by itself.
const ATTEMPTS: u32 = 5;
/// Larger content is given more time.
const LARGE: usize = 1 << 20;
const PATIENT: Duration = Duration::from_secs(300);
/// Deletions of single objects at the same time.
const PARALLEL_DELETES: usize = 16;
/// Most keys of one request to delete.
const MAX_DELETED: usize = 1000;
/// Memory for chunks on their way to the service.
const MEMORY_KIB: usize = 256 * 1024;
/// Enough that unrelated keys seldom wait for each other.
const KEY_LOCKS: usize = 64;

/// A bucket, or a folder of one. All names are those of the bucket: what was made of keys here.
pub(super) struct Bucket {
    pub client: Client,
    pub name: String,
    /// Empty, or ends with a slash.
    pub prefix: String,
    pub purpose: Purpose,
    pub conditional: Conditional,
    /// Whether the connection is encrypted, and what goes over it need not be signed.
    pub is_encrypted: bool,
    pub signing: Option<Signing>,
    /// Whether the service is known not to delete several objects at once.
    pub deletes_singly: AtomicBool,
    pub buffers: Buffers,
    /// For chunks on their way to the service, of all uploads together, in KiB.
    pub memory: Arc<Semaphore>,
    /// Hold the tasks of this process apart where the service does not.
    pub key_locks: [Mutex<()>; KEY_LOCKS],
}

/// How addresses for clients are made.
pub(super) struct Signing {
    /// Knows the service by the clients' address of it.
    pub client: Client,
    pub presigning: PresigningConfig,
}

impl Bucket {
    pub(super) fn new(client: Client, name: &str, prefix: &str, purpose: Purpose) -> Self {
        let prefix = prefix.trim_matches('/');
        Self {
            client,
            name: name.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            purpose,
            conditional: Conditional::default(),
            is_encrypted: false,
            signing: None,
            deletes_singly: AtomicBool::new(false),
            buffers: Buffers::default(),
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            key_locks: std::array::from_fn(|_| Mutex::default()),
        }
    }

    pub(super) fn object(&self, key: &Key) -> String {
        format!("{}{key}", self.objects())
    }

    pub(super) fn objects(&self) -> String {
        match self.purpose {
            Purpose::Read | Purpose::Write => format!("{}objects/", self.prefix),
            Purpose::ReadTree => self.prefix.clone(),
        }
    }

    pub(super) fn uploads(&self) -> String {
        format!("{}uploads/", self.prefix)
    }

    pub(super) fn upload(&self, id: &StageId) -> String {
        format!("{}{id}/", self.uploads())
    }

    pub(super) async fn head(&self, name: &str) -> Result<ObjectMeta, StorageError> {
        let head = self.client.head_object().bucket(&self.name).key(name).send().await;
        let head = head.map_err(|error| match error.raw_response().map(|response| response.status().as_u16()) {
            // The answer to such a request has nothing to tell by whose it is.
            Some(404) => StorageError::NotFound(name.to_owned()),
            _ => storage_error("look at an object", name)(error),
        })?;
        let size = head.content_length.and_then(|size| u64::try_from(size).ok());
        meta(size, head.e_tag, head.last_modified).ok_or_else(|| incomplete("look at an object"))
    }

    pub(super) async fn get(self: &Arc<Self>, name: String, range: Option<ByteRange>) -> Result<Object, StorageError> {
        if range == Some(ByteRange::Suffix(0)) {
            return Err(StorageError::RangeNotSatisfiable { size: self.head(&name).await?.size });
        }
        let output = match self.get_part(&name, range, None).await {
            Ok(output) => output,
            Err(error) if failure(&error) == Failure::Range => {
                return Err(StorageError::RangeNotSatisfiable { size: self.head(&name).await?.size });
            }
            Err(error) => return Err(storage_error("read an object", &name)(error)),
        };
        let length = output.content_length.and_then(|length| u64::try_from(length).ok());
        let (range, size) = match (range, output.content_range.as_deref().and_then(content_range)) {
            (_, Some((range, size))) => (range, Some(size)),
            (None, None) => (0..length.unwrap_or(0), length),
            (Some(_), None) => return Err(incomplete("read a part of an object")),
        };
        let meta = meta(size, output.e_tag, output.last_modified).ok_or_else(|| incomplete("read an object"))?;
        let body = body::resumed(self.clone(), name, meta.version.clone(), range.clone(), output.body);
        Ok(Object { meta, range, body })
    }

    /// All of an object of which it is known that it fits into memory.
    pub(super) async fn whole(self: &Arc<Self>, name: String) -> Result<(Bytes, Version), StorageError> {
        let object = self.get(name, None).await?;
        let pieces: Vec<Bytes> = object.body.try_collect().await.map_err(StorageError::io("read an object"))?;
        Ok((pieces.concat().into(), object.meta.version))
    }

    /// `version` is given where a body goes on, and must be what it began with.
    pub(super) async fn get_part(
        &self,
        name: &str,
        range: Option<ByteRange>,
        version: Option<&Version>,
    ) -> Result<GetObjectOutput, SdkError<aws_sdk_s3::operation::get_object::GetObjectError, HttpResponse>> {
        // Some services take no larger numbers, and no object is so large.
        let is_too_large = |number: u64| i64::try_from(number).is_err();
        let header = range.map(|range| match range {
            ByteRange::From(first) | ByteRange::Inclusive(first, _) if is_too_large(first) => {
                format!("bytes={}-", i64::MAX)
            }
            ByteRange::From(first) => format!("bytes={first}-"),
            ByteRange::Inclusive(first, last) if is_too_large(last) => format!("bytes={first}-"),
            ByteRange::Inclusive(first, last) => format!("bytes={first}-{last}"),
            ByteRange::Suffix(length) if is_too_large(length) => "bytes=0-".to_owned(),
            ByteRange::Suffix(length) => format!("bytes=-{length}"),
        });
        let get = self.client.get_object().bucket(&self.name).key(name).set_range(header);
        get.set_if_match(version.map(|version| version.as_str().to_owned())).send().await
    }

    pub(super) async fn put(&self, name: &str, content: Bytes, condition: Condition) -> Result<Version, StorageError> {
        let mut attempt = 0;
        loop {
            let put = match &condition {
                Condition::Always => self.put_always(name, content.clone()).await,
                Condition::IfAbsent if !self.conditional.if_absent => {
                    self.put_alone(name, content.clone(), &condition).await
                }
                Condition::IfVersion(_) if !self.conditional.if_match => {
                    self.put_alone(name, content.clone(), &condition).await
                }
                _ => self.put_if(name, content.clone(), &condition).await,
            };
            match put {
                // A service that keeps files says so too if it removes an empty folder at that moment.
                Err(StorageError::KeyConflict(_)) if attempt + 1 < ATTEMPTS => {
                    tokio::time::sleep(pause_before(attempt) / 10).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn put_always(&self, name: &str, content: Bytes) -> Result<Version, StorageError> {
        let is_large = content.len() > LARGE;
        let put = self.client.put_object().bucket(&self.name).key(name).body(ByteStream::from(content)).customize();
        let put = if is_large { put.config_override(patient()) } else { put };
        let put = if self.is_encrypted { put.disable_payload_signing() } else { put };
        let output = put.send().await.map_err(storage_error("write an object", name))?;
        output.e_tag.map(Version::new).ok_or_else(|| incomplete("write an object"))
    }

    /// The service decides. A try that was not answered may have been done: then the next one fails to its condition,
    /// and what is there is our own.
    async fn put_if(&self, name: &str, content: Bytes, condition: &Condition) -> Result<Version, StorageError> {
        let action = "write an object";
        let mut was_lost = false;
        for attempt in 0.. {
            let put = self.client.put_object().bucket(&self.name).key(name).body(ByteStream::from(content.clone()));
            let put = match condition {
                Condition::Always => put,
                Condition::IfAbsent => put.if_none_match("*"),
                Condition::IfVersion(version) => put.if_match(version.as_str()),
            };
            let overrides = if content.len() > LARGE { patient() } else { aws_sdk_s3::config::Builder::new() };
            let put = put.customize().config_override(overrides.retry_config(RetryConfig::disabled()));
            let put = if self.is_encrypted { put.disable_payload_signing() } else { put };
            let error = match put.send().await {
                Ok(output) => return output.e_tag.map(Version::new).ok_or_else(|| incomplete(action)),
                Err(error) => error,
            };
            match failure(&error) {
                Failure::Transient | Failure::Conflict if attempt + 1 < ATTEMPTS => {
                    was_lost |= failure(&error) == Failure::Transient;
                    tokio::time::sleep(pause_before(attempt)).await;
                }
                Failure::Condition if was_lost => return self.own(name, &content).await,
                // An object that is not there has no version.
                Failure::NotFound if matches!(condition, Condition::IfVersion(_)) => {
                    return Err(StorageError::PreconditionFailed(name.to_owned()));
                }
                Failure::Conflict => {
                    let source = super::error::text(&error).into();
                    return Err(StorageError::Unavailable { action, source });
                }
                _ => return Err(storage_error(action, name)(error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Success if the object is what was to be written.
    async fn own(&self, name: &str, content: &Bytes) -> Result<Version, StorageError> {
        let output = self.get_part(name, None, None).await.map_err(storage_error("read an object", name))?;
        let (version, length) = (output.e_tag, output.content_length);
        let has_length = length.is_some_and(|length| usize::try_from(length).ok() == Some(content.len()));
        let read = tokio::time::timeout(STALL, output.body.collect()).await;
        let read = read.ok().and_then(Result::ok).map(AggregatedBytes::into_bytes);
        let is_own = has_length && read.as_ref() == Some(content);
        match version {
            Some(version) if is_own => Ok(Version::new(version)),
            _ => Err(StorageError::PreconditionFailed(name.to_owned())),
        }
    }

    /// This process decides, for its own tasks.
    async fn put_alone(&self, name: &str, content: Bytes, condition: &Condition) -> Result<Version, StorageError> {
        let lock = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % KEY_LOCKS;
        let _alone = self.key_locks[lock].lock().await;
        let current = match self.head(name).await {
            Ok(meta) => Some(meta.version),
            Err(StorageError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => current.is_none(),
            Condition::IfVersion(version) => current.as_ref() == Some(version),
        };
        if holds {
            self.put_always(name, content).await
        } else {
            Err(StorageError::PreconditionFailed(name.to_owned()))
        }
    }

    /// Success if there is no such object either.
    pub(super) async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.delete_if(name, None).await
    }

    /// The service looks at the version itself if it is one that does so.
    pub(super) async fn delete_if(&self, name: &str, version: Option<&Version>) -> Result<(), StorageError> {
        let version = version.filter(|_| self.conditional.if_match).map(|version| version.as_str().to_owned());
        let deleted = self.client.delete_object().bucket(&self.name).key(name).set_if_match(version).send().await;
        match deleted {
            Err(error) if failure(&error) == Failure::NotFound => Ok(()),
            other => other.map(drop).map_err(storage_error("delete an object", name)),
        }
    }

    /// In few requests, or one by one if the service can't do it.
    pub(super) async fn delete_all(&self, names: &[String]) -> Result<(), StorageError> {
        let action = "delete objects";
        for names in names.chunks(MAX_DELETED) {
            if names.len() == 1 || self.deletes_singly.load(Ordering::Relaxed) {
                self.delete_singly(names).await?;
                continue;
            }
            let keys = names.iter().map(|name| ObjectIdentifier::builder().key(name).build());
            let delete = keys.collect::<Result<Vec<_>, _>>();
            let delete = delete.and_then(|keys| Delete::builder().set_objects(Some(keys)).quiet(true).build());
            let delete = delete.map_err(|error| StorageError::io(action)(std::io::Error::other(error)))?;
            match self.client.delete_objects().bucket(&self.name).delete(delete).send().await {
                Ok(output) if output.errors().is_empty() => {}
                Ok(output) => {
                    let first = output.errors().first().and_then(|error| error.code()).unwrap_or("unknown").to_owned();
                    return Err(StorageError::Unavailable { action, source: first.into() });
                }
                Err(error) if matches!(failure(&error), Failure::Transient) => {
                    return Err(storage_error(action, "several objects")(error));
                }
                Err(_) => {
                    self.deletes_singly.store(true, Ordering::Relaxed);
                    self.delete_singly(names).await?;
                }
            }
        }
        Ok(())
    }

    async fn delete_singly(&self, names: &[String]) -> Result<(), StorageError> {
        let deletes = names.iter().map(|name| self.delete(name)).collect::<Vec<_>>();
        futures::stream::iter(deletes).buffer_unordered(PARALLEL_DELETES).try_collect().await
    }

    /// Room for so many bytes on their way, once there is some.
    pub(super) async fn memory_for(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(MEMORY_KIB as u32);
        self.memory.clone().acquire_many_owned(kibibytes).await.ok()
    }

    pub(super) async fn signed_url(&self, name: &str) -> Result<String, StorageError> {
        let action = "sign an address";
        let Some(Signing { client, presigning }) = &self.signing else {
            return Err(StorageError::io(action)(std::io::ErrorKind::Unsupported.into()));
        };
        let signed = client.get_object().bucket(&self.name).key(name).presigned(presigning.clone()).await;
        signed.map(|request| request.uri().to_owned()).map_err(storage_error(action, name))
    }
}

/// For requests that take the service, or the way there, long.
pub(super) fn patient() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(PATIENT);
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts.operation_attempt_timeout(PATIENT).build())
}

fn meta(size: Option<u64>, e_tag: Option<String>, modified: Option<DateTime>) -> Option<ObjectMeta> {
    let modified = modified.and_then(|time| SystemTime::try_from(time).ok())?;
    Some(ObjectMeta { size: size?, version: Version::new(e_tag?), modified })
}

fn incomplete(action: &'static str) -> StorageError {
    StorageError::io(action)(std::io::Error::other("the service's answer lacks what every such answer has"))
}

/// `bytes 5-9/10`: the range and the whole size.
pub(super) fn content_range(text: &str) -> Option<(std::ops::Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some((first..last.checked_add(1)?, size.parse().ok()?))
}

/// Whether an error is of the kind that a caller may look at by its code alone.
pub(super) fn is<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, kind: Failure) -> bool {
    failure(error) == kind
}
