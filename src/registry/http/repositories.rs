//! Repositories with what is said about them: an API of the registry's own, beside that of the specification.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/repositories?imageType=&n=&last=` | those that the caller may view, or for `imageType=Build` may choose in a build, in pages as the catalogue's, of 4 MiB at most |
//! | `GET /api/v1/repositories/<name>` | one of them, with the number of its tags |
//! | `DELETE /api/v1/repositories/<name>` | 202: it is being deleted, with all that is in it |
//!
//! What the caller may not view is answered as what isn't there. A deletion that takes long goes on after its answer; it is
//! over when the repository is not there any more, and may be asked for again, after a crash too.

use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_TYPE, LINK};
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::oneshot;

use super::audit::{AuditContext, Event};
use super::catalog::{self, Listing};
use super::dispatch::Permitted;
use super::error::RequestError;
use super::route::next_repositories;
use crate::oci::RepositoryName;
use crate::policy::{ImageType, Kind};
use crate::registry::content::ContentError;
use crate::telemetry::carried;

/// How long a client waits for a deletion. What stands between gives up later than this.
const DELETION_WAIT: Duration = Duration::from_secs(10);
/// Bytes of the entries of one page as JSON: a page has 4 MiB at most, and there is something around them.
const MAX_BYTES: usize = (4 << 20) - 1024;
/// Tags that are counted.
const MAX_COUNTED: usize = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Repository<'a> {
    name: &'a RepositoryName,
    /// What stands before a tag in an image's reference.
    address: String,
    visibility: &'static str,
    image_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    official: bool,
    /// Not in a list, and not if there are too many to count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<usize>,
}

#[derive(Serialize)]
struct Repositories<'a> {
    repositories: Vec<Repository<'a>>,
}

pub async fn list(permitted: &Permitted<'_>, listing: &Listing) -> Result<Response<Body>, RequestError> {
    let (names, next) = catalog::page(permitted, listing).await?;
    let mut repositories: Vec<_> = names.iter().filter_map(|name| describe(permitted, name)).collect();
    let fitting = fitting(&repositories);
    let next = match repositories.len() > fitting {
        // The page's last name, of which the caller may know.
        true => repositories[..fitting].last().map(|last| last.name.to_string()),
        false => next,
    };
    repositories.truncate(fitting);
    let mut response = Response::builder().header(CONTENT_TYPE, "application/json");
    if let Some(next) = next {
        response = response.header(LINK, next_repositories(listing, &next));
    }
    // Plain data can't fail to be written.
    Ok(response.body(serde_json::to_vec(&Repositories { repositories }).unwrap_or_default().into())?)
}

pub async fn get(permitted: &Permitted<'_>, name: &RepositoryName) -> Result<Response<Body>, RequestError> {
    let (tags, more) = permitted.shared.app.content.list_tags(name, None, MAX_COUNTED).await?;
    let mut repository = describe(permitted, name).ok_or(RequestError::Hidden)?;
    repository.tags = (!more).then_some(tags.len());
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(serde_json::to_vec(&repository).unwrap_or_default().into())?)
}

pub async fn delete(permitted: &Permitted<'_>, name: &RepositoryName) -> Result<Response<Body>, RequestError> {
    let turn = permitted.shared.delete_repository()?;
    let (content, immutable) = (permitted.shared.app.content.clone(), permitted.immutable_tags(name));
    // What is refused here has removed nothing.
    content.check_deletion(name, &immutable).await?;
    let AuditContext { method, remote, request_id } = permitted.audit;
    let (method, identity, repository) = (method.clone(), permitted.caller.identity().clone(), name.clone());
    let (answer, done) = oneshot::channel();
    // It goes on, and is recorded, whether somebody waits for it or not.
    tokio::spawn(carried(async move {
        let deleted = content.delete_repository(&repository, &immutable).await;
        drop(turn);
        // Unless somebody else was quicker.
        if !matches!(deleted, Err(ContentError::RepositoryUnknown)) {
            let audit = AuditContext { method: &method, remote, request_id };
            let failure = deleted.as_ref().err();
            audit.done(&identity, Event::DeleteRepository { repository: &repository, failure });
        }
        if let Err(Err(error)) = answer.send(deleted) {
            tracing::warn!(%repository, %error, "a repository has not been deleted whole; it can be asked for again");
        }
    }));
    if let Ok(done) = tokio::time::timeout(DELETION_WAIT, done).await {
        done.map_err(|_| RequestError::Panic)??;
    }
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Body::empty())?)
}

/// How many of them fit into a page, of which the first always does.
fn fitting(repositories: &[Repository<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |repository: &&Repository<'_>| {
        // With the comma behind it.
        bytes += serde_json::to_vec(repository).map_or(0, |json| json.len() + 1);
        bytes <= MAX_BYTES
    };
    repositories.iter().take_while(fits).count().max(1).min(repositories.len())
}

/// Nothing if no Project owns the path any more.
fn describe<'a>(permitted: &'a Permitted<'_>, name: &'a RepositoryName) -> Option<Repository<'a>> {
    let snapshot = &permitted.published.snapshot;
    let project = snapshot.project_of(name)?;
    Some(Repository {
        name,
        address: format!("{}/{name}", permitted.host),
        visibility: match project.kind_of(name) {
            // Whatever the Project says of itself.
            Kind::Official | Kind::Public => "Public",
            Kind::Internal => "Internal",
            Kind::Private => "Private",
        },
        image_type: image_type_name(snapshot.image_type(name)),
        description: project.description_of(name),
        official: project.official,
        tags: None,
    })
}

/// As RepositoryPolicies write it.
pub(super) const fn image_type_name(image_type: ImageType) -> &'static str {
    match image_type {
        ImageType::Base => "Base",
        ImageType::Build => "Build",
    }
}
