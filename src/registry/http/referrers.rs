//! What refers to a manifest (distribution-spec, "Listing Referrers").

use axum::body::Body;
use http::Response;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::dispatch::Permitted;
use super::error::RequestError;
use super::respond::OCI_FILTERS_APPLIED;
use crate::oci::{Digest, MediaType, RepositoryName};
use crate::registry::content::{ContentError, ReferrerDescriptor};

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
    artifact_type: Option<&str>,
) -> Result<Response<Body>, RequestError> {
    let mut manifests = match permitted.shared.app.content.list_referrers(repository, digest).await {
        Ok(manifests) => manifests,
        Err(ContentError::RepositoryUnknown | ContentError::ManifestUnknown) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut response = Response::builder().header(CONTENT_TYPE, MediaType::OCI_INDEX);
    if let Some(wanted) = artifact_type {
        manifests.retain(|manifest| manifest.artifact_type.as_deref() == Some(wanted));
        response = response.header(OCI_FILTERS_APPLIED, "artifactType");
    }
    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests };
    // Plain data can't fail to be written.
    Ok(response.body(serde_json::to_vec(&index).unwrap_or_default().into())?)
}
