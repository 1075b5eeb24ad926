//! Has clients leave a process that is about to end, before it does.
//!
//! A client that sends its next request over a connection just as that is closed can't tell whether it was taken. One that
//! has been told `Connection: close` (RFC 9112, section 9.6) makes another connection, and those in front of the process
//! send that elsewhere. HTTP/2 has a message of its own for this, which the server sends when it stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use futures::FutureExt as _;
use futures::future::{Either, Join, Map, Ready, join, ready};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use tower::Service;

type Answer = Result<Response<Body>, Infallible>;
/// An answer to come, and what is to be looked at then.
type WithLeaving<F> = Join<F, Ready<Arc<AtomicBool>>>;

/// A service whose answers close their connections once `leaving` is set.
#[derive(Clone)]
pub struct Farewell<S> {
    service: S,
    leaving: Arc<AtomicBool>,
}

impl<S> Farewell<S> {
    pub fn new(service: S, leaving: Arc<AtomicBool>) -> Self {
        Self { service, leaving }
    }
}

impl<S> Service<Request<Body>> for Farewell<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Map<WithLeaving<S::Future>, fn((Answer, Arc<AtomicBool>)) -> Answer>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_http2 = request.version() >= Version::HTTP_2;
        let answer = self.service.call(request);
        if is_http2 {
            return Either::Left(answer);
        }
        let answer = join(answer, ready(Arc::clone(&self.leaving)));
        Either::Right(answer.map(close_if_leaving as fn((Answer, Arc<AtomicBool>)) -> Answer))
    }
}

/// Looked at when the answer is made: the request may have begun long before.
fn close_if_leaving((mut answer, leaving): (Answer, Arc<AtomicBool>)) -> Answer {
    if leaving.load(Ordering::Relaxed)
        && let Ok(response) = &mut answer
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn answers_close_their_connections_once_it_is_time_to_leave() {
        let leaving = Arc::new(AtomicBool::new(false));
        let service = tower::service_fn(async |_| Ok(Response::new(Body::from("content"))));
        let service = Farewell::new(service, Arc::clone(&leaving));
        let closes = async |version| {
            let mut request = Request::new(Body::empty());
            *request.version_mut() = version;
            let response = service.clone().oneshot(request).await.unwrap();
            response.headers().get(CONNECTION).is_some_and(|value| value == "close")
        };
        assert!(!closes(Version::HTTP_11).await, "it stays");
        leaving.store(true, Ordering::Relaxed);
        assert!(closes(Version::HTTP_11).await);
        assert!(!closes(Version::HTTP_2).await, "the header is none of HTTP/2");
    }

    #[tokio::test]
    async fn a_request_that_began_before_closes_its_connection_too() {
        let leaving = Arc::new(AtomicBool::new(false));
        let time_comes = Arc::clone(&leaving);
        let service = tower::service_fn(move |_| {
            time_comes.store(true, Ordering::Relaxed);
            async { Ok(Response::new(Body::empty())) }
        });
        let response = Farewell::new(service, leaving).oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.headers().get(CONNECTION).unwrap(), "close");
    }
}
