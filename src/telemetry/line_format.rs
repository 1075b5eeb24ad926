//! An event as a line: a JSON object for machines, or text for people.
//!
//! Written by hand, straight into bytes, because there is a line for each request.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::RequestId;

const REQUEST_ID: &str = "request_id";
/// Of `2026-01-31T12:00:00`.
const SECOND_LENGTH: usize = 19;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// Appends an event as a line. It bears the ID of the request that the current task works for.
    pub(super) fn write(self, line: &mut Vec<u8>, event: &Event<'_>, now: SystemTime) {
        let metadata = event.metadata();
        match self {
            LogFormat::Json => {
                line.extend_from_slice(b"{\"timestamp\":\"");
                write_time(line, now);
                line.extend_from_slice(b"\",\"level\":\"");
                line.extend_from_slice(metadata.level().as_str().as_bytes());
                line.extend_from_slice(b"\",\"target\":");
                write_json_string(line, metadata.target());
            }
            LogFormat::Text => {
                write_time(line, now);
                let padding = if matches!(*metadata.level(), Level::INFO | Level::WARN) { "  " } else { " " };
                line.extend_from_slice(padding.as_bytes());
                line.extend_from_slice(metadata.level().as_str().as_bytes());
                line.push(b' ');
                line.extend_from_slice(metadata.target().as_bytes());
                line.push(b':');
            }
        }
        let mut fields = Fields { format: self, line, has_request_id: false };
        event.record(&mut fields);
        if !fields.has_request_id
            && let Some(id) = RequestId::current()
        {
            fields.start(REQUEST_ID);
            fields.text(id.as_str());
        }
        line.extend_from_slice(if self == LogFormat::Json { b"}\n" } else { b"\n" });
    }
}

thread_local! {
    /// The second of the last line, and how it is written: it is the same for many lines.
    static SECOND: Cell<(u64, [u8; SECOND_LENGTH])> = const { Cell::new((u64::MAX, [0; SECOND_LENGTH])) };
}

/// RFC 3339, in UTC, with microseconds.
fn write_time(line: &mut Vec<u8>, now: SystemTime) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut second = SECOND.get();
    if second.0 != since.as_secs() {
        let timestamp = Timestamp::from_second(since.as_secs().cast_signed()).unwrap_or_default().to_string();
        if let Some(text) = timestamp.as_bytes().first_chunk::<SECOND_LENGTH>() {
            second = (since.as_secs(), *text);
            SECOND.set(second);
        }
    }
    line.extend_from_slice(&second.1);
    let mut fraction = *b".000000Z";
    let mut micros = since.subsec_micros();
    for digit in fraction[1..7].iter_mut().rev() {
        *digit = b'0' + (micros % 10) as u8;
        micros /= 10;
    }
    line.extend_from_slice(&fraction);
}

/// Writes fields behind each other.
struct Fields<'a> {
    format: LogFormat,
    line: &'a mut Vec<u8>,
    has_request_id: bool,
}

impl Fields<'_> {
    fn start(&mut self, name: &str) {
        self.has_request_id |= name == REQUEST_ID;
        match self.format {
            LogFormat::Json => {
                self.line.push(b',');
                write_json_string(self.line, name);
                self.line.push(b':');
            }
            LogFormat::Text => {
                self.line.push(b' ');
                if name != "message" {
                    self.line.extend_from_slice(name.as_bytes());
                    self.line.push(b'=');
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        match self.format {
            LogFormat::Json => write_json_string(self.line, text),
            LogFormat::Text if !text.is_empty() && text.bytes().all(is_plain) => {
                self.line.extend_from_slice(text.as_bytes());
            }
            // Into memory, which doesn't fail.
            LogFormat::Text => drop(write!(self.line, "{text:?}")),
        }
    }

    /// What needs no quotation marks.
    fn bare(&mut self, name: &str, value: impl fmt::Display) {
        self.start(name);
        let _ = write!(self.line, "{value}");
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.start(field.name());
        self.text(value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.bare(field.name(), value) } else { self.bare(field.name(), "null") }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.start(field.name());
        match self.format {
            LogFormat::Json => {
                self.line.push(b'"');
                let _ = write!(JsonEscape(self.line), "{value:?}");
                self.line.push(b'"');
            }
            LogFormat::Text => drop(write!(ControlEscape(self.line), "{value:?}")),
        }
    }
}

fn write_json_string(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    escape_json(line, text);
    line.push(b'"');
}

/// What stands between quotation marks (RFC 8259, section 7).
fn escape_json(line: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        line.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => line.extend_from_slice(b"\\\""),
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            _ => drop(write!(line, "\\u{byte:04x}")),
        }
    }
    line.extend_from_slice(&bytes[written..]);
}

struct JsonEscape<'a>(&'a mut Vec<u8>);

impl fmt::Write for JsonEscape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape_json(self.0, text);
        Ok(())
    }
}

/// Nothing that is logged may start a line of its own, or steer a terminal.
struct ControlEscape<'a>(&'a mut Vec<u8>);

impl fmt::Write for ControlEscape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if char.is_control() {
                let _ = write!(self.0, "{}", char.escape_default());
            } else {
                self.0.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    #[derive(Clone)]
    struct Capture(LogFormat, Arc<Mutex<Vec<u8>>>);

    impl<S: tracing::Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let now = UNIX_EPOCH + Duration::from_micros(1_800_000_000_000_042);
            self.0.write(&mut self.1.lock().unwrap(), event, now);
        }
    }

    fn lines(format: LogFormat, work: impl FnOnce()) -> String {
        let capture = Capture(format, Arc::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(capture.clone()), work);
        String::from_utf8(capture.1.lock().unwrap().clone()).unwrap()
    }

    fn log_everything() {
        let error = std::io::Error::other("a \"b\"\n");
        tracing::warn!(
            target: "access",
            text = "plain",
            spaced = "two words",
            debug = ?Some(1),
            %error,
            number = -1,
            big = u64::MAX,
            fraction = 0.25,
            odd = f64::NAN,
            flag = true,
            missing = None::<&str>,
            "what has happened"
        );
    }

    #[test]
    fn a_json_line_holds_every_field() {
        let line = lines(LogFormat::Json, log_everything);
        let expected = concat!(
            r#"{"timestamp":"2027-01-15T08:00:00.000042Z","level":"WARN","target":"access","#,
            r#""message":"what has happened","text":"plain","spaced":"two words","debug":"Some(1)","#,
            r#""error":"a \"b\"\n","number":-1,"big":18446744073709551615,"fraction":0.25,"odd":null,"flag":true}"#,
            "\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_text_line_stays_one_line() {
        let line = lines(LogFormat::Text, log_everything);
        let expected = concat!(
            "2027-01-15T08:00:00.000042Z  WARN access: what has happened text=plain spaced=\"two words\" debug=Some(1) ",
            "error=a \"b\"\\n number=-1 big=18446744073709551615 fraction=0.25 odd=null flag=true\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn lines_bear_the_request_that_they_are_about() {
        let id: RequestId = "req-1".parse().unwrap();
        let line = lines(LogFormat::Json, || {
            futures::executor::block_on(id.scope(async { tracing::info!("deep inside") }));
            futures::executor::block_on(id.scope(async { tracing::info!(request_id = "own", "with its own") }));
        });
        let ids: Vec<serde_json::Value> = line
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].clone())
            .collect();
        assert_eq!(ids, ["req-1", "own"]);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_json(text in any::<String>()) {
            let line = lines(LogFormat::Json, || tracing::info!(text, display = %text));
            prop_assert_eq!(line.lines().count(), 1);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read["text"], &text);
            prop_assert_eq!(&read["display"], &text);
        }
    }
}
