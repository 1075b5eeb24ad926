//! `/livez`, `/readyz` and `/metrics`, in plain HTTP on a port of their own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// One more makes room by ending the oldest: whoever keeps connections open must not keep probes out.
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
const MAX_BUFFER: usize = 16 * 1024;
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves health and metrics until `shutdown`. `readiness` says why the process can't do its work yet, if it can't.
///
/// It should go on until the process ends, so that a pod that drains is seen to be alive: give it a token of its own.
pub async fn serve_health(
    listener: TcpListener,
    metrics: Metrics,
    readiness: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = router(metrics, Arc::new(readiness));
    let mut builder = http1::Builder::new();
    // A connection is for one request: an answer takes less time than anybody could sensibly wait for the next.
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false).max_buf_size(MAX_BUFFER);
    let mut connections = Connections::default();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "health connection can't be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        // What goes wrong on a probe's connection is the probe's to tell.
        connections.spawn(async move { drop(connection.await) });
    }
    Ok(())
}

/// Connections in the order of their beginning. They end with this.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    handles: VecDeque<AbortHandle>,
}

impl Connections {
    fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        self.handles.push_back(self.tasks.spawn(connection));
    }
}

fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(show_metrics).with_state(metrics))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    match readiness() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn show_metrics(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn open_connections_keep_no_probe_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve_health(listener, Metrics::new(), || Ok(()), CancellationToken::new()));
        let mut silent = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let answer = tokio::time::timeout(HEAD_TIMEOUT / 2, get(address, "/livez")).await;
        assert!(answer.expect("the probe has to wait").starts_with("HTTP/1.1 200"));
        server.abort();
    }

    #[tokio::test]
    async fn a_connection_is_for_one_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve_health(listener, Metrics::new(), || Ok(()), CancellationToken::new()));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut response = String::new();
        let read = tokio::time::timeout(HEAD_TIMEOUT / 2, stream.read_to_string(&mut response)).await;
        read.expect("the connection is kept").unwrap();
        assert!(response.ends_with("ok\n"), "{response}");
        server.abort();
    }

    #[tokio::test]
    async fn tells_whether_it_lives_and_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_ready, shutdown) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let readiness = {
            let is_ready = Arc::clone(&is_ready);
            move || if is_ready.load(Ordering::Relaxed) { Ok(()) } else { Err("no policy yet".to_owned()) }
        };
        let server = tokio::spawn(serve_health(listener, Metrics::new(), readiness, shutdown.clone()));

        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let waiting = get(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.ends_with("no policy yet\n"), "{waiting}");
        is_ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");

        shutdown.cancel();
        server.await.unwrap().unwrap();
    }
}
