//! What remains of a request: its line in the log, and its share in the metrics.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use uuid::Uuid;

use super::HttpMetrics;
use super::metrics::Finished;

/// A request and its answer. No header, no query: they may hold secrets.
pub struct Record {
    pub metrics: HttpMetrics,
    pub request_id: Uuid,
    pub route: &'static str,
    pub method: &'static str,
    pub path: String,
    pub remote: IpAddr,
    pub identity: String,
    pub status: u16,
    pub started: Instant,
    pub received: Arc<AtomicU64>,
    pub sent: u64,
}

impl Record {
    fn write(&self, complete: bool) {
        let duration = self.started.elapsed();
        let received = self.received.load(Ordering::Relaxed);
        let Self { route, method, status, sent, .. } = *self;
        self.metrics.record(&Finished { route, method, status, received, sent, duration });
        tracing::info!(
            target: "access",
            method,
            path = self.path,
            status,
            identity = self.identity,
            remote = %self.remote,
            seconds = duration.as_secs_f64(),
            received,
            sent,
            complete,
            request_id = %self.request_id,
        );
    }
}

/// A response's body. When it ends, or when the client goes away, the request is over and is recorded.
pub struct RecordedBody {
    inner: Body,
    record: Record,
    /// How many bytes there are. A body that knows it isn't asked for the end.
    expected: Option<u64>,
    ended: bool,
}

impl RecordedBody {
    pub fn new(inner: Body, expected: Option<u64>, record: Record) -> Self {
        let ended = http_body::Body::is_end_stream(&inner);
        Self { inner, record, expected, ended }
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.record.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => {
                let request_id = self.record.request_id;
                tracing::error!(%request_id, %error, "response broken off: its content can't be read");
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        self.record.write(self.ended || self.expected == Some(self.record.sent));
    }
}
