//! Manifests (distribution-spec, "Pulling manifests", "Pushing Manifests", "Deleting Manifests").
//!
//! A manifest is served as it was stored, whatever `Accept` says: its digest is that of these bytes, and a client that
//! can't use them learns more from their media type than from an error.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::audit::Event;
use super::body::RequestBody;
use super::dispatch::Permitted;
use super::error::RequestError;
use super::respond::{OCI_SUBJECT, about, is_known_to_client};
use super::route::manifest_location;
use crate::oci::{Manifest, MediaType, Reference, RepositoryName, check_depth};
use crate::registry::content::{NewManifest, StoredManifest};

pub async fn get(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>, RequestError> {
    let stored = permitted.shared.app.content.get_manifest(repository, reference).await?;
    respond(permitted.headers, &stored, stored.bytes.clone().into())
}

pub async fn head(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>, RequestError> {
    let stored = permitted.shared.app.content.get_manifest(repository, reference).await?;
    respond(permitted.headers, &stored, Body::empty())
}

pub async fn put(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    reference: &Reference,
    mut body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let (bytes, memory) = receive(permitted, &mut body).await?;
    check_depth(&bytes, permitted.shared.app.limits.manifest_depth)?;
    let manifest = Manifest::parse(&media_type(permitted.headers, &bytes)?, &bytes)?;
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
    let pusher = permitted.caller.identity().to_string();
    let now = SystemTime::from(permitted.now);
    let memory = Some(Arc::new(memory));
    let is_immutable = match reference {
        Reference::Tag(tag) => permitted.immutable_tags(repository).contains(tag),
        Reference::Digest(_) => false,
    };
    let new = NewManifest { reference: reference.clone(), is_immutable, manifest, bytes, pusher, now, memory };
    let digest = permitted.shared.app.content.put_manifest(repository, new).await?;
    permitted.audit(Event::Push { repository, reference, digest: &digest });

    let mut response = about(StatusCode::CREATED, &digest).header(LOCATION, manifest_location(repository, &digest));
    if let Some(subject) = subject {
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
    let immutable = permitted.immutable_tags(repository);
    match reference {
        Reference::Tag(tag) => content.delete_tag(repository, tag, &immutable).await?,
        Reference::Digest(digest) => content.delete_manifest(repository, digest, &immutable).await?,
    }
    permitted.audit(Event::DeleteManifest { repository, reference });
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Body::empty())?)
}

fn respond(headers: &HeaderMap, manifest: &StoredManifest, body: Body) -> Result<Response<Body>, RequestError> {
    let StoredManifest { digest, media_type, bytes } = manifest;
    if is_known_to_client(headers, digest) {
        return Ok(about(StatusCode::NOT_MODIFIED, digest).body(Body::empty())?);
    }
    let response = about(StatusCode::OK, digest)
        .header(CONTENT_TYPE, media_type.as_str())
        .header(CONTENT_LENGTH, bytes.len() as u64);
    Ok(response.body(body)?)
}

/// The body, if it isn't too large, with the memory that it takes. Only so many of them are in memory at a time.
async fn receive(
    permitted: &Permitted<'_>,
    body: &mut RequestBody,
) -> Result<(Bytes, OwnedSemaphorePermit), RequestError> {
    let limit = permitted.shared.app.limits.manifest_bytes;
    let announced = permitted.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length = announced.unwrap_or(limit);
    if length > limit {
        return Err(RequestError::ManifestTooLarge { limit });
    }
    let memory = permitted.shared.manifest_memory(length).await?;
    // The memory is everybody's: a client that sends ever so little must not keep it.
    let read = tokio::time::timeout(permitted.shared.app.limits.idle(), body.read_all(limit)).await;
    let bytes = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(RequestError::Body)?;
    Ok((bytes.ok_or(RequestError::ManifestTooLarge { limit })?, memory))
}

/// What the manifest was pushed as; without a `Content-Type`, what it says of itself.
fn media_type(headers: &HeaderMap, bytes: &[u8]) -> Result<MediaType, RequestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct MediaTypeOnly {
        media_type: String,
    }
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let text = match values.next() {
        Some(_) if values.next().is_some() => return Err(RequestError::ManifestType),
        Some(value) => value.to_str().map_err(|_| RequestError::ManifestType)?.to_owned(),
        None => serde_json::from_slice::<MediaTypeOnly>(bytes).map_err(|_| RequestError::ManifestType)?.media_type,
    };
    text.parse().map_err(|_| RequestError::ManifestType)
}
