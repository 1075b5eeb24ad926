//! The repositories that the caller may know of.

use axum::body::Body;
use http::Response;
use http::header::{CONTENT_TYPE, LINK};
use serde_json::json;

use super::catalog_cursor;
use super::dispatch::Permitted;
use super::error::RequestError;
use super::route::{RouteError, next_catalog};
use crate::oci::{NameError, RepositoryName};
use crate::policy::{Action, Decision, Operation, authorize};

/// Names that one request looks at. Whoever may see few of many gets them in several short pages.
const MAX_WORK: usize = 10_000;
const PAGE: usize = 1000;

/// A page, and after which name the next one starts.
struct Page {
    names: Vec<RepositoryName>,
    next: Option<Next>,
}

enum Next {
    /// After the page's last name.
    Visible(RepositoryName),
    /// After a name that the caller may not see.
    Hidden(RepositoryName),
}

pub async fn list(permitted: &Permitted<'_>, n: usize, last: Option<&str>) -> Result<Response<Body>, RequestError> {
    let keys = &permitted.published.keys;
    let after = match last {
        None => None,
        Some(last) => {
            Some(catalog_cursor::open(keys, last).ok_or(RequestError::Route(RouteError::Name(NameError::NameForm)))?)
        }
    };
    let Page { names, next } = walk(permitted, n, after).await?;
    let mut response = Response::builder().header(CONTENT_TYPE, "application/json");
    if let Some(next) = next {
        let last = match next {
            Next::Visible(name) => name.to_string(),
            Next::Hidden(name) => catalog_cursor::seal(keys, &name).ok_or(RequestError::Cursor)?,
        };
        response = response.header(LINK, next_catalog(n, &last));
    }
    Ok(response.body(json!({ "repositories": names }).to_string().into())?)
}

/// Goes on until it has found one name more than is wanted, so that the last page is known to be the last.
async fn walk(permitted: &Permitted<'_>, n: usize, mut after: Option<RepositoryName>) -> Result<Page, RequestError> {
    let mut names: Vec<RepositoryName> = Vec::new();
    if n == 0 {
        return Ok(Page { names, next: None });
    }
    let mut seen = 0;
    // Most callers may see most of it: as many as are wanted are likely to be enough.
    let mut size = n.saturating_add(1).min(PAGE);
    while seen < MAX_WORK {
        let (listed, more) = permitted.shared.app.content.list_repositories(after.as_ref(), size).await?;
        seen += listed.len();
        size = PAGE;
        after = listed.last().cloned().or(after);
        for name in listed.into_iter().filter(|name| may_view(permitted, name)) {
            if names.len() == n {
                let next = names.last().cloned().map(Next::Visible);
                return Ok(Page { names, next });
            }
            names.push(name);
        }
        if !more {
            return Ok(Page { names, next: None });
        }
    }
    let next = after.map(|name| if names.last() == Some(&name) { Next::Visible(name) } else { Next::Hidden(name) });
    Ok(Page { names, next })
}

fn may_view(permitted: &Permitted<'_>, name: &RepositoryName) -> bool {
    let operation = Operation { action: Action::View, repository: name.clone() };
    authorize(&permitted.published.snapshot, permitted.caller.identity(), &operation, permitted.now) == Decision::Allow
}
