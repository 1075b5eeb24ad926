//! `telemetry`: what the registry tells about itself, besides its log and its metrics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the registry tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// Traces of requests, sent in OpenTelemetry's protocol (OTLP over HTTP).
    pub traces: TraceSettings,
}

/// Traces of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TraceSettings {
    /// URL of the collector, such as `http://collector:4318`. Absent: there are no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Part of the traces that is kept, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
    /// Name of this registry in them.
    pub service_name: String,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { endpoint: None, sample_ratio: 1.0, service_name: "landfast".to_owned() }
    }
}
