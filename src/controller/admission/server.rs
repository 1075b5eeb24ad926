//! The HTTPS server that the API server asks.
//!
//! # Guarantees
//! - Who asks gets an answer before the API server gives up ([`PATIENCE`]), and nothing that he sends makes it a failure
//!   of the server.
//! - Only who knows the path is answered, that is the API server ([`serving_key`](super::serving_key)).
//! - Memory is bounded: so many connections, so many bytes of bodies at once. Silent connections are closed.
//! - After the shutdown requests are still taken for a while ([`FAREWELL`]), until no Service leads here any more.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8s_openapi::jiff::Timestamp;
use kube::core::admission::Operation;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Judgement;
use super::metrics::AdmissionMetrics;
use super::review::{Answer, Asked, Question, Review, read};
use super::serving_key::ServingKey;

/// Until the answer. The API server waits 10 s (the webhook's `timeoutSeconds`).
const PATIENCE: Duration = Duration::from_secs(8);
/// Until the whole request is here.
const BODY_PATIENCE: Duration = Duration::from_secs(4);
/// An object and what it was before; the API server takes none above 1.5 MiB or so.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// Bodies are counted in these, and so many may be here at once: 32 MiB.
const BODY_UNIT: usize = 512 * 1024;
const BODY_UNITS: usize = 64;
/// More wait to be accepted. Each API server keeps one or a few.
const MAX_CONNECTIONS: usize = 256;
const MAX_STREAMS: u32 = 64;
const MAX_HEAD: usize = 32 * 1024;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// A connection without a request is closed after this; the API server opens another.
const MAX_IDLE: Duration = Duration::from_secs(120);
/// A connection that has not yet asked at the right path is closed after this.
const STRANGERS_PATIENCE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for word to get around that this replica is going.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why there is no judgement.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    #[error("landfast's operator has just started and has not read everything yet: try again in a moment")]
    NotRead,
    #[error("landfast's operator could not ask the API server about your rights: try again")]
    Api(#[from] kube::Error),
}

/// Who judges.
#[async_trait]
pub(super) trait Judge: Send + Sync {
    async fn judge(&self, question: Question) -> Result<Judgement, Unavailable>;
}

/// Serves until some time after `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    key: Arc<ServingKey>,
    judge: Arc<dyn Judge>,
    metrics: AdmissionMetrics,
    shutdown: CancellationToken,
) {
    let config = match key.server_config() {
        Ok(config) => config,
        // The one provider of this binary supports the versions that it is asked for.
        Err(error) => return tracing::error!(%error, "TLS can't be set up: the webhook answers nobody"),
    };
    let bodies = Arc::new(Semaphore::new(BODY_UNITS));
    let router = Router::new().route("/admit/{secret}", post(admit)).with_state(Desk { judge, metrics, bodies });
    let server = Server { acceptor: TlsAcceptor::from(config), router, key };
    let (closing, mut connections) = (CancellationToken::new(), JoinSet::new());
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let farewell = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    let accept = async {
        loop {
            while connections.try_join_next().is_some() {}
            // Never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = server.clone().connection(stream, closing.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    tokio::select! {
        () = farewell => {}
        () = accept => {}
    }
    drop(listener);
    closing.cancel();
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(PATIENCE, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests to the webhook are cut");
    }
}

async fn accept_failed(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "connection to the webhook can't be accepted; trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[derive(Clone)]
struct Server {
    acceptor: TlsAcceptor,
    router: Router,
    key: Arc<ServingKey>,
}

impl Server {
    async fn connection(self, stream: TcpStream, closing: CancellationToken) {
        let stream = match timeout(HANDSHAKE_PATIENCE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake with the webhook failed"),
            Err(_) => return,
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let activity = Activity::new();
        // Who doesn't know the path keeps no connection from the API server.
        let (known, strange) = (CancellationToken::new(), CancellationToken::new());
        let service = service_fn(|request: Request<Incoming>| {
            let is_known = self.key.is_path(request.uri().path(), Timestamp::now());
            if is_known {
                known.cancel()
            } else {
                strange.cancel()
            }
            let (answer, request_open) = (self.router.clone().oneshot(request.map(Body::new)), activity.begin());
            async move {
                let answer = if is_known { answer.await } else { Ok(StatusCode::NOT_FOUND.into_response()) };
                drop(request_open);
                answer
            }
        });
        let patience = async {
            if timeout(STRANGERS_PATIENCE, known.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let mut patience = std::pin::pin!(patience);
        // One builder for each protocol: one that finds out by itself would wait for a silent client without end.
        macro_rules! serve {
            ($connection:expr) => {{
                let mut serving = std::pin::pin!($connection);
                tokio::select! {
                    served = serving.as_mut() => return log_end(served),
                    () = closing.cancelled() => {}
                    () = activity.idle() => {}
                    () = strange.cancelled() => {}
                    () = patience.as_mut() => {}
                }
                serving.as_mut().graceful_shutdown();
                // What is on its way has at most a request's time left, whether or not the client takes it.
                if let Ok(served) = timeout(PATIENCE, serving).await {
                    log_end(served);
                }
            }};
        }
        if is_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(MAX_IDLE / 4)
                .keep_alive_timeout(MAX_IDLE / 4)
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
            serve!(builder.serve_connection(TokioIo::new(stream), service));
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(MAX_IDLE).max_header_size(MAX_HEAD);
            serve!(builder.serve_connection(TokioIo::new(stream), service));
        }
    }
}

fn log_end(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "connection to the webhook ended with an error");
    }
}

/// Whether there is anything to do on a connection.
#[derive(Clone)]
struct Activity(Arc<(AtomicUsize, Mutex<Instant>)>);

struct Open(Activity);

impl Activity {
    fn new() -> Self {
        Self(Arc::new((AtomicUsize::new(0), Mutex::new(Instant::now()))))
    }

    fn begin(&self) -> Open {
        self.0.0.fetch_add(1, Ordering::AcqRel);
        Open(self.clone())
    }

    /// Resolves when there has been no request for a while.
    async fn idle(&self) {
        while let Some(left) = self.left(Instant::now()) {
            tokio::time::sleep(left).await;
        }
    }

    /// When to look again, if there has been a request lately.
    fn left(&self, now: Instant) -> Option<Duration> {
        if self.0.0.load(Ordering::Acquire) > 0 {
            return Some(MAX_IDLE);
        }
        let since = *self.0.1.lock().unwrap_or_else(PoisonError::into_inner);
        let left = (since + MAX_IDLE).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.0.1.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where requests are answered.
#[derive(Clone)]
struct Desk {
    judge: Arc<dyn Judge>,
    metrics: AdmissionMetrics,
    bodies: Arc<Semaphore>,
}

async fn admit(State(desk): State<Desk>, headers: HeaderMap, body: Body) -> Response {
    let began = Instant::now();
    let received = timeout(BODY_PATIENCE, desk.receive(&headers, body)).await;
    let (body, _room) = match received {
        Ok(Ok(received)) => received,
        Ok(Err(refusal)) => return refusal,
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the request took too long to come\n").into_response(),
    };
    let asked = match review(&body) {
        Ok(asked) => asked,
        Err(problem) => return (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    };
    let answer = desk.answer(&asked, began + PATIENCE).await;
    let operation = match asked.operation {
        Operation::Create => "create",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Connect => "connect",
    };
    desk.metrics.answered(&asked.kind.kind, operation, answer.verdict(), began.elapsed());
    match serde_json::to_vec(&answer.respond(&asked)) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer of the webhook can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What the API server asks, from its AdmissionReview.
fn review(body: &[u8]) -> Result<Asked, String> {
    let review: Review =
        serde_json::from_slice(body).map_err(|error| format!("the body is no AdmissionReview: {error}"))?;
    if review.types.api_version != "admission.k8s.io/v1" || review.types.kind != "AdmissionReview" {
        return Err("the body is no AdmissionReview of admission.k8s.io/v1".to_owned());
    }
    review.try_into().map_err(|_| "the AdmissionReview asks nothing".to_owned())
}

impl Desk {
    /// Takes the body in, when there is room for it.
    async fn receive(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Bytes, tokio::sync::OwnedSemaphorePermit), Response> {
        let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than 3 MiB\n").into_response();
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = length.unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return Err(too_large());
        }
        let units = u32::try_from(length.div_ceil(BODY_UNIT).max(1)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.bodies).acquire_many_owned(units).await;
        let room = room.map_err(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())?;
        // A longer one than was said is cut off by HTTP itself.
        let bytes = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| too_large())?;
        Ok((bytes, room))
    }

    async fn answer(&self, asked: &Asked, deadline: Instant) -> Answer {
        let question = match read(asked.clone()) {
            Ok(question) => question,
            Err(problem) => return Answer::Invalid(problem),
        };
        match timeout_at(deadline, self.judge.judge(question)).await {
            Ok(Ok(judgement)) => Answer::Judged(judgement),
            Ok(Err(error)) => {
                let text = error.to_string();
                match error {
                    Unavailable::NotRead => Answer::Unjudged(503, "ServiceUnavailable", text),
                    Unavailable::Api(source) => {
                        tracing::warn!(error = %source, "a change could not be judged");
                        Answer::Unjudged(500, "InternalError", text)
                    }
                }
            }
            Err(_) => {
                tracing::warn!("a change could not be judged in time");
                let text = "landfast's operator could not judge this in time: try again".to_owned();
                Answer::Unjudged(504, "Timeout", text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use super::*;
    use crate::controller::admission::own_certificate;
    use crate::controller::admission::serving_key::path;
    use crate::telemetry::Metrics;
    use http_body_util::{BodyExt as _, Full};
    use rstest::rstest;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use serde_json::{Value, json};
    use tokio_rustls::TlsConnector;

    /// Answers by the name of whoever asks.
    struct Oracle;

    #[async_trait]
    impl Judge for Oracle {
        async fn judge(&self, question: Question) -> Result<Judgement, Unavailable> {
            let Question::Change(request) = question else { panic!("all objects here can be read") };
            match request.requester.name.as_str() {
                "early" => Err(Unavailable::NotRead),
                "unlucky" => Err(Unavailable::Api(kube::Error::LinesCodecMaxLineLengthExceeded)),
                "patient" => std::future::pending().await,
                "refused" => Ok(Judgement { denial: Some("ask ann".to_owned()), ..Judgement::default() }),
                _ => Ok(Judgement::default()),
            }
        }
    }

    fn review(user: &str, spec: Value) -> Value {
        let kind = json!({ "group": "landfast.dev", "version": "v1alpha1", "kind": "Project" });
        let resource = json!({ "group": "landfast.dev", "version": "v1alpha1", "resource": "projects" });
        let metadata = json!({ "name": "p", "namespace": "n" });
        let object =
            json!({ "apiVersion": "landfast.dev/v1alpha1", "kind": "Project", "metadata": metadata, "spec": spec });
        let request = json!({
            "uid": "u", "kind": kind, "resource": resource, "name": "p", "namespace": "n", "operation": "CREATE",
            "userInfo": { "username": user }, "object": object, "oldObject": null,
        });
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
    }

    fn project() -> Value {
        json!({ "registryRef": { "name": "main" } })
    }

    /// A server, and what its clients trust.
    struct Running {
        address: SocketAddr,
        key: Arc<ServingKey>,
        bundle: String,
        /// Where it answers.
        path: String,
        metrics: Metrics,
        _task: JoinSet<()>,
    }

    impl Running {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, key, metrics) = (listener.local_addr().unwrap(), Arc::default(), Metrics::new());
            let mut task = JoinSet::new();
            let counted = AdmissionMetrics::register(&metrics);
            task.spawn(serve(listener, Arc::clone(&key), Arc::new(Oracle), counted, CancellationToken::new()));
            let (bundle, path) = certify(&key);
            Self { address, key, bundle, path, metrics, _task: task }
        }

        async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (StatusCode, Value) {
            let stream = connect(self.address, &self.bundle).await.unwrap();
            let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request = Request::builder().method(method).uri(path).header("host", "x").body(Full::new(body.into()));
            let response = client.send_request(request.unwrap()).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
        }
    }

    /// Loads a new certificate, and returns its authority and the path that goes with it.
    fn certify(key: &ServingKey) -> (String, String) {
        let plan = own_certificate::plan(None, "ops", Timestamp::now()).unwrap();
        key.load(&plan.data).unwrap();
        (plan.bundle, path(&plan.data, Timestamp::now()).unwrap().0)
    }

    async fn connect(address: SocketAddr, bundle: &str) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(bundle.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("landfast-operator-webhook.ops.svc").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
    }

    #[rstest]
    #[case::allowed("ann", project(), true, 0, "")]
    #[case::denied("refused", project(), false, 403, "ask ann")]
    #[case::unreadable("ann", json!({ "registryRef": 5 }), false, 422, "Project n/p can't be read: spec.registryRef: ")]
    #[case::too_early("early", project(), false, 503, "landfast's operator has just started")]
    #[case::no_rights("unlucky", project(), false, 500, "landfast's operator could not ask the API server")]
    #[tokio::test]
    async fn every_review_gets_an_answer(
        #[case] user: &str,
        #[case] spec: Value,
        #[case] allowed: bool,
        #[case] code: u16,
        #[case] message: &str,
    ) {
        let server = Running::start().await;
        let (status, review) = server.ask("POST", &server.path, review(user, spec).to_string()).await;
        assert_eq!(status, StatusCode::OK, "{review}");
        let response = &review["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u"), &json!(allowed)), "{review}");
        assert_eq!(response["status"]["code"].as_u64().unwrap_or(0), u64::from(code));
        let shown = response["status"]["message"].as_str().unwrap_or_default();
        assert!(shown.starts_with(message), "{shown}");
        let shown = server.metrics.encode().unwrap();
        let line = "landfast_admission_requests_total{kind=\"Project\",operation=\"create\",verdict=";
        assert!(shown.contains(line), "{shown}");
    }

    #[tokio::test]
    async fn what_is_no_review_is_the_clients_fault() {
        let server = Running::start().await;
        let no_request = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview" }).to_string();
        let mut old = review("ann", project());
        old["apiVersion"] = json!("admission.k8s.io/v1beta1");
        let path = &*server.path;
        let rows: [(&str, &str, Bytes, StatusCode); 9] = [
            ("POST", "/admit", review("ann", project()).to_string().into(), StatusCode::NOT_FOUND),
            ("POST", "/admit/", review("ann", project()).to_string().into(), StatusCode::NOT_FOUND),
            ("POST", &path[..path.len() - 1], review("ann", project()).to_string().into(), StatusCode::NOT_FOUND),
            ("POST", path, "{".into(), StatusCode::BAD_REQUEST),
            ("POST", path, no_request.into(), StatusCode::BAD_REQUEST),
            ("POST", path, old.to_string().into(), StatusCode::BAD_REQUEST),
            ("POST", path, vec![b' '; MAX_BODY + 1].into(), StatusCode::PAYLOAD_TOO_LARGE),
            ("GET", path, "".into(), StatusCode::METHOD_NOT_ALLOWED),
            ("POST", "/", "".into(), StatusCode::NOT_FOUND),
        ];
        for (method, path, body, expected) in rows {
            let (status, text) = server.ask(method, path, body).await;
            assert_eq!(status, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn who_does_not_know_the_path_keeps_no_connection() {
        let server = Running::start().await;
        let stream = connect(server.address, &server.bundle).await.unwrap();
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = |path: &str| {
            let body = Full::new(Bytes::from(review("ann", project()).to_string()));
            Request::builder().method("POST").uri(path).header("host", "x").body(body).unwrap()
        };
        for _ in 0..2 {
            let response = client.send_request(request(&server.path)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            response.into_body().collect().await.unwrap();
        }
        let response = client.send_request(request("/admit/guessed")).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        connection.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_new_certificate_is_served_at_once() {
        let server = Running::start().await;
        connect(server.address, &server.bundle).await.unwrap();
        let (renewed, _) = certify(&server.key);
        connect(server.address, &renewed).await.unwrap();
        assert!(connect(server.address, &server.bundle).await.is_err(), "the old one is not served any more");
        let broken = BTreeMap::new();
        assert!(server.key.load(&broken).is_err());
        connect(server.address, &renewed).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_too_long_is_denied() {
        let metrics = AdmissionMetrics::register(&Metrics::new());
        let desk = Desk { judge: Arc::new(Oracle), metrics, bodies: Arc::new(Semaphore::new(BODY_UNITS)) };
        let asked = super::review(review("patient", project()).to_string().as_bytes()).unwrap();
        let answer = desk.answer(&asked, Instant::now()).await;
        assert!(matches!(answer, Answer::Unjudged(504, ..)), "{answer:?}");
    }

    #[test]
    fn a_connection_without_requests_is_idle_after_a_while() {
        let activity = Activity::new();
        let later = Instant::now() + MAX_IDLE * 2;
        let open = activity.begin();
        assert_eq!(activity.left(later), Some(MAX_IDLE), "a request is under way");
        drop(open);
        assert!(activity.left(Instant::now()).is_some());
        assert_eq!(activity.left(later), None);
    }
}
