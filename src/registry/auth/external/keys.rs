//! The public keys of an issuer (RFC 7517), and whether one of them has signed a token (RFC 7515).

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::ExternalTokenError as Error;
use super::jwt::Jwt;

/// Keys that are looked at. An issuer has a handful.
const MAX_KEYS: usize = 100;

/// The keys that tokens of an issuer may be signed with.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Key>,
    /// Stands for them, in whatever order they were published.
    mark: [u8; 32],
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// What it may be used for: so that no key is ever used in a way that it was not made for.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a key set can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("it is no JSON Web Key Set")]
    Malformed,
    #[error("it has no key for signatures that could be used")]
    Empty,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// As much of a JSON Web Key as matters here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a key set. Keys for something else, or that can't be read, are passed over: an issuer may publish any.
    pub fn parse(content: &[u8]) -> Result<Self, KeysError> {
        let set: JwkSet = serde_json::from_slice(content).map_err(|_| KeysError::Malformed)?;
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let read = |key: Value| Some((key.to_string(), Key::new(serde_json::from_value(key).ok()?)?));
        let (mut texts, keys): (Vec<_>, Vec<_>) = keys.filter_map(read).unzip();
        texts.sort_unstable();
        let mark = Sha256::digest(texts.join("\n")).into();
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Self { keys, mark }) }
    }

    /// Whether these are the same keys.
    pub fn are(&self, others: &Keys) -> bool {
        self.mark == others.mark
    }

    /// Whether one of the keys has signed the token. [`Error::UnknownKey`]: newer keys could tell more.
    pub fn verify(&self, jwt: &Jwt<'_>) -> Result<(), Error> {
        let algorithm = algorithm(&jwt.header.alg).ok_or(Error::Algorithm)?;
        if jwt.header.crit.is_some() {
            return Err(Error::Algorithm);
        }
        let wanted = jwt.header.kid.as_deref();
        let named = |key: &&Key| wanted.is_none() || key.id.is_none() || key.id.as_deref() == wanted;
        let fitting = self.keys.iter().filter(named).filter(|key| key.algorithms.contains(&algorithm));
        for key in fitting {
            let verified = jsonwebtoken::crypto::verify(jwt.signature, jwt.message.as_bytes(), &key.key, algorithm);
            if verified.unwrap_or(false) {
                return Ok(());
            }
        }
        // Without a name nobody can tell a wrong signature from one by a newer key.
        match wanted.is_some_and(|wanted| self.keys.iter().any(|key| key.id.as_deref() == Some(wanted))) {
            true => Err(Error::Signature),
            false => Err(Error::UnknownKey),
        }
    }
}

impl Key {
    fn new(jwk: Jwk) -> Option<Self> {
        let Jwk { kty, usage, key_ops, alg, kid, crv, n, e, x, y } = jwk;
        let verifies = key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if usage.is_some_and(|usage| usage != "sig") || !verifies {
            return None;
        }
        let (key, mut algorithms) = match (&*kty, crv.as_deref()) {
            ("RSA", _) => {
                use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
                let key = DecodingKey::from_rsa_components(&n?, &e?).ok()?;
                (key, vec![RS256, RS384, RS512, PS256, PS384, PS512])
            }
            ("EC", Some("P-256")) => (DecodingKey::from_ec_components(&x?, &y?).ok()?, vec![Algorithm::ES256]),
            ("EC", Some("P-384")) => (DecodingKey::from_ec_components(&x?, &y?).ok()?, vec![Algorithm::ES384]),
            ("OKP", Some("Ed25519")) => (DecodingKey::from_ed_components(&x?).ok()?, vec![Algorithm::EdDSA]),
            _ => return None,
        };
        if let Some(only) = alg {
            algorithms.retain(|candidate| Some(*candidate) == algorithm(&only));
        }
        (!algorithms.is_empty()).then_some(Self { id: kid, algorithms, key })
    }
}

/// The algorithms that are accepted: signatures by a key of which the registry knows the public half only.
fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "RS384" => Some(Algorithm::RS384),
        "RS512" => Some(Algorithm::RS512),
        "PS256" => Some(Algorithm::PS256),
        "PS384" => Some(Algorithm::PS384),
        "PS512" => Some(Algorithm::PS512),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}
