//! A certificate that somebody brings in a Secret: looked at, never changed.

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::SecretData;
use super::pair::Certificate;

/// A usable certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provided {
    /// When the certificate expires. The caller judges it: here is no clock.
    pub not_after: Timestamp,
    /// The Secret's `ca.crt`.
    pub ca_bundle: Option<String>,
}

/// What is wrong with a certificate that was brought, in words for the person who did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    #[error("the Secret has no {key}; make it with `kubectl create secret tls <name> --cert=<file> --key=<file>`")]
    Missing { key: &'static str },
    #[error(
        "tls.crt is not a chain of certificates in PEM; put the server's certificate there first, then the intermediates"
    )]
    Certificate,
    #[error(
        "tls.key is not an unencrypted private key in PEM (RSA, ECDSA or Ed25519); decrypt or convert it with `openssl pkey`"
    )]
    Key,
    #[error(
        "tls.key is not the key of the first certificate in tls.crt; replace both together, the server's certificate first"
    )]
    Mismatch,
    #[error(
        "ca.crt is not a list of certificates in PEM; correct it, or leave it out if clients trust the authority anyway"
    )]
    Bundle,
}

/// Checks the data of a Secret of type `kubernetes.io/tls`.
pub fn inspect(data: &SecretData) -> Result<Provided, CertificateProblem> {
    let (leaf, _) = serving_key(data)?;
    let ca_bundle = non_empty(data, "ca.crt").ok().map(bundle).transpose()?;
    Ok(Provided { not_after: leaf.not_after, ca_bundle })
}

/// What a TLS server serves with the data of a Secret of type `kubernetes.io/tls`, and until when it is valid.
pub fn certified_key(data: &SecretData) -> Result<(CertifiedKey, Timestamp), CertificateProblem> {
    let (leaf, key) = serving_key(data)?;
    Ok((key, leaf.not_after))
}

fn non_empty<'a>(data: &'a SecretData, key: &'static str) -> Result<&'a ByteString, CertificateProblem> {
    data.get(key).filter(|value| !value.0.is_empty()).ok_or(CertificateProblem::Missing { key })
}

fn serving_key(data: &SecretData) -> Result<(Certificate, CertifiedKey), CertificateProblem> {
    let (chain, key) = (non_empty(data, "tls.crt")?, non_empty(data, "tls.key")?);
    let chain = certificates(chain).ok_or(CertificateProblem::Certificate)?;
    let leaf = chain.first().cloned().ok_or(CertificateProblem::Certificate)?;
    let leaf = Certificate::from_der(leaf).map_err(|_| CertificateProblem::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&key.0).map_err(|_| CertificateProblem::Key)?;
    let key = any_supported_type(&key).map_err(|_| CertificateProblem::Key)?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(TlsError::InconsistentKeys(_)) => return Err(CertificateProblem::Mismatch),
        Err(_) => return Err(CertificateProblem::Certificate),
    }
    Ok((leaf, key))
}

fn certificates(pem: &ByteString) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem.0).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

/// The bundle made anew from its certificates, so that nothing else (a key put there by mistake) is published.
fn bundle(pem: &ByteString) -> Result<String, CertificateProblem> {
    match Certificate::all_from_pem(pem) {
        Ok(all) if !all.is_empty() => Ok(all.iter().map(Certificate::to_pem).collect()),
        _ => Err(CertificateProblem::Bundle),
    }
}
