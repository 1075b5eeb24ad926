//! Content on its way from the service, which goes on where a connection broke off.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use futures::StreamExt;

use super::super::{BodyStream, ByteRange, Version};
use super::bucket::{Bucket, content_range};
use super::error::text;
use super::pause_before;

/// How often a body may break off with nothing in between.
const ATTEMPTS: u32 = 4;
/// How long the service may take for the next piece.
pub(super) const STALL: Duration = Duration::from_secs(30);

struct Reader {
    bucket: Arc<Bucket>,
    name: String,
    version: Version,
    /// What is still to come.
    rest: Range<u64>,
    current: Option<ByteStream>,
    failures: u32,
}

/// `range` of an object's content, of which `first` is the beginning.
pub(super) fn resumed(
    bucket: Arc<Bucket>,
    name: String,
    version: Version,
    range: Range<u64>,
    first: ByteStream,
) -> BodyStream {
    let reader = Reader { bucket, name, version, rest: range, current: Some(first), failures: 0 };
    futures::stream::try_unfold(
        reader,
        |mut reader| async move { Ok(reader.next().await?.map(|piece| (piece, reader))) },
    )
    .boxed()
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<bytes::Bytes>> {
        while !self.rest.is_empty() {
            let error = match self.piece().await {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => {
                    self.failures = 0;
                    return Ok(Some(piece));
                }
                Err(error) => error,
            };
            self.current = None;
            self.failures += 1;
            if self.failures == ATTEMPTS {
                return Err(error);
            }
            tokio::time::sleep(pause_before(self.failures)).await;
        }
        Ok(None)
    }

    async fn piece(&mut self) -> io::Result<bytes::Bytes> {
        let stream = match &mut self.current {
            Some(stream) => stream,
            None => {
                let range = ByteRange::Inclusive(self.rest.start, self.rest.end - 1);
                let output = self.bucket.get_part(&self.name, Some(range), Some(&self.version)).await;
                let output = output.map_err(|error| io::Error::other(text(&error)))?;
                // One that begins elsewhere would be put together with what there is already.
                if output.content_range.as_deref().and_then(content_range).map(|(range, _)| range)
                    != Some(self.rest.clone())
                {
                    return Err(io::Error::other("the service gave another part than it was asked for"));
                }
                self.current.insert(output.body)
            }
        };
        let piece = match tokio::time::timeout(STALL, stream.next()).await {
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Some(piece)) => piece.map_err(io::Error::other)?,
        };
        let left = usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX);
        let piece = piece.slice(..piece.len().min(left));
        self.rest.start += piece.len() as u64;
        Ok(piece)
    }
}
