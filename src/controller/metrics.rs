//! What the operator counts of its work. In a steady state `writes` stands still.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Metrics;

/// From a look that finds everything in place to thousands of Secrets, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    kind: String,
    result: &'static str,
}

/// The operator's counters. Clones count together.
#[derive(Clone)]
pub(super) struct ControllerMetrics {
    reconciles: Family<ResultLabels, Counter>,
    seconds: Family<KindLabels, Histogram>,
    writes: Family<KindLabels, Counter>,
}

impl ControllerMetrics {
    /// Makes the counters and has them shown with the others.
    pub fn register(metrics: &Metrics) -> Self {
        let new = Self {
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            writes: Family::default(),
        };
        metrics.register(|registry| {
            registry.register("reconciles", "Reconciles, by how they ended", new.reconciles.clone());
            registry.register("reconcile_duration_seconds", "Time of a reconcile", new.seconds.clone());
            registry.register("writes", "Requests that write objects, their statuses included", new.writes.clone());
        });
        new
    }

    pub fn reconciled(&self, kind: &str, succeeded: bool, took: Duration) {
        let result = if succeeded { "success" } else { "error" };
        self.reconciles.get_or_create(&ResultLabels { kind: kind.to_owned(), result }).inc();
        self.seconds.get_or_create(&KindLabels { kind: kind.to_owned() }).observe(took.as_secs_f64());
    }

    pub fn wrote(&self, kind: &str) {
        self.writes.get_or_create(&KindLabels { kind: kind.to_owned() }).inc();
    }
}
