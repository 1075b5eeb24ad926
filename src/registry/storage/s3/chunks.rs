//! What arrives for a staged upload, gathered into chunks and sent, several at a time.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::{Condition, StorageError};
use super::PARALLEL_CHUNKS;
use super::bucket::Bucket;
use crate::telemetry::carried;

/// Services take no more parts of an object.
const MAX_CHUNKS: usize = 10_000;
pub(super) const CHUNK: usize = 8 << 20;
/// From here on chunks are larger, so that there are not too many of them: 264 GiB fit. Some services want all parts of
/// an object to have one size, and take no more than this.
const LARGE_FROM: u64 = 16 << 30;
const LARGE_CHUNK: usize = 32 << 20;

/// How large a chunk is that starts here.
fn chunk_size(offset: u64) -> usize {
    if offset < LARGE_FROM { CHUNK } else { LARGE_CHUNK }
}

/// A part of a staged upload's content: an object in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    /// In the folder of the upload.
    pub name: String,
    /// In bytes.
    pub size: u64,
}

/// Content on its way into chunks.
pub(super) struct Chunks {
    bucket: Arc<Bucket>,
    folder: String,
    /// Tells this writer's chunks from all others'.
    writer: Uuid,
    /// Where in the content `buffer` starts.
    offset: u64,
    buffer: Vec<u8>,
    /// Those of before, and those that have been sent or are on their way, in their order.
    chunks: Vec<Chunk>,
    sending: JoinSet<Result<(), StorageError>>,
}

impl Chunks {
    /// Goes on behind `chunks`.
    pub(super) fn new(bucket: Arc<Bucket>, folder: String, chunks: Vec<Chunk>) -> Self {
        let offset = chunks.iter().map(|chunk| chunk.size).sum();
        let sending = JoinSet::new();
        Self { bucket, folder, writer: Uuid::new_v4(), offset, buffer: Vec::new(), chunks, sending }
    }

    /// Takes the last chunk back if it is smaller than those that others may follow.
    pub(super) async fn reopen(&mut self) -> Result<(), StorageError> {
        let end = self.offset;
        let is_part = |last: &mut Chunk| last.size < chunk_size(end - last.size) as u64;
        let Some(last) = self.chunks.pop_if(is_part) else { return Ok(()) };
        let (content, _) = self.bucket.whole(format!("{}{}", self.folder, last.name)).await?;
        self.offset -= last.size;
        self.buffer = self.bucket.buffers.take(chunk_size(self.offset));
        self.buffer.extend_from_slice(&content);
        Ok(())
    }

    pub(super) async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        for mut piece in pieces {
            while !piece.is_empty() {
                let size = chunk_size(self.offset);
                if self.buffer.capacity() == 0 {
                    self.buffer = self.bucket.buffers.take(size);
                }
                // Copied, because a piece may keep a larger buffer of the connection alive.
                self.buffer.extend_from_slice(&piece.split_to(piece.len().min(size - self.buffer.len())));
                if self.buffer.len() == size {
                    self.send().await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what has been gathered, as soon as few enough are on their way.
    async fn send(&mut self) -> Result<(), StorageError> {
        while self.sending.len() >= PARALLEL_CHUNKS {
            self.sent().await?;
        }
        if self.chunks.len() == MAX_CHUNKS {
            return Err(StorageError::TooLarge);
        }
        let content = self.bucket.buffers.shared(std::mem::take(&mut self.buffer));
        let chunk = Chunk { name: format!("{:05}-{}", self.chunks.len(), self.writer), size: content.len() as u64 };
        self.offset += chunk.size;
        let (bucket, name) = (self.bucket.clone(), format!("{}{}", self.folder, chunk.name));
        self.chunks.push(chunk);
        let memory = self.bucket.memory_for(content.len() as u64).await;
        let put = async move {
            let _memory = memory;
            bucket.put(&name, content, Condition::Always).await.map(drop)
        };
        self.sending.spawn(carried(put));
        Ok(())
    }

    async fn sent(&mut self) -> Result<(), StorageError> {
        match self.sending.join_next().await {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(StorageError::io("write a chunk")(std::io::Error::other(error))),
            },
        }
    }

    /// Sends what is left too. Afterwards all of the content is in the chunks.
    pub(super) async fn finish(mut self) -> Result<Vec<Chunk>, StorageError> {
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        self.settle().await.map(|(chunks, _)| chunks)
    }

    /// The chunks, all of them there, and what follows them.
    pub(super) async fn settle(mut self) -> Result<(Vec<Chunk>, Bytes), StorageError> {
        while !self.sending.is_empty() {
            self.sent().await?;
        }
        if self.chunks.len() == MAX_CHUNKS && !self.buffer.is_empty() {
            return Err(StorageError::TooLarge);
        }
        Ok((self.chunks, self.bucket.buffers.shared(self.buffer)))
    }
}
