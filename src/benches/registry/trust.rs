//! An authority and a server's certificate made for one run, and a client that trusts them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The files that servers are given, and what clients need.
pub struct Trust {
    pub certificate: PathBuf,
    pub key: PathBuf,
    authority: rustls_pki_types::CertificateDer<'static>,
}

impl Trust {
    /// Writes a certificate for `127.0.0.1` and its key, both ECDSA P-256.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key)?;
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        let leaf = leaf.signed_by(&key, &issuer)?;
        let made = Self {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            authority: authority_certificate.der().clone(),
        };
        std::fs::write(&made.certificate, leaf.pem())?;
        std::fs::write(&made.key, key.serialize_pem())?;
        Ok(made)
    }

    /// A client that offers what Go's does, in its order, because nearly all clients of registries are written in Go:
    /// AES-128 first, X25519, no sessions taken up again.
    pub fn connector(&self, protocol: &[u8]) -> anyhow::Result<TlsConnector> {
        let provider = CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
            ..default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
