//! What the registry counts of its requests.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::registry::auth::AuthError;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// What a cluster that starts many pods asks for, and each build.
const FREQUENT: [(u16, &str, &str); 8] = [
    (200, "GET", "manifest"),
    (200, "HEAD", "manifest"),
    (200, "GET", "blob"),
    (200, "HEAD", "blob"),
    (206, "GET", "blob"),
    (404, "HEAD", "blob"),
    (401, "GET", "base"),
    (200, "GET", "token"),
];

struct Frequent {
    requests: Counter,
    seconds: Histogram,
}

/// The registry's counters. Clones count together.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    /// The counters of answers that are given often, looked up once.
    frequent: Arc<Vec<OnceLock<Frequent>>>,
    refusals: Family<ReasonLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    received: Counter,
    sent: Counter,
    uploads: Gauge,
    connections: Gauge,
    connections_refused: Counter,
}

/// Something that is counted as long as this lives: an upload that is being received, or an open connection.
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpMetrics {
    /// Makes the counters and has them shown with the others.
    pub fn register(metrics: &Metrics) -> Self {
        let new = Self {
            requests: Family::default(),
            frequent: Arc::new((0..FREQUENT.len()).map(|_| OnceLock::new()).collect()),
            refusals: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            received: Counter::default(),
            sent: Counter::default(),
            uploads: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register("http_requests", "Requests answered, by what they asked for", new.requests.clone());
            registry.register(
                "authentication_failures",
                "Requests turned away for who made them, by reason",
                new.refusals.clone(),
            );
            registry.register(
                "http_request_duration_seconds",
                "Time from a request's head to the end of its response's body",
                new.seconds.clone(),
            );
            registry.register("http_received_bytes", "Bytes of request bodies", new.received.clone());
            registry.register("http_sent_bytes", "Bytes of response bodies", new.sent.clone());
            registry.register("uploads_in_flight", "Requests that are sending content of blobs", new.uploads.clone());
            registry.register("http_connections", "Connections that are open", new.connections.clone());
            registry.register(
                "http_connections_refused",
                "Connections closed at once, because their client had its share of them",
                new.connections_refused.clone(),
            );
        });
        new
    }

    pub(super) fn upload(&self) -> InFlight {
        self.uploads.inc();
        InFlight(self.uploads.clone())
    }

    pub(super) fn connection(&self) -> InFlight {
        self.connections.inc();
        InFlight(self.connections.clone())
    }

    pub(super) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Counts who is turned away.
    pub(super) fn refused(&self, error: &AuthError) {
        let reason = match error {
            AuthError::Required => "anonymous",
            AuthError::Header | AuthError::BearerAtToken => "malformed",
            AuthError::Password(_) => "password",
            AuthError::Token(_) | AuthError::External(_) => "token",
            AuthError::Unreachable { .. } => "unreachable",
            AuthError::Revoked => "revoked",
            AuthError::Certificate(_) => "certificate",
            AuthError::InsufficientScope => "scope",
            AuthError::Denied(_) => "denied",
            AuthError::TooManyFailures { .. } => "limited",
            AuthError::Busy => "busy",
            AuthError::Signing(_) => return,
        };
        self.refusals.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(super) fn record(&self, request: &Finished) {
        let Finished { route, method, status, received, sent, duration } = *request;
        let seconds = duration.as_secs_f64();
        let requests = || self.requests.get_or_create_owned(&RequestLabels { route, method, status });
        let durations = || self.seconds.get_or_create_owned(&RouteLabels { route, method });
        match FREQUENT.iter().position(|answer| *answer == (status, method, route)) {
            Some(index) => {
                let make = || Frequent { requests: requests(), seconds: durations() };
                let frequent = self.frequent[index].get_or_init(make);
                frequent.requests.inc();
                frequent.seconds.observe(seconds);
            }
            None => {
                requests().inc();
                durations().observe(seconds);
            }
        }
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
