//! An authority of our own: it signs the serving certificate, and is replaced long before it expires.

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use sha2::{Digest as _, Sha256};

use super::pair::{Certificate, Pair, Unreadable};
use super::{AUTHORITY_LIFE, CertificateError, PUBLICATION, Planned, SecretData, bytes, holds, later, limit};

/// The keys of the Secret.
const OWNED: [&str; 5] = ["tls.crt", "tls.key", "next.crt", "next.key", "previous.crt"];
/// Attribute `serialNumber` of a distinguished name (X.520).
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// X.520's upper bound of a common name.
const COMMON_NAME_LENGTH: usize = 64;

/// The authority that signs, the one that will, and those that did and are trusted until they expire.
#[derive(Debug)]
pub struct Authority {
    current: Pair,
    next: Option<Pair>,
    previous: Vec<Certificate>,
}

/// What the Secret holds, as far as it can be used.
#[derive(Default)]
struct Stored {
    current: Option<Pair>,
    next: Option<Pair>,
    previous: Vec<Certificate>,
}

impl Authority {
    /// Plans an authority. `common_name` is for people who look at its certificate, and may be cut. `existing` is the data of its Secret.
    pub fn plan(
        common_name: &str,
        existing: Option<&SecretData>,
        now: Timestamp,
    ) -> Result<Planned<Self>, CertificateError> {
        let mut notes = vec![];
        let Stored { current, next, mut previous } =
            existing.map(|data| Stored::read(data, &mut notes)).unwrap_or_default();
        let mut next = next.filter(|pair| pair.certificate.not_after > now);
        let current = match current.filter(|pair| pair.certificate.not_after > now) {
            Some(old) => match next.take_if(|next| now >= takeover(&old.certificate, &next.certificate)) {
                Some(new) => {
                    previous.push(old.certificate);
                    new
                }
                None => old,
            },
            // A next one has been published at least for a while, which is better than one that nobody knows.
            None => match next.take() {
                Some(next) => next,
                None => issue(common_name, now)?,
            },
        };
        if next.is_none() && now >= current.certificate.at(2, 3) {
            next = Some(issue(common_name, now)?);
        }
        previous.retain(|certificate| certificate.not_after > now && *certificate != current.certificate);
        let value = Self { current, next, previous };
        let changed = !holds(existing, &OWNED, &value.data());
        Ok(Planned { value, changed, notes })
    }

    /// The data of the Secret.
    pub fn data(&self) -> SecretData {
        let mut data = SecretData::from([
            ("tls.crt".to_owned(), bytes(&self.current.certificate.to_pem())),
            ("tls.key".to_owned(), bytes(self.current.key_pem())),
        ]);
        if let Some(next) = &self.next {
            data.insert("next.crt".to_owned(), bytes(&next.certificate.to_pem()));
            data.insert("next.key".to_owned(), bytes(next.key_pem()));
        }
        if !self.previous.is_empty() {
            let pem: String = self.previous.iter().map(Certificate::to_pem).collect();
            data.insert("previous.crt".to_owned(), bytes(&pem));
        }
        data
    }

    /// The certificates to trust, in PEM: the current one, the next, and the previous ones.
    pub fn bundle(&self) -> String {
        let next = self.next.iter().map(|pair| &pair.certificate);
        std::iter::once(&self.current.certificate).chain(next).chain(&self.previous).map(Certificate::to_pem).collect()
    }

    /// When the plan changes next, if nobody touches the Secret.
    pub fn due_at(&self) -> Timestamp {
        let current = &self.current.certificate;
        let step = match &self.next {
            Some(next) => takeover(current, &next.certificate),
            None => current.at(2, 3),
        };
        self.previous.iter().map(|certificate| certificate.not_after).fold(step, Timestamp::min)
    }

    pub(super) fn certificate(&self) -> &Certificate {
        &self.current.certificate
    }

    pub(super) fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, CertificateError> {
        Issuer::from_ca_cert_der(self.current.certificate.der(), &self.current.key).map_err(CertificateError::Generate)
    }
}

impl Stored {
    fn read(data: &SecretData, notes: &mut Vec<String>) -> Self {
        let mut stored = Self::default();
        match authority(data, "tls.crt", "tls.key") {
            Ok(pair) => stored.current = pair,
            Err(problem) => {
                notes.push(format!(
                    "the authority in tls.crt and tls.key can't be used ({problem}) and is replaced: clients must trust the new bundle"
                ));
                // Certificates that it has signed are served until the new ones reach every pod.
                stored.previous.extend(data.get("tls.crt").and_then(trusted));
            }
        }
        match authority(data, "next.crt", "next.key") {
            Ok(pair) => stored.next = pair,
            Err(problem) => {
                notes.push(format!(
                    "the next authority in next.crt and next.key can't be used ({problem}) and is dropped"
                ));
            }
        }
        match data.get("previous.crt").map_or(Ok(vec![]), Certificate::all_from_pem) {
            Ok(previous) => stored.previous.extend(previous),
            Err(problem) => {
                notes.push(format!("the authority in previous.crt can't be used ({problem}) and is dropped"))
            }
        }
        stored
    }
}

fn authority(data: &SecretData, certificate: &str, key: &str) -> Result<Option<Pair>, Unreadable> {
    let pair = Pair::read(data, certificate, key)?;
    let usable = pair.as_ref().is_none_or(|pair| pair.certificate.is_authority);
    usable.then_some(pair).ok_or(Unreadable::NotAnAuthority)
}

fn trusted(pem: &ByteString) -> Option<Certificate> {
    Certificate::from_pem(pem).ok().filter(|certificate| certificate.is_authority)
}

/// When `next` begins to sign: late in the life of `current`, and not before every client can have seen it.
fn takeover(current: &Certificate, next: &Certificate) -> Timestamp {
    current.at(5, 6).max(later(next.made_at(), PUBLICATION)).min(current.not_after)
}

/// Makes an authority.
fn issue(common_name: &str, now: Timestamp) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Generate)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = name(common_name, key.public_key_raw())?;
    limit(&mut parameters, now, later(now, AUTHORITY_LIFE));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let made = parameters.self_signed(&key).map_err(CertificateError::Generate)?;
    let certificate = Certificate::from_der(made.der().clone())
        .map_err(|_| CertificateError::Generate(rcgen::Error::CouldNotParseCertificate))?;
    Ok(Pair::new(certificate, key))
}

/// The name carries a part of the key's hash: two authorities in one bundle with the same name confuse clients that
/// look for an issuer by its name alone.
fn name(common_name: &str, public_key: &[u8]) -> Result<DistinguishedName, CertificateError> {
    let common_name: String = common_name.chars().take(COMMON_NAME_LENGTH).collect();
    let serial = hex::encode(&Sha256::digest(public_key)[..8]);
    let serial = serial.as_str().try_into().map_err(CertificateError::Generate)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), DnValue::PrintableString(serial));
    Ok(name)
}
