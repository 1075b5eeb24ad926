//! Blobs on their way in (distribution-spec, "Pushing blobs"): in one request, in two, in chunks, or by a mount.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, LOCATION, RANGE};
use http::{Response, StatusCode};

use super::audit::Event;
use super::body::RequestBody;
use super::dispatch::{Permitted, UploadPlace};
use super::error::RequestError;
use super::range::Chunk;
use super::respond::{DOCKER_UPLOAD_UUID, about, received_range};
use super::route::{Mount, blob_location, upload_location};
use super::upload_ids::SealedUpload;
use crate::oci::{Digest, RepositoryName};
use crate::registry::content::{BodyStream, ContentError, UploadId};

pub async fn start(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    mount: Option<Mount>,
    digest: Option<Digest>,
    body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let content = &permitted.shared.app.content;
    // What can't be mounted, for whatever reason, is uploaded.
    if let Some(mount) = &mount
        && take_over(permitted, repository, mount).await?
    {
        permitted.audit(Event::Mount { repository, from: mount.from.as_ref(), digest: &mount.digest });
        return created(repository, &mount.digest);
    }
    if let (None, Some(digest)) = (mount, digest) {
        let place = permitted.shared.receive_blob(permitted.audit.remote)?;
        let body = bounded(permitted, body, 0)?;
        content.put_blob(repository, &digest, holding(Some(place), body.boxed())).await?;
        permitted.audit(Event::Upload { repository, digest: &digest });
        return created(repository, &digest);
    }
    let upload = SealedUpload::new(&permitted.published.keys, repository, UploadId::random());
    progress(StatusCode::ACCEPTED, repository, &upload, 0)
}

/// Mounts a blob, from wherever the caller may pull it if he names no repository.
async fn take_over(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    Mount { digest, from }: &Mount,
) -> Result<bool, ContentError> {
    let content = &permitted.shared.app.content;
    match from {
        Some(from) => Ok(permitted.may_pull(from) && content.mount_blob(from, repository, digest).await?),
        None => content.mount_from_any(repository, digest, |from| permitted.may_pull(from)).await,
    }
}

pub async fn status(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    upload: &SealedUpload,
) -> Result<Response<Body>, RequestError> {
    let id = open(permitted, repository, upload)?;
    let received = permitted.shared.app.content.upload_status(&id).await?;
    progress(StatusCode::NO_CONTENT, repository, upload, received)
}

pub async fn append(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    upload: &SealedUpload,
    body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let id = open(permitted, repository, upload)?;
    let Chunk { at, length } = Chunk::of(permitted.headers)?;
    let place = permitted.shared.receive_blob(permitted.audit.remote)?;
    let Part { body, at } = part(permitted, &id, at, body).await?;
    let stream = holding(Some(place), body.expecting(length).boxed());
    let received = permitted.shared.app.content.append_upload(&id, at, stream).await;
    let received = received.map_err(|error| tell_where_to_go_on(error, repository, upload))?;
    progress(StatusCode::ACCEPTED, repository, upload, received)
}

pub async fn finish(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    upload: &SealedUpload,
    digest: &Digest,
    body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let id = open(permitted, repository, upload)?;
    let Chunk { at, length } = Chunk::of(permitted.headers)?;
    // Without a body nothing is received, and who has sent all should not have to come back for the end of it.
    let place = (!body.is_empty()).then(|| permitted.shared.receive_blob(permitted.audit.remote)).transpose()?;
    let Part { body, at } = part(permitted, &id, at, body).await?;
    let stream = holding(place, body.expecting(length).boxed());
    let finished = permitted.shared.app.content.finish_upload(repository, &id, at, stream, digest).await;
    finished.map_err(|error| tell_where_to_go_on(error, repository, upload))?;
    permitted.audit(Event::Upload { repository, digest });
    created(repository, digest)
}

pub async fn cancel(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    upload: &SealedUpload,
) -> Result<Response<Body>, RequestError> {
    let id = open(permitted, repository, upload)?;
    permitted.shared.app.content.cancel_upload(&id).await?;
    permitted.audit(Event::CancelUpload { repository, upload: &id });
    Ok(Response::builder().status(StatusCode::NO_CONTENT).body(Body::empty())?)
}

/// A body with its place, which is given back with it: what is done with it goes on if the client goes away, and takes
/// memory until it has come to its end.
struct Holding {
    body: BodyStream,
    _place: Option<UploadPlace>,
}

impl Stream for Holding {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.poll_next_unpin(context)
    }
}

fn holding(place: Option<UploadPlace>, body: BodyStream) -> BodyStream {
    Holding { body, _place: place }.boxed()
}

/// A body, and where it belongs if that is known.
struct Part {
    body: RequestBody,
    at: Option<u64>,
}

/// The body, bounded by what the limit leaves beside what the upload has got. It may then be added nowhere else: another
/// request may make the upload longer meanwhile, and each of them has been left the same room.
async fn part(
    permitted: &Permitted<'_>,
    id: &UploadId,
    at: Option<u64>,
    body: RequestBody,
) -> Result<Part, RequestError> {
    let shared = permitted.shared;
    if shared.app.limits.blob_bytes.is_none() || body.is_empty() {
        return Ok(Part { body, at });
    }
    let received = shared.app.content.upload_status(id).await?;
    Ok(Part { body: bounded(permitted, body, received)?, at: at.or(Some(received)) })
}

/// The body, which may have as many bytes as the limit leaves beside `received`.
fn bounded(permitted: &Permitted<'_>, body: RequestBody, received: u64) -> Result<RequestBody, RequestError> {
    let Some(limit) = permitted.shared.app.limits.blob_bytes else { return Ok(body) };
    let announced: Option<u64> =
        permitted.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match limit.checked_sub(received) {
        Some(room) if announced.is_none_or(|announced| announced <= room) => Ok(body.at_most(room)),
        _ => Err(RequestError::BlobTooLarge { limit }),
    }
}

fn created(repository: &RepositoryName, digest: &Digest) -> Result<Response<Body>, RequestError> {
    let response = about(StatusCode::CREATED, digest).header(LOCATION, blob_location(repository, digest));
    Ok(response.body(Body::empty())?)
}

fn progress(
    status: StatusCode,
    repository: &RepositoryName,
    upload: &SealedUpload,
    received: u64,
) -> Result<Response<Body>, RequestError> {
    let response = Response::builder()
        .status(status)
        .header(LOCATION, upload_location(repository, upload))
        .header(RANGE, received_range(received))
        .header(DOCKER_UPLOAD_UUID, upload.id().to_string());
    // A 204 has no Content-Length (RFC 9110, section 8.6).
    let response = if status == StatusCode::NO_CONTENT { response } else { response.header(CONTENT_LENGTH, 0) };
    Ok(response.body(Body::empty())?)
}

/// A session that was made for another repository, or by nobody, is as unknown as one that has ended.
fn open(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    upload: &SealedUpload,
) -> Result<UploadId, RequestError> {
    let id = upload.open(&permitted.published.keys, repository);
    id.ok_or(RequestError::Content(ContentError::UploadUnknown))
}

fn tell_where_to_go_on(error: ContentError, repository: &RepositoryName, upload: &SealedUpload) -> RequestError {
    match error {
        ContentError::OffsetMismatch { expected } => {
            let location = upload_location(repository, upload);
            RequestError::OutOfOrder { received: expected, location, id: upload.id() }
        }
        other => other.into(),
    }
}
