//! Manifests (distribution-spec, "Pulling manifests", "Pushing Manifests", "Deleting Manifests").
//!
//! A manifest is served as it was stored, whatever `Accept` says: its digest is that of these bytes, and a client that
//! can't use them learns more from their media type than from an error.

use std::time::SystemTime;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;

use super::audit::Event;
use super::body::RequestBody;
use super::dispatch::{Permitted, Shared};
use super::error::RequestError;
use super::respond::{OCI_SUBJECT, about, is_known_to_client};
use super::route::manifest_location;
use crate::oci::{Digest, MAX_MANIFEST_BYTES, Manifest, MediaType, Reference, RepositoryName};
use crate::registry::content::NewManifest;

pub async fn get(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>, RequestError> {
    let stored = permitted.shared.app.content.get_manifest(repository, reference).await?;
    let size = stored.bytes.len() as u64;
    respond(permitted.headers, &stored.digest, &stored.media_type, size, stored.bytes.into())
}

pub async fn head(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>, RequestError> {
    let stat = permitted.shared.app.content.stat_manifest(repository, reference).await?;
    respond(permitted.headers, &stat.digest, &stat.media_type, stat.size, Body::empty())
}

pub async fn put(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    reference: &Reference,
    mut body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let bytes = receive(permitted, &mut body).await?;
    let manifest = Manifest::parse(&media_type(permitted.headers, &bytes)?, &bytes)?;
    // Whether content has the digest that it is pushed under is checked where it is stored.
    let (tag, digest) = match reference {
        Reference::Tag(tag) => (Some(tag.clone()), Digest::sha256(&bytes)),
        Reference::Digest(digest) => (None, digest.clone()),
    };
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
    let pusher = permitted.caller.identity().to_string();
    let now = SystemTime::from(permitted.now);
    let new = NewManifest { tag, manifest, bytes, digest: digest.clone(), pusher, now };
    let has_subject = permitted.shared.app.content.put_manifest(repository, new).await?;
    permitted.audit(Event::Push { repository, reference, digest: &digest });

    let mut response = about(StatusCode::CREATED, &digest).header(LOCATION, manifest_location(repository, &digest));
    if let Some(subject) = subject.filter(|_| has_subject) {
        response = response.header(OCI_SUBJECT, subject.as_str());
    }
    Ok(response.body(Body::empty())?)
}

pub async fn delete(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>, RequestError> {
    let content = &permitted.shared.app.content;
    match reference {
        Reference::Tag(tag) => content.delete_tag(repository, tag).await?,
        Reference::Digest(digest) => content.delete_manifest(repository, digest).await?,
    }
    permitted.audit(Event::DeleteManifest { repository, reference });
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Body::empty())?)
}

fn respond(
    headers: &HeaderMap,
    digest: &Digest,
    media_type: &MediaType,
    size: u64,
    body: Body,
) -> Result<Response<Body>, RequestError> {
    if is_known_to_client(headers, digest) {
        return Ok(about(StatusCode::NOT_MODIFIED, digest).body(Body::empty())?);
    }
    let response = about(StatusCode::OK, digest).header(CONTENT_TYPE, media_type.as_str()).header(CONTENT_LENGTH, size);
    Ok(response.body(body)?)
}

/// The body, if it isn't too large. Only so many of them are in memory at a time.
async fn receive(permitted: &Permitted<'_>, body: &mut RequestBody) -> Result<Bytes, RequestError> {
    let announced = permitted.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length = announced.unwrap_or(MAX_MANIFEST_BYTES);
    let too_large = RequestError::ManifestTooLarge { limit: MAX_MANIFEST_BYTES };
    if length > MAX_MANIFEST_BYTES {
        return Err(too_large);
    }
    let permits = Shared::manifest_permits(length);
    // The semaphore is never closed. What it limits is the receiving: the body of a slow client.
    let _budget = permitted.shared.manifest_budget.acquire_many(permits).await;
    body.read_all(MAX_MANIFEST_BYTES).await.map_err(RequestError::Body)?.ok_or(too_large)
}

/// What the manifest was pushed as; without a `Content-Type`, what it says of itself.
fn media_type(headers: &HeaderMap, bytes: &[u8]) -> Result<MediaType, RequestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct MediaTypeOnly {
        media_type: String,
    }
    let text = match headers.get(CONTENT_TYPE) {
        Some(value) => value.to_str().map_err(|_| RequestError::ManifestType)?.to_owned(),
        None => serde_json::from_slice::<MediaTypeOnly>(bytes).map_err(|_| RequestError::ManifestType)?.media_type,
    };
    text.parse().map_err(|_| RequestError::ManifestType)
}
