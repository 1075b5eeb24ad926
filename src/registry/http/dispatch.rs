//! The steps that each request goes through: parse, authenticate, authorize, handle, answer, record.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::body::Body;
use futures::FutureExt;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::body::RequestBody;
use super::error::{ErrorContext, RequestError};
use super::metrics::method_label;
use super::origin::{Arrival, Origin};
use super::record::{Record, RecordedBody};
use super::{App, Route, blobs, catalog, manifests, referrers, tags, tokens, uploads};
use crate::oci::RepositoryName;
use crate::policy::{Action, Operation};
use crate::registry::auth::{Attempt, AuthError, Authenticator, Caller, Credentials, Published, challenge};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Memory that manifests may take while they are being received, in KiB. Who needs more waits.
pub(super) const MANIFEST_BUDGET_KIB: u32 = 128 * 1024;

/// What all requests share.
pub(super) struct Shared {
    pub app: App,
    pub authenticator: Authenticator,
    pub manifest_budget: Semaphore,
}

/// A request that may be done: what handlers work with.
pub(super) struct Permitted<'a> {
    pub shared: &'a Shared,
    pub published: &'a Published,
    pub caller: &'a Caller,
    pub headers: &'a HeaderMap,
    /// Among others the client's address.
    pub arrival: Arrival<'a>,
    pub now: Timestamp,
}

impl Permitted<'_> {
    /// For credentials in the body.
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt { published: self.published, client: self.arrival.client, now: self.now }
    }

    /// Whether the caller may pull from the repository that a blob is to be mounted from.
    pub fn may_pull(&self, repository: &RepositoryName) -> bool {
        let operation = Operation { action: Action::Pull, repository: repository.clone() };
        self.caller.permit(self.published, &operation, self.now).is_ok()
    }
}

/// The registry as a service: everything under `/v2/`, and `/token`.
pub fn router(app: App) -> axum::Router {
    let shared = Arc::new(Shared {
        app,
        authenticator: Authenticator::default(),
        manifest_budget: Semaphore::new(MANIFEST_BUDGET_KIB as usize),
    });
    axum::Router::new().fallback(move |request: Request<Body>| answer(Arc::clone(&shared), request))
}

/// Answers a request, whatever becomes of it.
async fn answer(shared: Arc<Shared>, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let received = Arc::new(AtomicU64::new(0));
    let awaits_continue =
        parts.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let body = RequestBody::new(body, Arc::clone(&received)).awaiting_continue(awaits_continue);
    let route = Route::parse(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
    let route_name = route.as_ref().map_or("none", Route::name);
    let request_id = Uuid::new_v4();
    let arrival = Arrival::of(&parts, &shared.app.proxies);
    let origin = Origin::of(&arrival);
    let scope = route.as_ref().ok().and_then(required_scope);

    let mut identity = None;
    // A panic becomes a response: the other requests on this connection go on.
    let handled = AssertUnwindSafe(handle(&shared, route, &parts, arrival, body, &mut identity)).catch_unwind().await;
    let mut response = handled.unwrap_or(Err(RequestError::Panic)).unwrap_or_else(|error| {
        let is_token_endpoint = route_name == "token";
        audit_refusal(&error, request_id, identity.as_deref(), &parts, arrival.client);
        let scope = scope.as_deref();
        error.into_response(&ErrorContext { request_id, origin: origin.as_ref(), scope, is_token_endpoint })
    });
    add_common_headers(response.headers_mut(), request_id);

    let record = Record {
        metrics: shared.app.metrics.clone(),
        request_id,
        route: route_name,
        method: method_label(&parts.method),
        path: parts.uri.path().to_owned(),
        remote: arrival.client,
        identity: identity.unwrap_or_else(|| "-".to_owned()),
        status: response.status().as_u16(),
        started,
        received,
        sent: 0,
    };
    finish(response, &parts.method, record)
}

/// Everything up to the answer. `identity` is set as soon as it is known, for the logs.
async fn handle(
    shared: &Shared,
    route: Result<Route, super::route::RouteError>,
    parts: &Parts,
    arrival: Arrival<'_>,
    body: RequestBody,
    identity: &mut Option<String>,
) -> Result<Response<Body>, RequestError> {
    let Prepared { route, published, caller, now } = prepare(shared, route, parts, arrival, identity).await?;
    let permitted = Permitted { shared, published: &published, caller: &caller, headers: &parts.headers, arrival, now };
    run(&permitted, route, body).await
}

/// A request that has been parsed, authenticated and authorized.
struct Prepared {
    route: Route,
    published: Arc<Published>,
    caller: Caller,
    now: Timestamp,
}

async fn prepare(
    shared: &Shared,
    route: Result<Route, super::route::RouteError>,
    parts: &Parts,
    arrival: Arrival<'_>,
    identity: &mut Option<String>,
) -> Result<Prepared, RequestError> {
    let route = route?;
    let published = shared.app.live.current().ok_or(RequestError::NoPolicy)?;
    let now = (shared.app.clock)();
    let credentials = Credentials::from_headers(&parts.headers)?;
    match (&route, &credentials) {
        // A token must not be good for the next one, or it would never end.
        (Route::TokenGet(_) | Route::TokenPost, Credentials::Bearer(_)) => return Err(AuthError::Header.into()),
        // Clients come here to learn how to log in. The catalogue would let in who shows nothing, but then a client
        // that has credentials would never be asked for them and see only what is public.
        (Route::Base | Route::Catalog { .. }, Credentials::None) => return Err(AuthError::Required.into()),
        _ => {}
    }
    let attempt = Attempt { published: &published, client: arrival.client, now };
    let caller = shared.authenticator.authenticate(&credentials, attempt).await?;
    *identity = Some(caller.identity().to_string());
    match (&route, route.operation()) {
        (_, Some(operation)) => caller.permit(&published, &operation, now)?,
        (Route::Catalog { .. }, None) => caller.permit_catalog(&published, now)?,
        (_, None) => caller.check_valid(&published, now)?,
    }
    Ok(Prepared { route, published, caller, now })
}

async fn run(permitted: &Permitted<'_>, route: Route, body: RequestBody) -> Result<Response<Body>, RequestError> {
    match route {
        Route::Base => {
            Ok(Response::builder().header(http::header::CONTENT_TYPE, "application/json").body("{}".into())?)
        }
        Route::Catalog { n, last } => catalog::list(permitted, n, last.as_deref()).await,
        Route::Tags { repository, n, last } => tags::list(permitted, &repository, n, last.as_ref()).await,
        Route::ManifestGet { repository, reference } => manifests::get(permitted, &repository, &reference).await,
        Route::ManifestHead { repository, reference } => manifests::head(permitted, &repository, &reference).await,
        Route::ManifestPut { repository, reference } => manifests::put(permitted, &repository, &reference, body).await,
        Route::ManifestDelete { repository, reference } => manifests::delete(permitted, &repository, &reference).await,
        Route::BlobGet { repository, digest } => blobs::get(permitted, &repository, &digest).await,
        Route::BlobHead { repository, digest } => blobs::head(permitted, &repository, &digest).await,
        Route::BlobDelete { repository, digest } => blobs::delete(permitted, &repository, &digest).await,
        Route::UploadStart { repository, mount, digest } => {
            uploads::start(permitted, &repository, mount, digest, body).await
        }
        Route::UploadStatus { repository, id } => uploads::status(permitted, &repository, &id).await,
        Route::UploadPatch { repository, id } => uploads::append(permitted, &repository, &id, body).await,
        Route::UploadPut { repository, id, digest } => {
            uploads::finish(permitted, &repository, &id, &digest, body).await
        }
        Route::UploadCancel { repository, id } => uploads::cancel(permitted, &repository, &id).await,
        Route::Referrers { repository, digest, artifact_type } => {
            referrers::list(permitted, &repository, &digest, artifact_type.as_deref()).await
        }
        Route::TokenGet(request) => tokens::get(permitted, &request),
        Route::TokenPost => tokens::post(permitted, body).await,
    }
}

/// What a token has to be for, as a challenge says it.
fn required_scope(route: &Route) -> Option<String> {
    match (route, route.operation()) {
        (Route::Catalog { .. }, _) => Some("registry:catalog:*".to_owned()),
        (route, Some(operation)) => Some(challenge::scope(&operation, route.mount_source())),
        (_, None) => None,
    }
}

/// Bad credentials and forbidden operations are what an auditor looks for. That a client is asked to log in is not.
fn audit_refusal(error: &RequestError, request_id: Uuid, identity: Option<&str>, parts: &Parts, remote: IpAddr) {
    if let RequestError::Auth(error) = error
        && !matches!(error, AuthError::Required | AuthError::InsufficientScope)
    {
        tracing::info!(
            target: "audit",
            event = "denied",
            identity = identity.unwrap_or("-"),
            method = %parts.method,
            path = parts.uri.path(),
            reason = %error,
            %remote,
            %request_id,
        );
    }
}

fn add_common_headers(headers: &mut HeaderMap, request_id: Uuid) {
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    // Content is whatever somebody has pushed: a browser must not guess that it is a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(request_id.hyphenated().encode_lower(&mut Uuid::encode_buffer())) {
        headers.insert(REQUEST_ID, value);
    }
}

/// Ties the record to the body's end. A response to HEAD keeps the length of the body that it doesn't have.
fn finish(mut response: Response<Body>, method: &Method, record: Record) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact()
        && !response.headers().contains_key(CONTENT_LENGTH)
        && response.status() != http::StatusCode::NO_CONTENT
        && response.status() != http::StatusCode::NOT_MODIFIED
    {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    let announced = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let is_head = *method == Method::HEAD;
    response.map(|body| {
        let (body, expected) = if is_head { (Body::empty(), Some(0)) } else { (body, announced) };
        Body::new(RecordedBody::new(body, expected, record))
    })
}

impl Shared {
    /// How much of the budget a manifest of this length needs, in KiB.
    pub(super) fn manifest_permits(length: usize) -> u32 {
        u32::try_from(length.div_ceil(1024)).unwrap_or(MANIFEST_BUDGET_KIB).clamp(1, MANIFEST_BUDGET_KIB)
    }
}
