//! The serving certificate: signed by our own authority, made anew when one of a few reasons holds.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};

use super::pair::{Certificate, Pair};
use super::{Authority, CertificateError, Names, Planned, SERVING_LIFE, SecretData, bytes, holds, later, limit};

/// The keys of the Secret.
const OWNED: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Why a certificate is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// What is there can't be used.
    Unreadable,
    /// Another authority signs now.
    Authority,
    /// Other names are wanted.
    Names,
    /// Two thirds of its life are over.
    Due,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Missing => "there was none",
            Reason::Unreadable => "the one before could not be used",
            Reason::Authority => "another authority signs now",
            Reason::Names => "other names are wanted",
            Reason::Due => "two thirds of its life were over",
        })
    }
}

/// The serving certificate.
#[derive(Debug)]
pub struct Serving {
    pair: Pair,
    bundle: String,
    /// Why it is made anew; `None` if the one that is there is kept.
    pub issued: Option<Reason>,
}

impl Serving {
    /// Plans the serving certificate. `existing` is the data of its Secret.
    pub fn plan(
        existing: Option<&SecretData>,
        authority: &Authority,
        names: &Names,
        now: Timestamp,
    ) -> Result<Planned<Self>, CertificateError> {
        let mut notes = vec![];
        let stored = match existing.map_or(Ok(None), |data| Pair::read(data, "tls.crt", "tls.key")) {
            Ok(None) => Err(Reason::Missing),
            Ok(Some(pair)) => Ok(pair),
            Err(problem) => {
                notes.push(format!("the serving certificate can't be used ({problem}) and is made anew"));
                Err(Reason::Unreadable)
            }
        };
        let kept = stored.and_then(|pair| match reason(&pair.certificate, authority, names, now) {
            Some(reason) => Err(reason),
            None => Ok(pair),
        });
        let (pair, issued) = match kept {
            Ok(pair) => (pair, None),
            Err(reason) => (issue(authority, names, now)?, Some(reason)),
        };
        let value = Self { pair, bundle: authority.bundle(), issued };
        let changed = !holds(existing, &OWNED, &value.data());
        Ok(Planned { value, changed, notes })
    }

    /// The data of the Secret, which is of type `kubernetes.io/tls`. `ca.crt` is the whole bundle.
    pub fn data(&self) -> SecretData {
        SecretData::from([
            ("tls.crt".to_owned(), bytes(&self.pair.certificate.to_pem())),
            ("tls.key".to_owned(), bytes(self.pair.key_pem())),
            ("ca.crt".to_owned(), bytes(&self.bundle)),
        ])
    }

    /// When the certificate expires.
    pub fn not_after(&self) -> Timestamp {
        self.pair.certificate.not_after
    }

    /// When it is to be renewed.
    pub fn renew_at(&self) -> Timestamp {
        self.pair.certificate.at(2, 3)
    }
}

/// Why this certificate can't stay.
fn reason(certificate: &Certificate, authority: &Authority, names: &Names, now: Timestamp) -> Option<Reason> {
    if !certificate.is_signed_by(authority.certificate()) {
        return Some(Reason::Authority);
    }
    if certificate.names != *names {
        return Some(Reason::Names);
    }
    // Before its time: the clock has been put back.
    (now < certificate.not_before || now >= certificate.at(2, 3)).then_some(Reason::Due)
}

fn issue(authority: &Authority, names: &Names, now: Timestamp) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Generate)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    // Names count in the extension only; this one is for people who look at the certificate.
    parameters.distinguished_name.push(DnType::CommonName, "landfast");
    // A certificate that outlives its authority is valid for nobody.
    limit(&mut parameters, now, later(now, SERVING_LIFE).min(authority.certificate().not_after));
    parameters.subject_alt_names = alternative_names(names)?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let made = parameters.signed_by(&key, &authority.issuer()?).map_err(CertificateError::Generate)?;
    let certificate = Certificate::from_der(made.der().clone())
        .map_err(|_| CertificateError::Generate(rcgen::Error::CouldNotParseCertificate))?;
    Ok(Pair::new(certificate, key))
}

fn alternative_names(names: &Names) -> Result<Vec<SanType>, CertificateError> {
    let Names { dns, addresses } = names;
    let dns = dns.iter().map(|name| {
        let encoded = name.as_str().try_into();
        encoded.map(SanType::DnsName).map_err(|source| CertificateError::Name { name: name.clone(), source })
    });
    dns.chain(addresses.iter().map(|address| Ok(SanType::IpAddress(*address)))).collect()
}
