//! Log lines on standard error.
//!
//! `LANDFAST_LOG` filters them, in `tracing_subscriber`'s syntax (`info` by default; `info,access=off` leaves out the
//! line for each request). `LANDFAST_LOG_FORMAT` is `json` or `text`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

const FILTER: &str = "LANDFAST_LOG";
const FORMAT: &str = "LANDFAST_LOG_FORMAT";

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("{FILTER} is not valid: {0}; try info or debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("{FORMAT} is {0:?}: use json or text")]
    Format(String),
    #[error("logging has been set up already")]
    Twice(#[from] TryInitError),
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// Reads what the environment says: text for a person at a terminal, and JSON for machines, unless it is set.
    fn parse(value: Option<&str>, is_terminal: bool) -> Result<Self, LoggingError> {
        match value {
            Some("json") => Ok(LogFormat::Json),
            Some("text") => Ok(LogFormat::Text),
            Some("") | None if is_terminal => Ok(LogFormat::Text),
            Some("") | None => Ok(LogFormat::Json),
            Some(other) => Err(LoggingError::Format(other.to_owned())),
        }
    }
}

/// Sets up logging for the process, as the environment says. To be called once, first of all.
pub fn init_logging() -> Result<(), LoggingError> {
    let format = LogFormat::parse(std::env::var(FORMAT).ok().as_deref(), std::io::stderr().is_terminal())?;
    let filter = match std::env::var(FILTER) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => tracing_subscriber::util::SubscriberInitExt::try_init(
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish(),
        )?,
        LogFormat::Text => tracing_subscriber::util::SubscriberInitExt::try_init(builder.finish())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_fits_the_reader_unless_it_is_set() {
        assert_eq!(LogFormat::parse(None, true).unwrap(), LogFormat::Text);
        assert_eq!(LogFormat::parse(None, false).unwrap(), LogFormat::Json);
        assert_eq!(LogFormat::parse(Some("text"), false).unwrap(), LogFormat::Text);
        assert_eq!(LogFormat::parse(Some("json"), true).unwrap(), LogFormat::Json);
        let error = LogFormat::parse(Some("xml"), true).unwrap_err().to_string();
        assert!(error.contains("xml") && error.contains("json or text"), "{error}");
    }
}
