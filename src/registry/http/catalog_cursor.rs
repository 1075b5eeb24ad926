//! Where a walk through the catalogue goes on, if that is a repository that the client may not know of.
//!
//! The name is then sealed with a key that every replica derives from the Registry's signing key. What was sealed with
//! another trusted one is opened too, so that no listing breaks off when keys change.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::oci::RepositoryName;
use crate::policy::{KeySet, SigningKey};

/// No repository's name starts with it.
const MARK: char = '~';
const PURPOSE: &[u8] = b"landfast catalogue cursor";

/// Seals a name.
pub fn seal(keys: &KeySet, name: &RepositoryName) -> Option<String> {
    let mut text = name.as_str().as_bytes().to_vec();
    let nonce = key(keys.current())?.seal_in_place_append_tag(Aad::from(PURPOSE), &mut text).ok()?;
    let sealed = [&nonce.as_ref()[..], &text].concat();
    Some(format!("{MARK}{}", URL_SAFE_NO_PAD.encode(sealed)))
}

/// Reads the parameter `last`: a name, plain or sealed.
pub fn open(keys: &KeySet, last: &str) -> Option<RepositoryName> {
    let Some(sealed) = last.strip_prefix(MARK) else { return last.parse().ok() };
    let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    keys.trusted().find_map(|key| open_with(key, sealed.clone()))
}

fn open_with(signing: &SigningKey, mut sealed: Vec<u8>) -> Option<RepositoryName> {
    let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let name = key(signing)?.open_in_place(nonce, Aad::from(PURPOSE), text).ok()?;
    std::str::from_utf8(name).ok()?.parse().ok()
}

fn key(signing: &SigningKey) -> Option<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, &signing.derive(PURPOSE)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> KeySet {
        KeySet::new(SigningKey::from_seed(&[seed; 32]).unwrap(), vec![])
    }

    #[test]
    fn opens_what_it_has_sealed_and_nothing_else() {
        let name: RepositoryName = "secret/app".parse().unwrap();
        let sealed = seal(&keys(1), &name).unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(open(&keys(1), &sealed), Some(name.clone()));
        assert_eq!(open(&keys(1), "secret/app"), Some(name));
        assert_eq!(open(&keys(2), &sealed), None);
        let rotated = KeySet::new(keys(2).current().clone(), vec![keys(1).current().clone()]);
        assert_eq!(open(&rotated, &sealed), Some("secret/app".parse().unwrap()));
        for broken in ["~", "~AAAA", "~!", "Not/a/name", &sealed[..sealed.len() - 2]] {
            assert_eq!(open(&keys(1), broken), None, "{broken}");
        }
    }
}
