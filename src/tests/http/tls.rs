//! The server over real connections: TLS, certificates that change, shutdown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast::config::{TlsSettings, TlsVersion};
use landfast::registry::http::{CertificateFiles, serve};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::harness::Registry;

/// Takes any certificate: what these tests look at is which one is shown.
#[derive(Debug)]
pub struct TakeAll;

impl ServerCertVerifier for TakeAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub fn write_certificate(folder: &Path, name: &str) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().to_vec()
}

pub fn files(folder: &Path) -> TlsSettings {
    TlsSettings {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
        minimum_version: TlsVersion::default(),
    }
}

struct Shown {
    certificate: Vec<u8>,
    protocol: Option<Vec<u8>>,
    response: String,
}

/// A connection on which the handshake is done.
pub async fn connect(
    address: std::net::SocketAddr,
    protocols: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakeAll))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("registry.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn ask(address: std::net::SocketAddr, protocols: &[&str]) -> std::io::Result<Shown> {
    let mut stream = connect(address, protocols, rustls::ALL_VERSIONS).await?;
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().unwrap()[0].to_vec();
    let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
    let mut response = Vec::new();
    if protocol.as_deref() != Some(b"h2") {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: registry.example\r\nConnection: close\r\n\r\n").await?;
        // Whether the end is announced properly is not what this is about.
        let _ = stream.read_to_end(&mut response).await;
    }
    Ok(Shown { certificate, protocol, response: String::from_utf8(response).unwrap() })
}

#[tokio::test]
async fn serves_tls_and_follows_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_certificate(folder.path(), "registry.example");
    let certificates = Arc::new(CertificateFiles::load(files(folder.path())).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let registry = Registry::new();
    let server = tokio::spawn(serve(
        listener,
        Some(Arc::clone(&certificates)),
        registry.router.clone(),
        registry.bounds.clone(),
        shutdown.clone(),
        Duration::from_secs(1),
    ));
    // A faster watch than the server's own.
    let stop = shutdown.clone();
    let watched = Arc::clone(&certificates);
    tokio::spawn(async move { watched.watch(Duration::from_millis(20), stop).await });

    let shown = ask(address, &["http/1.1"]).await.unwrap();
    assert_eq!(shown.certificate, first);
    let (_, parsed) = x509_parser::parse_x509_certificate(&first).unwrap();
    assert_eq!(certificates.not_after(), Some(parsed.validity().not_after.timestamp()));
    assert!(shown.response.starts_with("HTTP/1.1 401"), "{}", shown.response);
    assert!(shown.response.contains("realm=\"https://registry.example/token\""), "{}", shown.response);
    assert_eq!(ask(address, &["h2", "http/1.1"]).await.unwrap().protocol.as_deref(), Some(&b"h2"[..]));

    // A key that doesn't fit, as when only one of the files has been written yet.
    let key = std::fs::read(folder.path().join("tls.key")).unwrap();
    std::fs::write(folder.path().join("tls.key"), "nonsense").unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ask(address, &[]).await.unwrap().certificate, first);
    std::fs::write(folder.path().join("tls.key"), key).unwrap();

    let second = write_certificate(folder.path(), "registry.example");
    for _ in 0..100 {
        if ask(address, &[]).await.unwrap().certificate == second {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask(address, &[]).await.unwrap().certificate, second);

    // Plain HTTP on this port is cut off, and harms nobody.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    ask(address, &[]).await.unwrap();

    shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let load = async || CertificateFiles::load(files(folder.path())).await.unwrap_err().to_string();
    assert!(load().await.contains("tls.crt"));
    write_certificate(folder.path(), "registry.example");
    std::fs::write(folder.path().join("tls.crt"), "nonsense").unwrap();
    assert!(load().await.contains("no valid PEM certificate"));
    write_certificate(folder.path(), "registry.example");
    let certificate = std::fs::read(folder.path().join("tls.crt")).unwrap();
    write_certificate(folder.path(), "registry.example");
    std::fs::write(folder.path().join("tls.crt"), certificate).unwrap();
    assert!(load().await.contains("can't be used together"));
}

#[tokio::test]
async fn an_open_request_may_end_before_the_server_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let registry = Registry::new();
    let basic = registry.basic("dev");
    let digest = landfast::oci::Digest::sha256(b"content");
    let server = tokio::spawn(serve(
        listener,
        None,
        registry.router.clone(),
        registry.bounds.clone(),
        shutdown.clone(),
        Duration::from_secs(10),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v2/team/app/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic}\r\nContent-Length: 7\r\n\r\ncon"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let connections = |count: u8| {
        let text = registry.metrics.encode().unwrap();
        assert!(text.contains(&format!("landfast_http_connections {count}\n")), "{text}");
    };
    connections(1);
    shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(address).await.is_err(), "no new connections");
    stream.write_all(b"tent").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 201"), "{response}");
    server.await.unwrap().unwrap();
    connections(0);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_after_the_drain_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let registry = Registry::new();
    let server = tokio::spawn(serve(
        listener,
        None,
        registry.router.clone(),
        registry.bounds.clone(),
        shutdown.clone(),
        Duration::from_millis(100),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: 7\r\n\r\nx",
        registry.basic("dev")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
}
