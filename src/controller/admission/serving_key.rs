//! The certificate that the webhook serves, swapped while connections go on.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use k8s_openapi::jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::controller::certificates::{CertificateProblem, SecretData, certified_key};

/// Nothing, until a Secret has been read; then what the last usable one held.
#[derive(Debug, Default)]
pub(super) struct ServingKey(ArcSwapOption<CertifiedKey>);

impl ServingKey {
    /// Serves what the Secret holds from now on, and says until when it is valid. On an error the old one goes on.
    pub fn load(&self, data: &SecretData) -> Result<Timestamp, CertificateProblem> {
        let (key, not_after) = certified_key(data)?;
        self.0.store(Some(Arc::new(key)));
        Ok(not_after)
    }

    pub fn is_loaded(&self) -> bool {
        self.0.load().is_some()
    }

    /// What a TLS server is configured with. It follows what is loaded.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for ServingKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}
