//! The repositories that the caller may know of.

use axum::body::Body;
use http::Response;
use http::header::{CONTENT_TYPE, LINK};
use serde_json::json;

use super::catalog_cursor;
use super::dispatch::Permitted;
use super::error::RequestError;
pub use super::route::Listing;
use super::route::{RouteError, next_catalog};
use crate::oci::{NameError, RepositoryName};
use crate::policy::{Action, Decision, ImageType, Operation, authorize};

/// Names that one request looks at. Whoever may see few of many gets them in several short pages.
const MAX_WORK: usize = 10_000;
const PAGE: usize = 1000;

/// A page, and after which name the next one starts.
struct Found {
    names: Vec<RepositoryName>,
    next: Option<Next>,
}

enum Next {
    /// After the page's last name.
    Visible(RepositoryName),
    /// After a name that the caller may not see.
    Hidden(RepositoryName),
}

pub async fn list(permitted: &Permitted<'_>, listing: &Listing) -> Result<Response<Body>, RequestError> {
    let (names, next) = page(permitted, listing).await?;
    let mut response = Response::builder().header(CONTENT_TYPE, "application/json");
    if let Some(next) = next {
        response = response.header(LINK, next_catalog(listing, &next));
    }
    Ok(response.body(json!({ "repositories": names }).to_string().into())?)
}

/// The repositories of one page, and what `last` has to be for the next one.
pub async fn page(
    permitted: &Permitted<'_>,
    listing: &Listing,
) -> Result<(Vec<RepositoryName>, Option<String>), RequestError> {
    let keys = &permitted.published.keys;
    let after = match &listing.last {
        None => None,
        Some(last) => {
            Some(catalog_cursor::open(keys, last).ok_or(RequestError::Route(RouteError::Name(NameError::NameForm)))?)
        }
    };
    let Found { names, next } = walk(permitted, listing, after).await?;
    let next = match next {
        None => None,
        Some(Next::Visible(name)) => Some(name.to_string()),
        Some(Next::Hidden(name)) => Some(catalog_cursor::seal(keys, &name).ok_or(RequestError::Cursor)?),
    };
    Ok((names, next))
}

/// Goes on until it has found one name more than is wanted, so that the last page is known to be the last.
async fn walk(
    permitted: &Permitted<'_>,
    listing: &Listing,
    mut after: Option<RepositoryName>,
) -> Result<Found, RequestError> {
    let n = listing.n;
    let mut names: Vec<RepositoryName> = Vec::new();
    if n == 0 {
        return Ok(Found { names, next: None });
    }
    let mut seen = 0;
    // Most callers may see most of it: as many as are wanted are likely to be enough.
    let mut size = n.saturating_add(1).min(PAGE);
    while seen < MAX_WORK {
        let (listed, more) = permitted.shared.app.content.list_repositories(after.as_ref(), size).await?;
        seen += listed.len();
        size = PAGE;
        after = listed.last().cloned().or(after);
        for name in listed.into_iter().filter(|name| is_listed(permitted, listing.image_type, name)) {
            if names.len() == n {
                let next = names.last().cloned().map(Next::Visible);
                return Ok(Found { names, next });
            }
            names.push(name);
        }
        if !more {
            return Ok(Found { names, next: None });
        }
    }
    let next = after.map(|name| if names.last() == Some(&name) { Next::Visible(name) } else { Next::Hidden(name) });
    Ok(Found { names, next })
}

/// Whether the caller may see it, and it is of the type that is asked for.
fn is_listed(permitted: &Permitted<'_>, image_type: Option<ImageType>, name: &RepositoryName) -> bool {
    let snapshot = &permitted.published.snapshot;
    let action = if image_type == Some(ImageType::Build) { Action::SelectInBuilds } else { Action::View };
    let operation = Operation { action, repository: name.clone() };
    image_type.is_none_or(|wanted| snapshot.image_type(name) == wanted)
        && authorize(snapshot, permitted.caller.identity(), &operation, permitted.now) == Decision::Allow
}
