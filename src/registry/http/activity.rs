//! What goes on on an HTTP/2 connection, so that one on which nothing does can be told.
//!
//! Its flow control makes a response wait without a write that waits: a client that opens no window is seen only here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::config::Limits;

/// Fewer bytes per second are no progress: pings and their answers are written too.
const NOISE: u64 = 64;

/// Counters of one connection.
#[derive(Debug, Default)]
pub struct Activity {
    written: AtomicU64,
    started: AtomicU64,
    /// Requests whose response has not been handed over whole.
    open: AtomicUsize,
    /// Those of them that wait for us, or for a body that has a deadline of its own.
    ours: AtomicUsize,
}

/// How a connection is quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// There are no requests.
    Idle,
    /// There are responses, and the client takes nothing of them.
    Stuck,
}

impl Activity {
    pub fn wrote(&self, length: usize) {
        self.written.fetch_add(length as u64, Relaxed);
    }

    /// A request begins. It goes on until what this returns is dropped.
    pub fn begin(self: &Arc<Self>) -> InProgress {
        self.started.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        self.ours.fetch_add(1, Relaxed);
        InProgress { activity: Arc::clone(self), is_ours: true }
    }

    /// Waits until nothing has gone on for as long as the limits allow.
    pub async fn quiet(&self, limits: &Limits) -> Quiet {
        let interval = limits.head().min(limits.idle()) / 4;
        let noise = NOISE * interval.as_secs().max(1);
        let (mut seen, mut since) = (self.seen(), Instant::now());
        loop {
            tokio::time::sleep(interval).await;
            let now = self.seen();
            let moves = now.0 > seen.0 + noise || now.1 != seen.1;
            seen = now;
            if moves || self.ours.load(Relaxed) > 0 {
                since = Instant::now();
                continue;
            }
            let (quiet, limit): (Quiet, Duration) = match self.open.load(Relaxed) {
                0 => (Quiet::Idle, limits.head()),
                _ => (Quiet::Stuck, limits.idle()),
            };
            if since.elapsed() >= limit {
                return quiet;
            }
        }
    }

    fn seen(&self) -> (u64, u64) {
        (self.written.load(Relaxed), self.started.load(Relaxed))
    }
}

/// A request that is not over.
#[derive(Debug)]
pub struct InProgress {
    activity: Arc<Activity>,
    is_ours: bool,
}

impl InProgress {
    /// From now on it is the client that has to take the response.
    pub fn answering(mut self, body: Body) -> Answer {
        self.wait_for_us(false);
        Answer { body, request: self }
    }

    fn wait_for_us(&mut self, ours: bool) {
        if ours != self.is_ours {
            self.is_ours = ours;
            let counter = &self.activity.ours;
            if ours {
                counter.fetch_add(1, Relaxed)
            } else {
                counter.fetch_sub(1, Relaxed)
            };
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.wait_for_us(false);
        self.activity.open.fetch_sub(1, Relaxed);
    }
}

/// A response's body. Its request is in progress until it is dropped.
pub struct Answer {
    body: Body,
    request: InProgress,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.request.wait_for_us(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
