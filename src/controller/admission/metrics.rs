//! What the webhook counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Metrics;

/// From a look into memory to the API server's patience, in seconds.
const BUCKETS: [f64; 9] = [0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    operation: &'static str,
    verdict: &'static str,
}

/// The webhook's counters. Clones count together. No label has values that a client can make up.
#[derive(Clone)]
pub(super) struct AdmissionMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
}

impl AdmissionMetrics {
    /// Makes the counters and has them shown with the others.
    pub fn register(metrics: &Metrics) -> Self {
        let new = Self { requests: Family::default(), seconds: Histogram::new(BUCKETS) };
        metrics.register(|registry| {
            let help = "Changes of our objects that the API server asked about, by the answer";
            registry.register("admission_requests", help, new.requests.clone());
            let help = "Time from the request to the answer";
            registry.register("admission_duration_seconds", help, new.seconds.clone());
        });
        new
    }

    pub fn answered(&self, kind: &str, operation: &'static str, verdict: &'static str, took: Duration) {
        let known = ["Registry", "Project", "RepositoryPolicy", "Member"];
        let kind = known.into_iter().find(|known| *known == kind).unwrap_or("other");
        self.requests.get_or_create(&RequestLabels { kind, operation, verdict }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
