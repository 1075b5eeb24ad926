//! The accept loop: connections, plain or TLS, until the process is asked to stop.
//!
//! # Guarantees
//! - Each step of a connection that waits for the client has an end: handshake, request head, pause in a body.
//! - There are at most [`MAX_CONNECTIONS`]; more wait in the kernel's queue.
//! - No error of one connection, and no panic in it, touches another.
//! - After the shutdown no connection is accepted, open requests may go on for the drain time, then they are cut.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::{CertificateFiles, Connection, HttpMetrics, Scheme, TlsError};

/// Connections at the same time. Each one takes a descriptor, and more while it reads or writes content.
pub const MAX_CONNECTIONS: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Also the time after which a kept connection that asks for nothing is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// After an error of `accept` that concerns the process and not the connection, such as too few descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes that one HTTP/2 request, and one connection, may have on the way: enough for a fast line with some delay.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const MAX_STREAMS: u32 = 128;
/// Room for the longest token and some more.
const MAX_HEAD: usize = 64 * 1024;

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the listening socket can't be used: {0}")]
    Listener(#[source] io::Error),
}

/// Serves until `shutdown`, then lets open requests go on for `drain`.
///
/// The certificate is followed while the server runs. A client that speaks plain HTTP to a TLS server is cut off.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<Arc<CertificateFiles>>,
    service: S,
    metrics: HttpMetrics,
    shutdown: CancellationToken,
    drain: Duration,
) -> Result<(), ServeError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let acceptor = tls.as_ref().map(|files| files.server_config()).transpose()?.map(TlsAcceptor::from);
    let graceful = GracefulShutdown::new();
    let server = Server { acceptor, service, protocols: Protocols::new() };
    let watching = shutdown.child_token();
    if let Some(files) = tls {
        let stop = watching.clone();
        tokio::spawn(async move { files.watch(CERTIFICATE_INTERVAL, stop).await });
    }
    tracing::info!(%address, tls = server.acceptor.is_some(), "serving");

    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Some(accepted) = shutdown.run_until_cancelled(accept(&listener, &permits)).await {
        // Those that are over are let go of; a panic in one has been reported by the panic hook.
        while connections.try_join_next().is_some() {}
        let Some((stream, peer, permit)) = accepted else { continue };
        let (server, watcher, counted) = (server.clone(), graceful.watcher(), metrics.connection());
        connections.spawn(async move {
            server.connection(stream, peer, watcher).await;
            drop((permit, counted));
        });
    }

    drop(listener);
    watching.cancel();
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(%address, connections = connections.len(), "drain time is over; open requests are cut");
    }
    connections.shutdown().await;
    tracing::info!(%address, "stopped");
    Ok(())
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is room for it. `None` after an error that is over.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Without it a small response waits for the client's delayed acknowledgement.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, %peer, "TCP_NODELAY can't be set");
            }
            Some((stream, peer, permit))
        }
        // The connection was gone before it was accepted.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => None,
        Err(error) => {
            tracing::warn!(%error, "connection can't be accepted; trying again");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

#[derive(Clone)]
struct Server<S> {
    acceptor: Option<TlsAcceptor>,
    service: S,
    protocols: Arc<Protocols>,
}

/// One builder for each protocol. The one that finds out by itself would wait for a silent client without end.
struct Protocols {
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
}

impl Protocols {
    fn new() -> Arc<Self> {
        let mut http1 = auto::Builder::new(TokioExecutor::new()).http1_only();
        http1.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD * 8);
        let mut http2 = auto::Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32);
        Arc::new(Self { http1, http2 })
    }
}

impl<S> Server<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    async fn connection(self, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        let Some(acceptor) = &self.acceptor else {
            return self.http(stream, Connection { peer, scheme: Scheme::Http }, false, watcher).await;
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.http(stream, Connection { peer, scheme: Scheme::Https }, is_http2, watcher).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    async fn http<I>(&self, io: I, connection: Connection, is_http2: bool, watcher: Watcher)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(connection);
            self.service.clone().oneshot(request)
        });
        let builder = if is_http2 { &self.protocols.http2 } else { &self.protocols.http1 };
        let served = watcher.watch(builder.serve_connection(TokioIo::new(io), service)).await;
        if let Err(error) = served {
            tracing::debug!(%error, peer = %connection.peer, "connection ended with an error");
        }
    }
}
