//! The accept loop: connections, plain or TLS, until the process is asked to stop.
//!
//! # Guarantees
//! - Each step of a connection that waits for the client has an end: handshake, request head, pause in a body.
//! - A client that takes nothing of its response, or too little, is cut; over HTTP/2 the request is reset, whatever else
//!   goes on on its connection. An HTTP/2 connection without requests is closed, as HTTP/1.1's are.
//! - There are at most `limits.connections`; more wait in the kernel's queue. What one of them may take up is bounded, and
//!   so is the share of them that one client has.
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
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::activity::{Activity, Quiet, Streams};
use super::guarded::Guarded;
use super::tls::Acceptors;
use super::{App, CertificateFiles, Connection, HttpMetrics, Scheme, TlsError};
use crate::config::{Limits, Proxies};
use crate::registry::auth::{ClientCertificate, Live};
use crate::registry::shares::Shares;

const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// After an error of `accept` that concerns the process and not the connection, such as too few descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes that one HTTP/2 request, and one connection, may have on the way: enough for a fast line with some delay.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes of one HTTP/2 response that wait to be sent. A piece of content is taken up whole, so this is less than two.
const SEND_BUFFER: usize = 256 * 1024;
/// Most that is read at once of an HTTP/1.1 request's body, and kept of its response. A kept connection goes on holding up
/// to twice as much after an upload, also one that was refused.
const HTTP1_BUFFER: usize = 64 * 1024;

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the listening socket can't be used: {0}")]
    Listener(#[source] io::Error),
}

/// What connections are held to, asked for, and counted with.
#[derive(Clone)]
pub struct Bounds {
    pub limits: Arc<Limits>,
    /// Whose connections carry requests of many clients.
    pub proxies: Proxies,
    /// Whose certificates clients are asked for.
    pub live: Arc<Live>,
    pub metrics: HttpMetrics,
}

impl Bounds {
    pub fn of(app: &App) -> Self {
        let App { limits, proxies, live, metrics, .. } = app;
        let (limits, live) = (Arc::clone(limits), Arc::clone(live));
        Self { limits, proxies: proxies.clone(), live, metrics: metrics.clone() }
    }
}

/// Serves until `shutdown`, then lets open requests go on for `drain`.
///
/// The certificate is followed while the server runs. A client that speaks plain HTTP to a TLS server is cut off.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<Arc<CertificateFiles>>,
    service: S,
    bounds: Bounds,
    shutdown: CancellationToken,
    drain: Duration,
) -> Result<(), ServeError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let Bounds { limits, proxies, live, metrics } = bounds;
    let acceptors = tls.clone().map(|files| Acceptors::new(files, live)).transpose()?.map(Arc::new);
    let permits = Arc::new(Semaphore::new(limits.connections));
    let shares = Shares::new(limits.share_of(limits.connections));
    let server = Server { acceptors, service, protocols: Protocols::new(&limits), limits };
    let watching = shutdown.child_token();
    if let Some(files) = tls {
        let stop = watching.clone();
        tokio::spawn(async move { files.watch(CERTIFICATE_INTERVAL, stop).await });
    }
    tracing::info!(%address, tls = server.acceptors.is_some(), "serving");

    let mut connections = JoinSet::new();
    while let Some(accepted) = shutdown.run_until_cancelled(accept(&listener, &permits)).await {
        // Those that are over are let go of; a panic in one has been reported by the panic hook.
        while connections.try_join_next().is_some() {}
        let Some((stream, peer, permit)) = accepted else { continue };
        let share = shares.take(peer.ip());
        if share.is_none() && !proxies.trusts(peer.ip()) {
            metrics.connection_refused();
            tracing::debug!(%peer, "client has its share of the connections; closed");
            continue;
        }
        let (server, shutdown, counted) = (server.clone(), shutdown.clone(), metrics.connection());
        connections.spawn(async move {
            server.connection(stream, peer, shutdown).await;
            drop((permit, share, counted));
        });
    }

    drop(listener);
    watching.cancel();
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, ended).await.is_err() {
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
    acceptors: Option<Arc<Acceptors>>,
    service: S,
    protocols: Arc<Protocols>,
    limits: Arc<Limits>,
}

/// One builder for each protocol. One that finds out by itself would wait for a silent client without end.
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

impl Protocols {
    fn new(limits: &Limits) -> Arc<Self> {
        let mut http1 = http1::Builder::new();
        // A head that is too large, or has too many headers (hyper's 100), is answered with 431 and the connection closed.
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head())
            .max_header_size(limits.head_bytes)
            .max_buf_size(HTTP1_BUFFER.max(limits.head_bytes));
        let mut http2 = http2::Builder::new(Streams);
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(limits.streams)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
        Arc::new(Self { http1, http2 })
    }
}

impl<S> Server<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    async fn connection(self, stream: TcpStream, peer: SocketAddr, shutdown: CancellationToken) {
        let stream = Guarded::new(stream, &self.limits);
        match self.acceptors.clone() {
            None => self.http1(stream, Connection::plain(peer), shutdown).await,
            // Boxed, or plain connections would be as large.
            Some(acceptors) => Box::pin(self.tls(&acceptors, stream, peer, shutdown)).await,
        }
    }

    async fn tls(&self, acceptors: &Acceptors, stream: Guarded, peer: SocketAddr, shutdown: CancellationToken) {
        match tokio::time::timeout(self.limits.handshake(), acceptors.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let is_http2 = session.alpn_protocol() == Some(b"h2");
                // Its own end, if it has a certificate: that may come to be refused.
                let (certificate, shutdown) = match session.peer_certificates() {
                    None => (None, shutdown),
                    Some(chain) => {
                        let ending = shutdown.child_token();
                        (Some(Arc::new(ClientCertificate::new(chain, ending.clone()))), ending)
                    }
                };
                let connection = Connection { peer, scheme: Scheme::Https, certificate };
                if is_http2 {
                    Box::pin(self.http2(stream, connection, shutdown)).await;
                } else {
                    Box::pin(self.http1(stream, connection, shutdown)).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<S> {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connection.clone());
        self.service.clone().oneshot(request)
    }

    async fn http1<I>(&self, io: I, connection: Connection, shutdown: CancellationToken)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = connection.peer;
        let service = service_fn(|request: Request<Incoming>| self.respond(request, &connection));
        let mut serving = std::pin::pin!(self.protocols.http1.serve_connection(TokioIo::new(io), service));
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = shutdown.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        log_end(served, peer);
    }

    async fn http2<I>(&self, io: I, connection: Connection, shutdown: CancellationToken)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = connection.peer;
        let activity = Arc::new(Activity::default());
        let service = service_fn(|request: Request<Incoming>| {
            let (activity, response) = (Arc::clone(&activity), self.respond(request, &connection));
            async move {
                let in_progress = activity.begin();
                response.await.map(|response| response.map(|body| in_progress.answering(body)))
            }
        });
        let mut serving = std::pin::pin!(self.protocols.http2.serve_connection(TokioIo::new(io), service));
        let quiet = tokio::select! {
            served = serving.as_mut() => return log_end(served, peer),
            () = shutdown.cancelled() => Quiet::Idle,
            quiet = activity.quiet(&self.limits) => quiet,
        };
        let quiet = match quiet {
            Quiet::Stuck => Quiet::Stuck,
            Quiet::Idle => {
                serving.as_mut().graceful_shutdown();
                // A request that came just then is served, and goes on for as long as any other may.
                tokio::select! {
                    served = serving.as_mut() => return log_end(served, peer),
                    quiet = activity.quiet(&self.limits) => quiet,
                }
            }
        };
        if quiet == Quiet::Stuck {
            tracing::debug!(%peer, "client takes nothing of its response; cut");
        }
    }
}

fn log_end(served: hyper::Result<()>, peer: SocketAddr) {
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "connection ended with an error");
    }
}
