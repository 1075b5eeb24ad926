//! `Range`, `Content-Range` and `Content-Length`. The input's first line is the one range, the second the other, the third
//! the length.
#![no_main]

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};
use landfast::registry::content::ByteRange;
use landfast::registry::http::range::{Chunk, RequestedRange};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for (name, line) in [RANGE, CONTENT_RANGE, CONTENT_LENGTH].into_iter().zip(input.split(|byte| *byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    if let RequestedRange::Part(ByteRange::Inclusive(first, last)) = RequestedRange::of(&headers) {
        assert!(first <= last);
    }
    if let Ok(Chunk { at: Some(at), length }) = Chunk::of(&headers) {
        let length = length.expect("a range has a length");
        assert!(length > 0 && at.checked_add(length - 1).is_some());
    }
});
