//! From settings to a bucket that answers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};

use super::super::{Prefix, StorageError};
use super::bucket::{Bucket, Signing};
use super::probe::{Conditional, probe};
use crate::config::S3Storage;

/// How long a service that does not answer is tried at start.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(1);
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// For one try of an ordinary request, its answer included; not for content that is read from it.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Files with credentials are read again after this.
const CREDENTIALS_AGE: Duration = Duration::from_secs(60);
/// Credentials that don't say when they end are asked for again after this: the least that the client library takes.
const UNLIMITED_AGE: Duration = Duration::from_secs(15 * 60);

/// What a bucket is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Read,
    Write,
    /// Read what another program keeps there: each object of the bucket, or of a folder of it, is one under its name.
    ReadTree,
}

/// Why a bucket can't be used. What it prints is meant for the person who started the process.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("storage.s3.prefix {0:?} can't be used: give a path such as registries/main, without '/' at its ends")]
    Prefix(String),
    #[error("storage.s3.{key} {value:?} is not the address of a service: write https://host or https://host:port")]
    Endpoint { key: &'static str, value: String },
    #[error("can't read {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no certificate in PEM that can be used")]
    Authority { path: PathBuf },
    #[error("storage.s3.redirect.expirySeconds: {0}")]
    Expiry(String),
    #[error(
        "bucket {bucket:?} can't be used: {source}; make it, and allow GetObject, PutObject, DeleteObject, ListBucket, AbortMultipartUpload and ListBucketMultipartUploads in it"
    )]
    Refused { bucket: String, source: StorageError },
    #[error("the service with bucket {bucket:?} does not answer: {source}; check storage.s3.endpoint and the network")]
    Unreachable { bucket: String, source: StorageError },
    #[error(
        "the service with bucket {bucket:?} lacks conditional writes ({missing}), without which several replicas would lose each \
         other's pushes: run one replica, or use a service that has them"
    )]
    NotConditional { bucket: String, missing: &'static str },
}

pub(super) async fn connect(settings: &S3Storage, purpose: Purpose) -> Result<Bucket, ConnectError> {
    let prefix = settings.prefix.trim_matches('/');
    if !prefix.is_empty() && Prefix::new(format!("{prefix}/objects/")).is_err() {
        return Err(ConnectError::Prefix(settings.prefix.clone()));
    }
    let http = http_client(settings.certificate_authority.as_deref()).await?;
    let working = credentials(settings, &http, Some(CREDENTIALS_AGE)).await?;
    let endpoint = endpoint("endpoint", settings.endpoint.as_deref())?;
    let client = client(settings, endpoint, &http, &working, Duration::ZERO);
    let mut bucket = Bucket::new(client, &settings.bucket, prefix, purpose);
    bucket.is_encrypted = endpoint.is_none_or(|endpoint| endpoint.starts_with("https:"));
    // What is signed must not seem to end with the next look at the files.
    bucket.signing = signing(settings, &http, &credentials(settings, &http, None).await?)?;
    if purpose == Purpose::Write {
        bucket.conditional = wait_for(&bucket).await?;
        report(&bucket, settings.require_conditional_writes)?;
    }
    Ok(bucket)
}

/// The service may be on its way up, as after a failure of everything.
async fn wait_for(bucket: &Bucket) -> Result<Conditional, ConnectError> {
    let mut last: StorageError = StorageError::Unavailable { action: "answer", source: "no answer".into() };
    let tries = async {
        loop {
            match probe(bucket).await {
                Err(error @ StorageError::Unavailable { .. }) => last = error,
                Err(source) => return Err(ConnectError::Refused { bucket: bucket.name.clone(), source }),
                Ok(conditional) => return Ok(conditional),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(PATIENCE, tries).await {
        Ok(tried) => tried,
        Err(_) => Err(ConnectError::Unreachable { bucket: bucket.name.clone(), source: last }),
    }
}

fn report(bucket: &Bucket, is_required: bool) -> Result<(), ConnectError> {
    let missing = match bucket.conditional {
        Conditional { if_absent: true, if_match: true } => return Ok(()),
        Conditional { if_absent: true, if_match: false } => "If-Match",
        Conditional { if_absent: false, if_match: true } => "If-None-Match",
        Conditional { if_absent: false, if_match: false } => "If-None-Match and If-Match",
    };
    if is_required {
        return Err(ConnectError::NotConditional { bucket: bucket.name.clone(), missing });
    }
    tracing::warn!(
        bucket = bucket.name,
        missing,
        "the service lacks conditional writes: no other process may write to this part of the bucket"
    );
    Ok(())
}

fn client(
    settings: &S3Storage,
    endpoint: Option<&str>,
    http: &SharedHttpClient,
    credentials: &SharedCredentialsProvider,
    signed_for: Duration,
) -> Client {
    let retries = RetryConfig::standard()
        .with_max_attempts(4)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_secs(2));
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(ATTEMPT);
    // What is signed is good only as long as the credentials are.
    let identities = IdentityCache::lazy()
        .default_expiration(UNLIMITED_AGE + signed_for)
        .buffer_time(signed_for.max(Duration::from_secs(10)))
        .build();
    let mut config = aws_sdk_s3::Config::builder();
    config.set_endpoint_url(endpoint.map(str::to_owned));
    let config = config
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .force_path_style(settings.force_path_style)
        .credentials_provider(credentials.clone())
        .http_client(http.clone())
        .retry_config(retries)
        .timeout_config(timeouts.operation_attempt_timeout(ATTEMPT).build())
        .identity_cache(identities)
        // A client that reads slowly is no fault of the service; `body` watches over what is waited for.
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().download_enabled(false).build())
        // Many services know no others.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

fn signing(
    settings: &S3Storage,
    http: &SharedHttpClient,
    credentials: &SharedCredentialsProvider,
) -> Result<Option<Signing>, ConnectError> {
    if !settings.redirect.enabled {
        return Ok(None);
    }
    let address =
        endpoint("redirect.endpoint", settings.redirect.endpoint.as_deref())?.or(settings.endpoint.as_deref());
    let expiry = Duration::from_secs(settings.redirect.expiry_seconds);
    let presigning = PresigningConfig::expires_in(expiry).map_err(|error| ConnectError::Expiry(error.to_string()))?;
    Ok(Some(Signing { client: client(settings, address, http, credentials, expiry), presigning }))
}

fn endpoint<'a>(key: &'static str, value: Option<&'a str>) -> Result<Option<&'a str>, ConnectError> {
    let Some(value) = value else { return Ok(None) };
    let uri: Option<http::Uri> = value.parse().ok();
    let is_address = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/"))
    });
    if is_address { Ok(Some(value)) } else { Err(ConnectError::Endpoint { key, value: value.to_owned() }) }
}

async fn http_client(authority: Option<&Path>) -> Result<SharedHttpClient, ConnectError> {
    let mut trust = TrustStore::empty().with_native_roots(true);
    if let Some(path) = authority {
        let pem = tokio::fs::read(path).await;
        let pem = pem.map_err(|source| ConnectError::File { path: path.to_owned(), source })?;
        use rustls_pki_types::pem::PemObject as _;
        let mut certificates = rustls_pki_types::CertificateDer::pem_slice_iter(&pem);
        // Else the client library would panic on its first request.
        if certificates.next().is_none_or(|first| first.is_err()) || certificates.any(|other| other.is_err()) {
            return Err(ConnectError::Authority { path: path.to_owned() });
        }
        trust = trust.with_pem_certificate(pem);
    }
    let failed = |_| ConnectError::Authority { path: authority.map(Path::to_owned).unwrap_or_default() };
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(failed)?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https())
}

/// `age` is how long those of files are good for.
async fn credentials(
    settings: &S3Storage,
    http: &SharedHttpClient,
    age: Option<Duration>,
) -> Result<SharedCredentialsProvider, ConnectError> {
    if let Some(folder) = settings.credentials.clone() {
        let files = Files { folder, age };
        // What is wrong is best told now.
        files.read().await.map_err(|(path, source)| ConnectError::File { path, source })?;
        return Ok(SharedCredentialsProvider::new(files));
    }
    let region = Region::new(settings.region.clone());
    let chain =
        aws_config::defaults(BehaviorVersion::v2026_01_12()).region(region).http_client(http.clone()).load().await;
    Ok(chain.credentials_provider().unwrap_or_else(|| SharedCredentialsProvider::new(Nobody)))
}

/// Credentials from files, as a mounted Secret has them.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    age: Option<Duration>,
}

impl Files {
    async fn read(&self) -> Result<Credentials, (PathBuf, io::Error)> {
        let read = |name: &'static str| async move {
            let path = self.folder.join(name);
            match tokio::fs::read_to_string(&path).await {
                Ok(text) => Ok(text.trim().to_owned()),
                Err(error) => Err((path, error)),
            }
        };
        let session = match read("sessionToken").await {
            Ok(token) => Some(token).filter(|token| !token.is_empty()),
            Err((_, error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (id, secret) = (read("accessKeyId").await?, read("secretAccessKey").await?);
        Ok(Credentials::new(id, secret, session, self.age.map(|age| SystemTime::now() + age), "files"))
    }
}

impl ProvideCredentials for Files {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.read().await.map_err(|(_, error)| CredentialsError::provider_error(error))
        })
    }
}

/// Stands for an environment without any credentials.
#[derive(Debug)]
struct Nobody;

impl ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no credentials were given")))
    }
}
