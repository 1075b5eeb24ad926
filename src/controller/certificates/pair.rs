//! Certificates as they are read from a Secret: alone, or with their private key.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{BACKDATE, Names, SecretData, later};

/// Why what a Secret holds can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the certificate is missing")]
    NoCertificate,
    #[error("the certificate is not an X.509 certificate in PEM")]
    Certificate,
    #[error("the private key is missing or not an ECDSA P-256 key in PEM")]
    Key,
    #[error("certificate and private key don't belong together")]
    Mismatch,
    #[error("the certificate is not one of an authority")]
    NotAnAuthority,
}

/// A certificate, decoded as far as it is needed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    public_key: Vec<u8>,
    pub is_authority: bool,
    pub names: Names,
}

impl Certificate {
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, Unreadable> {
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| Unreadable::Certificate)?;
        // rcgen panics on such a name when it reads the authority's.
        if parsed.subject().iter().any(|attributes| attributes.iter().next().is_none()) {
            return Err(Unreadable::Certificate);
        }
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| Unreadable::Certificate);
        let (not_before, not_after) =
            (time(parsed.validity().not_before.timestamp())?, time(parsed.validity().not_after.timestamp())?);
        let public_key = parsed.public_key().subject_public_key.data.to_vec();
        let (is_authority, names) = (parsed.is_ca(), alternative_names(&parsed));
        Ok(Self { not_before, not_after, public_key, is_authority, names, der })
    }

    /// Reads the first certificate of a PEM text.
    pub fn from_pem(pem: &ByteString) -> Result<Self, Unreadable> {
        let der = CertificateDer::from_pem_slice(&pem.0).map_err(|_| Unreadable::Certificate)?;
        Self::from_der(der)
    }

    /// Reads all certificates of a PEM text.
    pub fn all_from_pem(pem: &ByteString) -> Result<Vec<Self>, Unreadable> {
        CertificateDer::pem_slice_iter(&pem.0)
            .map(|der| Self::from_der(der.map_err(|_| Unreadable::Certificate)?))
            .collect()
    }

    /// The certificate in PEM: the same bytes for the same certificate, however it was written before.
    pub fn to_pem(&self) -> String {
        let body = STANDARD.encode(&self.der);
        // Base64 is ASCII, so that any chunk of it is text.
        let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// When it was made.
    pub fn made_at(&self) -> Timestamp {
        later(self.not_before, BACKDATE)
    }

    /// When this part of its life is over.
    pub fn at(&self, numerator: i32, denominator: i32) -> Timestamp {
        let life: SignedDuration = self.not_after.duration_since(self.made_at());
        let part = life.checked_mul(numerator).map_or(life, |product| product / denominator);
        later(self.made_at(), part)
    }

    /// Whether the private key of `authority` has signed this.
    pub fn is_signed_by(&self, authority: &Certificate) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(&self.der) else { return false };
        let Ok((_, issuer)) = X509Certificate::from_der(&authority.der) else { return false };
        parsed.issuer().as_raw() == issuer.subject().as_raw()
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &authority.public_key)
                .verify(parsed.tbs_certificate.as_ref(), &parsed.signature_value.data)
                .is_ok()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { not_before, not_after, names, .. } = self;
        f.debug_struct("Certificate").field("from", not_before).field("to", not_after).field("names", names).finish()
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Names {
    let (mut dns, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    let extension = certificate.subject_alternative_name().ok().flatten();
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => drop(dns.insert((*name).to_owned())),
            GeneralName::IPAddress(octets) => {
                let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
                addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from)));
            }
            _ => {}
        }
    }
    Names { dns, addresses }
}

/// A certificate and its private key, both ECDSA P-256.
pub(super) struct Pair {
    pub certificate: Certificate,
    pub key: KeyPair,
    key_pem: String,
}

impl Pair {
    pub fn new(certificate: Certificate, key: KeyPair) -> Self {
        Self { certificate, key_pem: key.serialize_pem(), key }
    }

    /// Reads a pair. `Ok(None)`: the Secret holds neither of the two.
    pub fn read(data: &SecretData, certificate: &str, key: &str) -> Result<Option<Self>, Unreadable> {
        let (certificate, key) = match (data.get(certificate), data.get(key)) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(Unreadable::NoCertificate),
            (Some(_), None) => return Err(Unreadable::Key),
            (Some(certificate), Some(key)) => (Certificate::from_pem(certificate)?, key),
        };
        let key_pem = String::from_utf8(key.0.clone()).map_err(|_| Unreadable::Key)?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| Unreadable::Key)?;
        if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(Unreadable::Key);
        }
        if key.public_key_raw() != certificate.public_key {
            return Err(Unreadable::Mismatch);
        }
        Ok(Some(Self { certificate, key, key_pem }))
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
