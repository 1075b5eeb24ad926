//! What proxies write of their clients: `X-Forwarded-*`, or `Forwarded` (RFC 7239).
//!
//! # Guarantees
//! Each proxy appends what it saw to what it was sent. So the headers are read from their end, entry by entry, as long as
//! the entry before was written by a trusted proxy. Nothing to the left of the client's own entry is even parsed: the
//! client may have written it itself.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

use super::Scheme;
use crate::config::{ForwardingHeaders, Proxies};

/// What trusted proxies tell of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// Who made the request to the first trusted proxy. `None` if nothing readable says so.
    pub client: Option<IpAddr>,
    /// How that proxy was asked.
    pub scheme: Option<Scheme>,
    /// The host that it was asked for, as it stands in the header.
    pub host: Option<&'a str>,
}

impl<'a> Forwarded<'a> {
    /// Reads the headers of a request that came from a trusted proxy.
    pub fn read(headers: &'a HeaderMap, proxies: &Proxies) -> Self {
        match proxies.headers {
            ForwardingHeaders::XForwarded => Self::read_x_forwarded(headers, proxies),
            ForwardingHeaders::Forwarded => Self::read_forwarded(headers, proxies),
        }
    }

    fn read_x_forwarded(headers: &'a HeaderMap, proxies: &Proxies) -> Self {
        let hops = entries(headers, "x-forwarded-for", split_last_plain);
        let found = first_untrusted(hops.map(|entry| parse_address(entry?)), proxies, |address| *address);
        let (distance, client) = found.map_or((0, None), |(distance, address)| (distance, Some(address)));
        // Where each proxy adds to these lists too, they go along with the addresses. A shorter list is by those that
        // replace it: its first entry is the outermost proxy's.
        let along = |name| entries(headers, name, split_last_plain).take(distance + 1).last().flatten();
        Self { client, scheme: along("x-forwarded-proto").and_then(parse_scheme), host: along("x-forwarded-host") }
    }

    fn read_forwarded(headers: &'a HeaderMap, proxies: &Proxies) -> Self {
        let hops = entries(headers, "forwarded", split_last_unquoted).map(|entry| Element::parse(entry?));
        let found = first_untrusted(hops, proxies, |element| element.address);
        found.map_or_else(Self::default, |(_, Element { address, scheme, host })| Self {
            client: Some(address),
            scheme,
            host,
        })
    }
}

/// The first entry, from the end, that isn't a trusted proxy's own address, and its distance from the end. If all are, the
/// one farthest away. `None` if it takes an entry that can't be read to find out.
fn first_untrusted<T>(
    hops: impl Iterator<Item = Option<T>>,
    proxies: &Proxies,
    address: impl Fn(&T) -> IpAddr,
) -> Option<(usize, T)> {
    let mut found = None;
    for (distance, hop) in hops.enumerate() {
        let hop = hop?;
        let trusted = proxies.trusts(address(&hop));
        found = Some((distance, hop));
        if !trusted {
            break;
        }
    }
    found
}

/// A list's last entry, and what is before it.
type SplitLast = fn(&[u8]) -> (Option<&[u8]>, &[u8]);

/// The entries of a list in a header, from the end. `None` for what is no text.
fn entries<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
    split_last: SplitLast,
) -> impl Iterator<Item = Option<&'a str>> {
    headers.get_all(name).iter().rev().flat_map(move |value| {
        let mut rest = Some(value.as_bytes());
        std::iter::from_fn(move || {
            let last;
            (rest, last) = split_last(rest?);
            Some(std::str::from_utf8(last).ok().map(str::trim))
        })
    })
}

fn split_last_plain(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match list.iter().rposition(|byte| *byte == b',') {
        Some(at) => (Some(&list[..at]), &list[at + 1..]),
        None => (None, list),
    }
}

/// From the end too, so that no quotation mark of the client's can swallow what a proxy has added.
fn split_last_unquoted(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    for (at, byte) in list.iter().enumerate().rev() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return (Some(&list[..at]), &list[at + 1..]),
            _ => {}
        }
    }
    (None, list)
}

/// One entry of `Forwarded`.
struct Element<'a> {
    address: IpAddr,
    scheme: Option<Scheme>,
    host: Option<&'a str>,
}

impl<'a> Element<'a> {
    /// `None` if it can't be read, or doesn't give the client's address.
    fn parse(text: &'a str) -> Option<Self> {
        // Nothing that is looked for needs an escape.
        if text.contains('\\') {
            return None;
        }
        let (mut address, mut scheme, mut host) = (None, None, None);
        let mut rest = Some(text);
        while let Some(text) = rest {
            let pair;
            (pair, rest) = split_pair(text);
            let (name, value) = pair.split_once('=')?;
            let value = unquote(value)?;
            let name = name.trim();
            if name.eq_ignore_ascii_case("for") {
                // Twice is as good as not at all.
                if address.replace(parse_address(value)?).is_some() {
                    return None;
                }
            } else if name.eq_ignore_ascii_case("proto") {
                scheme = parse_scheme(value);
            } else if name.eq_ignore_ascii_case("host") {
                host = Some(value);
            }
        }
        Some(Self { address: address?, scheme, host })
    }
}

/// Up to the first semicolon outside of quotation marks, and what follows it.
fn split_pair(text: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b';' if !quoted => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

fn unquote(value: &str) -> Option<&str> {
    let value = value.trim();
    let inner = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => value,
    };
    (!inner.contains('"')).then_some(inner)
}

/// An address, perhaps with a port. Not `unknown`, and no name that a proxy has made up.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

fn parse_scheme(text: &str) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use rstest::rstest;

    const CLIENT: &str = "203.0.113.7";

    fn proxies(headers: ForwardingHeaders) -> Proxies {
        Proxies { trusted: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], headers }
    }

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &[u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    fn x_forwarded_for(lines: &[&str]) -> Option<String> {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", line.as_bytes())).collect();
        let headers = headers(&lines);
        let read = Forwarded::read(&headers, &proxies(ForwardingHeaders::XForwarded));
        read.client.map(|address| address.to_string())
    }

    #[rstest]
    #[case::one(&["203.0.113.7"], Some("203.0.113.7"))]
    #[case::behind_two(&["203.0.113.7, 10.0.0.1"], Some("203.0.113.7"))]
    #[case::what_the_client_wrote(&["192.0.2.1, 203.0.113.7, 10.0.0.1"], Some("203.0.113.7"))]
    #[case::garbage_of_the_client(&["<script>,,, 203.0.113.7"], Some("203.0.113.7"))]
    #[case::several_lines(&["192.0.2.1", "203.0.113.7,10.0.0.1"], Some("203.0.113.7"))]
    #[case::all_trusted(&["10.0.0.9, 10.0.0.1"], Some("10.0.0.9"))]
    #[case::port(&["203.0.113.7:4711"], Some("203.0.113.7"))]
    #[case::version_six(&["2001:db8::1, fd00::2"], Some("2001:db8::1"))]
    #[case::bracketed(&["[2001:db8::1]"], Some("2001:db8::1"))]
    #[case::bracketed_with_port(&["[2001:db8::1]:80"], Some("2001:db8::1"))]
    #[case::mapped(&["203.0.113.7, ::ffff:10.0.0.1"], Some("203.0.113.7"))]
    #[case::malformed(&["203.0.113.7, garbage"], None)]
    #[case::malformed_behind_a_proxy(&["garbage, 10.0.0.1"], None)]
    #[case::empty(&[""], None)]
    #[case::none(&[], None)]
    fn finds_the_client(#[case] lines: &[&str], #[case] expected: Option<&str>) {
        assert_eq!(x_forwarded_for(lines).as_deref(), expected);
    }

    #[rstest]
    #[case::one("for=203.0.113.7", Some("203.0.113.7"))]
    #[case::any_case("For=\"203.0.113.7:80\" ; by=10.0.0.1", Some("203.0.113.7"))]
    #[case::version_six("for=\"[2001:db8::1]:80\", for=10.0.0.1", Some("2001:db8::1"))]
    #[case::quote_of_the_client("for=\"192.0.2.1, for=203.0.113.7", Some("203.0.113.7"))]
    #[case::quoted_comma("for=203.0.113.7;x=\"a,b\", for=10.0.0.1;x=\",\"", Some("203.0.113.7"))]
    #[case::unknown("for=203.0.113.7, for=unknown", None)]
    #[case::hidden("for=_hidden", None)]
    #[case::twice("for=203.0.113.7;for=203.0.113.8", None)]
    #[case::without("by=203.0.113.7", None)]
    #[case::escape("for=203.0.113.7;x=\"\\\"\"", None)]
    #[case::open_quote("for=\"203.0.113.7", None)]
    #[case::no_pair("203.0.113.7", None)]
    fn finds_the_client_as_rfc_7239_has_it(#[case] line: &str, #[case] expected: Option<&str>) {
        let headers = headers(&[("forwarded", line.as_bytes())]);
        let read = Forwarded::read(&headers, &proxies(ForwardingHeaders::Forwarded));
        assert_eq!(read.client.map(|address| address.to_string()).as_deref(), expected);
    }

    #[rstest]
    #[case::of_the_outermost_proxy("https, http", "r.example, inner.example")]
    #[case::of_the_only_one("https", "r.example")]
    #[case::not_of_the_client("http, HTTPS, http", "evil.example, r.example, inner.example")]
    fn scheme_and_host_go_with_the_client(#[case] protos: &'static str, #[case] hosts: &'static str) {
        let headers = headers(&[
            ("x-forwarded-for", b"192.0.2.1, 203.0.113.7, 10.0.0.1"),
            ("x-forwarded-proto", protos.as_bytes()),
            ("x-forwarded-host", hosts.as_bytes()),
        ]);
        let read = Forwarded::read(&headers, &proxies(ForwardingHeaders::XForwarded));
        assert_eq!((read.scheme, read.host), (Some(Scheme::Https), Some("r.example")));
    }

    #[test]
    fn only_the_headers_that_the_proxies_write_count() {
        let headers = headers(&[
            ("x-forwarded-for", b"203.0.113.7"),
            ("x-forwarded-proto", b"http"),
            ("forwarded", b"for=192.0.2.1;proto=https;host=r.example"),
        ]);
        let x_forwarded = Forwarded::read(&headers, &proxies(ForwardingHeaders::XForwarded));
        assert_eq!(x_forwarded, Forwarded { client: CLIENT.parse().ok(), scheme: Some(Scheme::Http), host: None });
        let forwarded = Forwarded::read(&headers, &proxies(ForwardingHeaders::Forwarded));
        let expected =
            Forwarded { client: "192.0.2.1".parse().ok(), scheme: Some(Scheme::Https), host: Some("r.example") };
        assert_eq!(forwarded, expected);
    }

    /// What can stand in a header.
    fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte =
            prop_oneof![4 => 0x20u8..0x7f, 1 => 0x80u8..=0xff, 4 => prop::sample::select(b"\",;=:[]. for10".to_vec())];
        prop::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn nothing_that_the_client_writes_changes_who_it_is(own in header_bytes(), version in 0..2, hops in 0usize..3) {
            let (name, which, element) = match version {
                0 => ("x-forwarded-for", ForwardingHeaders::XForwarded, ""),
                _ => ("forwarded", ForwardingHeaders::Forwarded, "for="),
            };
            let mut value = own;
            value.extend_from_slice(format!(",{element}{CLIENT}").as_bytes());
            for _ in 0..hops {
                value.extend_from_slice(format!(", {element}10.0.0.1").as_bytes());
            }
            let headers = headers(&[(name, &value)]);
            let read = Forwarded::read(&headers, &proxies(which));
            prop_assert_eq!(read.client, CLIENT.parse().ok());
        }

        #[test]
        fn nothing_in_a_header_is_too_much_for_the_parser(value in header_bytes()) {
            let headers = headers(&[("x-forwarded-for", &value), ("x-forwarded-proto", &value), ("forwarded", &value)]);
            for which in [ForwardingHeaders::XForwarded, ForwardingHeaders::Forwarded] {
                Forwarded::read(&headers, &proxies(which));
            }
        }
    }
}
