//! What goes on on an HTTP/2 connection, request by request, so that one on which nothing does can be told.
//!
//! # Assumptions
//! HTTP/2's flow control makes a response wait without a write that waits: a client that opens no window is seen only
//! here. And only the bytes of the response itself show that it goes on: pings, other requests, and windows that nothing
//! fits into are as cheap for the client as they are useless.
//!
//! # Flow
//! [`Streams`] runs each request in a task that can be ended. Its response goes out as an [`Answer`], whose [`Piece`]s count
//! how much of them has been written. [`Activity::quiet`] looks at all of them from time to time, and ends what is stuck:
//! its task, which resets the request; or, if all has been handed over already, the connection.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::config::Limits;

/// Up to this length a response that knows its end is handed over with it. The end of any other is kept back until the rest
/// has been written, so that it can be reset as long as it waits.
const HANDED_OVER: u64 = 16 * 1024;
/// Requests that are remembered before those that are over are looked for.
const FEW: usize = 64;

tokio::task_local! {
    /// The request that a task of [`Streams`] works for.
    static STREAM: Arc<Stream>;
}

/// Runs each request of HTTP/2 connections in a task of its own.
#[derive(Clone, Copy, Debug)]
pub struct Streams;

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        let stream = Arc::new(Stream::default());
        let task = tokio::spawn(STREAM.scope(Arc::clone(&stream), work));
        // It is set once: here.
        let _ = stream.task.set(task.abort_handle());
    }
}

/// One request with its response.
#[derive(Debug, Default)]
struct Stream {
    task: OnceLock<AbortHandle>,
    /// Bytes of the response that have been handed over to be written.
    handed: AtomicU64,
    /// Those of them that have been written, or thrown away.
    taken: AtomicU64,
    /// Once, all that had been handed over was taken.
    caught_up: AtomicBool,
    /// Tells whoever waits for that.
    waker: AtomicWaker,
}

impl Stream {
    fn take(&self, length: u64) {
        let taken = self.taken.fetch_add(length, Ordering::AcqRel) + length;
        if taken >= self.handed.load(Ordering::Acquire) {
            self.caught_up.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    fn is_waiting(&self) -> bool {
        self.taken() < self.handed.load(Ordering::Acquire)
    }

    fn is_running(&self) -> bool {
        // Before it is set, the task has hardly begun.
        self.task.get().is_none_or(|task| !task.is_finished())
    }
}

/// Part of a response. What is advanced over has been written.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    stream: Arc<Stream>,
}

impl Piece {
    fn new(bytes: Bytes, stream: &Arc<Stream>) -> Self {
        stream.handed.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        Self { bytes, stream: Arc::clone(stream) }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.stream.take(count as u64);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.bytes.has_remaining() {
            self.stream.take(self.bytes.remaining() as u64);
        }
    }
}

/// A response's body on its way to an HTTP/2 client.
pub struct Answer {
    body: Body,
    stream: Arc<Stream>,
    is_long: bool,
    ended: bool,
}

impl http_body::Body for Answer {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        if !self.ended {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(frame) => {
                    let stream = &self.stream;
                    return Poll::Ready(Some(frame.map(|frame| frame.map_data(|bytes| Piece::new(bytes, stream)))));
                }
                None => self.ended = true,
            }
        }
        self.stream.waker.register(context.waker());
        if self.stream.is_waiting() { Poll::Pending } else { Poll::Ready(None) }
    }

    fn is_end_stream(&self) -> bool {
        (self.ended || self.body.is_end_stream()) && !(self.is_long && self.stream.is_waiting())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub struct Activity {
    watched: Mutex<Vec<Watched>>,
    started: AtomicU64,
}

/// A connection that shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// There are no requests.
    Idle,
    /// The client takes nothing of a response, and this can't be ended by itself.
    Stuck,
}

impl Activity {
    /// Takes note of the request that the current task works for. What is returned makes its response's body.
    pub fn begin(&self) -> InProgress {
        // Whatever runs in another task is still counted, but can't be ended by itself.
        let stream = STREAM.try_with(Arc::clone).unwrap_or_default();
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut watched = self.watched();
        if watched.len() >= FEW && watched.len() == watched.capacity() {
            watched.retain(Watched::is_open);
        }
        watched.push(Watched::new(Arc::clone(&stream), Instant::now()));
        InProgress(stream)
    }

    /// Ends requests of which the client takes too little, until the connection shall end for whatever reason.
    pub async fn quiet(&self, limits: &Limits) -> Quiet {
        let interval = limits.head().min(limits.idle()) / 4;
        let (mut started, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(interval).await;
            let now = Instant::now();
            match self.look(limits, now) {
                Some(Quiet::Idle) if started == self.started.load(Ordering::Relaxed) => {
                    if now - since >= limits.head() {
                        return Quiet::Idle;
                    }
                }
                Some(Quiet::Stuck) => return Quiet::Stuck,
                _ => (started, since) = (self.started.load(Ordering::Relaxed), now),
            }
        }
    }

    /// Ends what is stuck now, and says how the connection is.
    fn look(&self, limits: &Limits, now: Instant) -> Option<Quiet> {
        let mut watched = self.watched();
        watched.retain(Watched::is_open);
        if watched.is_empty() {
            return Some(Quiet::Idle);
        }
        for request in &mut *watched {
            if !request.goes_on(limits, now) {
                match request.stream.task.get().filter(|task| !task.is_finished()) {
                    // What it had handed over is thrown away soon after.
                    Some(task) => {
                        tracing::debug!("client takes too little of a response; request reset");
                        task.abort();
                    }
                    None => return Some(Quiet::Stuck),
                }
            }
        }
        None
    }

    /// No code that could panic runs under the lock.
    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request, and how it looked before.
#[derive(Debug)]
struct Watched {
    stream: Arc<Stream>,
    taken: u64,
    /// When something was last seen to have been taken.
    moved: Instant,
    /// Since when the pace is measured, and from how much on.
    window: (Instant, u64),
}

impl Watched {
    fn new(stream: Arc<Stream>, now: Instant) -> Self {
        let taken = stream.taken();
        Self { stream, taken, moved: now, window: (now, taken) }
    }

    fn is_open(&self) -> bool {
        self.stream.is_waiting() || self.stream.is_running()
    }

    /// Whether the client takes the response, or is not the one who is waited for.
    fn goes_on(&mut self, limits: &Limits, now: Instant) -> bool {
        let taken = self.stream.taken();
        let caught_up = self.stream.caught_up.swap(false, Ordering::AcqRel);
        if caught_up || !self.stream.is_waiting() {
            *self = Self::new(Arc::clone(&self.stream), now);
            return true;
        }
        if taken != self.taken {
            (self.taken, self.moved) = (taken, now);
        }
        let (since, before) = self.window;
        let passed = now - since;
        let too_slow = passed >= limits.idle() && {
            self.window = (now, taken);
            is_too_slow(taken - before, passed, limits.minimum_response_bytes_per_second)
        };
        !too_slow && now - self.moved < limits.idle()
    }
}

fn is_too_slow(bytes: u64, passed: Duration, minimum: u64) -> bool {
    (bytes as f64) < minimum as f64 * passed.as_secs_f64()
}

/// A request that has no response yet.
#[derive(Debug)]
pub struct InProgress(Arc<Stream>);

impl InProgress {
    /// From now on it is the client that has to take the response.
    pub fn answering(self, body: Body) -> Answer {
        let is_long = http_body::Body::size_hint(&body).upper().is_none_or(|length| length > HANDED_OVER);
        Answer { body, stream: self.0, is_long, ended: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;
    use http_body::Body as _;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(minimum_response_bytes_per_second: u64) -> Limits {
        Limits { idle_seconds: 10, minimum_response_bytes_per_second, ..Limits::default() }
    }

    /// A request of which the client has taken so many bytes in each second: the second in which it is given up.
    fn given_up(minimum: u64, taken: impl Fn(u32) -> u64) -> Option<u32> {
        let (stream, start) = (Arc::new(Stream::default()), Instant::now());
        let mut pieces: Vec<_> = (0..2).map(|_| Piece::new(Bytes::from_static(&[0; 100_000]), &stream)).collect();
        let mut watched = Watched::new(stream, start);
        (1..60).find(|second| {
            pieces[0].advance(usize::try_from(taken(*second)).unwrap());
            !watched.goes_on(&limits(minimum), start + *second * SECOND)
        })
    }

    #[test]
    fn only_bytes_of_the_response_keep_a_request_going() {
        assert_eq!(given_up(0, |_| 0), Some(10));
        assert_eq!(given_up(0, |_| 1), None, "as slow as it likes");
        assert_eq!(given_up(0, |second| u64::from(second <= 5)), Some(15));
        assert_eq!(given_up(100, |_| 1), Some(10));
        assert_eq!(given_up(100, |_| 100), None);
        assert_eq!(given_up(100, |second| if second < 20 { 1000 } else { 1 }), Some(30), "each window for itself");
    }

    #[test]
    fn who_has_taken_everything_is_not_the_one_who_is_waited_for() {
        let (stream, start) = (Arc::new(Stream::default()), Instant::now());
        let mut watched = Watched::new(Arc::clone(&stream), start);
        let mut look = |second: u32| watched.goes_on(&limits(100), start + second * SECOND);
        assert!(look(9) && look(60), "there is no response yet");
        let mut piece = Piece::new(Bytes::from_static(b"slow store"), &stream);
        assert!(look(69));
        piece.advance(10);
        let piece = Piece::new(Bytes::from_static(b"slow store"), &stream);
        assert!(look(75), "all had been taken in between");
        assert!(look(84) && !look(85));
        drop(piece);
        assert!(look(100) && !stream.is_waiting(), "thrown away");
    }

    #[test]
    fn the_end_of_a_long_response_comes_once_the_rest_is_written() {
        let mut context = Context::from_waker(Box::leak(Box::new(noop_waker())));
        for (length, is_kept_back) in [(HANDED_OVER, false), (HANDED_OVER + 1, true)] {
            let body = Body::from(vec![0; usize::try_from(length).unwrap()]);
            let mut answer = InProgress(Arc::new(Stream::default())).answering(body);
            let mut poll = |answer: &mut Answer| Pin::new(answer).poll_frame(&mut context);
            let Poll::Ready(Some(Ok(frame))) = poll(&mut answer) else { panic!("no data") };
            assert_eq!((answer.is_end_stream(), poll(&mut answer).is_pending()), (!is_kept_back, true));
            drop(frame);
            assert!(answer.is_end_stream() && matches!(poll(&mut answer), Poll::Ready(None)));
        }
    }

    #[test]
    fn requests_that_are_over_are_not_remembered() {
        let activity = Activity::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..10 * FEW {
                let in_progress = activity.begin();
                let ended = tokio::spawn(async {}).abort_handle();
                in_progress.0.task.set(ended).unwrap();
                tokio::task::yield_now().await;
            }
        });
        assert!(activity.watched().len() <= 2 * FEW);
    }
}
