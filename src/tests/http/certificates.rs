//! Client certificates over real TLS: who gets in by one, who doesn't and why, and how a login by one ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::jiff::Timestamp;
use landfast::policy::{ClientCertificates, Grant, Group, Provider, Providers, Role, Scope, Snapshot, User};
use landfast::registry::http::{CertificateFiles, serve};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rstest::rstest;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::audit::{Line, Lines};
use crate::harness::{NOW, Registry, snapshot};
use crate::tls::{self, TakeAll};

const DAY: i64 = 86_400;
const MANIFEST: &str = "/v2/team/app/manifests/v1";
const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

/// Somebody who signs client certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = params(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages.clear();
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, params: CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Shown { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    fn sign_for(&self, name: &str) -> Shown {
        self.sign(params(&[(DnType::CommonName, name)]))
    }
}

/// A certificate for clients, valid for some days around now.
fn params(subject: &[(DnType, &str)]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    valid(params, -DAY, 10 * DAY)
}

/// From and until so many seconds after now.
fn valid(mut params: CertificateParams, from: i64, until: i64) -> CertificateParams {
    let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((NOW + seconds) as u64);
    (params.not_before, params.not_after) = (at(from), at(until));
    params
}

/// What a client shows.
#[derive(Clone)]
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// A registry behind TLS, to whose `team` the user `alice` and the group `builders` of certificates belong.
struct Server {
    registry: Registry,
    address: SocketAddr,
    _stop: DropGuard,
    _folder: tempfile::TempDir,
}

fn policy(authority: Option<&str>) -> Snapshot {
    let mut snapshot = snapshot();
    let grant = |role| vec![Grant::new(Scope::Project("team".to_owned()), role)];
    snapshot.users.insert("certificate:alice".parse::<User>().unwrap(), grant(Role::Developer));
    for other in ["htpasswd:alice", "kubernetes:system:serviceaccount:team:ci"] {
        snapshot.users.insert(other.parse().unwrap(), grant(Role::Admin));
    }
    snapshot.groups.insert(Group::of(Provider::Certificate, "builders").unwrap(), grant(Role::Guest));
    let certificates = authority.map(|pem| ClientCertificates { certificate_authority: pem.to_owned() });
    snapshot.registry.providers = Providers::new(vec![], None, certificates);
    snapshot
}

impl Server {
    async fn trusting(authority: &Authority) -> Self {
        Self::start(Registry::new(), Some(&authority.pem)).await
    }

    async fn start(registry: Registry, authority: Option<&str>) -> Self {
        registry.publish(policy(authority));
        registry.push_image("dev", "team/app", "v1", b"layer").await;
        let folder = tempfile::tempdir().unwrap();
        tls::write_certificate(folder.path(), "registry.example");
        let files = Arc::new(CertificateFiles::load(tls::files(folder.path())).await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let stop = shutdown.clone().drop_guard();
        let (router, bounds) = (registry.router.clone(), registry.bounds.clone());
        tokio::spawn(serve(listener, Some(files), router, bounds, shutdown, Duration::ZERO));
        Self { registry, address, _stop: stop, _folder: folder }
    }

    async fn connect(&self, client: &Client) -> Connected {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("registry.example").unwrap();
        let stream = TlsConnector::from(Arc::clone(&client.config)).connect(name, stream).await.unwrap();
        let session = stream.get_ref().1;
        let kind = session.handshake_kind().unwrap();
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let sender = if is_http2 {
            let (sender, driving) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            Sender::Http2(sender, tokio::spawn(async move { drop(driving.await) }))
        } else {
            let (sender, driving) = hyper::client::conn::http1::handshake(io).await.unwrap();
            Sender::Http1(sender, tokio::spawn(async move { drop(driving.await) }))
        };
        Connected { sender, kind }
    }

    /// One request on a connection of its own.
    async fn ask(&self, shown: Option<&Shown>, method: &str, target: &str) -> Answer {
        self.connect(&Client::new(shown)).await.ask(method, target, None).await
    }
}

/// A client's side of TLS, with the sessions that it can resume.
struct Client {
    config: Arc<ClientConfig>,
    /// Whether it was asked for a certificate, each time.
    asked: Arc<Mutex<Vec<bool>>>,
}

impl Client {
    fn new(shown: Option<&Shown>) -> Self {
        Self::speaking(shown, "http/1.1", &TLS13)
    }

    fn speaking(shown: Option<&Shown>, protocol: &str, version: &'static SupportedProtocolVersion) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let key = shown.map(|shown| {
            let key = PrivateKeyDer::try_from(shown.key.clone()).unwrap();
            let provider = default_provider();
            let key = provider.key_provider.load_private_key(key).unwrap();
            Arc::new(rustls::sign::CertifiedKey::new(shown.chain.clone(), key))
        });
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakeAll))
            .with_client_cert_resolver(Arc::new(Shows { key, asked: Arc::clone(&asked) }));
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Self { config: Arc::new(config), asked }
    }
}

/// Shows a certificate whoever is asked for.
#[derive(Debug)]
struct Shows {
    key: Option<Arc<rustls::sign::CertifiedKey>>,
    asked: Arc<Mutex<Vec<bool>>>,
}

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, hints: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.asked.lock().unwrap().push(!hints.is_empty());
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>),
}

struct Connected {
    sender: Sender,
    kind: HandshakeKind,
}

struct Answer {
    status: u16,
    challenge: String,
    closes: bool,
    body: serde_json::Value,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["errors"][0]["message"].as_str().unwrap_or_default()
    }
}

impl Connected {
    async fn ask(&mut self, method: &str, target: &str, authorization: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method);
        request = match &self.sender {
            Sender::Http1(..) => request.uri(target).header("host", "registry.example"),
            Sender::Http2(..) => request.uri(format!("https://registry.example{target}")),
        };
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::default()).unwrap();
        let response = match &mut self.sender {
            Sender::Http1(sender, _) => sender.send_request(request).await,
            Sender::Http2(sender, _) => sender.send_request(request).await,
        };
        let (parts, body) = Response::into_parts(response.unwrap());
        let header = |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            challenge: header("www-authenticate"),
            closes: header("connection") == "close",
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    /// Waits until the server has closed the connection.
    async fn closed(self) {
        let (Sender::Http1(_, driving) | Sender::Http2(_, driving)) = self.sender;
        tokio::time::timeout(Duration::from_secs(10), driving).await.expect("the connection ends").unwrap();
    }
}

#[rstest]
#[case::http1("http/1.1", &TLS13)]
#[case::http2("h2", &TLS13)]
#[case::old_http1("http/1.1", &TLS12)]
#[case::old_http2("h2", &TLS12)]
#[tokio::test]
async fn a_certificate_is_a_login(#[case] protocol: &str, #[case] version: &'static SupportedProtocolVersion) {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let client = Client::speaking(Some(&authority.sign_for("alice")), protocol, version);
    let mut alice = server.connect(&client).await;
    assert_eq!(alice.ask("GET", "/v2/", None).await.status, 200);
    assert_eq!(alice.ask("GET", MANIFEST, None).await.status, 200);
    assert_eq!(alice.ask("POST", UPLOADS, None).await.status, 202);
    assert_eq!(alice.ask("GET", "/v2/_catalog", None).await.body["repositories"][0], "team/app");
    assert_eq!(
        alice.ask("GET", "/v2/base/app/tags/list", None).await.message(),
        "certificate:alice may not pull base/app"
    );

    let token = alice.ask("GET", "/token?scope=repository:team/app:pull,push", None).await;
    assert_eq!((token.status, &token.body["scope"]), (200, &"repository:team/app:pull,push".into()));
    assert_eq!(token.body["refresh_token"], serde_json::Value::Null);
    let bearer = format!("Bearer {}", token.body["token"].as_str().unwrap());
    assert_eq!(alice.ask("POST", UPLOADS, Some(&bearer)).await.status, 202);
    // The token works without the certificate too, as long as the authority is trusted.
    let mut nobody = server.connect(&Client::new(None)).await;
    assert_eq!(nobody.ask("POST", UPLOADS, Some(&bearer)).await.status, 202);
    assert_eq!(nobody.ask("POST", UPLOADS, None).await.status, 401);
    server.registry.publish(policy(Some(&Authority::new("others").pem)));
    assert_eq!(nobody.ask("POST", UPLOADS, Some(&bearer)).await.status, 401);
}

#[tokio::test]
async fn a_group_is_an_organization() {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let of = |organizations: &[&str]| {
        let mut subject = vec![(DnType::CommonName, "bob")];
        subject.extend(organizations.iter().map(|name| (DnType::OrganizationName, *name)));
        authority.sign(params(&subject))
    };
    assert_eq!(server.ask(Some(&of(&["builders"])), "GET", MANIFEST).await.status, 200);
    assert_eq!(server.ask(Some(&of(&["builders"])), "POST", UPLOADS).await.status, 403);
    assert_eq!(server.ask(Some(&of(&["testers"])), "GET", MANIFEST).await.status, 403);
    assert_eq!(server.ask(Some(&of(&[])), "GET", MANIFEST).await.status, 403);
}

/// What a certificate says makes nobody a user of another provider.
#[rstest]
#[case("htpasswd:alice")]
#[case("kubernetes:system:serviceaccount:team:ci")]
#[case("certificate:alice")]
#[case("robot/ns/dev")]
#[tokio::test]
async fn a_name_is_one_of_certificates_whatever_it_looks_like(#[case] name: &str) {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let answer = server.ask(Some(&authority.sign_for(name)), "GET", MANIFEST).await;
    assert_eq!((answer.status, answer.message()), (403, &*format!("certificate:{name} may not pull team/app")));
}

/// Two values of one kind, of which `rcgen` takes one.
fn with_two_names(authority: &Authority) -> Shown {
    let second = DnType::CustomDnType(vec![2, 5, 4, 3]);
    authority.sign(params(&[(DnType::CommonName, "alice"), (second, "bob")]))
}

fn with_usages(usages: Vec<ExtendedKeyUsagePurpose>) -> CertificateParams {
    let mut params = params(&[(DnType::CommonName, "alice")]);
    params.extended_key_usages = usages;
    params
}

#[tokio::test]
async fn a_certificate_that_stands_for_nobody_is_refused_with_the_reason() {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let alice = || params(&[(DnType::CommonName, "alice")]);
    // Called like the one that is trusted, with another key.
    let wrong = Authority::new("clients");
    let rows = [
        ("wrong authority", wrong.sign_for("alice"), "not signed by an authority"),
        ("expired", authority.sign(valid(alice(), -2 * DAY, -1)), "has expired"),
        ("not yet valid", authority.sign(valid(alice(), 1, DAY)), "not valid yet"),
        ("for servers", authority.sign(with_usages(vec![ExtendedKeyUsagePurpose::ServerAuth])), "extended key usage"),
        ("for anything", authority.sign(with_usages(vec![ExtendedKeyUsagePurpose::Any])), "extended key usage"),
        ("for nothing in particular", authority.sign(with_usages(vec![])), "extended key usage"),
        ("no name", authority.sign(params(&[(DnType::OrganizationName, "builders")])), "0 common names"),
        ("two names", with_two_names(&authority), "2 common names"),
        ("empty name", authority.sign(params(&[(DnType::CommonName, "")])), "can't be a name"),
        ("line break", authority.sign(params(&[(DnType::CommonName, "a\nb")])), "can't be a name"),
        (
            "organization that is no name",
            authority.sign(params(&[(DnType::CommonName, "alice"), (DnType::OrganizationName, " builders")])),
            "can't be a name",
        ),
    ];
    for (name, shown, reason) in rows {
        for target in ["/v2/", MANIFEST, "/v2/public/app/tags/list", "/token"] {
            let mut connection = server.connect(&Client::new(Some(&shown))).await;
            let answer = connection.ask("GET", target, None).await;
            assert!(
                answer.message().starts_with("the client certificate is refused: "),
                "{name}: {}",
                answer.message()
            );
            assert!(answer.message().contains(reason), "{name}: {}", answer.message());
            assert_eq!((answer.status, answer.closes), (401, true), "{name}");
            assert!(!answer.challenge.is_empty(), "{name}");
            connection.closed().await;
        }
        // Who shows something else is who that says.
        let mut connection = server.connect(&Client::new(Some(&shown))).await;
        assert_eq!(connection.ask("POST", UPLOADS, Some(&server.registry.basic("dev"))).await.status, 202, "{name}");
    }
    assert!(server.registry.count("authentication_failures", "certificate") >= 44);
}

/// Intermediates come with the certificate, and are no authorities of their own.
#[tokio::test]
async fn an_intermediate_authority_signs_for_the_one_that_is_trusted() {
    let authority = Authority::new("clients");
    let mut middle = params(&[(DnType::CommonName, "middle")]);
    middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    middle.extended_key_usages.clear();
    let key = KeyPair::generate().unwrap();
    let certificate = middle.signed_by(&key, &authority.issuer).unwrap();
    let issuer = Issuer::new(middle, key);
    let own = KeyPair::generate().unwrap();
    let alice = params(&[(DnType::CommonName, "alice")]).signed_by(&own, &issuer).unwrap();
    let whole = Shown { chain: vec![alice.der().clone(), certificate.der().clone()], key: own.serialize_der() };
    let server = Server::trusting(&authority).await;
    assert_eq!(server.ask(Some(&whole), "GET", MANIFEST).await.status, 200);
    let alone = Shown { chain: vec![alice.der().clone()], ..whole };
    assert_eq!(server.ask(Some(&alone), "GET", MANIFEST).await.status, 401);
}

/// Each connection keeps its chain, and there are many connections.
#[tokio::test]
async fn a_chain_that_is_too_long_gets_no_connection() {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let mut shown = authority.sign_for("alice");
    shown.chain = std::iter::repeat_n(shown.chain[0].clone(), 60).collect();
    assert!(refused_in_handshake(&server, &shown).await);
}

/// All of them called the same and signed by one another's name: every order of them might be a path.
#[tokio::test]
async fn a_chain_with_many_intermediates_gets_no_connection() {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let middles: Vec<_> = (0..5).map(|_| Authority::new("x")).collect();
    let certificate = |middle: &Authority| CertificateDer::from_pem_slice(middle.pem.as_bytes()).unwrap();
    let mut shown = Authority::new("x").sign_for("alice");
    shown.chain.extend(middles[..4].iter().map(certificate));
    let answer = server.ask(Some(&shown), "GET", MANIFEST).await;
    assert!(answer.message().contains("not signed by an authority"), "{}", answer.message());
    shown.chain.push(certificate(&middles[4]));
    assert!(refused_in_handshake(&server, &shown).await);
}

async fn refused_in_handshake(server: &Server, shown: &Shown) -> bool {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("registry.example").unwrap();
    let connected = TlsConnector::from(Client::new(Some(shown)).config).connect(name, stream).await;
    // A client may take its side of the handshake for done before it hears of the other's.
    let mut answer = Vec::new();
    let read = match connected {
        Ok(mut stream) => {
            let _ = stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            stream.read_to_end(&mut answer).await.map(drop)
        }
        Err(error) => Err(error),
    };
    answer.is_empty() && read.is_err_and(|error| error.to_string().contains("alert"))
}

#[rstest]
#[case::http1("http/1.1")]
#[case::http2("h2")]
#[tokio::test]
async fn another_credential_on_the_request_counts_alone(#[case] protocol: &str) {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let client = Client::speaking(Some(&authority.sign_for("alice")), protocol, &TLS13);
    let mut alice = server.connect(&client).await;
    let guest = server.registry.basic("guest");
    let denied = alice.ask("POST", UPLOADS, Some(&guest)).await;
    assert_eq!((denied.status, denied.message()), (403, "robot/ns/guest may not push team/app"));
    assert_eq!(alice.ask("POST", UPLOADS, Some("Basic YWxpY2U6d3Jvbmc=")).await.status, 401);
    assert_eq!(alice.ask("POST", UPLOADS, Some("Bearer nonsense")).await.status, 401);
    assert_eq!(alice.ask("POST", UPLOADS, Some("Nonsense")).await.status, 401);
    assert_eq!(alice.ask("POST", UPLOADS, None).await.status, 202, "and the connection is still hers");
}

#[tokio::test]
async fn clients_are_asked_only_where_the_policy_names_authorities() {
    let authority = Authority::new("clients");
    let server = Server::start(Registry::new(), None).await;
    let client = Client::new(Some(&authority.sign_for("alice")));
    assert_eq!(server.connect(&client).await.ask("GET", "/v2/", None).await.status, 401);
    assert_eq!(client.asked.lock().unwrap().len(), 0);
    server.registry.publish(policy(Some(&authority.pem)));
    // A client may resume a session in which nothing was asked.
    let client = Client::new(Some(&authority.sign_for("alice")));
    assert_eq!(server.connect(&client).await.ask("GET", "/v2/", None).await.status, 200);
    assert_eq!(*client.asked.lock().unwrap(), [true]);
    server.registry.publish(policy(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")));
    assert_eq!(server.connect(&client).await.ask("GET", "/v2/", None).await.status, 401);
    assert_eq!(*client.asked.lock().unwrap(), [true], "nobody's certificate would do");
}

#[rstest]
#[case::http1("http/1.1", &TLS13)]
#[case::http2("h2", &TLS13)]
#[case::old("http/1.1", &TLS12)]
#[tokio::test]
async fn a_login_ends_with_the_authority(#[case] protocol: &str, #[case] version: &'static SupportedProtocolVersion) {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let server = Server::trusting(&first).await;
    let client = Client::speaking(Some(&first.sign_for("alice")), protocol, version);
    let mut kept = server.connect(&client).await;
    assert_eq!(kept.ask("GET", MANIFEST, None).await.status, 200);
    let mut resumed = server.connect(&client).await;
    assert_eq!((resumed.kind, resumed.ask("GET", MANIFEST, None).await.status), (HandshakeKind::Resumed, 200));

    // The second one is added, and then the first one is gone.
    server.registry.publish(policy(Some(&format!("{}{}", first.pem, second.pem))));
    assert_eq!(kept.ask("GET", MANIFEST, None).await.status, 200);
    server.registry.publish(policy(Some(&second.pem)));
    let refused = kept.ask("GET", MANIFEST, None).await;
    assert_eq!((refused.status, refused.closes), (401, protocol != "h2"), "{}", refused.message());
    kept.closed().await;
    let mut anew = server.connect(&client).await;
    assert_eq!((anew.kind, anew.ask("GET", MANIFEST, None).await.status), (HandshakeKind::Full, 401));
    assert_eq!(server.ask(Some(&second.sign_for("alice")), "GET", MANIFEST).await.status, 200);

    server.registry.publish(policy(None));
    let refused = resumed.ask("GET", MANIFEST, None).await;
    assert!(refused.message().contains("takes none at present"), "{}", refused.message());
    resumed.closed().await;
}

#[tokio::test]
async fn a_login_ends_with_the_certificate() {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let client = Client::new(Some(&authority.sign(valid(params(&[(DnType::CommonName, "alice")]), -DAY, 40))));
    let mut kept = server.connect(&client).await;
    assert_eq!(kept.ask("GET", MANIFEST, None).await.status, 200);
    let token = kept.ask("GET", "/token?scope=repository:team/app:pull", None).await;
    assert_eq!(token.body["expires_in"], 40);
    server.registry.pass_time(40);
    assert_eq!(kept.ask("GET", MANIFEST, None).await.status, 200, "its last second");
    server.registry.pass_time(1);
    let refused = kept.ask("GET", MANIFEST, None).await;
    assert_eq!((refused.status, refused.closes), (401, true));
    assert!(refused.message().contains("has expired"), "{}", refused.message());
    kept.closed().await;
    let mut resumed = server.connect(&client).await;
    assert_eq!((resumed.kind, resumed.ask("GET", MANIFEST, None).await.status), (HandshakeKind::Resumed, 401));
    let bearer = format!("Bearer {}", token.body["token"].as_str().unwrap());
    let mut nobody = server.connect(&Client::new(None)).await;
    assert_eq!(nobody.ask("GET", MANIFEST, Some(&bearer)).await.status, 401);
}

/// What a proxy shows is who the proxy is. It must not lend that to its clients.
#[tokio::test]
async fn the_certificate_of_a_trusted_proxy_is_nobodys() {
    let authority = Authority::new("clients");
    let server = Server::start(Registry::behind(&["127.0.0.1"]), Some(&authority.pem)).await;
    let answer = server.ask(Some(&authority.sign_for("alice")), "GET", MANIFEST).await;
    assert_eq!((answer.status, answer.message()), (401, "log in first"));
}

#[tokio::test]
async fn audits_name_whom_a_certificate_stands_for() {
    let authority = Authority::new("clients");
    let server = Server::trusting(&authority).await;
    let lines = Lines::of("audit");
    let of = |line: &Line, fields: &[&'static str]| -> Vec<String> {
        fields.iter().map(|field| line.get(field).cloned().unwrap_or_default()).collect()
    };
    let alice = authority.sign_for("alice");
    assert_eq!(server.ask(Some(&alice), "GET", "/token?scope=repository:team/app:pull").await.status, 200);
    let done: Vec<_> = lines.take().iter().map(|line| of(line, &["event", "result", "identity"])).collect();
    assert_eq!(done, [["login", "done", "certificate:alice"], ["token", "done", "certificate:alice"]]);
    assert_eq!(server.ask(Some(&alice), "GET", "/v2/base/app/tags/list").await.status, 403);
    let denied: Vec<_> = lines.take().iter().map(|line| of(line, &["event", "result", "identity"])).collect();
    assert_eq!(denied, [["denied", "refused", "certificate:alice"]]);

    // What it calls itself is no identity.
    let wrong = Authority::new("others").sign_for("alice");
    assert_eq!(server.ask(Some(&wrong), "GET", MANIFEST).await.status, 401);
    let refused: Vec<_> = lines.take().iter().map(|line| of(line, &["event", "result", "identity", "user"])).collect();
    assert_eq!(refused, [["login", "refused", "-", "alice"]]);
}

#[test]
fn the_harness_makes_certificates_for_its_own_time() {
    let shown = Authority::new("clients").sign_for("alice");
    let (_, parsed) = x509_parser::parse_x509_certificate(&shown.chain[0]).unwrap();
    let now = Timestamp::from_second(NOW).unwrap().as_second();
    assert!((parsed.validity().not_before.timestamp()..parsed.validity().not_after.timestamp()).contains(&now));
}
