//! Chunks put together to one object, inside of the service.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::super::{Condition, StorageError};
use super::bucket::{Bucket, is, patient};
use super::chunks::Chunk;
use super::error::{Failure, storage_error};

/// Parts that are copied at the same time.
const PARALLEL_COPIES: usize = 8;
const COPY: &str = "put an object together";

/// Makes an object of `chunks` and what follows them, unless there is one already.
pub(super) async fn compose(
    bucket: &Arc<Bucket>,
    target: &str,
    folder: &str,
    chunks: &[Chunk],
    rest: Bytes,
) -> Result<(), StorageError> {
    if is_there(bucket, target).await? {
        return Ok(());
    }
    match assemble(bucket, target, folder, chunks, rest).await {
        // A try that was not answered may have done it, or another process that has taken the chunks away then.
        Err(_) if is_there(bucket, target).await? => Ok(()),
        other => other,
    }
}

async fn is_there(bucket: &Bucket, name: &str) -> Result<bool, StorageError> {
    match bucket.head(name).await {
        Ok(_) => Ok(true),
        Err(StorageError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn assemble(
    bucket: &Arc<Bucket>,
    target: &str,
    folder: &str,
    chunks: &[Chunk],
    rest: Bytes,
) -> Result<(), StorageError> {
    match chunks {
        [] => match bucket.put(target, rest, Condition::IfAbsent).await {
            Err(StorageError::PreconditionFailed(_)) => Ok(()),
            other => other.map(drop),
        },
        [only] if rest.is_empty() => copy(bucket, &format!("{folder}{}", only.name), target).await,
        _ => {
            let started = bucket.client.create_multipart_upload().bucket(&bucket.name).key(target).send().await;
            let started = started.map_err(storage_error(COPY, target))?;
            let Some(upload) = started.upload_id else {
                return Err(StorageError::io(COPY)(std::io::Error::other("the service gave no id for the upload")));
            };
            let assembly = Assembly { bucket, target, upload: &upload, folder };
            let completed = assembly.complete(chunks, rest).await;
            if completed.is_err() {
                assembly.abort().await;
            }
            completed
        }
    }
}

async fn copy(bucket: &Arc<Bucket>, from: &str, to: &str) -> Result<(), StorageError> {
    let copied = bucket.client.copy_object().bucket(&bucket.name).key(to).copy_source(source(bucket, from));
    let copied = copied.customize().config_override(patient()).send().await;
    match copied {
        Err(error) if is(&error, Failure::Unsupported) => {
            let (content, _) = bucket.whole(from.to_owned()).await?;
            bucket.put(to, content, Condition::Always).await.map(drop)
        }
        other => other.map(drop).map_err(storage_error(COPY, from)),
    }
}

/// An object on its way to being complete.
struct Assembly<'a> {
    bucket: &'a Arc<Bucket>,
    target: &'a str,
    upload: &'a str,
    folder: &'a str,
}

impl Assembly<'_> {
    async fn complete(&self, chunks: &[Chunk], rest: Bytes) -> Result<(), StorageError> {
        let copies = chunks.iter().zip(1..).map(|(chunk, number)| self.copy_part(number, chunk));
        let mut parts: Vec<CompletedPart> =
            futures::stream::iter(copies.collect::<Vec<_>>()).buffered(PARALLEL_COPIES).try_collect().await?;
        if !rest.is_empty() {
            parts.push(self.part(parts.len() as i32 + 1, rest).await?);
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.bucket.client.complete_multipart_upload().bucket(&self.bucket.name).key(self.target);
        let complete = complete.upload_id(self.upload).multipart_upload(parts).customize();
        let completed = complete.config_override(patient()).send().await;
        completed.map(drop).map_err(storage_error(COPY, self.target))
    }

    async fn copy_part(&self, number: i32, chunk: &Chunk) -> Result<CompletedPart, StorageError> {
        let from = format!("{}{}", self.folder, chunk.name);
        let copy = self.bucket.client.upload_part_copy().bucket(&self.bucket.name).key(self.target);
        let copy = copy.upload_id(self.upload).part_number(number).copy_source(source(self.bucket, &from));
        let e_tag = match copy.customize().config_override(patient()).send().await {
            Ok(output) => output.copy_part_result.and_then(|result| result.e_tag),
            Err(error) if is(&error, Failure::Unsupported) => {
                let _memory = self.bucket.memory_for(chunk.size).await;
                let (content, _) = self.bucket.whole(from).await?;
                return self.part(number, content).await;
            }
            Err(error) => return Err(storage_error(COPY, &from)(error)),
        };
        Ok(CompletedPart::builder().part_number(number).set_e_tag(e_tag).build())
    }

    async fn part(&self, number: i32, content: Bytes) -> Result<CompletedPart, StorageError> {
        let part = self.bucket.client.upload_part().bucket(&self.bucket.name).key(self.target);
        let part = part.upload_id(self.upload).part_number(number).body(ByteStream::from(content)).customize();
        let part = part.config_override(patient());
        let part = if self.bucket.is_encrypted { part.disable_payload_signing() } else { part };
        let output = part.send().await.map_err(storage_error(COPY, self.target))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(output.e_tag).build())
    }

    /// Best effort: what stays is found when it is old (`remains`).
    async fn abort(&self) {
        let abort = self.bucket.client.abort_multipart_upload().bucket(&self.bucket.name).key(self.target);
        if let Err(error) = abort.upload_id(self.upload).send().await
            && !is(&error, Failure::NotFound)
        {
            tracing::warn!(error = super::error::text(&error), "can't abort an unfinished object");
        }
    }
}

/// What to copy, as the header wants it: percent-encoded.
fn source(bucket: &Bucket, name: &str) -> String {
    let mut text = format!("{}/", bucket.name);
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => text.push(byte.into()),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}
