//! Durations as people write them: `90s`, `15m`, `12h`, `30d`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PATTERN: &str = "^([0-9]{1,6}(s|m|h|d)){1,4}$";

/// A whole number of seconds, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duration {
    text: String,
    seconds: u64,
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration; write for example 90s, 15m, 12h, 30d or 1h30m")]
pub struct DurationError(String);

impl Duration {
    pub fn from_secs(seconds: u64) -> Self {
        Self { text: format!("{seconds}s"), seconds }
    }

    pub fn as_secs(&self) -> u64 {
        self.seconds
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError(text.to_owned());
        let (mut seconds, mut number) = (0_u64, None::<u64>);
        for byte in text.bytes() {
            let unit = match byte {
                b'0'..=b'9' => {
                    let grown = number.unwrap_or(0) * 10 + u64::from(byte - b'0');
                    number = Some(grown).filter(|n| *n < 1_000_000);
                    number.ok_or_else(invalid)?;
                    continue;
                }
                b's' => 1,
                b'm' => 60,
                b'h' => 3_600,
                b'd' => 86_400,
                _ => return Err(invalid()),
            };
            seconds += number.take().ok_or_else(invalid)? * unit;
        }
        if text.is_empty() || number.is_some() {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), seconds })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("1h30m", 5_400), ("30d", 2_592_000)] {
            assert_eq!(text.parse::<Duration>().map(|d| d.as_secs()), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn rejects_the_rest() {
        for text in ["", "5", "m", "-5m", "5 m", "1.5h", "5y", "9999999999999999999s"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
