//! Log lines on standard error, written by a thread of their own.
//!
//! `LANDFAST_LOG` filters them, in `tracing_subscriber`'s syntax (`info` by default; `info,access=off` leaves out the
//! line for each request). Audit records are part of any filter that doesn't name `audit`. `LANDFAST_LOG_FORMAT` is
//! `json` or `text`.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use super::line_format::LogFormat;
use super::lines::{Dropped, Importance, LineQueue};

const FILTER: &str = "LANDFAST_LOG";
const FORMAT: &str = "LANDFAST_LOG_FORMAT";
/// How long the process waits at its end, or in a panic, for lines to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// Lines that were not logged. There is one log in a process, and any number of places that show it.
pub(super) static DROPPED: LazyLock<Dropped> = LazyLock::new(Dropped::default);

/// Name of the events of the target `audit` behind which there is no valid credential.
pub const UNVERIFIED: &str = "unverified";

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("{FILTER} is not valid: {0}; try info or debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("{FORMAT} is {0:?}: use json or text")]
    Format(String),
    #[error("the thread that writes the log can't be started: {0}")]
    Thread(#[source] std::io::Error),
    #[error("logging has been set up already")]
    Twice(#[from] TryInitError),
}

/// Reads what the environment says: text for a person at a terminal, and JSON for machines, unless it is set.
fn parse_format(value: Option<&str>, is_terminal: bool) -> Result<LogFormat, LoggingError> {
    match value {
        Some("json") => Ok(LogFormat::Json),
        Some("text") => Ok(LogFormat::Text),
        Some("") | None if is_terminal => Ok(LogFormat::Text),
        Some("") | None => Ok(LogFormat::Json),
        Some(other) => Err(LoggingError::Format(other.to_owned())),
    }
}

/// The filter. Who asks for fewer lines doesn't mean those that say who did what, unless they are named.
fn parse_filter(value: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let text = value.filter(|text| !text.is_empty()).unwrap_or("info");
    let names_audit = text.split(',').any(|directive| directive.trim().starts_with("audit"));
    let text = if names_audit { text.to_owned() } else { format!("{text},audit=info") };
    Ok(EnvFilter::try_new(text)?)
}

/// The process's log. What is in the queue when this is dropped is written first.
pub struct Logs {
    queue: LineQueue,
}

impl Logs {
    /// Sets up logging for the process, as the environment says. To be called once, first of all.
    pub fn init() -> Result<Self, LoggingError> {
        let format = parse_format(std::env::var(FORMAT).ok().as_deref(), std::io::stderr().is_terminal())?;
        let filter = parse_filter(std::env::var(FILTER).ok().as_deref())?;
        let queue = LineQueue::start(std::io::stderr(), DROPPED.clone()).map_err(LoggingError::Thread)?;
        let layer = LineLayer { format, queue: queue.clone() };
        tracing_subscriber::registry().with(filter).with(layer).try_init()?;
        flush_on_panic(queue.clone());
        Ok(Self { queue })
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.queue.flush(FLUSH);
    }
}

/// What led to a panic is in the lines before it. A panic in a task doesn't end the process, but another one may.
fn flush_on_panic(queue: LineQueue) {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        previous(panic);
        queue.flush(FLUSH);
    }));
}

/// Hands each event to the queue as a line.
struct LineLayer {
    format: LogFormat,
    queue: LineQueue,
}

thread_local! {
    /// The last line's memory. Taken while it is in use: what is logged may log something itself.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = LINE.take();
        line.clear();
        self.format.write(&mut line, event, SystemTime::now());
        self.queue.push(&line, importance(event.metadata()));
        LINE.set(line);
    }
}

/// A client decides how many lines there are about its requests, and debugging makes as many as it likes. Records of what
/// strangers try are worth more, but no stranger may stop the registry with them.
fn importance(metadata: &Metadata<'_>) -> Importance {
    match metadata.target() {
        "access" => Importance::Droppable,
        _ if *metadata.level() > Level::INFO => Importance::Droppable,
        "audit" if metadata.name() == UNVERIFIED => Importance::Unverified,
        _ => Importance::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn the_format_fits_the_reader_unless_it_is_set() {
        assert_eq!(parse_format(None, true).unwrap(), LogFormat::Text);
        assert_eq!(parse_format(None, false).unwrap(), LogFormat::Json);
        assert_eq!(parse_format(Some("text"), false).unwrap(), LogFormat::Text);
        assert_eq!(parse_format(Some("json"), true).unwrap(), LogFormat::Json);
        let error = parse_format(Some("xml"), true).unwrap_err().to_string();
        assert!(error.contains("xml") && error.contains("json or text"), "{error}");
    }

    /// Which of three lines get through: an access line, an audit record and information.
    fn passes(filter: Option<&str>) -> [bool; 3] {
        let subscriber = tracing_subscriber::registry().with(parse_filter(filter).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            [
                tracing::enabled!(target: "access", Level::INFO),
                tracing::enabled!(target: "audit", Level::INFO),
                tracing::enabled!(target: "landfast", Level::INFO),
            ]
        })
    }

    #[test]
    fn only_what_needs_a_credential_is_never_dropped() {
        struct Seen(Arc<Mutex<Vec<Importance>>>);
        impl<S: Subscriber> Layer<S> for Seen {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                self.0.lock().unwrap().push(importance(event.metadata()));
            }
        }
        let seen = Arc::new(Mutex::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Seen(Arc::clone(&seen))), || {
            tracing::info!(target: "access", method = "GET");
            tracing::info!(name: UNVERIFIED, target: "audit", event = "token");
            tracing::info!(target: "audit", event = "push");
            tracing::info!("serving");
            tracing::debug!("detail");
        });
        let expected = [Importance::Droppable, Importance::Unverified, Importance::Kept, Importance::Kept];
        assert_eq!(*seen.lock().unwrap(), [&expected[..], &[Importance::Droppable]].concat());
    }

    #[test]
    fn audit_records_are_left_out_only_by_name() {
        assert_eq!(passes(None), [true, true, true]);
        assert_eq!(passes(Some("info,access=off")), [false, true, true]);
        assert_eq!(passes(Some("error")), [false, true, false]);
        assert_eq!(passes(Some("info,audit=off")), [true, false, true]);
        assert!(parse_filter(Some("a=b=c")).is_err());
    }
}
