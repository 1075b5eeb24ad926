//! The certificate that the webhook serves, and the path at which it answers, swapped while connections go on.
//!
//! API servers don't say who they are, so anybody in the cluster's network could ask in anybody's name, and read in the warnings
//! who has access to what. So the path is a secret: it follows from a private key in the Secret that all replicas read, and
//! the API server is told it together with whom to trust.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::hmac;
use k8s_openapi::jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use subtle::ConstantTimeEq as _;

use crate::controller::certificates::{CertificateProblem, SecretData, certified_key};

/// Nothing, until a Secret has been read; then what the last usable one held.
#[derive(Debug, Default)]
pub(super) struct ServingKey {
    certificate: ArcSwapOption<CertifiedKey>,
    paths: ArcSwap<Paths>,
}

/// The path as it is, and as it was before: the API server hears of a new one a little later. Not for logs.
#[derive(Default)]
struct Paths {
    present: String,
    previous: String,
}

impl fmt::Debug for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Paths")
    }
}

/// The path that goes with what the Secret holds. It changes with the authority; where somebody else makes the certificate, with
/// the certificate's key.
pub(super) fn path(data: &SecretData) -> Option<String> {
    let key = data.get("authority.key").or_else(|| data.get("tls.key"))?;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), b"path of the admission webhook");
    Some(format!("/admit/{}", hex::encode(&tag.as_ref()[..16])))
}

impl ServingKey {
    /// Serves what the Secret holds from now on, and says until when it is valid. On an error the old one goes on.
    pub fn load(&self, data: &SecretData) -> Result<Timestamp, CertificateProblem> {
        let (key, not_after) = certified_key(data)?;
        self.certificate.store(Some(Arc::new(key)));
        let before = self.paths.load();
        if let Some(present) = path(data).filter(|path| *path != before.present) {
            self.paths.store(Arc::new(Paths { present, previous: before.present.clone() }));
        }
        Ok(not_after)
    }

    /// Whether this is where the API server asks.
    pub fn is_path(&self, path: &str) -> bool {
        let paths = self.paths.load();
        let is = |known: &str| !known.is_empty() && bool::from(known.as_bytes().ct_eq(path.as_bytes()));
        is(&paths.present) | is(&paths.previous)
    }

    pub fn is_loaded(&self) -> bool {
        self.certificate.load().is_some()
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
        self.certificate.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::admission::own_certificate::plan;

    #[test]
    fn the_path_follows_the_authority_and_the_one_before_goes_on() {
        let made = || plan(None, "ops", Timestamp::now()).unwrap().data;
        let (first, second, third) = (made(), made(), made());
        let key = ServingKey::default();
        assert!(!key.is_path("/admit/") && !key.is_path(""), "before there is a Secret");
        let [one, two, three] = [&first, &second, &third].map(|data| path(data).unwrap());
        key.load(&first).unwrap();
        assert!(key.is_path(&one) && !key.is_path(&two) && !key.is_path("/admit") && !key.is_path(""));
        for _ in 0..2 {
            key.load(&second).unwrap();
            assert!(key.is_path(&one) && key.is_path(&two));
        }
        key.load(&third).unwrap();
        assert!(!key.is_path(&one) && key.is_path(&two) && key.is_path(&three));
    }

    #[test]
    fn another_certificate_of_the_same_authority_keeps_the_path() {
        let data = plan(None, "ops", Timestamp::now()).unwrap().data;
        let mut renewed = data.clone();
        renewed.remove("tls.key");
        let renewed = plan(Some(&renewed), "ops", Timestamp::now()).unwrap().data;
        assert_ne!(renewed["tls.key"], data["tls.key"]);
        assert_eq!(path(&renewed), path(&data));
        let mut brought = data;
        brought.remove("authority.key");
        assert!(path(&brought).is_some(), "a certificate that somebody else has made");
    }

    #[test]
    fn nothing_secret_shows_in_debug_output() {
        let key = ServingKey::default();
        let data = plan(None, "ops", Timestamp::now()).unwrap().data;
        key.load(&data).unwrap();
        assert!(!format!("{key:?}").contains(path(&data).unwrap().trim_start_matches("/admit/")));
    }
}
