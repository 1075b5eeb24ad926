//! The server's certificate, read again when its files change.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::{TlsSettings, TlsVersion};
use crate::registry::auth::{Authorities, Live};

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("can't read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no valid PEM certificate")]
    Certificate { path: PathBuf },
    #[error("{path} holds no valid PEM private key")]
    Key { path: PathBuf },
    #[error("certificate and key can't be used together: {0}")]
    Mismatch(#[source] rustls::Error),
    #[error("TLS can't be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// A certificate and its key, from two files.
///
/// # Guarantees
/// New files are in use for new connections soon after they have changed, without a restart. While they can't be used,
/// because they are malformed or only one of them has been replaced yet, the old certificate goes on serving.
#[derive(Debug)]
pub struct CertificateFiles {
    files: TlsSettings,
    current: Arc<Resolver>,
    /// What was read first: a change from then on counts, also one before somebody looks again.
    first: Pem,
}

#[derive(Debug)]
struct Resolver(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The files' content.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// One of them is a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

impl CertificateFiles {
    /// Reads the files for the first time.
    pub async fn load(files: TlsSettings) -> Result<Self, TlsError> {
        let first = read(&files).await?;
        let key = parse(&files, &first)?;
        Ok(Self { files, current: Arc::new(Resolver(ArcSwap::from_pointee(key))), first })
    }

    /// What a TLS server is configured with. It follows the files as long as [`watch`](Self::watch) runs.
    fn server_config(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<Arc<ServerConfig>, TlsError> {
        let versions: &[&SupportedProtocolVersion] = match self.files.minimum_version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// When the certificate that is in use ends, in seconds since the epoch, if that can be told.
    pub fn not_after(&self) -> Option<i64> {
        let current = self.current.0.load();
        let (_, certificate) = x509_parser::parse_x509_certificate(current.cert.first()?).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }

    /// Looks at the files from time to time, until it is told to stop.
    ///
    /// It compares their content: a Secret's files are links that are swapped, which neither a watch of the file
    /// system nor a time stamp shows reliably.
    pub async fn watch(&self, interval: Duration, shutdown: CancellationToken) {
        let mut seen = Some(self.first.clone());
        while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let found = match read(&self.files).await {
                Ok(found) => found,
                Err(error) => {
                    // Told once for each change, not once for each look.
                    if seen.take().is_some() {
                        tracing::warn!(%error, "certificate can't be read; the old one goes on serving");
                    }
                    continue;
                }
            };
            if seen.as_ref() == Some(&found) {
                continue;
            }
            match parse(&self.files, &found) {
                Ok(key) => {
                    self.current.0.store(Arc::new(key));
                    tracing::info!(path = %self.files.certificate.display(), "certificate loaded");
                }
                Err(error) => tracing::warn!(%error, "certificate can't be used; the old one goes on serving"),
            }
            seen = Some(found);
        }
    }
}

/// Accepts TLS connections as the files and the policy say at that moment.
///
/// # Guarantees
/// A client is asked for a certificate if, and only if, the policy names authorities. Other authorities come with TLS sessions
/// of their own: none from before is resumed.
#[derive(Debug)]
pub(super) struct Acceptors {
    files: Arc<CertificateFiles>,
    live: Arc<Live>,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    authorities: Option<Arc<Authorities>>,
    config: Arc<ServerConfig>,
}

impl Acceptors {
    pub fn new(files: Arc<CertificateFiles>, live: Arc<Live>) -> Result<Self, TlsError> {
        let config = files.server_config(WebPkiClientVerifier::no_client_auth())?;
        Ok(Self { files, live, current: ArcSwap::from_pointee(Current { authorities: None, config }) })
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        let authorities = self.live.current().and_then(|published| published.authorities().cloned());
        let current = self.current.load();
        let is_same = match (&current.authorities, &authorities) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        if is_same {
            return Arc::clone(&current.config).into();
        }
        let verifier = authorities.as_ref().and_then(|authorities| authorities.handshake_verifier());
        match self.files.server_config(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth)) {
            Ok(config) => {
                self.current.store(Arc::new(Current { authorities, config: Arc::clone(&config) }));
                config.into()
            }
            Err(error) => {
                tracing::error!(%error, "new client authorities can't be asked for");
                Arc::clone(&current.config).into()
            }
        }
    }
}

async fn read(files: &TlsSettings) -> Result<Pem, TlsError> {
    let read = |path: PathBuf| async move {
        tokio::fs::read(&path).await.map_err(|source| TlsError::Read { path: path.clone(), source })
    };
    Ok(Pem { certificate: read(files.certificate.clone()).await?, key: read(files.key.clone()).await? })
}

fn parse(files: &TlsSettings, pem: &Pem) -> Result<CertifiedKey, TlsError> {
    let malformed = || TlsError::Certificate { path: files.certificate.clone() };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&pem.certificate).collect::<Result<_, _>>().map_err(|_| malformed())?;
    if chain.is_empty() {
        return Err(malformed());
    }
    let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| TlsError::Key { path: files.key.clone() })?;
    let provider: CryptoProvider = default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Mismatch)
}
