//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>` (image-spec, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState as _;

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Length of the hexadecimal part, in characters.
    pub const fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("a digest has the form algorithm:hex")]
    NoSeparator,
    #[error("digest algorithm is not supported; use sha256 or sha512")]
    UnknownAlgorithm,
    #[error("a {} digest has {} lower-case hexadecimal digits", .0.name(), .0.hex_len())]
    BadHex(Algorithm),
}

/// A valid digest. It is always printed in its canonical, lower-case form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

impl Digest {
    /// The digest of `content`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// The SHA-256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, content)
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part behind the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        Self { algorithm, text: format!("{}:{}", algorithm.name(), hex::encode(hash)).into() }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::NoSeparator)?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or(DigestError::UnknownAlgorithm)?;
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(lower_hex) {
            return Err(DigestError::BadHex(algorithm));
        }
        Ok(Self { algorithm, text: text.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The first byte of a saved state. To be changed with sha2's minor version, within which the rest is compatible.
const STATE_FORMAT: u8 = 1;

/// Hashes content as it passes by.
#[derive(Clone)]
pub enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Hasher::Sha256(_) => Algorithm::Sha256,
            Hasher::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub fn update(&mut self, content: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(content),
            Hasher::Sha512(hasher) => hasher.update(content),
        }
    }

    /// The state, for [`restore`](Hasher::restore) in this or in another process.
    pub fn save(&self) -> Vec<u8> {
        let mut saved = vec![STATE_FORMAT];
        match self {
            Hasher::Sha256(hasher) => saved.extend_from_slice(&hasher.serialize()),
            Hasher::Sha512(hasher) => saved.extend_from_slice(&hasher.serialize()),
        }
        saved
    }

    /// Goes on where a hasher was saved; nothing if that was done by a version with another format.
    pub fn restore(algorithm: Algorithm, saved: &[u8]) -> Option<Self> {
        let state = saved.strip_prefix(&[STATE_FORMAT])?;
        match algorithm {
            Algorithm::Sha256 => {
                let state = state.try_into().ok()?;
                sha2::Sha256::deserialize(state).ok().map(Hasher::Sha256)
            }
            Algorithm::Sha512 => {
                let state = state.try_into().ok()?;
                sha2::Sha512::deserialize(state).ok().map(Hasher::Sha512)
            }
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest::from_hash(Algorithm::Sha256, &hasher.finalize()),
            Hasher::Sha512(hasher) => Digest::from_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn prints_the_digest_of_known_content() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert_eq!(Digest::of(Algorithm::Sha512, b"").hex().len(), 128);
    }

    #[rstest]
    #[case::no_separator("e3b0", DigestError::NoSeparator)]
    #[case::unknown_algorithm("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::UnknownAlgorithm)]
    #[case::short("sha256:e3b0", DigestError::BadHex(Algorithm::Sha256))]
    #[case::long_for_its_algorithm(
        "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        DigestError::BadHex(Algorithm::Sha512)
    )]
    #[case::upper_case(
        "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        DigestError::BadHex(Algorithm::Sha256)
    )]
    #[case::path_escape("sha256:../../../../etc/passwd", DigestError::BadHex(Algorithm::Sha256))]
    fn rejects(#[case] text: &str, #[case] expected: DigestError) {
        assert_eq!(text.parse::<Digest>(), Err(expected));
    }

    #[test]
    fn a_state_of_another_kind_is_not_restored() {
        let saved = Hasher::new(Algorithm::Sha256).save();
        assert!(Hasher::restore(Algorithm::Sha512, &saved).is_none());
        assert!(Hasher::restore(Algorithm::Sha256, &saved[..saved.len() - 1]).is_none());
        assert!(Hasher::restore(Algorithm::Sha256, b"").is_none());
        assert!(Hasher::restore(Algorithm::Sha256, &[&[STATE_FORMAT + 1], &saved[1..]].concat()).is_none());
    }

    proptest::proptest! {
        #[test]
        fn goes_on_where_it_was_saved(content: Vec<u8>, cut: proptest::sample::Index, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let (before, after) = content.split_at(cut.index(content.len() + 1));
            let mut first = Hasher::new(algorithm);
            first.update(before);
            let mut second = Hasher::restore(algorithm, &first.save()).unwrap();
            second.update(after);
            proptest::prop_assert_eq!(second.finish(), Digest::of(algorithm, &content));
        }

        #[test]
        fn parses_what_it_prints(content: Vec<u8>, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::of(algorithm, &content);
            proptest::prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = text.parse::<Digest>();
        }
    }
}
