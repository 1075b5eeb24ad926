//! Signing keys, and the credentials that are signed with them.
//!
//! # Flow
//! The operator signs a credential (a JWT, Ed25519) with the Registry's key and writes it as the password into a
//! Secret. The registry verifies it with the same key and asks the snapshot whether what it names still exists.
//!
//! # Guarantees
//! The same claims give the same credential: Ed25519 signatures are deterministic (RFC 8032), and the times in the claims
//! come from the objects, not from the clock. So a reconcile that changes nothing writes nothing.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CredentialSubject;

/// The `typ` of a credential. It keeps one kind of token from being taken for another.
const CREDENTIAL_TYPE: &str = "landfast-credential+jwt";

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("signing key is not an Ed25519 private key in PKCS #8 PEM")]
    Malformed,
    #[error("there is no key {}", KeySet::CURRENT_FILE)]
    Missing,
}

/// Why a token is refused. None of these says more to a client than "not valid".
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("token is malformed or not signed by a key in use")]
    Signature(#[source] jsonwebtoken::errors::Error),
    #[error("token is signed by a key that is not in use any more")]
    UnknownKey,
    #[error("token is of another kind")]
    WrongType,
    #[error("token is for another registry")]
    Audience,
    #[error("token has expired")]
    Expired,
}

/// An Ed25519 key with its ID.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    pem: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl SigningKey {
    /// Makes a key of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Malformed)?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Malformed)?;
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(document.as_ref()));
        Self::from_pem(&pem)
    }

    /// Reads a private key in PKCS #8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::Malformed)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Malformed)?;
        let public = pair.public_key().as_ref();
        let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public);
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(&fingerprint.as_ref()[..12]),
            pem: pem.to_owned(),
            encoding: EncodingKey::from_ed_der(&der),
            decoding: DecodingKey::from_ed_der(public),
        })
    }

    /// The private key in PKCS #8 PEM.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// A key for something else than signing, which every replica can derive and nobody without this key.
    pub fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(purpose);
        context.update(self.pem.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        key
    }

    /// The `kid` of what this key signs.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys of a Registry: one that signs, and others that are trusted: those that signed before it, and the next one.
#[derive(Clone, Debug)]
pub struct KeySet {
    current: SigningKey,
    previous: Vec<SigningKey>,
}

impl KeySet {
    /// The name under which the signing key is kept, in a Secret or a folder. Every other `*.pem` is a trusted key.
    pub const CURRENT_FILE: &'static str = "signing.pem";

    pub fn new(current: SigningKey, previous: Vec<SigningKey>) -> Self {
        Self { current, previous }
    }

    /// Reads the keys of a Secret or a folder: file names with their contents.
    pub fn from_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, KeyError> {
        let (mut current, mut previous) = (None, Vec::new());
        for (name, content) in files.into_iter().filter(|(name, _)| name.ends_with(".pem")) {
            let key = SigningKey::from_pem(std::str::from_utf8(content).map_err(|_| KeyError::Malformed)?)?;
            if name == Self::CURRENT_FILE {
                current = Some(key);
            } else {
                previous.push(key);
            }
        }
        Ok(Self { current: current.ok_or(KeyError::Missing)?, previous })
    }

    pub fn current(&self) -> &SigningKey {
        &self.current
    }

    /// The keys whose signatures count: the current one first.
    pub fn trusted(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Signs any claims, as a token of the kind `typ`.
    pub fn sign<T: Serialize>(&self, typ: &str, claims: &T) -> Result<String, CredentialError> {
        let header =
            Header { typ: Some(typ.to_owned()), kid: Some(self.current.id.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.current.encoding).map_err(CredentialError::Signature)
    }

    /// Verifies signature and kind. Audience and expiry are the caller's to check: it has the clock.
    pub fn verify<T: DeserializeOwned>(&self, typ: &str, token: &str) -> Result<T, CredentialError> {
        let header = jsonwebtoken::decode_header(token).map_err(CredentialError::Signature)?;
        if header.typ.as_deref() != Some(typ) {
            return Err(CredentialError::WrongType);
        }
        let key =
            self.trusted().find(|key| Some(&*key.id) == header.kid.as_deref()).ok_or(CredentialError::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let data = jsonwebtoken::decode(token, &key.decoding, &validation).map_err(CredentialError::Signature)?;
        Ok(data.claims)
    }
}

/// What a generated credential says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialClaims {
    /// UID of the Registry.
    pub aud: String,
    /// Whom the credential stands for.
    pub subject: CredentialSubject,
    /// Issued at, in seconds since the epoch.
    pub iat: i64,
    /// Expiry, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
}

impl CredentialClaims {
    /// The credential: what goes into a Secret as the password.
    pub fn sign(&self, keys: &KeySet) -> Result<String, CredentialError> {
        keys.sign(CREDENTIAL_TYPE, self)
    }

    /// Reads a credential given as a password to the registry with the UID `audience`.
    pub fn verify(credential: &str, keys: &KeySet, audience: &str, now: Timestamp) -> Result<Self, CredentialError> {
        let claims: Self = keys.verify(CREDENTIAL_TYPE, credential)?;
        claims.check(audience, now)?;
        Ok(claims)
    }

    /// Whether they are for here and now.
    pub fn check(&self, audience: &str, now: Timestamp) -> Result<(), CredentialError> {
        if self.aud != audience {
            return Err(CredentialError::Audience);
        }
        if self.exp.is_some_and(|end| end <= now.as_second()) {
            return Err(CredentialError::Expired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> KeySet {
        KeySet::new(SigningKey::from_seed(&[seed; 32]).unwrap(), vec![])
    }

    fn claims() -> CredentialClaims {
        let (member, namespace, name) = ("m".to_owned(), "ns".to_owned(), "ci".to_owned());
        let subject = CredentialSubject::Robot { member, namespace, name, generation: 0 };
        CredentialClaims { aud: "registry".to_owned(), subject, iat: 10, exp: Some(100) }
    }

    fn verify(credential: &str, keys: &KeySet, audience: &str, now: i64) -> Result<CredentialClaims, CredentialError> {
        CredentialClaims::verify(credential, keys, audience, Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn the_same_claims_give_the_same_credential() {
        let credential = claims().sign(&keys(1)).unwrap();
        assert_eq!(credential, claims().sign(&keys(1)).unwrap());
        assert_eq!(verify(&credential, &keys(1), "registry", 99).unwrap(), claims());
    }

    #[test]
    fn refuses_what_is_not_for_here_and_now() {
        let credential = claims().sign(&keys(1)).unwrap();
        assert!(matches!(verify(&credential, &keys(1), "other", 99), Err(CredentialError::Audience)));
        assert!(matches!(verify(&credential, &keys(1), "registry", 100), Err(CredentialError::Expired)));
        assert!(matches!(verify(&credential, &keys(2), "registry", 99), Err(CredentialError::UnknownKey)));
    }

    #[test]
    fn a_previous_key_is_trusted_and_does_not_sign() {
        let credential = claims().sign(&keys(1)).unwrap();
        let rotated = KeySet::new(keys(2).current, vec![keys(1).current]);
        assert!(verify(&credential, &rotated, "registry", 99).is_ok());
        assert_ne!(claims().sign(&rotated).unwrap(), credential);
    }

    #[test]
    fn reads_the_files_of_a_secret() {
        let (old, new) = (keys(1).current, keys(2).current);
        let files = [("old.pem", old.to_pem().as_bytes()), ("signing.pem", new.to_pem().as_bytes()), ("note", b"x")];
        let read = KeySet::from_files(files).unwrap();
        assert_eq!(read.current().id(), new.id());
        assert!(read.verify::<CredentialClaims>(CREDENTIAL_TYPE, &claims().sign(&keys(1)).unwrap()).is_ok());
        assert!(matches!(KeySet::from_files([files[0]]), Err(KeyError::Missing)));
    }

    #[test]
    fn refuses_forgeries() {
        let keys = keys(1);
        let credential = claims().sign(&keys).unwrap();
        let mut parts: Vec<String> = credential.split('.').map(str::to_owned).collect();
        parts[1] = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&CredentialClaims { exp: None, ..claims() }).unwrap());
        assert!(matches!(verify(&parts.join("."), &keys, "registry", 1), Err(CredentialError::Signature(_))));
        let header = format!(r#"{{"alg":"none","typ":"{CREDENTIAL_TYPE}","kid":"{}"}}"#, keys.current.id);
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), parts[1]);
        assert!(verify(&unsigned, &keys, "registry", 1).is_err());
        let other_kind = keys.sign("other+jwt", &claims()).unwrap();
        assert!(matches!(verify(&other_kind, &keys, "registry", 1), Err(CredentialError::WrongType)));
        for text in ["", ".", "..", "a.b.c", "ä"] {
            assert!(verify(text, &keys, "registry", 1).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_key_survives_its_pem_and_never_shows_in_debug_output() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(SigningKey::from_pem(key.to_pem()).unwrap().id(), key.id());
        let debug = format!("{key:?}");
        assert!(!debug.contains("PRIVATE") && debug.contains(key.id()));
        assert!(SigningKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
    }
}
