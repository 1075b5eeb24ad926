//! The one mapping from errors to what a client reads (distribution-spec, "Error Codes").
//!
//! A 5xx tells nothing internal: its cause is logged here, once, under the request's ID, and the body names that ID.

use std::io;

use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::origin::Origin;
use super::percent::DecodeError;
use super::range::ChunkError;
use super::respond::{DOCKER_UPLOAD_UUID, received_range};
use super::route::RouteError;
use crate::oci::{ErrorCode, ManifestError, NameError};
use crate::policy::Denial;
use crate::registry::auth::{AuthError, TokenRequestError, challenge};
use crate::registry::content::{ContentError, UploadId};
use crate::registry::storage::StorageError;
use crate::telemetry::RequestId;

/// Why a request gets no better answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error("the manifest's Content-Type is missing, malformed, or there twice")]
    ManifestType,
    #[error("the manifest is larger than {limit} bytes")]
    ManifestTooLarge { limit: usize },
    #[error("the chunk does not start where the upload goes on, at byte {received}")]
    OutOfOrder { received: u64, location: String, id: UploadId },
    #[error("the form is not valid: send application/x-www-form-urlencoded, at most {limit} bytes")]
    Form { limit: usize },
    #[error("the body can't be read: {0}")]
    Body(#[source] io::Error),
    #[error("the Host header is missing, malformed, or there twice")]
    Host,
    #[error("this registry takes repository names of at most {limit} characters")]
    NameTooLong { limit: usize },
    #[error("the blob is larger than {limit} bytes")]
    BlobTooLarge { limit: u64 },
    #[error("too many {what} are being received; try again")]
    Busy { what: &'static str },
    #[error("this client is sending too many {what} at the same time; try again")]
    ClientBusy { what: &'static str },
    #[error("too many repositories are being deleted; try again")]
    TooManyDeletions,
    /// What the caller may not view: answered as what isn't there.
    #[error("repository is unknown")]
    Hidden,
    #[error("the registry has no policy yet; try again")]
    NoPolicy,
    #[error("response can't be made")]
    Response(#[from] http::Error),
    #[error("cursor of the catalogue can't be sealed")]
    Cursor,
    #[error("handler panicked")]
    Panic,
}

/// What a response to an error needs to know of its request.
pub struct ErrorContext<'a> {
    pub request_id: RequestId,
    pub origin: Option<&'a Origin>,
    /// The scope that a token would need.
    pub scope: Option<&'a str>,
    /// `/token` itself, where a token doesn't help.
    pub is_token_endpoint: bool,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    errors: Vec<ErrorEntry<'a>>,
}

#[derive(Serialize)]
struct ErrorEntry<'a> {
    code: &'static str,
    message: &'a str,
    detail: Value,
}

impl RequestError {
    /// The response, logged if it is the server's fault.
    pub fn into_response(self, context: &ErrorContext<'_>) -> Response<Body> {
        let (status, code) = self.status();
        let request_id = context.request_id;
        let message = if status.is_server_error() && code == ErrorCode::Unknown {
            tracing::error!(request_id = request_id.as_str(), error = chain(&self), "request failed");
            match status {
                StatusCode::INSUFFICIENT_STORAGE => "the registry's store is full: ask its operator".to_owned(),
                StatusCode::SERVICE_UNAVAILABLE => "the registry's storage does not answer: try again".to_owned(),
                _ => format!("internal error: the registry's log has the cause under request {request_id}"),
            }
        } else {
            self.to_string()
        };
        let errors = match &self {
            RequestError::Content(ContentError::ManifestBlobUnknown(digests)) => digests
                .iter()
                .map(|digest| ErrorEntry {
                    code: code.as_str(),
                    message: "content is not known",
                    detail: json!({"digest": digest}),
                })
                .collect(),
            RequestError::Content(ContentError::TagImmutable { tag, digest }) => {
                let detail = json!({"tag": tag, "digest": digest});
                vec![ErrorEntry { code: code.as_str(), message: &message, detail }]
            }
            _ => vec![ErrorEntry { code: code.as_str(), message: &message, detail: Value::Null }],
        };
        // Plain data: it can't fail, and if it did an empty body would do no harm.
        let body = serde_json::to_vec(&ErrorBody { errors }).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.add_headers(context, response.headers_mut());
        response
    }

    /// Whether policy does not allow what its caller may otherwise do.
    pub fn is_denial(&self) -> bool {
        matches!(self, RequestError::Content(ContentError::TagImmutable { .. }) | RequestError::Hidden)
    }

    fn status(&self) -> (StatusCode, ErrorCode) {
        use ErrorCode as Code;
        use StatusCode as Status;
        match self {
            RequestError::Route(error) => route_status(error),
            RequestError::Auth(error) => (auth_status(error), auth_code(error)),
            RequestError::Content(error) => content_status(error),
            RequestError::Manifest(_) | RequestError::ManifestType => (Status::BAD_REQUEST, Code::ManifestInvalid),
            RequestError::ManifestTooLarge { .. } => (Status::PAYLOAD_TOO_LARGE, Code::ManifestInvalid),
            RequestError::Chunk(ChunkError::Length) => (Status::BAD_REQUEST, Code::SizeInvalid),
            RequestError::Chunk(ChunkError::Range) => (Status::BAD_REQUEST, Code::BlobUploadInvalid),
            RequestError::OutOfOrder { .. } => (Status::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid),
            RequestError::Form { .. } | RequestError::Host => (Status::BAD_REQUEST, Code::Unsupported),
            RequestError::Body(error) => body_status(error),
            RequestError::NameTooLong { .. } => (Status::BAD_REQUEST, Code::NameInvalid),
            RequestError::BlobTooLarge { .. } => (Status::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            RequestError::Hidden => (Status::NOT_FOUND, Code::NameUnknown),
            RequestError::Busy { .. } | RequestError::ClientBusy { .. } | RequestError::TooManyDeletions => {
                (Status::TOO_MANY_REQUESTS, Code::TooManyRequests)
            }
            RequestError::NoPolicy => (Status::SERVICE_UNAVAILABLE, Code::Unavailable),
            RequestError::Response(_) | RequestError::Cursor | RequestError::Panic => {
                (Status::INTERNAL_SERVER_ERROR, Code::Unknown)
            }
        }
    }

    fn add_headers(&self, context: &ErrorContext<'_>, headers: &mut HeaderMap) {
        // A value that can't be a header is left out rather than the response.
        let mut add = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        match self {
            RequestError::Route(RouteError::Method { allow }) => add(ALLOW, allow),
            RequestError::NoPolicy => add(RETRY_AFTER, "2"),
            RequestError::Auth(AuthError::TooManyFailures { retry_after }) => {
                add(RETRY_AFTER, &retry_after.to_string())
            }
            RequestError::Auth(AuthError::Busy) => add(RETRY_AFTER, "1"),
            RequestError::Auth(AuthError::Unreachable { .. }) => add(RETRY_AFTER, "5"),
            RequestError::Busy { .. }
            | RequestError::ClientBusy { .. }
            | RequestError::TooManyDeletions
            | RequestError::Content(ContentError::Storage(StorageError::Unavailable { .. })) => {
                add(RETRY_AFTER, "5");
            }
            RequestError::Content(ContentError::UploadBusy) => add(RETRY_AFTER, "1"),
            RequestError::Content(ContentError::RangeNotSatisfiable { size }) => {
                add(CONTENT_RANGE, &format!("bytes */{size}"));
            }
            RequestError::OutOfOrder { received, location, id } => {
                add(RANGE, &received_range(*received));
                add(LOCATION, location);
                add(DOCKER_UPLOAD_UUID, &id.to_string());
            }
            RequestError::Auth(error) if auth_status(error) == StatusCode::UNAUTHORIZED => {
                add(CACHE_CONTROL, "no-store");
                if let Some(Origin { scheme, host }) = context.origin {
                    let challenge = if context.is_token_endpoint {
                        challenge::basic(host)
                    } else {
                        challenge::bearer(scheme.as_str(), host, context.scope, challenge_error(error))
                    };
                    add(WWW_AUTHENTICATE, &challenge);
                }
            }
            _ => {}
        }
    }
}

fn route_status(error: &RouteError) -> (StatusCode, ErrorCode) {
    let bad = |code| (StatusCode::BAD_REQUEST, code);
    match error {
        RouteError::NotFound => (StatusCode::NOT_FOUND, ErrorCode::Unsupported),
        RouteError::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported),
        RouteError::Url(DecodeError) => bad(ErrorCode::Unsupported),
        RouteError::Name(NameError::Digest(_)) | RouteError::Digest(_) | RouteError::DigestMissing => {
            bad(ErrorCode::DigestInvalid)
        }
        RouteError::Name(_) => bad(ErrorCode::NameInvalid),
        RouteError::Tag(_) => bad(ErrorCode::TagInvalid),
        RouteError::ImpossibleTag => (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown),
        RouteError::ImpossibleUpload => (StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown),
        RouteError::PageSize => bad(ErrorCode::PaginationNumberInvalid),
        RouteError::ImageType => bad(ErrorCode::Unsupported),
        RouteError::Token(TokenRequestError::Scope | TokenRequestError::TooManyScopes | TokenRequestError::Grant) => {
            bad(ErrorCode::Unsupported)
        }
    }
}

fn auth_status(error: &AuthError) -> StatusCode {
    match error {
        AuthError::Required
        | AuthError::Header
        | AuthError::BearerAtToken
        | AuthError::Password(_)
        | AuthError::Token(_)
        | AuthError::External(_)
        | AuthError::Revoked
        | AuthError::Certificate(_)
        | AuthError::InsufficientScope
        | AuthError::Denied(Denial::Anonymous | Denial::Revoked) => StatusCode::UNAUTHORIZED,
        AuthError::Denied(Denial::NotPermitted { .. } | Denial::NoProject { .. }) => StatusCode::FORBIDDEN,
        AuthError::TooManyFailures { .. } | AuthError::Busy => StatusCode::TOO_MANY_REQUESTS,
        // Not 401: clients take that for a wrong password, and forget theirs.
        AuthError::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        AuthError::Signing(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn auth_code(error: &AuthError) -> ErrorCode {
    match auth_status(error) {
        StatusCode::FORBIDDEN => ErrorCode::Denied,
        StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
        StatusCode::TOO_MANY_REQUESTS => ErrorCode::TooManyRequests,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
        _ => ErrorCode::Unknown,
    }
}

/// RFC 6750, section 3.1: it is about tokens. A client that has shown none is told nothing.
fn challenge_error(error: &AuthError) -> Option<&'static str> {
    match error {
        AuthError::InsufficientScope => Some("insufficient_scope"),
        AuthError::Header
        | AuthError::BearerAtToken
        | AuthError::Token(_)
        | AuthError::External(_)
        | AuthError::Revoked => Some("invalid_token"),
        AuthError::Required
        | AuthError::Password(_)
        | AuthError::Certificate(_)
        | AuthError::Denied(_)
        | AuthError::TooManyFailures { .. }
        | AuthError::Busy
        | AuthError::Unreachable { .. }
        | AuthError::Signing(_) => None,
    }
}

fn content_status(error: &ContentError) -> (StatusCode, ErrorCode) {
    use ErrorCode as Code;
    use StatusCode as Status;
    match error {
        ContentError::BlobUnknown => (Status::NOT_FOUND, Code::BlobUnknown),
        ContentError::ManifestUnknown => (Status::NOT_FOUND, Code::ManifestUnknown),
        ContentError::UploadUnknown => (Status::NOT_FOUND, Code::BlobUploadUnknown),
        ContentError::RepositoryUnknown => (Status::NOT_FOUND, Code::NameUnknown),
        ContentError::UploadBusy => (Status::CONFLICT, Code::BlobUploadInvalid),
        ContentError::OffsetMismatch { .. } => (Status::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid),
        ContentError::DigestMismatch { .. } => (Status::BAD_REQUEST, Code::DigestInvalid),
        ContentError::ManifestBlobUnknown(_) => (Status::BAD_REQUEST, Code::ManifestBlobUnknown),
        // Not `TAG_INVALID`, to which some clients push the manifest again in other formats; and this status is one that
        // clients neither repeat nor take for a lost race.
        ContentError::TagImmutable { .. } => (Status::FORBIDDEN, Code::Denied),
        ContentError::RangeNotSatisfiable { .. } => (Status::RANGE_NOT_SATISFIABLE, Code::SizeInvalid),
        ContentError::Body(error) => body_status(error),
        ContentError::Storage(StorageError::OutOfSpace) => (Status::INSUFFICIENT_STORAGE, Code::Unknown),
        ContentError::Storage(StorageError::TooLarge) => (Status::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
        ContentError::Storage(StorageError::Unavailable { .. }) => (Status::SERVICE_UNAVAILABLE, Code::Unknown),
        ContentError::Storage(_) | ContentError::Corrupt { .. } => (Status::INTERNAL_SERVER_ERROR, Code::Unknown),
    }
}

/// A body that breaks off or doesn't keep its promises is the client's fault.
fn body_status(error: &io::Error) -> (StatusCode, ErrorCode) {
    match error.kind() {
        io::ErrorKind::TimedOut => (StatusCode::REQUEST_TIMEOUT, ErrorCode::BlobUploadInvalid),
        io::ErrorKind::FileTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid),
        io::ErrorKind::InvalidData => (StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid),
        _ => (StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid),
    }
}

/// An error with everything that it comes from, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        // Transparent errors and those that print their source would say everything twice.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use http_body_util::BodyExt as _;

    fn respond(error: RequestError) -> (StatusCode, HeaderMap, String) {
        let origin = Origin { scheme: super::super::Scheme::Https, host: "r.example".to_owned() };
        let context = ErrorContext {
            request_id: "req-1".parse().unwrap(),
            origin: Some(&origin),
            scope: Some("repository:a:pull"),
            is_token_endpoint: false,
        };
        let (parts, body) = error.into_response(&context).into_parts();
        let body = block_on(body.collect()).unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.into()).unwrap())
    }

    #[test]
    fn a_failure_of_the_server_tells_only_where_to_look() {
        let source = io::Error::other("/data/secret: disk on fire");
        let storage = StorageError::Io { action: "read", source };
        let (status, _, body) = respond(ContentError::Storage(storage).into());
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains("UNKNOWN") && body.contains("req-1") && !body.contains("fire"), "{body}");
    }

    #[test]
    fn a_full_store_is_told_from_other_failures() {
        let (status, _, body) = respond(ContentError::Storage(StorageError::OutOfSpace).into());
        assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
        assert!(body.contains("store is full"), "{body}");
    }

    #[test]
    fn a_store_that_does_not_answer_is_worth_another_try() {
        let storage = StorageError::Unavailable { action: "read an object", source: "secret-host refused".into() };
        let (status, headers, body) = respond(ContentError::Storage(storage).into());
        assert_eq!((status, &headers[RETRY_AFTER]), (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("5")));
        assert!(body.contains("does not answer") && !body.contains("secret-host"), "{body}");
    }

    #[test]
    fn a_challenge_says_why_and_what_for() {
        let challenge = |error| respond(RequestError::Auth(error)).1[WWW_AUTHENTICATE].to_str().unwrap().to_owned();
        let base = "Bearer realm=\"https://r.example/token\",service=\"r.example\",scope=\"repository:a:pull\"";
        assert_eq!(challenge(AuthError::Required), base);
        assert_eq!(challenge(AuthError::Revoked), format!("{base},error=\"invalid_token\""));
    }

    #[test]
    fn each_missing_blob_is_an_error_of_its_own() {
        let digests = vec![crate::oci::Digest::sha256(b"a"), crate::oci::Digest::sha256(b"b")];
        let (status, _, body) = respond(ContentError::ManifestBlobUnknown(digests.clone()).into());
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body.matches("MANIFEST_BLOB_UNKNOWN").count(), 2);
        assert!(digests.iter().all(|digest| body.contains(digest.as_str())));
    }

    #[test]
    fn causes_are_logged_once_each() {
        let storage = StorageError::Io { action: "read", source: io::Error::other("broken") };
        assert_eq!(chain(&RequestError::from(ContentError::Storage(storage))), "can't read: broken");
    }
}
