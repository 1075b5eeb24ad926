//! Where a request came from, and what address the client used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;

use super::forwarded::Forwarded;
use crate::config::Proxies;
use crate::registry::auth::ClientCertificate;

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
#[derive(Clone, Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    pub scheme: Scheme,
    /// What its client has shown in the handshake.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Connection {
    pub fn plain(peer: SocketAddr) -> Self {
        Self { peer, scheme: Scheme::Http, certificate: None }
    }
}

/// How a request reached the registry: as its connection shows, or as a trusted proxy tells.
///
/// This is the only place that decides what to believe: what limits, audits or challenges a client takes it from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// The client's address, an IPv4 address always as such. `0.0.0.0` for a request that came over no connection.
    pub client: IpAddr,
    /// Whether a trusted proxy passed the request on.
    pub by_trusted_proxy: bool,
    scheme: Scheme,
    host: Option<&'a str>,
}

impl<'a> Arrival<'a> {
    pub fn of(parts: &'a Parts, proxies: &Proxies) -> Self {
        let unknown = Self {
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            by_trusted_proxy: false,
            scheme: Scheme::Http,
            host: asked_host(parts),
        };
        let Some(Connection { peer, scheme, .. }) = parts.extensions.get() else { return unknown };
        let direct = Self { client: peer.ip().to_canonical(), scheme: *scheme, ..unknown };
        if !proxies.trusts(direct.client) {
            return direct;
        }
        let forwarded = Forwarded::read(&parts.headers, proxies);
        Self {
            client: forwarded.client.unwrap_or(direct.client),
            by_trusted_proxy: true,
            scheme: forwarded.scheme.unwrap_or(direct.scheme),
            host: forwarded.host.or(direct.host),
        }
    }

    /// The client's certificate. One that a trusted proxy has shown is the proxy's, and stands for none of its clients.
    pub fn certificate(&self, parts: &'a Parts) -> Option<&'a ClientCertificate> {
        let connection: &Connection = parts.extensions.get()?;
        connection.certificate.as_deref().filter(|_| !self.by_trusted_proxy)
    }
}

/// HTTP/2 has no Host header; what stands for it is in the URI. Two are as good as none (RFC 9112, section 3.2).
fn asked_host(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(HOST).iter();
    match values.next() {
        Some(value) => value.to_str().ok().filter(|_| values.next().is_none()),
        None => parts.uri.authority().map(|authority| authority.as_str()),
    }
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
    pub fn of(arrival: &Arrival<'_>) -> Option<Self> {
        let host = arrival.host.filter(|host| is_host(host))?;
        Some(Self { scheme: arrival.scheme, host: host.to_owned() })
    }
}

fn is_host(text: &str) -> bool {
    (1..=300).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const PEER: &str = "10.0.0.1:4711";

    /// A request from [`PEER`], over TLS.
    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(Connection { scheme: Scheme::Https, ..Connection::plain(PEER.parse().unwrap()) });
        parts
    }

    fn origin(uri: &str, headers: &[(&str, &str)]) -> Option<Origin> {
        Origin::of(&Arrival::of(&request(uri, headers), &Proxies::default()))
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
    fn finds_the_host_of_http_2() {
        let expected = Some(Origin { scheme: Scheme::Https, host: "r.example".to_owned() });
        assert_eq!(origin("https://r.example/v2/", &[]), expected);
        assert_eq!(origin("/v2/", &[]), None);
    }

    #[test]
    fn two_hosts_are_none() {
        assert_eq!(origin("/v2/", &[("host", "r.example"), ("host", "r.example")]), None);
    }

    const FORWARDED: [(&str, &str); 5] = [
        ("host", "r.example"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "other.example"),
        ("forwarded", "for=203.0.113.7;proto=http;host=other.example"),
    ];

    #[test]
    fn only_trusted_proxies_are_believed() {
        let parts = request("/v2/", &FORWARDED);
        let direct = Arrival {
            client: "10.0.0.1".parse().unwrap(),
            by_trusted_proxy: false,
            scheme: Scheme::Https,
            host: Some("r.example"),
        };
        let trusting = |range: &str| Proxies { trusted: vec![range.parse().unwrap()], ..Proxies::default() };
        assert_eq!(Arrival::of(&parts, &Proxies::default()), direct);
        assert_eq!(Arrival::of(&parts, &trusting("10.0.0.2/32")), direct);
        let forwarded = Arrival {
            client: "203.0.113.7".parse().unwrap(),
            by_trusted_proxy: true,
            scheme: Scheme::Http,
            host: Some("other.example"),
        };
        assert_eq!(Arrival::of(&parts, &trusting("10.0.0.0/24")), forwarded);
    }

    #[test]
    fn what_a_trusted_proxy_does_not_say_is_as_the_connection_shows() {
        let parts = request("/v2/", &[("host", "r.example"), ("x-forwarded-for", "nobody")]);
        let proxies = Proxies { trusted: vec!["10.0.0.1".parse().unwrap()], ..Proxies::default() };
        let expected = Arrival {
            client: "10.0.0.1".parse().unwrap(),
            by_trusted_proxy: true,
            scheme: Scheme::Https,
            host: Some("r.example"),
        };
        assert_eq!(Arrival::of(&parts, &proxies), expected);
    }

    #[test]
    fn a_dual_stack_socket_shows_the_same_client() {
        let mut parts = request("/v2/", &[]);
        let peer = "[::ffff:10.0.0.1]:4711".parse().unwrap();
        parts.extensions.insert(Connection::plain(peer));
        assert_eq!(Arrival::of(&parts, &Proxies::default()).client, "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
