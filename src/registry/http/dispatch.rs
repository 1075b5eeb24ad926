//! The steps that each request goes through: parse, authenticate, authorize, handle, answer, record.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use axum::body::Body;
use futures::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::Body as _;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::audit::{AuditContext, Event};
use super::body::RequestBody;
use super::error::{ErrorContext, RequestError};
use super::metrics::{InFlight, method_label};
use super::origin::{Arrival, Origin};
use super::record::{AccessLine, Record, RecordedBody, Seen};
use super::{App, Route, Scheme, blobs, catalog, manifests, referrers, repositories, tags, tokens, uploads};
use crate::oci::RepositoryName;
use crate::policy::{Action, ImmutableTags, Operation};
use crate::registry::auth::{
    Attempt, AuthError, Authenticator, Caller, ClientCertificate, Credentials, Published, challenge,
};
use crate::registry::shares::{Share, Shares};
use crate::telemetry::{RequestId, RequestSpan, traced};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a request waits for memory, at most. A client that is told to come back does so.
const MEMORY_WAIT: Duration = Duration::from_secs(5);

/// Repositories that are deleted at the same time. More would take the store from those who push and pull.
const DELETIONS: usize = 4;

/// What all requests share.
pub(super) struct Shared {
    pub app: App,
    pub authenticator: Authenticator,
    /// Memory for manifests that are being received and stored, in KiB.
    manifest_memory: Arc<Semaphore>,
    /// Blobs that may be received beside those that are.
    uploads: Arc<Semaphore>,
    upload_shares: Shares,
    /// Repositories that may be deleted beside those that are.
    deletions: Arc<Semaphore>,
}

/// A place among the blobs that are being received, until this is dropped.
pub(super) struct UploadPlace {
    _place: OwnedSemaphorePermit,
    _share: Share,
    _counted: InFlight,
}

/// A request that may be done: what handlers work with.
pub(super) struct Permitted<'a> {
    pub shared: &'a Shared,
    pub published: &'a Published,
    pub caller: &'a Caller,
    pub headers: &'a HeaderMap,
    /// Among others the client's address.
    pub audit: AuditContext<'a>,
    pub seen: &'a Seen,
    pub now: Timestamp,
    /// Whether the client speaks TLS, with us or with a trusted proxy.
    pub over_tls: bool,
    /// The registry as the client calls it, perhaps with a port.
    pub host: &'a str,
}

impl Permitted<'_> {
    /// For credentials in the body.
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt { published: self.published, client: self.audit.remote, now: self.now }
    }

    /// Records what the caller has done.
    pub fn audit(&self, event: Event<'_>) {
        self.audit.done(self.caller.identity(), event);
    }

    /// The tags of the repository that have to stay.
    pub fn immutable_tags(&self, repository: &RepositoryName) -> ImmutableTags {
        self.published.snapshot.immutable_tags(repository)
    }

    /// Whether the caller may pull from the repository that a blob is to be mounted from. His token need not name what
    /// anybody may pull from.
    pub fn may_pull(&self, repository: &RepositoryName) -> bool {
        let operation = Operation { action: Action::Pull, repository: repository.clone() };
        let by = |caller: &Caller| caller.permit(self.published, &operation, self.now).is_ok();
        by(self.caller) || by(&Caller::Anonymous)
    }
}

/// The registry as a service: everything under `/v2/` and `/api/`, and `/token`.
pub fn router(app: App) -> axum::Router {
    let limits = Arc::clone(&app.limits);
    let shared = Arc::new(Shared {
        authenticator: Authenticator::new(&limits, Arc::clone(&app.issuers), app.reviewer.clone()),
        manifest_memory: Arc::new(Semaphore::new(kibibytes(limits.manifest_memory_bytes) as usize)),
        uploads: Arc::new(Semaphore::new(limits.uploads)),
        upload_shares: Shares::new(limits.share_of(limits.uploads)),
        deletions: Arc::new(Semaphore::new(DELETIONS)),
        app,
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
    let body = RequestBody::new(body, Arc::clone(&received), &shared.app.limits).awaiting_continue(awaits_continue);
    let route = Route::parse(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
    let route_name = route.as_ref().map_or("none", Route::name);
    let arrival = Arrival::of(&parts, &shared.app.proxies);
    let request_id = request_id(&parts.headers, &arrival);
    let audit = AuditContext { method: &parts.method, remote: arrival.client, request_id };
    let origin = Origin::of(&arrival);
    let scope = route.as_ref().ok().and_then(required_scope);

    let span = shared.app.traces.request(&parts.headers);
    if let Some(span) = &span {
        span.set("landfast.request_id", request_id.to_string());
        if let Some(repository) = route.as_ref().ok().and_then(|route| route.target().repository) {
            span.set("landfast.repository", repository.to_string());
        }
    }
    let seen = Seen::default();
    let certificate = arrival.certificate(&parts);
    let origin_of = origin.as_ref();
    let permitting = Permitting { shared: &shared, parts: &parts, origin: origin_of, certificate, audit, seen: &seen };
    let handled = request_id.scope(RequestSpan::around(span.as_ref(), handle(permitting, route, body)));
    // A panic becomes a response: the other requests on this connection go on.
    let handled = AssertUnwindSafe(handled).catch_unwind().await;
    let names = seen.into_names();
    let mut closes = false;
    let mut response = handled.unwrap_or(Err(RequestError::Panic)).unwrap_or_else(|error| {
        closes = matches!(error, RequestError::Auth(AuthError::Certificate(_)));
        let is_token_endpoint = route_name == "token";
        audit.refused(&error, &names, &parts);
        if let RequestError::Auth(error) = &error {
            shared.app.metrics.refused(error);
        }
        let scope = scope.as_deref();
        error.into_response(&ErrorContext { request_id, origin: origin.as_ref(), scope, is_token_endpoint })
    });
    add_common_headers(response.headers_mut(), request_id);
    // The server closes it in any case; the header has the client make no further request on it.
    if closes && parts.version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }

    let record = Record {
        metrics: shared.app.metrics.clone(),
        request_id,
        route: route_name,
        method: method_label(&parts.method),
        access: AccessLine::wanted().then(|| AccessLine {
            path: parts.uri.path().to_owned(),
            remote: arrival.client,
            identity: names.identity.unwrap_or_else(|| "-".to_owned()),
        }),
        span,
        status: response.status().as_u16(),
        started,
        received,
        sent: 0,
    };
    finish(response, &parts.method, record)
}

/// A request on its way to be permitted.
#[derive(Clone, Copy)]
struct Permitting<'a> {
    shared: &'a Shared,
    parts: &'a Parts,
    origin: Option<&'a Origin>,
    certificate: Option<&'a ClientCertificate>,
    audit: AuditContext<'a>,
    seen: &'a Seen,
}

/// Everything up to the answer.
async fn handle(
    permitting: Permitting<'_>,
    route: Result<Route, super::route::RouteError>,
    body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let Prepared { route, published, caller, now } = prepare(permitting, route).await?;
    let Permitting { shared, parts, origin, audit, seen, certificate: _ } = permitting;
    let over_tls = origin.is_some_and(|origin| origin.scheme == Scheme::Https);
    // A request without a host has been refused.
    let host = origin.map_or("", |origin| &origin.host);
    let (published, caller, headers) = (&published, &caller, &parts.headers);
    let permitted = Permitted { shared, published, caller, headers, audit, seen, now, over_tls, host };
    let done = run(&permitted, route, body).await;
    if done.as_ref().is_err_and(RequestError::is_denial) {
        seen.identity(caller.identity());
    }
    done
}

/// A request that has been parsed, authenticated and authorized.
struct Prepared {
    route: Route,
    published: Arc<Published>,
    caller: Caller,
    now: Timestamp,
}

async fn prepare(
    permitting: Permitting<'_>,
    route: Result<Route, super::route::RouteError>,
) -> Result<Prepared, RequestError> {
    let Permitting { shared, parts, origin, certificate, audit, seen } = permitting;
    let route = route?;
    // Proxies may differ on whose request it is (RFC 9112, section 3.2).
    if origin.is_none() {
        return Err(RequestError::Host);
    }
    let published = shared.app.live.current().ok_or(RequestError::NoPolicy)?;
    let now = (shared.app.clock)();
    let credentials = Credentials::from_headers(&parts.headers)?;
    // It counts where nothing else is shown, and a form shows something.
    let shows_more = !matches!(credentials, Credentials::None) || matches!(route, Route::TokenPost);
    let certificate = certificate.filter(|_| !shows_more);
    match (&route, &credentials) {
        (Route::TokenGet(_) | Route::TokenPost, Credentials::Bearer(_)) => return Err(AuthError::BearerAtToken.into()),
        // Clients come here to learn how to log in. The catalogue would let in who shows nothing, but then a client
        // that has credentials would never be asked for them and see only what is public.
        (Route::Base | Route::Catalog(_) | Route::Repositories(_), Credentials::None) if certificate.is_none() => {
            return Err(AuthError::Required.into());
        }
        _ => {}
    }
    if let Credentials::Basic { username, .. } = &credentials {
        seen.user(username);
    }
    let attempt = Attempt { published: &published, client: audit.remote, now };
    let caller = match certificate {
        Some(certificate) => certificate.caller(&published, now).inspect_err(|_| {
            certificate.claimed_name().iter().for_each(|name| seen.user(name));
        })?,
        None => traced("authenticate", "", shared.authenticator.authenticate(&credentials, attempt)).await?,
    };
    let permitted = match (&route, route.operation()) {
        (_, Some(operation)) if operation.repository.as_str().len() > shared.app.limits.name_bytes => {
            return Err(RequestError::NameTooLong { limit: shared.app.limits.name_bytes });
        }
        // What may not be viewed is nothing, to whoever is logged in.
        (Route::RepositoryGet { .. }, Some(operation)) => match caller.permit(&published, &operation, now) {
            Err(AuthError::Denied(_)) => Err(RequestError::Hidden),
            other => other.map_err(RequestError::from),
        },
        (_, Some(operation)) => caller.permit(&published, &operation, now).map_err(RequestError::from),
        (Route::Catalog(_) | Route::Repositories(_), None) => {
            caller.permit_catalog(&published, now).map_err(RequestError::from)
        }
        (_, None) => caller.check_valid(&published, now).map_err(RequestError::from),
    };
    // Written out only for those who read it.
    if permitted.is_err() || AccessLine::wanted() {
        seen.identity(caller.identity());
    }
    permitted?;
    Ok(Prepared { route, published, caller, now })
}

async fn run(permitted: &Permitted<'_>, route: Route, body: RequestBody) -> Result<Response<Body>, RequestError> {
    match route {
        Route::Base => {
            Ok(Response::builder().header(http::header::CONTENT_TYPE, "application/json").body("{}".into())?)
        }
        Route::Catalog(listing) => catalog::list(permitted, &listing).await,
        Route::Repositories(listing) => repositories::list(permitted, &listing).await,
        Route::RepositoryGet { repository } => repositories::get(permitted, &repository).await,
        Route::RepositoryDelete { repository } => repositories::delete(permitted, &repository).await,
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
        Route::Referrers { repository, digest, query } => {
            referrers::list(permitted, &repository, &digest, &query).await
        }
        Route::TokenGet(request) => tokens::get(permitted, &request),
        Route::TokenPost => tokens::post(permitted, body).await,
    }
}

/// What a token has to be for, as a challenge says it.
fn required_scope(route: &Route) -> Option<String> {
    match (route, route.operation()) {
        (Route::Catalog(_) | Route::Repositories(_), _) => Some("registry:catalog:*".to_owned()),
        (route, Some(operation)) => Some(challenge::scope(&operation, route.mount_source())),
        (_, None) => None,
    }
}

/// A trusted proxy's, if it has one that can be logged, else one of our own.
fn request_id(headers: &HeaderMap, arrival: &Arrival<'_>) -> RequestId {
    let given = headers.get(REQUEST_ID).filter(|_| arrival.by_trusted_proxy);
    given.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or_else(RequestId::random)
}

fn add_common_headers(headers: &mut HeaderMap, request_id: RequestId) {
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    // Content is whatever somebody has pushed: a browser must not guess that it is a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
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
    /// Memory for a manifest of this length, once there is some. It is given back by what is returned.
    pub(super) async fn manifest_memory(&self, length: usize) -> Result<OwnedSemaphorePermit, RequestError> {
        let permits = Arc::clone(&self.manifest_memory).acquire_many_owned(kibibytes(length as u64).max(1));
        let wait = MEMORY_WAIT.min(self.app.limits.idle());
        match tokio::time::timeout(wait, permits).await {
            Ok(Ok(permits)) => Ok(permits),
            _ => Err(RequestError::Busy { what: "manifests" }),
        }
    }

    /// The right to delete a repository.
    pub(super) fn delete_repository(&self) -> Result<OwnedSemaphorePermit, RequestError> {
        Arc::clone(&self.deletions).try_acquire_owned().map_err(|_| RequestError::TooManyDeletions)
    }

    /// A place among the blobs that are being received.
    pub(super) fn receive_blob(&self, client: IpAddr) -> Result<UploadPlace, RequestError> {
        let share = self.upload_shares.take(client).ok_or(RequestError::ClientBusy { what: "blobs" })?;
        let place = Arc::clone(&self.uploads).try_acquire_owned();
        let place = place.map_err(|_| RequestError::Busy { what: "blobs" })?;
        Ok(UploadPlace { _place: place, _share: share, _counted: self.app.metrics.upload() })
    }
}

/// In KiB, rounded down, as far as a semaphore counts.
fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
}
