//! Fetches the keys of an issuer: its configuration (OpenID Connect Discovery 1.0, section 4), then the key set that this
//! names.
//!
//! # Guarantees
//! - Only HTTPS is spoken, with servers that the Registry's authorities vouch for, and a redirect is followed to the same
//!   server only.
//! - Answers are bounded in size, and all of it in time.

use std::error::Error as _;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;

use super::keys::{Keys, KeysError};

/// For both answers together.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of one answer, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
const MAX_REDIRECTS: usize = 3;

/// Where an issuer publishes its keys, and who vouches for its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The issuer as it calls itself.
    pub url: String,
    pub discovery_url: Option<String>,
    /// In PEM.
    pub certificate_authority: Option<String>,
}

/// Why keys could not be fetched. The texts are for the log.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("its certificate authority can't be used: {0}")]
    Authority(String),
    #[error("{url} does not answer: {reason}")]
    Connect { url: String, reason: String },
    #[error("{url} answers with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answers with more than {MAX_ANSWER} bytes")]
    TooLarge { url: String },
    #[error("{url} is no configuration of an issuer")]
    Configuration { url: String },
    #[error("{url} is the configuration of another issuer: {found:?}")]
    OtherIssuer { url: String, found: String },
    #[error("{url} can't be used as a key set: {reason}")]
    Keys { url: String, reason: KeysError },
    #[error("{url} is no https:// address")]
    Address { url: String },
    #[error("it takes longer than {} seconds", PATIENCE.as_secs())]
    Slow,
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys.
pub async fn fetch(place: &Place) -> Result<Keys, FetchError> {
    tokio::time::timeout(PATIENCE, fetch_both(place)).await.unwrap_or(Err(FetchError::Slow))
}

async fn fetch_both(place: &Place) -> Result<Keys, FetchError> {
    // Made anew each time, which is seldom: so it sees authorities that the system has got meanwhile.
    let client = client(place.certificate_authority.as_deref())?;
    let below = || format!("{}/.well-known/openid-configuration", place.url.trim_end_matches('/'));
    let url = place.discovery_url.clone().unwrap_or_else(below);
    let answer = get(&client, &url).await?;
    let configuration: Configuration =
        serde_json::from_slice(&answer).map_err(|_| FetchError::Configuration { url: url.clone() })?;
    let Configuration { issuer, jwks_uri } = configuration;
    if issuer != place.url {
        return Err(FetchError::OtherIssuer { url, found: issuer.chars().take(200).collect() });
    }
    let answer = get(&client, &jwks_uri).await?;
    Keys::parse(&answer).map_err(|reason| FetchError::Keys { url: jwks_uri, reason })
}

fn client(authority: Option<&str>) -> Result<Client, FetchError> {
    let refused = |error: reqwest::Error| FetchError::Authority(reason(&error));
    let mut builder = Client::builder().https_only(true).redirect(Policy::custom(follow));
    if let Some(pem) = authority {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(refused)?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(refused)
}

/// To the same server only: another one is not whom the Registry trusts.
fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let origin = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    let stays = attempt.previous().first().is_some_and(|first| origin(first) == origin(attempt.url()));
    if stays && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

async fn get(client: &Client, url: &str) -> Result<Vec<u8>, FetchError> {
    let address = Url::parse(url).ok().filter(|url| url.scheme() == "https");
    let address = address.ok_or_else(|| FetchError::Address { url: url.chars().take(200).collect() })?;
    let failed = |error: reqwest::Error| FetchError::Connect { url: url.to_owned(), reason: reason(&error) };
    // Nothing is said about the type that is wanted: Kubernetes gives its key set to nobody who wants plain JSON.
    let mut response = client.get(address).send().await.map_err(failed)?;
    // Of a redirect that is not followed too.
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status { url: url.to_owned(), status: response.status().as_u16() });
    }
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if content.len() + chunk.len() > MAX_ANSWER {
            return Err(FetchError::TooLarge { url: url.to_owned() });
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// The innermost cause: what is around it says only that there was an error.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => error.to_string(),
    }
}
