//! What the registry counts of its requests.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Metrics;

/// From a manifest out of memory to a layer over a slow line, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    method: &'static str,
}

/// The registry's counters. Clones count together.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    received: Counter,
    sent: Counter,
    uploads: Gauge,
}

/// An upload that is being received, as long as this lives.
pub struct UploadInFlight(Gauge);

impl Drop for UploadInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpMetrics {
    /// Makes the counters and has them shown with the others.
    pub fn register(metrics: &Metrics) -> Self {
        let new = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            received: Counter::default(),
            sent: Counter::default(),
            uploads: Gauge::default(),
        };
        metrics.register(|registry| {
            registry.register("http_requests", "Requests answered, by what they asked for", new.requests.clone());
            registry.register(
                "http_request_duration_seconds",
                "Time from a request's head to the end of its response's body",
                new.seconds.clone(),
            );
            registry.register("http_received_bytes", "Bytes of request bodies", new.received.clone());
            registry.register("http_sent_bytes", "Bytes of response bodies", new.sent.clone());
            registry.register("uploads_in_flight", "Requests that are sending content of blobs", new.uploads.clone());
        });
        new
    }

    pub(super) fn upload(&self) -> UploadInFlight {
        self.uploads.inc();
        UploadInFlight(self.uploads.clone())
    }

    pub(super) fn record(&self, request: &Finished) {
        let Finished { route, method, status, received, sent, duration } = *request;
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
        self.seconds.get_or_create(&RouteLabels { route, method }).observe(duration.as_secs_f64());
        self.received.inc_by(received);
        self.sent.inc_by(sent);
    }
}

/// A request that is over.
pub(super) struct Finished {
    pub route: &'static str,
    pub method: &'static str,
    pub status: u16,
    pub received: u64,
    pub sent: u64,
    pub duration: Duration,
}

/// The method as a label: a client must not be able to make new ones up.
pub(super) fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
