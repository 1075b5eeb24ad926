//! `/token`: from a credential to a token (Docker's token authentication specification; the POST is OAuth 2.0's).

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, Response};

use super::audit::Event;
use super::body::RequestBody;
use super::dispatch::Permitted;
use super::error::RequestError;
use super::percent::decode_query;
use super::record::AccessLine;
use super::route::RouteError;
use crate::registry::auth::{Caller, FormGrant, TokenForm, TokenRequest, issue};
use crate::telemetry::traced;

const MAX_FORM: usize = 64 * 1024;

pub fn get(permitted: &Permitted<'_>, request: &TokenRequest) -> Result<Response<Body>, RequestError> {
    respond(permitted, permitted.caller, request, false)
}

pub async fn post(permitted: &Permitted<'_>, mut body: RequestBody) -> Result<Response<Body>, RequestError> {
    let refused = || RequestError::Form { limit: MAX_FORM };
    if !is_form(permitted.headers) {
        return Err(refused());
    }
    let bytes = body.read_all(MAX_FORM).await.map_err(RequestError::Body)?.ok_or_else(refused)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| refused())?;
    let pairs = decode_query(text).map_err(RouteError::from)?;
    let TokenForm { grant, offline, request } = TokenForm::from_pairs(&pairs).map_err(RouteError::from)?;
    permitted.seen.start_over();
    if let FormGrant::Password { username, .. } = &grant {
        permitted.seen.user(username);
    }
    let verified = permitted.shared.authenticator.authenticate_form(&grant, permitted.attempt());
    let caller = traced("authenticate", "form", verified).await?;
    if AccessLine::wanted() {
        permitted.seen.identity(caller.identity());
    }
    respond(permitted, &caller, &request, offline)
}

fn respond(
    permitted: &Permitted<'_>,
    caller: &Caller,
    request: &TokenRequest,
    with_refresh: bool,
) -> Result<Response<Body>, RequestError> {
    let token = issue(permitted.published, caller, request, with_refresh, permitted.now)?;
    if !matches!(caller, Caller::Anonymous) {
        permitted.audit.done(caller.identity(), Event::Login);
    }
    permitted.audit.done(caller.identity(), Event::Token { scope: token.scope() });
    // Plain data can't fail to be written.
    let body = serde_json::to_vec(&token).unwrap_or_default();
    let response = Response::builder().header(CONTENT_TYPE, "application/json").header(CACHE_CONTROL, "no-store");
    Ok(response.body(body.into())?)
}

fn is_form(headers: &HeaderMap) -> bool {
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence);
    content_type.as_deref() == Some("application/x-www-form-urlencoded")
}
