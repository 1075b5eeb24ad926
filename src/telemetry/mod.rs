//! Logs, metrics and health: what both modes tell their operators.

mod health;
mod line_format;
mod lines;
mod logging;
mod metrics;
mod process;
mod request_id;

pub use health::serve_health;
pub use line_format::LogFormat;
pub use logging::{LoggingError, Logs};
pub use metrics::Metrics;
pub use request_id::{RequestId, RequestIdError};
