//! Where a request came from, and what address the client used.

use std::net::SocketAddr;

use http::header::HOST;
use http::request::Parts;

/// How a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The connection of a request, put into its extensions by the server.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    pub scheme: Scheme,
}

/// The registry's address as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub scheme: Scheme,
    /// Host and perhaps port. Safe inside of a quoted header value.
    pub host: String,
}

impl Origin {
    /// `None` if the request has no host that can be one.
    pub fn of(parts: &Parts) -> Option<Self> {
        // HTTP/2 has no Host header; what stands for it is in the URI.
        let host = match parts.headers.get(HOST) {
            Some(value) => value.to_str().ok()?,
            None => parts.uri.authority()?.as_str(),
        };
        is_host(host).then(|| Self { scheme: scheme_of(parts), host: host.to_owned() })
    }
}

/// A proxy that ends TLS says so with a header. A client that says it itself deceives nobody but itself: it gets back a
/// realm that doesn't answer.
fn scheme_of(parts: &Parts) -> Scheme {
    let connection = parts.extensions.get::<Connection>().map_or(Scheme::Http, |connection| connection.scheme);
    let forwarded = parts.headers.get("x-forwarded-proto").is_some_and(|value| value == "https");
    if forwarded { Scheme::Https } else { connection }
}

fn is_host(text: &str) -> bool {
    (1..=300).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn origin(uri: &str, headers: &[(&str, &str)]) -> Option<Origin> {
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Origin::of(&request.body(()).unwrap().into_parts().0)
    }

    #[rstest]
    #[case::name("r.example", true)]
    #[case::port("r.example:5000", true)]
    #[case::ipv6("[::1]:5000", true)]
    #[case::quote("r\"x", false)]
    #[case::path("r/x", false)]
    #[case::user("u@r", false)]
    #[case::empty("", false)]
    fn takes_only_hosts(#[case] host: &str, #[case] valid: bool) {
        assert_eq!(origin("/v2/", &[("host", host)]).is_some(), valid);
    }

    #[test]
    fn finds_the_host_of_http_2_and_the_scheme_before_a_proxy() {
        let host = "r.example".to_owned();
        let expected = Some(Origin { scheme: Scheme::Http, host: host.clone() });
        assert_eq!(origin("http://r.example/v2/", &[]), expected);
        let forwarded = origin("/v2/", &[("host", "r.example"), ("x-forwarded-proto", "https")]);
        assert_eq!(forwarded, Some(Origin { scheme: Scheme::Https, host }));
        assert_eq!(origin("/v2/", &[]), None);
    }
}
