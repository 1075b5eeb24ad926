//! Tests of the election: the decision by a table, the rest against an API server that holds one Lease.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use rstest::rstest;

use super::*;

fn record(holder: &str) -> LeaseSpec {
    LeaseSpec { holder_identity: Some(holder.to_owned()), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
}

#[rstest]
#[case::missing(None, 0, Step::Create)]
#[case::released(Some(""), 0, Step::Take)]
#[case::ours(Some("me"), 0, Step::Renew)]
#[case::ours_after_a_long_pause(Some("me"), 60, Step::Renew)]
#[case::fresh(Some("other"), 0, Step::Wait)]
#[case::almost_expired(Some("other"), 14, Step::Wait)]
#[case::expired(Some("other"), 15, Step::Take)]
fn decides(#[case] holder: Option<&str>, #[case] seconds_unchanged: u64, #[case] expected: Step) {
    let since = Instant::now();
    let seen = holder.map(|holder| Observation { record: record(holder), since });
    assert_eq!(decide(seen.as_ref(), "me", since + Duration::from_secs(seconds_unchanged)), expected);
}

#[test]
fn a_record_without_duration_has_expired() {
    let since = Instant::now();
    for lease_duration_seconds in [None, Some(-5)] {
        let seen = Observation { record: LeaseSpec { lease_duration_seconds, ..record("other") }, since };
        assert_eq!(decide(Some(&seen), "me", since), Step::Take);
    }
}

#[test]
fn only_a_changed_record_starts_the_wait_anew() {
    let start = Instant::now();
    let later = start + Duration::from_secs(10);
    let first = observe(None, Some(&record("other")), start);
    assert_eq!(observe(first.clone(), Some(&record("other")), later).unwrap().since, start);
    let renewed = LeaseSpec { renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)), ..record("other") };
    assert_eq!(observe(first.clone(), Some(&renewed), later).unwrap().since, later);
    assert!(observe(first, None, later).is_none());
}

#[test]
fn a_takeover_counts_as_a_transition_and_a_renewal_keeps_its_start() {
    let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(100).unwrap());
    let taken = claim(record("other"), Step::Take, "me", LeaseTimes::default(), early);
    assert_eq!((taken.lease_transitions, taken.acquire_time.clone()), (Some(1), Some(MicroTime(early))));
    let renewed = claim(taken, Step::Renew, "me", LeaseTimes::default(), late);
    assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(1), Some(MicroTime(early))));
    assert_eq!((renewed.renew_time, renewed.lease_duration_seconds), (Some(MicroTime(late)), Some(15)));
}

#[rstest]
#[case::client_go(15, 10, 2, true)]
#[case::deadline_too_long(10, 10, 2, false)]
#[case::retry_too_long(15, 10, 10, false)]
#[case::no_pause(15, 10, 0, false)]
fn times_must_be_in_order(#[case] duration: u64, #[case] deadline: u64, #[case] retry: u64, #[case] valid: bool) {
    let times = [duration, deadline, retry].map(Duration::from_secs);
    assert_eq!(LeaseTimes::new(times[0], times[1], times[2]).is_ok(), valid);
}

/// An API server that holds one Lease and checks resource versions.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Lease>>>,
    broken: Arc<Mutex<bool>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if *self.broken.lock().unwrap() {
            return failure(500, "InternalError");
        }
        let mut stored = self.lease.lock().unwrap();
        if method != Method::GET {
            let mut sent: Lease = serde_json::from_slice(&body).unwrap();
            let version = stored.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
            if sent.metadata.resource_version != version {
                return failure(409, "Conflict");
            }
            let number = version.map_or(1, |version| version.parse::<u64>().unwrap() + 1);
            sent.metadata.resource_version = Some(number.to_string());
            *stored = Some(sent);
        }
        match &*stored {
            Some(lease) => Response::new(Body::from(serde_json::to_vec(lease).unwrap())),
            None => failure(404, "NotFound"),
        }
    }

    fn election(&self, identity: &str) -> LeaseElection {
        let times = LeaseTimes::new(Duration::from_secs(1), Duration::from_millis(600), Duration::from_millis(50));
        LeaseElection::new(self.client(), "system", "landfast", identity, times.unwrap())
    }

    fn record(&self) -> LeaseSpec {
        self.lease.lock().unwrap().clone().unwrap().spec.unwrap()
    }
}

fn failure(code: u16, reason: &str) -> Response<Body> {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code,
    });
    Response::builder().status(code).body(Body::from(serde_json::to_vec(&status).unwrap())).unwrap()
}

#[tokio::test]
async fn a_released_lease_is_taken_at_once() {
    let server = Server::default();
    let first = server.election("a").acquire(std::future::pending()).await.unwrap();
    let second = tokio::spawn(server.election("b").acquire(std::future::pending()));
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(server.record().holder_identity.as_deref(), Some("a"), "renewed beyond its duration");
    first.release().await;
    let second = timeout(Duration::from_millis(900), second).await.unwrap().unwrap().unwrap();
    assert_eq!(server.record().holder_identity.as_deref(), Some("b"));
    second.release().await;
    let LeaseSpec { holder_identity, lease_duration_seconds, .. } = server.record();
    assert_eq!((holder_identity.as_deref(), lease_duration_seconds), (Some(""), Some(1)));
}

#[tokio::test]
async fn an_abandoned_lease_is_taken_when_it_has_expired() {
    let server = Server::default();
    drop(server.election("a").acquire(std::future::pending()).await.unwrap());
    let started = Instant::now();
    let held = server.election("b").acquire(std::future::pending()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.record().lease_transitions, Some(1));
    held.release().await;
}

#[tokio::test]
async fn is_lost_when_it_cannot_be_renewed_in_time() {
    let server = Server::default();
    let held = server.election("a").acquire(std::future::pending()).await.unwrap();
    *server.broken.lock().unwrap() = true;
    timeout(Duration::from_millis(950), held.lost()).await.unwrap();
    held.lost().await;
    held.release().await;
    assert_eq!(server.record().holder_identity.as_deref(), Some("a"), "what is lost isn't released");
}

#[tokio::test]
async fn is_lost_when_another_has_it() {
    let server = Server::default();
    let held = server.election("a").acquire(std::future::pending()).await.unwrap();
    server.lease.lock().unwrap().as_mut().unwrap().spec = Some(record("b"));
    timeout(Duration::from_millis(300), held.lost()).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_the_wait() {
    let server = Server::default();
    *server.broken.lock().unwrap() = true;
    assert!(server.election("a").acquire(std::future::ready(())).await.is_none());
}
