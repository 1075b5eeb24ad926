//! Blobs on their way in (distribution-spec, "Pushing blobs"): in one request, in two, in chunks, or by a mount.

use axum::body::Body;
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, LOCATION, RANGE};
use http::{Response, StatusCode};

use super::body::RequestBody;
use super::dispatch::Permitted;
use super::error::RequestError;
use super::range::Chunk;
use super::respond::{DOCKER_UPLOAD_UUID, about, received_range};
use super::route::{Mount, blob_location, upload_location};
use crate::oci::{Digest, RepositoryName};
use crate::registry::content::{ContentError, UploadId};

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
        return created(repository, &mount.digest);
    }
    if let (None, Some(digest)) = (mount, digest) {
        let _in_flight = permitted.shared.app.metrics.upload();
        content.put_blob(repository, &digest, body.boxed()).await?;
        return created(repository, &digest);
    }
    let id = content.start_upload(repository).await?;
    progress(StatusCode::ACCEPTED, repository, &id, 0)
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
    id: &UploadId,
) -> Result<Response<Body>, RequestError> {
    let received = permitted.shared.app.content.upload_status(repository, id).await?;
    progress(StatusCode::NO_CONTENT, repository, id, received)
}

pub async fn append(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    id: &UploadId,
    body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let Chunk { at, length } = Chunk::of(permitted.headers)?;
    let _in_flight = permitted.shared.app.metrics.upload();
    let stream = body.expecting(length).boxed();
    let received = permitted.shared.app.content.append_upload(repository, id, at, stream).await;
    let received = received.map_err(|error| tell_where_to_go_on(error, repository, id))?;
    progress(StatusCode::ACCEPTED, repository, id, received)
}

pub async fn finish(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    id: &UploadId,
    digest: &Digest,
    body: RequestBody,
) -> Result<Response<Body>, RequestError> {
    let Chunk { at, length } = Chunk::of(permitted.headers)?;
    let _in_flight = permitted.shared.app.metrics.upload();
    let stream = body.expecting(length).boxed();
    let finished = permitted.shared.app.content.finish_upload(repository, id, at, stream, digest).await;
    finished.map_err(|error| tell_where_to_go_on(error, repository, id))?;
    created(repository, digest)
}

pub async fn cancel(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    id: &UploadId,
) -> Result<Response<Body>, RequestError> {
    permitted.shared.app.content.cancel_upload(repository, id).await?;
    Ok(Response::builder().status(StatusCode::NO_CONTENT).body(Body::empty())?)
}

fn created(repository: &RepositoryName, digest: &Digest) -> Result<Response<Body>, RequestError> {
    let response = about(StatusCode::CREATED, digest).header(LOCATION, blob_location(repository, digest));
    Ok(response.body(Body::empty())?)
}

fn progress(
    status: StatusCode,
    repository: &RepositoryName,
    id: &UploadId,
    received: u64,
) -> Result<Response<Body>, RequestError> {
    let response = Response::builder()
        .status(status)
        .header(LOCATION, upload_location(repository, id))
        .header(RANGE, received_range(received))
        .header(DOCKER_UPLOAD_UUID, id.to_string());
    // A 204 has no Content-Length (RFC 9110, section 8.6).
    let response = if status == StatusCode::NO_CONTENT { response } else { response.header(CONTENT_LENGTH, 0) };
    Ok(response.body(Body::empty())?)
}

fn tell_where_to_go_on(error: ContentError, repository: &RepositoryName, id: &UploadId) -> RequestError {
    match error {
        ContentError::OffsetMismatch { expected } => {
            RequestError::OutOfOrder { received: expected, location: upload_location(repository, id), id: *id }
        }
        other => other.into(),
    }
}
