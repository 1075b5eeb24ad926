//! Logs, metrics, traces and health: what both modes tell their operators.

mod health;
mod line_format;
mod lines;
mod logging;
mod metrics;
mod process;
mod request_id;
#[cfg(feature = "otel")]
mod traces;
#[cfg(not(feature = "otel"))]
#[path = "traces_off.rs"]
mod traces;

pub use health::serve_health;
pub use line_format::LogFormat;
pub use logging::{LoggingError, Logs, UNVERIFIED};
pub use metrics::Metrics;
pub use request_id::{RequestId, RequestIdError};
pub use traces::{RequestSpan, Traces, TracesError, traced};

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct TraceExport<'a> {
    /// URL of the collector. Without a path it gets `/v1/traces`.
    pub endpoint: &'a str,
    /// Part of the traces that is kept, from 0 to 1.
    pub sample_ratio: f64,
    /// Name of this process in them.
    pub service_name: &'a str,
}

/// Work that goes on in a task of its own, but still for the current request: its lines bear the request's ID, and its
/// spans belong to the request's.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let request = RequestId::current();
    let work = traces::carried(work);
    async move {
        match request {
            Some(id) => id.scope(work).await,
            None => work.await,
        }
    }
}
