//! Blobs on their way out (distribution-spec, "Pulling blobs"), and their deletion.

use axum::body::Body;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, LOCATION};
use http::response::Builder;
use http::{HeaderMap, Response, StatusCode};

use super::audit::Event;
use super::dispatch::Permitted;
use super::error::RequestError;
use super::range::RequestedRange;
use super::redirect;
use super::respond::{about, is_known_to_client};
use crate::oci::{Digest, RepositoryName};
use crate::registry::content::{BlobBody, ContentError};

/// What a digest names never changes. But it isn't everybody's.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";

pub async fn get(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response<Body>, RequestError> {
    let content = &permitted.shared.app.content;
    if is_known_to_client(permitted.headers, digest) {
        content.stat_blob(repository, digest).await?;
        return Ok(blob(StatusCode::NOT_MODIFIED, digest).body(Body::empty())?);
    }
    if content.has_addresses()
        && redirect::may_follow(permitted.headers)
        && let Some(address) = content.blob_address(repository, digest).await?
        && redirect::is_fit(&address, permitted.headers, permitted.over_tls)
    {
        return Ok(about(StatusCode::TEMPORARY_REDIRECT, digest)
            .header(LOCATION, address)
            .header(CACHE_CONTROL, "no-store")
            .body(Body::empty())?);
    }
    let range = match requested_range(permitted.headers, digest) {
        RequestedRange::Whole => None,
        RequestedRange::Part(range) => Some(range),
        RequestedRange::Malformed => {
            let size = content.stat_blob(repository, digest).await?.size;
            return Err(ContentError::RangeNotSatisfiable { size }.into());
        }
    };
    let BlobBody { start, size, total, stream } = content.read_blob(repository, digest, range).await?;
    let response = if range.is_some() {
        let last = (start + size).saturating_sub(1);
        blob(StatusCode::PARTIAL_CONTENT, digest).header(CONTENT_RANGE, format!("bytes {start}-{last}/{total}"))
    } else {
        blob(StatusCode::OK, digest)
    };
    Ok(described(response, size).body(Body::from_stream(stream))?)
}

pub async fn head(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response<Body>, RequestError> {
    let size = permitted.shared.app.content.stat_blob(repository, digest).await?.size;
    if is_known_to_client(permitted.headers, digest) {
        return Ok(blob(StatusCode::NOT_MODIFIED, digest).body(Body::empty())?);
    }
    Ok(described(blob(StatusCode::OK, digest), size).body(Body::empty())?)
}

pub async fn delete(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response<Body>, RequestError> {
    permitted.shared.app.content.delete_blob(repository, digest).await?;
    permitted.audit(Event::DeleteBlob { repository, digest });
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Body::empty())?)
}

fn blob(status: StatusCode, digest: &Digest) -> Builder {
    about(status, digest).header(ACCEPT_RANGES, "bytes").header(CACHE_CONTROL, IMMUTABLE)
}

fn described(response: Builder, size: u64) -> Builder {
    response.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, size)
}

/// A client that wants to go on with other content than this has to start again (RFC 9110, section 13.1.5).
fn requested_range(headers: &HeaderMap, digest: &Digest) -> RequestedRange {
    let same = headers.get(IF_RANGE).is_none_or(|tag| tag.as_bytes() == format!("\"{digest}\"").as_bytes());
    if same { RequestedRange::of(headers) } else { RequestedRange::Whole }
}
