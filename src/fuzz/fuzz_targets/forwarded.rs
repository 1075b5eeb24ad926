//! What proxies write of clients. The input's lines are header values, for each of the four headers in turn.
#![no_main]

use http::{HeaderMap, HeaderValue};
use landfast::config::{ForwardingHeaders, Proxies};
use landfast::registry::http::forwarded::Forwarded;

const NAMES: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for (index, line) in input.split(|byte| *byte == b'\n').enumerate().take(64) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(NAMES[index % NAMES.len()], value);
        }
    }
    for kind in [ForwardingHeaders::XForwarded, ForwardingHeaders::Forwarded] {
        let trusted = ["10.0.0.0/8", "::1/128"].map(|range| range.parse().expect("a range")).to_vec();
        let proxies = Proxies { trusted, headers: kind };
        let found = Forwarded::read(&headers, &proxies);
        if let Some(client) = found.client {
            assert_eq!(client, client.to_canonical());
        }
        // What the client itself wrote before a proxy's entry changes nothing.
        let before = |name: &'static str, value: &'static str| {
            let mut longer = HeaderMap::new();
            longer.append(name, HeaderValue::from_static(value));
            for (name, value) in &headers {
                longer.append(name, value.clone());
            }
            longer
        };
        if let Some(client) = found.client.filter(|client| !proxies.trusts(*client)) {
            let (name, value) = match kind {
                ForwardingHeaders::XForwarded => ("x-forwarded-for", "192.0.2.1"),
                ForwardingHeaders::Forwarded => ("forwarded", "for=192.0.2.1;host=x"),
            };
            assert_eq!(Forwarded::read(&before(name, value), &proxies).client, Some(client));
        }
    }
});
