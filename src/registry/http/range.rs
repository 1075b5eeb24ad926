//! `Range` of a download (RFC 9110, section 14.2) and `Content-Range` of an upload's chunk (distribution-spec,
//! "Pushing a blob in chunks").

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderName};

use crate::registry::content::ByteRange;

/// What a request for content asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedRange {
    /// Everything. Also where the request asks for several parts or in another unit than bytes: a server may then
    /// answer with the whole.
    Whole,
    Part(ByteRange),
    Malformed,
}

impl RequestedRange {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return RequestedRange::Whole };
        let Ok(text) = value.to_str() else { return RequestedRange::Malformed };
        let Some((unit, set)) = text.split_once('=') else { return RequestedRange::Malformed };
        if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
            return RequestedRange::Whole;
        }
        parse_part(set.trim()).map_or(RequestedRange::Malformed, RequestedRange::Part)
    }
}

fn parse_part(text: &str) -> Option<ByteRange> {
    let (first, last) = text.split_once('-')?;
    match (first, last) {
        ("", length) => position(length).map(ByteRange::Suffix),
        (first, "") => position(first).map(ByteRange::From),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(ByteRange::Inclusive(first, last))
        }
    }
}

/// `str::parse` would take a plus sign too.
fn number(text: &str) -> Option<u64> {
    if is_number(text) { text.parse().ok() } else { None }
}

/// A number of any length is one (RFC 9110, section 14.1.1); all that are too great are beyond the end alike.
fn position(text: &str) -> Option<u64> {
    is_number(text).then(|| text.parse().unwrap_or(u64::MAX))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where a chunk belongs, as far as its headers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub at: Option<u64>,
    /// How many bytes the body has to have.
    pub length: Option<u64>,
}

/// Why a chunk's headers can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("Content-Range must be two numbers with a dash between, the second not smaller")]
    Range,
    #[error("Content-Range and Content-Length tell different lengths")]
    Length,
}

impl Chunk {
    pub fn of(headers: &HeaderMap) -> Result<Self, ChunkError> {
        let length = text(headers, &CONTENT_LENGTH).and_then(number);
        let mut ranges = headers.get_all(CONTENT_RANGE).iter();
        let Some(range) = ranges.next() else { return Ok(Self { at: None, length }) };
        // Of two, the one that is passed over may be the one that a proxy has looked at.
        let range = range.to_str().ok().filter(|_| ranges.next().is_none());
        let (first, last) = range.and_then(parse_content_range).ok_or(ChunkError::Range)?;
        let in_range = (last - first).checked_add(1).ok_or(ChunkError::Range)?;
        if length.is_some_and(|length| length != in_range) {
            return Err(ChunkError::Length);
        }
        Ok(Self { at: Some(first), length: Some(in_range) })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The specification's `0-99`, and RFC 9110's `bytes 0-99/*` that some clients send.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let (range, total) = match text.strip_prefix("bytes ") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "*")),
        None => (text, "*"),
    };
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let fits = total == "*" || number(total)? > last;
    (first <= last && fits).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[rstest]
    #[case::from("bytes=5-", RequestedRange::Part(ByteRange::From(5)))]
    #[case::inclusive("bytes=5-6", RequestedRange::Part(ByteRange::Inclusive(5, 6)))]
    #[case::suffix("Bytes=-6", RequestedRange::Part(ByteRange::Suffix(6)))]
    #[case::several("bytes=0-1,3-4", RequestedRange::Whole)]
    #[case::other_unit("lines=0-1", RequestedRange::Whole)]
    #[case::backwards("bytes=6-5", RequestedRange::Malformed)]
    #[case::word("bytes=a-b", RequestedRange::Malformed)]
    #[case::sign("bytes=+1-2", RequestedRange::Malformed)]
    #[case::dash("bytes=-", RequestedRange::Malformed)]
    #[case::nothing("bytes", RequestedRange::Malformed)]
    #[case::no_number_behind_a_number("bytes=0-99999999999999999999x", RequestedRange::Malformed)]
    #[case::long_number("bytes=0-99999999999999999999", RequestedRange::Part(ByteRange::Inclusive(0, u64::MAX)))]
    fn reads_ranges(#[case] text: &str, #[case] expected: RequestedRange) {
        assert_eq!(RequestedRange::of(&headers(&[(RANGE, text)])), expected);
    }

    #[rstest]
    #[case::as_specified("0-9", None, Ok(Chunk { at: Some(0), length: Some(10) }))]
    #[case::with_length("5-9", Some("5"), Ok(Chunk { at: Some(5), length: Some(5) }))]
    #[case::rfc_9110("bytes 5-9/*", None, Ok(Chunk { at: Some(5), length: Some(5) }))]
    #[case::other_length("5-9", Some("6"), Err(ChunkError::Length))]
    #[case::backwards("9-5", None, Err(ChunkError::Range))]
    #[case::open("5-", None, Err(ChunkError::Range))]
    #[case::word("x", None, Err(ChunkError::Range))]
    #[case::everything("0-18446744073709551615", None, Err(ChunkError::Range))]
    #[case::total("bytes 5-9/10", None, Ok(Chunk { at: Some(5), length: Some(5) }))]
    #[case::beyond_its_total("bytes 5-9/9", None, Err(ChunkError::Range))]
    #[case::malformed_total("bytes 5-9/x", None, Err(ChunkError::Range))]
    fn reads_chunks(#[case] range: &str, #[case] length: Option<&str>, #[case] expected: Result<Chunk, ChunkError>) {
        let mut headers = headers(&[(CONTENT_RANGE, range)]);
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.parse().unwrap());
        }
        assert_eq!(Chunk::of(&headers), expected);
    }

    #[test]
    fn two_headers_are_not_one() {
        let two = |name: HeaderName, text: &str| {
            let mut headers = headers(&[(name.clone(), text)]);
            headers.append(name, text.parse().unwrap());
            headers
        };
        assert_eq!(RequestedRange::of(&two(RANGE, "bytes=0-1")), RequestedRange::Whole);
        assert_eq!(Chunk::of(&two(CONTENT_RANGE, "0-1")), Err(ChunkError::Range));
    }

    #[test]
    fn a_chunk_need_not_say_anything() {
        assert_eq!(Chunk::of(&HeaderMap::new()), Ok(Chunk { at: None, length: None }));
    }
}
