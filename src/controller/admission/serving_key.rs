//! The certificate that the webhook serves, and the path at which it answers, swapped while connections go on.
//!
//! API servers don't say who they are, so anybody in the cluster's network could ask in anybody's name, and read in the warnings
//! who has access to what. So the path is a secret: it follows from a private key in the Secret that all replicas read, and
//! the API server is told it together with whom to trust. When a call fails, the API server tells the path to whoever made the
//! change; so it is another one each hour, and the last one goes on for another.

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
    sources: ArcSwap<Sources>,
}

/// What paths follow from, as it is and as it was before: the API server hears of a new one a little later.
#[derive(Debug, Default)]
struct Sources {
    present: Option<hmac::Key>,
    previous: Option<hmac::Key>,
}

/// Seconds for which a path is the one to tell.
const HOUR: i64 = 3_600;

/// The path that goes with what the Secret holds, and until when. It changes with the authority too; where somebody else makes
/// the certificate, with the certificate's key.
pub(super) fn path(data: &SecretData, now: Timestamp) -> Option<(String, Timestamp)> {
    let hour = now.as_second().div_euclid(HOUR);
    let until = Timestamp::from_second((hour + 1) * HOUR).unwrap_or(Timestamp::MAX);
    Some((path_in(&source(data)?, hour), until))
}

fn source(data: &SecretData) -> Option<hmac::Key> {
    let key = data.get("authority.key").or_else(|| data.get("tls.key"))?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &key.0))
}

fn path_in(source: &hmac::Key, hour: i64) -> String {
    let tag = hmac::sign(source, format!("path of the admission webhook in hour {hour}").as_bytes());
    format!("/admit/{}", hex::encode(&tag.as_ref()[..16]))
}

impl ServingKey {
    /// Serves what the Secret holds from now on, and says until when it is valid. On an error the old one goes on.
    pub fn load(&self, data: &SecretData) -> Result<Timestamp, CertificateProblem> {
        let (key, not_after) = certified_key(data)?;
        self.certificate.store(Some(Arc::new(key)));
        if let Some(present) = source(data) {
            let previous = self.sources.load().present.clone();
            // Keys can't be compared; what follows from them can.
            let is_same = |previous: &hmac::Key| path_in(previous, 0) == path_in(&present, 0);
            if !previous.as_ref().is_some_and(is_same) {
                self.sources.store(Arc::new(Sources { present: Some(present), previous }));
            }
        }
        Ok(not_after)
    }

    /// Whether this is where the API server asks: also with the path of the last hour, and by a clock that is ahead with that
    /// of the next.
    pub fn is_path(&self, path: &str, now: Timestamp) -> bool {
        let sources = self.sources.load();
        let hour = now.as_second().div_euclid(HOUR);
        let known = sources
            .present
            .iter()
            .chain(&sources.previous)
            .flat_map(|source| [hour - 1, hour, hour + 1].map(|hour| path_in(source, hour)));
        known.fold(false, |found, known| found | bool::from(known.as_bytes().ct_eq(path.as_bytes())))
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

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(hours * HOUR + 1_234).unwrap()
    }

    fn of(data: &SecretData, hours: i64) -> String {
        path(data, at(hours)).unwrap().0
    }

    fn made() -> SecretData {
        plan(None, "ops", Timestamp::now()).unwrap().data
    }

    #[test]
    fn the_path_follows_the_authority_and_the_one_before_goes_on() {
        let (first, second, third) = (made(), made(), made());
        let key = ServingKey::default();
        let is = |data: &SecretData| key.is_path(&of(data, 5), at(5));
        assert!(!is(&first) && !key.is_path("/admit/", at(5)) && !key.is_path("", at(5)), "before there is a Secret");
        key.load(&first).unwrap();
        assert!(is(&first) && !is(&second) && !key.is_path("/admit", at(5)) && !key.is_path("", at(5)));
        for _ in 0..2 {
            key.load(&second).unwrap();
            assert!(is(&first) && is(&second));
        }
        key.load(&third).unwrap();
        assert!(!is(&first) && is(&second) && is(&third));
    }

    #[test]
    fn a_path_that_got_about_ends() {
        let (data, key) = (made(), ServingKey::default());
        key.load(&data).unwrap();
        let path = of(&data, 5);
        let known: Vec<_> = (2..9).filter(|hour| key.is_path(&path, at(*hour))).collect();
        assert_eq!(known, [4, 5, 6]);
        assert_eq!(super::path(&data, at(5)).unwrap().1, Timestamp::from_second(6 * HOUR).unwrap());
    }

    #[test]
    fn another_certificate_of_the_same_authority_keeps_the_path() {
        let data = made();
        let mut renewed = data.clone();
        renewed.remove("tls.key");
        let renewed = plan(Some(&renewed), "ops", Timestamp::now()).unwrap().data;
        assert_ne!(renewed["tls.key"], data["tls.key"]);
        assert_eq!(of(&renewed, 5), of(&data, 5));
        let mut brought = data;
        brought.remove("authority.key");
        assert!(path(&brought, at(5)).is_some(), "a certificate that somebody else has made");
    }
}
