//! Traces of requests, sent to a collector in OpenTelemetry's protocol (OTLP over HTTP).
//!
//! # Guarantees
//! - Off, there are no spans: what is left of tracing in a request is one look at a variable of the thread.
//! - A caller's trace is continued (W3C Trace Context), but whether it is sampled is decided here, by its ID: a client can't
//!   make the registry send more than it was told to.
//! - A collector that is slow or away costs spans, never requests: they wait in a bounded queue and are then dropped.

mod client;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::trace::{FutureExt as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use self::client::CollectorClient;
use super::TraceExport;

/// For one batch of spans.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("the collector's endpoint {0:?} is no URL: write it as http://collector:4318")]
    Endpoint(String),
    #[error("the system's certificates can't be read: {0}")]
    Certificates(#[source] std::io::Error),
    #[error("traces can't be set up: {0}")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where requests get their spans from. Clones send together. The default makes none.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Provider>>);

struct Provider {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

impl Traces {
    /// Starts sending. To be called within the runtime that is to send.
    pub fn start(export: &TraceExport<'_>) -> Result<Self, TracesError> {
        let malformed = || TracesError::Endpoint(export.endpoint.to_owned());
        let uri: http::Uri = export.endpoint.parse().map_err(|_| malformed())?;
        if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(malformed());
        }
        let path = if uri.path() == "/" { "/v1/traces" } else { "" };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(CollectorClient::new(TIMEOUT).map_err(TracesError::Certificates)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}{path}", export.endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|error| TracesError::Exporter(error.into()))?;
        let resource = Resource::builder_empty()
            .with_service_name(export.service_name.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::TraceIdRatioBased(export.sample_ratio))
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("landfast");
        Ok(Self(Some(Arc::new(Provider { provider, tracer, propagator: TraceContextPropagator::new() }))))
    }

    /// The span of a request, if there are any.
    pub fn request(&self, headers: &HeaderMap) -> Option<RequestSpan> {
        let Provider { tracer, propagator, .. } = self.0.as_deref()?;
        let caller = propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let builder = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        let span = tracer.build_with_context(builder, &caller);
        Some(RequestSpan(caller.with_span(span).with_value(tracer.clone())))
    }

    /// Sends what is left, and nothing from then on.
    pub async fn stop(self) {
        let Some(provider) = self.0 else { return };
        // It blocks until the runtime has sent.
        let stopped = tokio::task::spawn_blocking(move || provider.provider.shutdown_with_timeout(TIMEOUT)).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(%error, "the last traces can't be sent");
        }
    }
}

/// The span of one request. It ends when this is dropped.
pub struct RequestSpan(Context);

impl RequestSpan {
    /// Runs a request's work; spans that start in it belong to this one.
    pub async fn around<F: Future>(span: Option<&Self>, work: F) -> F::Output {
        match span {
            Some(Self(context)) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// What the request is.
    pub fn rename(&self, name: String) {
        self.0.span().update_name(name);
    }

    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// Marks the request as one that the registry has failed.
    pub fn fail(&self) {
        self.0.span().set_status(Status::error(""));
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Work that goes on in a task of its own.
pub(super) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

/// The context of a part of the request that the current task works for, if there are spans.
fn part(kind: &'static str, name: &'static str) -> Option<Context> {
    Context::map_current(|context| {
        let tracer: &SdkTracer = context.get()?;
        let name = if name.is_empty() { kind.into() } else { format!("{kind}.{name}") };
        let span = tracer.build_with_context(SpanBuilder::from_name(name), context);
        Some(context.with_span(span))
    })
}

/// Runs a part of a request's work in a span of its own, called `kind.name`, or `kind` alone. An error is noted in it.
pub async fn traced<T, E: Display>(
    kind: &'static str,
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(context) = part(kind, name) else { return work.await };
    let result = work.with_context(context.clone()).await;
    end(&context, &result);
    result
}

fn end<T, E: Display>(context: &Context, result: &Result<T, E>) {
    if let Err(error) = result {
        context.span().set_attribute(KeyValue::new("error", error.to_string()));
    }
    context.span().end();
}
