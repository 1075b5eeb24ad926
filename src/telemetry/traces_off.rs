//! What is left of traces in a binary that was built without the feature `otel`.

use std::convert::Infallible;

use http::HeaderMap;

use super::TraceExport;

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
#[error("this binary was built without traces: build it with the feature otel, or leave out telemetry.traces")]
pub struct TracesError;

/// No spans.
#[derive(Clone, Default)]
pub struct Traces(());

/// There is none.
pub struct RequestSpan(Infallible);

impl Traces {
    pub fn start(_: &TraceExport<'_>) -> Result<Self, TracesError> {
        Err(TracesError)
    }

    pub fn request(&self, _: &HeaderMap) -> Option<RequestSpan> {
        None
    }

    pub async fn stop(self) {}
}

impl RequestSpan {
    pub async fn around<F: Future>(_: Option<&Self>, work: F) -> F::Output {
        work.await
    }

    pub fn rename(&self, _: String) {
        match self.0 {}
    }

    pub fn set<V>(&self, _: &'static str, _: V) {
        match self.0 {}
    }

    pub fn fail(&self) {
        match self.0 {}
    }
}

pub(super) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work
}

pub async fn traced<T, E>(_: &'static str, _: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    work.await
}
