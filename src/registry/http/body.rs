//! Bodies on their way in and out: bounded in time and size, and counted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::task::AtomicWaker;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use super::pace::Pace;
use crate::config::Limits;

/// How much of a body that nobody wants is read, and for how long.
const DISCARDED: usize = 8 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// A request's body.
///
/// One that is dropped before its end is read on for a while. A server that closes a connection on which data is still
/// coming in resets it, and the client then sees a broken connection instead of the response.
pub struct RequestBody {
    stream: BodyDataStream,
    received: Arc<AtomicU64>,
    /// Bytes that are still to come, where the request has said so.
    missing: Option<u64>,
    /// Bytes that may still come.
    room: u64,
    idle: Duration,
    pace: Pace,
    waiting_since: Option<Instant>,
    arrival: Arc<Arrival>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    /// The client sends nothing until it is told to, which asking for the first piece does.
    awaits_continue: bool,
}

impl RequestBody {
    /// `received` counts the bytes. The client is given up as the limits say.
    pub fn new(body: Body, received: Arc<AtomicU64>, limits: &Limits) -> Self {
        let ended = http_body::Body::is_end_stream(&body);
        let stream = body.into_data_stream();
        Self {
            stream,
            received,
            missing: None,
            room: u64::MAX,
            idle: limits.idle(),
            pace: Pace::new(limits.minimum_bytes_per_second, limits.idle()),
            waiting_since: None,
            arrival: Arc::default(),
            timer: None,
            ended,
            awaits_continue: false,
        }
    }

    /// For a request with `Expect: 100-continue`: a body that nobody has asked for is not coming.
    pub fn awaiting_continue(mut self, awaits: bool) -> Self {
        self.awaits_continue = awaits;
        self
    }

    /// Makes a body of any other length an error. HTTP itself sees to that only where there is a `Content-Length`.
    pub fn expecting(mut self, length: Option<u64>) -> Self {
        self.missing = length;
        self
    }

    /// Makes a body with more bytes than this an error, of the kind [`io::ErrorKind::FileTooLarge`].
    pub fn at_most(mut self, room: u64) -> Self {
        self.room = room;
        self
    }

    /// Whether it is known that nothing comes.
    pub fn is_empty(&self) -> bool {
        self.ended
    }

    /// The whole body, or `None` if it has more than `limit` bytes.
    pub async fn read_all(&mut self, limit: usize) -> io::Result<Option<Bytes>> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole.freeze()))
    }

    /// Counts a piece against what was announced.
    fn account(&mut self, piece: &Bytes) -> io::Result<()> {
        let length = piece.len() as u64;
        self.received.fetch_add(length, Ordering::Relaxed);
        self.room = self.room.checked_sub(length).ok_or(io::ErrorKind::FileTooLarge)?;
        if let Some(missing) = &mut self.missing {
            *missing = missing.checked_sub(length).ok_or_else(wrong_length)?;
        }
        Ok(())
    }

    /// Ready once the client has sent nothing for too long. The timer is set again only when it goes off: setting it
    /// for each piece would cost more than the piece.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// When there was something to take, for a reader that may come back for it much later: while the store is slow it is not
/// the client that is waited for.
#[derive(Default)]
struct Arrival {
    at: Mutex<Option<Instant>>,
    reader: AtomicWaker,
}

impl Arrival {
    /// When the last thing arrived, if it was waited for, and what is to be woken by the next one in place of `reader`.
    fn expect(self: &Arc<Self>, reader: &Waker) -> (Option<Instant>, Waker) {
        self.reader.register(reader);
        let arrived = self.at.lock().unwrap_or_else(PoisonError::into_inner).take();
        (arrived, Waker::from(Arc::clone(self)))
    }
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.reader.wake();
    }
}

fn wrong_length() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the body is not as long as Content-Range says")
}

impl Stream for RequestBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.awaits_continue = false;
        let (arrived, waker) = self.arrival.expect(context.waker());
        match self.stream.poll_next_unpin(&mut Context::from_waker(&waker)) {
            Poll::Ready(item) => {
                let waited = self.waiting_since.take().map(|since| arrived.unwrap_or_else(Instant::now) - since);
                if let (Some(waited), Some(Ok(piece))) = (waited, &item)
                    && self.pace.is_too_slow(waited, piece.len() as u64)
                {
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
                self.ended = !matches!(item, Some(Ok(_)));
                Poll::Ready(match item {
                    Some(Ok(piece)) => Some(self.account(&piece).map(|()| piece)),
                    Some(Err(error)) => Some(Err(io::Error::other(error))),
                    None => match self.missing.take() {
                        Some(missing) if missing > 0 => Some(Err(wrong_length())),
                        _ => None,
                    },
                })
            }
            Poll::Pending => self.poll_idle(context).map(|()| Some(Err(io::ErrorKind::TimedOut.into()))),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended
            && !self.awaits_continue
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let stream = std::mem::replace(&mut self.stream, Body::empty().into_data_stream());
            runtime.spawn(tokio::time::timeout(DISCARD_TIME, discard(stream)));
        }
    }
}

async fn discard(mut stream: BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(piece)) = stream.next().await {
        discarded += piece.len();
        if discarded > DISCARDED {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pieces: &[&'static str]) -> RequestBody {
        let pieces: Vec<io::Result<&'static str>> = pieces.iter().map(|piece| Ok(*piece)).collect();
        RequestBody::new(Body::from_stream(futures::stream::iter(pieces)), Arc::default(), &Limits::default())
    }

    #[tokio::test]
    async fn reads_up_to_its_limit_and_no_more() {
        assert_eq!(body(&["ab", "c"]).read_all(3).await.unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(body(&["ab", "c"]).read_all(2).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_body_of_another_length_is_an_error() {
        assert!(body(&["ab"]).expecting(Some(3)).read_all(9).await.is_err());
        assert!(body(&["ab"]).expecting(Some(1)).read_all(9).await.is_err());
        assert!(body(&["ab"]).expecting(Some(2)).read_all(9).await.is_ok());
        assert!(body(&[]).expecting(Some(0)).read_all(9).await.is_ok());
    }

    #[tokio::test]
    async fn a_silent_client_is_given_up() {
        let silence = Body::from_stream(futures::stream::pending::<io::Result<Bytes>>());
        let mut silent = RequestBody::new(silence, Arc::default(), &Limits::default());
        silent.idle = Duration::from_millis(10);
        let error = silent.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// A body that was found empty an hour ago, and to which something came after so long.
    async fn taken_after_an_hour(arrived_after: Duration) -> io::Result<Bytes> {
        let (mut client, pieces) = futures::channel::mpsc::unbounded::<io::Result<Bytes>>();
        let mut body = RequestBody::new(Body::from_stream(pieces), Arc::default(), &Limits::default());
        assert!(futures::poll!(body.next()).is_pending());
        client.start_send(Ok(Bytes::from_static(b"piece"))).unwrap();
        let asked = Instant::now() - Duration::from_secs(3600);
        body.waiting_since = Some(asked);
        *body.arrival.at.lock().unwrap().as_mut().expect("nobody was woken") = asked + arrived_after;
        body.next().await.unwrap()
    }

    #[tokio::test]
    async fn a_client_is_not_slow_while_nobody_takes_what_it_has_sent() {
        assert_eq!(taken_after_an_hour(Duration::from_millis(1)).await.unwrap(), "piece");
        let slow = taken_after_an_hour(Duration::from_secs(3000)).await.unwrap_err();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_is_an_error() {
        assert!(body(&["ab", "c"]).at_most(3).read_all(9).await.is_ok());
        let error = body(&["ab", "c"]).at_most(2).read_all(9).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
