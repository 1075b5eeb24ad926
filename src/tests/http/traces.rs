//! Traces of requests, as a collector gets them.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use http::HeaderMap;
use landfast::telemetry::{TraceExport, Traces};
use tokio::net::TcpListener;

use crate::harness::Registry;

/// The bodies of the posts that a collector has got. Names and values stand in them as they are.
type Posts = Arc<Mutex<Vec<u8>>>;

async fn collector() -> (String, Posts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let posts = Posts::default();
    let take = async |State(posts): State<Posts>, headers: HeaderMap, body: Bytes| {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        posts.lock().unwrap().extend_from_slice(&body);
    };
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(take)).with_state(Arc::clone(&posts));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint, posts)
}

fn holds(posts: &[u8], bytes: &[u8]) -> bool {
    posts.windows(bytes.len()).any(|window| window == bytes)
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Pulls in the caller's trace, fails to log in, and gives what the collector got until the end.
async fn pull(traces: impl FnOnce(&str) -> Traces) -> Vec<u8> {
    let (endpoint, posts) = collector().await;
    let traces = traces(&endpoint);
    let registry = Registry::tracing(traces.clone());
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    let call = registry.by("dev", "GET", "/v2/team/app/manifests/v1");
    call.header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01")).send().await.expect(200);
    let login = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
    login.body("grant_type=password&username=nobody&password=x").send().await.expect(401);
    traces.stop().await;
    let posts = posts.lock().unwrap();
    posts.clone()
}

fn export(endpoint: &str, sample_ratio: f64) -> Traces {
    Traces::start(&TraceExport { endpoint, sample_ratio, service_name: "images" }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_parts_are_spans_of_the_callers_trace() {
    let posts = pull(|endpoint| export(endpoint, 1.0)).await;
    let parts = ["authenticate", "authenticate.form", "storage.get", "storage.put"];
    for text in ["images", "GET manifest", "PUT manifest", "team/app"].into_iter().chain(parts) {
        assert!(holds(&posts, text.as_bytes()), "{text}");
    }
    let trace = hex::decode(TRACE).unwrap();
    // The request, and at least the two parts of it.
    assert!(posts.windows(trace.len()).filter(|window| *window == trace).count() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_when_traces_are_off_or_not_sampled() {
    assert!(pull(|_| Traces::default()).await.is_empty());
    // The caller has sampled its trace; that doesn't oblige the registry.
    assert!(pull(|endpoint| export(endpoint, 0.0)).await.is_empty());
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_named() {
    for endpoint in ["", "collector:4318", "grpc://collector:4317", "/v1/traces"] {
        let error = Traces::start(&TraceExport { endpoint, sample_ratio: 1.0, service_name: "x" }).err().unwrap();
        assert!(error.to_string().contains("http://collector:4318"), "{error}");
    }
}
