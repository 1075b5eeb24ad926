//! A request's body on its way into the store: gathered, hashed, written.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::ContentError;
use crate::oci::Hasher;
use crate::registry::storage::{BodyStream, StageWriter, StorageError};

/// Content up to this many bytes is held in memory and written in one step, without a staged upload.
pub(super) const SMALL_BODY: usize = 256 * 1024;
/// How much is hashed and written at a time: going to other threads with it costs the same for less. Twice as much is held
/// of an upload that comes faster than it can be written.
const BLOCK: usize = 512 * 1024;
/// How long what has arrived waits for more.
const PATIENCE: Duration = Duration::from_millis(10);
/// Each piece may keep a larger buffer of the connection alive.
const MAX_PIECES: usize = 256;
/// Less is hashed at once: going to another thread costs more.
const HASHED_INLINE: usize = 64 * 1024;

/// A body that is read once, and whose failure is told only after what came before it.
pub(super) struct Body {
    stream: BodyStream,
    /// Read already, not yet taken.
    start: BytesMut,
    end: Option<io::Result<()>>,
}

impl Body {
    pub(super) fn new(stream: BodyStream) -> Self {
        Self { stream, start: BytesMut::new(), end: None }
    }

    /// The whole body if it is small. If not, or if it breaks off, nothing is lost for [`Body::pour`].
    pub(super) async fn small(&mut self) -> Option<Bytes> {
        while self.end.is_none() && self.start.len() <= SMALL_BODY {
            match self.stream.next().await {
                // Copied, because a piece may keep a large buffer alive, and a slow client sends a byte at a time.
                Some(Ok(piece)) => self.start.extend_from_slice(&piece),
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(Ok(())),
            }
        }
        let whole = matches!(self.end, Some(Ok(()))) && self.start.len() <= SMALL_BODY;
        whole.then(|| self.start.split().freeze())
    }

    /// Writes and hashes the body to its end. Gives the hash of everything, if there was one to begin with.
    ///
    /// After [`ContentError::Body`], what had arrived is written, and the hash is right for it.
    pub(super) async fn pour(
        &mut self,
        writer: &mut dyn StageWriter,
        hasher: &mut Option<Hasher>,
    ) -> Result<(), ContentError> {
        let mut block = self.next_block().await;
        while let Some(pieces) = block {
            let hashing = async {
                if let Some(before) = hasher.take() {
                    *hasher = hash(before, pieces.clone()).await;
                }
            };
            let (written, (), next) = tokio::join!(writer.write(pieces.clone()), hashing, self.next_block());
            written?;
            block = next;
        }
        match self.end.take() {
            Some(Err(error)) => Err(ContentError::Body(error)),
            _ => Ok(()),
        }
    }

    /// What arrives soon, as far as it fits into a block; nothing at the end or when the body breaks off.
    async fn next_block(&mut self) -> Option<Vec<Bytes>> {
        let mut block = Vec::new();
        if !self.start.is_empty() {
            block.push(self.start.split().freeze());
        }
        while block.is_empty() && self.end.is_none() {
            self.take_piece(&mut block).await;
        }
        let mut length: usize = block.iter().map(Bytes::len).sum();
        let gathering = async {
            while self.end.is_none() && length < BLOCK && block.len() < MAX_PIECES {
                length += self.take_piece(&mut block).await;
            }
        };
        // Nothing is lost when this is over before its end: a piece that was taken is in the block.
        let _ = tokio::time::timeout(PATIENCE, gathering).await;
        (!block.is_empty()).then_some(block)
    }

    /// Adds the next piece to `block`, and returns its length.
    async fn take_piece(&mut self, block: &mut Vec<Bytes>) -> usize {
        match self.stream.next().await {
            Some(Ok(piece)) => {
                let length = piece.len();
                block.extend((length > 0).then_some(piece));
                return length;
            }
            Some(Err(error)) => self.end = Some(Err(error)),
            None => self.end = Some(Ok(())),
        }
        0
    }
}

/// Hashes `pieces`, on another thread if that takes long enough to keep others waiting. Nothing if the process ends.
pub(super) async fn hash(mut hasher: Hasher, pieces: Vec<Bytes>) -> Option<Hasher> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let update = move || {
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher
    };
    if length <= HASHED_INLINE { Some(update()) } else { tokio::task::spawn_blocking(update).await.ok() }
}

/// The hash of a whole stream.
pub(super) async fn hash_stream(mut hasher: Hasher, mut stream: BodyStream) -> Result<Hasher, StorageError> {
    let failed = StorageError::io("read a staged upload");
    let hashed: io::Result<Hasher> = async {
        while let Some(piece) = stream.next().await {
            let ended = || io::Error::other("hashing was interrupted");
            hasher = hash(hasher, vec![piece?]).await.ok_or_else(ended)?;
        }
        Ok(hasher)
    }
    .await;
    hashed.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pieces: Vec<io::Result<Bytes>>) -> Body {
        Body::new(futures::stream::iter(pieces).boxed())
    }

    fn piece(length: usize) -> io::Result<Bytes> {
        Ok(vec![7; length].into())
    }

    /// What is left of a body, and whether it broke off.
    async fn rest(mut body: Body) -> (usize, bool) {
        let mut length = 0;
        while let Some(block) = body.next_block().await {
            length += block.iter().map(Bytes::len).sum::<usize>();
        }
        (length, matches!(body.end, Some(Err(_))))
    }

    #[tokio::test]
    async fn gives_a_small_body_whole() {
        assert_eq!(body(vec![]).small().await.unwrap().len(), 0);
        assert_eq!(body(vec![piece(1), piece(SMALL_BODY - 1)]).small().await.unwrap().len(), SMALL_BODY);
    }

    #[tokio::test]
    async fn loses_nothing_of_a_body_that_turns_out_to_be_large() {
        let mut large = body(vec![piece(SMALL_BODY), piece(1), piece(9)]);
        assert_eq!(large.small().await, None);
        assert_eq!(rest(large).await, (SMALL_BODY + 10, false));
    }

    #[tokio::test]
    async fn loses_nothing_of_a_body_that_breaks_off() {
        let mut broken = body(vec![piece(3), Err(io::ErrorKind::ConnectionReset.into())]);
        assert_eq!(broken.small().await, None);
        assert_eq!(rest(broken).await, (3, true));
    }

    #[tokio::test]
    async fn bounds_a_block() {
        let mut many = body((0..10_000).map(|_| piece(1)).collect());
        assert_eq!(many.next_block().await.unwrap().len(), MAX_PIECES);
        let mut large = body((0..20).map(|_| piece(BLOCK / 4)).collect());
        assert_eq!(large.next_block().await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn does_not_wait_long_for_a_full_block() {
        let trickle = futures::stream::iter([piece(1)]).chain(futures::stream::pending()).boxed();
        assert_eq!(Body::new(trickle).next_block().await.unwrap().len(), 1);
    }
}
