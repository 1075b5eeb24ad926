//! The server on real sockets: clients that are slow, silent, greedy, or that try to be misunderstood.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use landfast::config::{TlsSettings, TlsVersion};
use landfast::oci::Digest;
use landfast::registry::http::{CertificateFiles, serve};
use rstest::rstest;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{HOST, OCI_INDEX, Registry};
use crate::tls;

/// Longer than any limit that is set here: only what hangs takes so long.
const HANGS: Duration = Duration::from_secs(8);

pub struct Server {
    pub registry: Registry,
    address: SocketAddr,
    _stop: DropGuard,
    _certificate: Option<tempfile::TempDir>,
}

impl Server {
    pub async fn plain(limits: &str) -> Self {
        Self::start(limits, None).await
    }

    async fn tls(limits: &str, minimum_version: TlsVersion) -> Self {
        Self::start(limits, Some(minimum_version)).await
    }

    async fn behind(proxy: &str, limits: &str) -> Self {
        Self::start_with(Registry::with_limits_behind(&[proxy], limits), None).await
    }

    async fn start(limits: &str, tls: Option<TlsVersion>) -> Self {
        Self::start_with(Registry::with_limits(limits), tls).await
    }

    async fn start_with(registry: Registry, tls: Option<TlsVersion>) -> Self {
        let (mut folder, mut certificates) = (None, None);
        if let Some(minimum_version) = tls {
            let made = folder.insert(tempfile::tempdir().unwrap());
            tls::write_certificate(made.path(), "registry.example");
            let files = TlsSettings { minimum_version, ..tls::files(made.path()) };
            certificates = Some(Arc::new(CertificateFiles::load(files).await.unwrap()));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (router, bounds) = (registry.router.clone(), registry.bounds.clone());
        let stop = shutdown.clone().drop_guard();
        tokio::spawn(serve(listener, certificates, router, bounds, shutdown, Duration::ZERO));
        Self { registry, address, _stop: stop, _certificate: folder }
    }

    /// What comes back for these bytes until the server closes the connection.
    pub async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(request.as_ref()).await;
        read_to_end(&mut stream).await
    }

    /// The same, over a connection from this address.
    async fn exchange_from(&self, address: &str, request: &str) -> String {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// The same, for bytes behind which the client sends the end of its side.
    pub async fn exchange_whole(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await
    }

    /// An HTTP/2 connection, with what drives it running.
    async fn http2(
        &self,
        window: u32,
    ) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
        let stream = tls::connect(self.address, &["h2"], &[&TLS13]).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (client, connection) = builder
            .initial_window_size(window)
            .initial_connection_window_size(1 << 20)
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        (client.ready().await.unwrap(), tokio::spawn(connection))
    }

    /// Waits until a request to this route has been recorded, which happens at its end.
    async fn until_recorded(&self, route: &str) {
        let line = format!("landfast_http_requests_total{{route=\"{route}\"");
        let recorded = async {
            while !self.registry.metrics.encode().unwrap().contains(&line) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(HANGS, recorded).await.expect("the request goes on for ever");
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    let read = tokio::time::timeout(HANGS, stream.read_to_end(&mut response)).await;
    // How it is closed is not the point.
    let _ = read.expect("the connection stays open");
    String::from_utf8(response).unwrap()
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut() {
    let server = Server::plain("idleSeconds: 1").await;
    // More than the kernel keeps for both sides.
    let digest = server.registry.push_blob("dev", "team/app", &vec![0; 32 << 20]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let basic = server.registry.basic("dev");
    let request = format!("GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {basic}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    server.until_recorded("blob").await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut() {
    let server = Server::plain("idleSeconds: 1").await;
    let content = vec![7; 16 << 20];
    let digest = server.registry.push_blob("dev", "team/app", &content).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let basic = server.registry.basic("dev");
    let request = format!(
        "GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {basic}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let mut piece = vec![0; 2 << 20];
    loop {
        // All together well over the limit.
        tokio::time::sleep(Duration::from_millis(200)).await;
        match stream.read(&mut piece).await.unwrap() {
            0 => break,
            length => response.extend_from_slice(&piece[..length]),
        }
    }
    assert!(response.ends_with(&content));
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_cut() {
    // Nobody reads as fast, so whoever is waited for at all is too slow.
    let server = Server::plain("idleSeconds: 1, minimumResponseBytesPerSecond: 1073741824").await;
    let content = vec![7; 64 << 20];
    let digest = server.registry.push_blob("dev", "team/app", &content).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let basic = server.registry.basic("dev");
    let request = format!(
        "GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {basic}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut received, mut piece) = (0, vec![0; 2 << 20]);
    let read = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(length) => received += length,
            }
        }
    };
    read.await;
    assert!(received < content.len(), "it got all of it");
}

/// A request for a blob.
fn blob_request(server: &Server, digest: &Digest) -> http::Request<()> {
    let request = http::Request::get(format!("https://{HOST}/v2/team/app/blobs/{digest}"));
    request.header("authorization", server.registry.basic("dev")).body(()).unwrap()
}

/// Makes cheap requests, and takes their answers, until the connection is gone. How many.
async fn keep_busy(mut client: h2::client::SendRequest<Bytes>) -> usize {
    for count in 0.. {
        let request = http::Request::get(format!("https://{HOST}/v2/")).body(()).unwrap();
        let Ok((response, _)) = client.send_request(request, true) else { return count };
        let Ok(response) = response.await else { return count };
        let mut body = response.into_body();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Ok(ready) = client.ready().await else { return count };
        client = ready;
    }
    unreachable!("it is counted without end")
}

/// Reads a body, and opens the window again for so many bytes of what has come in each tenth of a second.
async fn trickle(mut body: h2::RecvStream, bytes: usize) -> Result<usize, h2::Error> {
    let mut received = 0;
    let mut held = 0;
    loop {
        match tokio::time::timeout(Duration::from_millis(100), body.data()).await {
            Ok(None) => return Ok(received),
            Ok(Some(Err(error))) => return Err(error),
            Ok(Some(Ok(data))) => (received, held) = (received + data.len(), held + data.len()),
            Err(_) => {
                let release = held.min(bytes);
                held -= release;
                let _ = body.flow_control().release_capacity(release);
            }
        }
    }
}

#[rstest]
#[case::takes_nothing("idleSeconds: 1, headSeconds: 60", 0)]
#[case::takes_too_little("idleSeconds: 1, headSeconds: 60, minimumResponseBytesPerSecond: 100000", 100)]
#[tokio::test]
async fn an_http2_request_whose_response_is_not_taken_is_reset(#[case] limits: &str, #[case] bytes: usize) {
    let server = Server::tls(limits, TlsVersion::Tls12).await;
    let digest = server.registry.push_blob("dev", "team/app", &vec![0; 4 << 20]).await;
    let (mut client, connection) = server.http2(1000).await;
    let response = client.send_request(blob_request(&server, &digest), true).unwrap().0.await.unwrap();
    assert_eq!(response.status(), 200);
    let busy = tokio::spawn(keep_busy(client.clone()));
    let read = tokio::time::timeout(HANGS, trickle(response.into_body(), bytes)).await.expect("it goes on for ever");
    assert_eq!(read.unwrap_err().reason(), Some(h2::Reason::CANCEL));
    server.until_recorded("blob").await;
    // The others on the connection are not concerned.
    let request = http::Request::get(format!("https://{HOST}/v2/")).body(()).unwrap();
    assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), 401);
    assert!(!busy.is_finished() && !connection.is_finished());
}

#[tokio::test]
async fn an_http2_client_may_take_its_time() {
    let server = Server::tls("idleSeconds: 1, minimumResponseBytesPerSecond: 0", TlsVersion::Tls12).await;
    let content = 40_000;
    let digest = server.registry.push_blob("dev", "team/app", &vec![0; content]).await;
    let (mut client, _connection) = server.http2(1000).await;
    let response = client.send_request(blob_request(&server, &digest), true).unwrap().0.await.unwrap();
    assert_eq!(trickle(response.into_body(), 1000).await.unwrap(), content);
}

#[tokio::test]
async fn an_http2_connection_on_which_a_small_response_is_not_taken_is_closed() {
    let server = Server::tls("idleSeconds: 1, headSeconds: 60", TlsVersion::Tls12).await;
    let manifest = format!("{{\"schemaVersion\": 2, \"manifests\": [] {}}}", " ".repeat(4000));
    server.registry.put_manifest("dev", "team/app", "v1", OCI_INDEX, manifest.as_bytes()).await.expect(201);
    let (mut client, connection) = server.http2(1000).await;
    let request = http::Request::get(format!("https://{HOST}/v2/team/app/manifests/v1"));
    let request = request.header("authorization", server.registry.basic("dev")).body(()).unwrap();
    let response = client.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(response.status(), 200);
    let busy = tokio::spawn(keep_busy(client));
    let _ = tokio::time::timeout(HANGS, connection).await.expect("the connection stays open");
    assert!(busy.await.unwrap() > 0);
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed() {
    let server = Server::tls("headSeconds: 1", TlsVersion::Tls12).await;
    let (mut client, connection) = server.http2(65_535).await;
    let request = http::Request::get(format!("https://{HOST}/v2/")).body(()).unwrap();
    assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), 401);
    // By a GOAWAY, which is no error.
    tokio::time::timeout(HANGS, connection).await.expect("the connection stays open").unwrap().unwrap();
}

/// A frame of HTTP/2 (RFC 9113, section 4.1) on stream 0 or 1.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

/// A field whose name has this index in the static table, as HPACK writes it (RFC 7541, section 6.2.2).
fn field(index: u8, value: &str) -> Vec<u8> {
    let mut field = if index < 15 { vec![index] } else { vec![15, index - 15] };
    // What doesn't fit into seven bits goes on in the next bytes, seven bits in each (section 5.1).
    match value.len().checked_sub(127) {
        None => field.push(value.len() as u8),
        Some(rest) => field.extend([127, (rest % 128) as u8 | 128, (rest / 128) as u8]),
    }
    field.extend(value.bytes());
    field
}

/// Reads frames until one of this kind.
async fn until_frame(stream: &mut (impl tokio::io::AsyncRead + Unpin), kind: u8) -> std::io::Result<()> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap()]).await?;
        if head[3] == kind {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn an_http2_request_that_comes_as_its_connection_is_closed_may_take_its_time() {
    let [data, headers, settings, goaway] = [0, 1, 4, 7];
    let server = Server::tls("headSeconds: 1, idleSeconds: 1, minimumBytesPerSecond: 0", TlsVersion::Tls12).await;
    let mut stream = tls::connect(server.address, &["h2"], &[&TLS13]).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(settings, 0, 0, &[])).await.unwrap();
    tokio::time::timeout(HANGS, until_frame(&mut stream, goaway)).await.expect("the connection stays open").unwrap();

    // As if it had been on its way by then.
    let content = [7; 12];
    let digest = Digest::sha256(&content);
    let token = server.registry.basic("dev");
    let (post, https) = (0x83, 0x87);
    let mut head = vec![post, https];
    head.extend(field(4, &format!("/v2/team/app/blobs/uploads/?digest={digest}")));
    head.extend(field(1, HOST));
    head.extend(field(23, &token));
    stream.write_all(&frame(headers, 4, 1, &head)).await.unwrap();
    for (position, byte) in content.iter().enumerate() {
        // All together well over each limit, but never silent for so long.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let is_last = position + 1 == content.len();
        stream.write_all(&frame(data, is_last.into(), 1, &[*byte])).await.unwrap();
    }
    tokio::time::timeout(HANGS, until_frame(&mut stream, headers)).await.expect("no answer").unwrap();
    let blob = server.registry.by("dev", "HEAD", &format!("/v2/team/app/blobs/{digest}"));
    blob.send().await.expect(200);
}

#[tokio::test]
async fn http2_clients_are_told_how_many_requests_they_may_have() {
    let server = Server::tls("streams: 3", TlsVersion::Tls12).await;
    let (mut client, _connection) = server.http2(65_535).await;
    // What the server has set is known once it has answered.
    let request = http::Request::get(format!("https://{HOST}/v2/")).body(()).unwrap();
    client.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(client.current_max_send_streams(), 3);
}

#[rstest]
#[case::silent("")]
#[case::half_a_head("GET /v2/ HTTP/1.1\r\nHost: ")]
#[case::kept("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")]
#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed(#[case] request: &str) {
    let server = Server::plain("headSeconds: 1").await;
    let response = server.exchange(request).await;
    assert_eq!(response.starts_with("HTTP/1.1 401"), request.ends_with("\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn a_handshake_has_an_end() {
    let server = Server::tls("handshakeSeconds: 1", TlsVersion::Tls12).await;
    assert_eq!(server.exchange("").await, "");
}

#[tokio::test]
async fn more_connections_wait_for_their_turn() {
    let server = Server::plain("connections: 1").await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(request.as_bytes()).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), second.read_u8()).await;
    assert!(waiting.is_err(), "served beside the first");
    drop(first);
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn one_client_leaves_connections_to_others() {
    let server = Server::plain("connections: 8, clientShare: 25").await;
    let request = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let kept = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(kept.as_bytes()).await.unwrap();
        // It is counted once it is served.
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        first.push(stream);
    }
    assert_eq!(server.exchange(request).await, "");
    assert!(server.registry.metrics.encode().unwrap().contains("landfast_http_connections_refused_total 1\n"));
    assert!(server.exchange_from("127.0.0.2", request).await.starts_with("HTTP/1.1 401"));
    drop(first);
    let served = async { while server.exchange(request).await.is_empty() {} };
    tokio::time::timeout(HANGS, served).await.expect("what was closed is still counted");
}

#[tokio::test]
async fn the_connections_of_a_trusted_proxy_are_not_counted() {
    let server = Server::behind("127.0.0.1", "connections: 8, clientShare: 1").await;
    let request = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let _first = TcpStream::connect(server.address).await.unwrap();
    assert!(server.exchange(request).await.starts_with("HTTP/1.1 401"));
}

#[rstest]
#[case::one_large_header(format!("X: {}\r\n", "x".repeat(9000)))]
#[case::without_end("x".repeat(9000))]
#[case::many_headers("X: y\r\n".repeat(101))]
#[tokio::test]
async fn a_head_that_is_too_large_is_refused(#[case] headers: String) {
    let server = Server::plain("headBytes: 8192").await;
    let response = server.exchange(&format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await;
    assert!(response.starts_with("HTTP/1.1 431"), "{response}");
}

#[tokio::test]
async fn an_http2_head_that_is_too_large_is_refused() {
    let server = Server::tls("headBytes: 8192", TlsVersion::Tls12).await;
    let (mut client, _connection) = server.http2(65_535).await;
    let request = http::Request::get(format!("https://{HOST}/v2/")).header("x", "x".repeat(9000)).body(()).unwrap();
    assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), 431);
}

#[tokio::test]
async fn old_versions_of_tls_can_be_refused() {
    let server = Server::tls("", TlsVersion::Tls13).await;
    tls::connect(server.address, &[], &[&TLS13]).await.unwrap();
    tls::connect(server.address, &[], &[&TLS12]).await.unwrap_err();
    let server = Server::tls("", TlsVersion::Tls12).await;
    tls::connect(server.address, &[], &[&TLS12]).await.unwrap();
}

/// A proxy in front may understand these otherwise. What it then takes for a part of the body must not be a request.
#[rstest]
#[case::length_and_chunked("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 401")]
#[case::chunked_and_length("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "HTTP/1.1 401")]
#[case::two_lengths("Content-Length: 0\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 400")]
#[case::list_of_lengths("Content-Length: 0, 5\r\n\r\n", "HTTP/1.1 400")]
#[case::signed_length("Content-Length: +0\r\n\r\n", "HTTP/1.1 400")]
#[case::last_is_not_chunked("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "HTTP/1.1 400")]
#[case::unknown_coding("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400")]
#[case::folded_header("X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 400")]
#[case::blank_before_colon("Content-Length : 0\r\n\r\n", "HTTP/1.1 400")]
#[case::nul("X: a\0b\r\n\r\n", "HTTP/1.1 400")]
#[case::carriage_return("X: a\rContent-Length: 5\r\n\r\n", "HTTP/1.1 400")]
#[case::chunk_size_without_end(&format!("Transfer-Encoding: chunked\r\n\r\n{}", "0".repeat(100_000)), "HTTP/1.1 401")]
#[case::long_chunk_extension(&format!("Transfer-Encoding: chunked\r\n\r\n1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(100_000)), "HTTP/1.1 401")]
#[case::chunk_size_overflow("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "HTTP/1.1 401")]
#[case::chunk_without_size("Transfer-Encoding: chunked\r\n\r\n;x\r\n", "HTTP/1.1 401")]
#[tokio::test]
async fn a_request_with_two_meanings_ends_the_connection(#[case] rest: &str, #[case] answer: &str) {
    let server = Server::plain("").await;
    let smuggled = "GET /v2/team/app/tags/list HTTP/1.1\r\nHost: x\r\n\r\n";
    let response = server.exchange(&format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{rest}{smuggled}")).await;
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{response}");
    assert!(response.starts_with(answer), "{response}");
    assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
}

/// RFC 9112, section 2.2, lets a line end in LF alone. Then it does so everywhere, and means one thing.
#[tokio::test]
async fn a_line_may_end_in_lf_alone() {
    let server = Server::plain("").await;
    let response = server.exchange("GET /v2/ HTTP/1.1\nHost: x\nConnection: close\n\n").await;
    assert!(response.starts_with("HTTP/1.1 401"), "{response}");
    assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
}
