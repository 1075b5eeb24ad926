//! What refers to a manifest (distribution-spec, "Listing Referrers").

use axum::body::Body;
use http::Response;
use http::header::{CONTENT_TYPE, LINK};
use serde::Serialize;

use super::dispatch::Permitted;
use super::error::RequestError;
use super::respond::OCI_FILTERS_APPLIED;
use super::route::{ReferrersQuery, next_referrers};
use crate::oci::{Digest, MediaType, RepositoryName};
use crate::registry::content::{ReferrerDescriptor, ReferrersPage};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<ReferrerDescriptor>,
}

/// A digest that nothing refers to, in whatever repository, has an empty list: a 404 would tell the client that this
/// registry knows no referrers at all.
pub async fn list(
    permitted: &Permitted<'_>,
    repository: &RepositoryName,
    digest: &Digest,
    query: &ReferrersQuery,
) -> Result<Response<Body>, RequestError> {
    let content = &permitted.shared.app.content;
    let (after, artifact_type) = (query.last.as_ref(), query.artifact_type.as_deref());
    let ReferrersPage { manifests, next } =
        content.list_referrers(repository, digest, after, artifact_type, query.n).await?;
    let mut response = Response::builder().header(CONTENT_TYPE, MediaType::OCI_INDEX);
    if artifact_type.is_some() {
        response = response.header(OCI_FILTERS_APPLIED, "artifactType");
    }
    if let Some(last) = next {
        response = response.header(LINK, next_referrers(repository, digest, query, &last));
    }
    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests };
    // Plain data can't fail to be written.
    Ok(response.body(serde_json::to_vec(&index).unwrap_or_default().into())?)
}
