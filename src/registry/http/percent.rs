//! Percent-encoding, strictly: decoded once, and what isn't well-formed is refused.

use std::fmt::Write as _;

/// Why a text can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL has a percent sign without two hexadecimal digits behind it, or isn't UTF-8")]
pub struct DecodeError;

/// Decodes a path. A plus sign is a plus sign.
pub fn decode_path(text: &str) -> Result<String, DecodeError> {
    decode(text, false)
}

/// Decodes a query, or the body of a form: name and value pairs in their order. A plus sign is a blank.
pub fn decode_query(text: &str) -> Result<Vec<(String, String)>, DecodeError> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name, true)?, decode(value, true)?))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Encodes everything but RFC 3986's unreserved characters, and slashes. Fit for a path and for a query's value.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decode(text: &str, plus_is_blank: bool) -> Result<String, DecodeError> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Ok(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match byte {
            b'%' => {
                let (digits, tail) = tail.split_at_checked(2).ok_or(DecodeError)?;
                rest = tail;
                hex_value(digits[0])? << 4 | hex_value(digits[1])?
            }
            b'+' if plus_is_blank => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| DecodeError)
}

fn hex_value(digit: u8) -> Result<u8, DecodeError> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(DecodeError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("team/app", Some("team/app"))]
    #[case::colon("sha256%3Aab", Some("sha256:ab"))]
    #[case::once("%2525", Some("%25"))]
    #[case::plus("a+b", Some("a+b"))]
    #[case::cut("a%2", None)]
    #[case::no_hex("a%zz", None)]
    #[case::signed_hex("a%+1", None)]
    #[case::not_utf8("%ff", None)]
    fn decodes_paths(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(decode_path(text).ok().as_deref(), expected);
    }

    #[test]
    fn decodes_queries() {
        let pairs = decode_query("scope=a+b&scope=c%26d&&flag").unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("scope", "a b"), ("scope", "c&d"), ("flag", "")]);
    }

    proptest::proptest! {
        #[test]
        fn decodes_what_it_encodes(text: String) {
            proptest::prop_assert_eq!(decode_path(&encode(&text)), Ok(text));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = (decode_path(&text), decode_query(&text));
        }
    }
}
