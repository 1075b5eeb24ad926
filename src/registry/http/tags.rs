//! The tags of a repository (distribution-spec, "Listing Tags").

use axum::body::Body;
use http::Response;
use http::header::{CONTENT_TYPE, LINK};
use serde::Serialize;

use super::dispatch::Permitted;
use super::error::RequestError;
use super::route::next_tags;
use crate::oci::{RepositoryName, Tag};

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a RepositoryName,
    tags: &'a [Tag],
}

pub async fn list(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    n: usize,
    last: Option<&Tag>,
) -> Result<Response<Body>, RequestError> {
    let (tags, more) = permitted.shared.app.content.list_tags(repository, last, n).await?;
    let mut response = Response::builder().header(CONTENT_TYPE, "application/json");
    if let (true, Some(last)) = (more, tags.last()) {
        response = response.header(LINK, next_tags(repository, n, last));
    }
    // Plain data can't fail to be written.
    let body = serde_json::to_vec(&TagList { name: repository, tags: &tags }).unwrap_or_default();
    Ok(response.body(body.into())?)
}
