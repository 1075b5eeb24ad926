//! Authorities in PEM, as far as they can be trusted anchors.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Why a text holds no authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustAnchorsError {
    #[error("it holds no certificate in PEM")]
    Empty,
    #[error("certificate {number} in it is not valid PEM")]
    Pem { number: usize },
    #[error("certificate {number} in it can't be read: {reason}")]
    Certificate { number: usize, reason: String },
}

/// All certificates of the text: one that can't be read spoils the others, or who has made a mistake would learn of it by
/// the logins that fail.
pub fn trust_anchors(pem: &str) -> Result<RootCertStore, TrustAnchorsError> {
    let mut anchors = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let number = index + 1;
        let certificate = certificate.map_err(|_| TrustAnchorsError::Pem { number })?;
        let unreadable = |error: rustls::Error| TrustAnchorsError::Certificate { number, reason: error.to_string() };
        anchors.add(certificate).map_err(unreadable)?;
    }
    if anchors.is_empty() { Err(TrustAnchorsError::Empty) } else { Ok(anchors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_has_to_be_one() {
        let good = rcgen::generate_simple_self_signed(vec!["authority".to_owned()]).unwrap().cert.pem();
        assert_eq!(trust_anchors(&format!("{good}{good}")).unwrap().len(), 2);
        assert_eq!(trust_anchors("nothing").unwrap_err(), TrustAnchorsError::Empty);
        let block = |content: &str| format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n");
        assert_eq!(trust_anchors(&block("!")).unwrap_err(), TrustAnchorsError::Pem { number: 1 });
        let spoiled = trust_anchors(&format!("{good}{}", block("AAAA"))).unwrap_err();
        assert!(matches!(spoiled, TrustAnchorsError::Certificate { number: 2, .. }), "{spoiled}");
    }
}
