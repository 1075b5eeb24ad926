//! Logs, metrics and health: what both modes tell their operators.

mod health;
mod logging;
mod metrics;

pub use health::serve_health;
pub use logging::{LogFormat, LoggingError, init_logging};
pub use metrics::Metrics;
