//! What remains of a request: its line in the log, and its share in the metrics.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::HttpMetrics;
use super::metrics::Finished;
use crate::telemetry::{RequestId, RequestSpan};

/// What is found out about a caller on the way, for logs and audits, whatever becomes of the request.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Names>);

/// Who makes a request.
#[derive(Debug, Default)]
pub struct Names {
    pub identity: Option<String>,
    /// Whom the client says to be, before anything has been verified.
    pub user: Option<String>,
}

impl Seen {
    pub fn identity(&self, identity: &impl ToString) {
        self.names().identity = Some(identity.to_string());
    }

    pub fn user(&self, user: &str) {
        self.names().user = Some(user.to_owned());
    }

    /// From now on other credentials count than those in the header.
    pub fn start_over(&self) {
        *self.names() = Names::default();
    }

    pub fn into_names(self) -> Names {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What only the access line needs.
pub struct AccessLine {
    pub path: String,
    pub remote: IpAddr,
    pub identity: String,
}

impl AccessLine {
    /// Whether anybody reads these lines.
    pub fn wanted() -> bool {
        tracing::enabled!(target: "access", tracing::Level::INFO)
    }
}

/// A request and its answer. No header, no query: they may hold secrets.
pub struct Record {
    pub metrics: HttpMetrics,
    pub request_id: RequestId,
    pub route: &'static str,
    pub method: &'static str,
    pub access: Option<AccessLine>,
    pub span: Option<RequestSpan>,
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
        if let Some(span) = &self.span {
            span.rename(format!("{method} {route}"));
            span.set("http.request.method", method);
            span.set("http.route", route);
            span.set("http.response.status_code", i64::from(status));
            if status >= 500 {
                span.fail();
            }
        }
        let Some(AccessLine { path, remote, identity }) = &self.access else { return };
        tracing::info!(
            target: "access",
            method,
            path,
            status,
            identity,
            %remote,
            seconds = duration.as_secs_f64(),
            received,
            sent,
            complete,
            request_id = self.request_id.as_str(),
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
                let request_id = self.record.request_id.as_str();
                tracing::error!(request_id, %error, "response broken off: its content can't be read");
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
