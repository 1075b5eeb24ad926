//! Repository names, tags and references (distribution-spec, "Pulling manifests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, DigestError};

/// Longest repository name, host not counted. Many clients stop at 255 for host and name together.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not a repository name, a tag or a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a repository name has 1 to {MAX_NAME} characters")]
    NameLength,
    #[error(
        "a repository name consists of path components of lower-case letters and digits, separated inside by '.', '_', '__' or '-'"
    )]
    NameForm,
    #[error("a tag has 1 to {MAX_TAG} letters, digits, '_', '.' or '-', and starts with none of the last two")]
    Tag,
    #[error("{0}")]
    Digest(#[from] DigestError),
}

/// One or more path components, such as `team/app`. It names a repository below a registry's host.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

impl RepositoryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Each proper prefix that ends at a component's end, longest first: `a/b/c` gives `a/b`, `a`.
    /// A repository belongs to the Project whose path is the longest of these.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(&*self.0), |name| name.rsplit_once('/').map(|(parent, _)| parent)).skip(1)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the specification's form of a path component.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(|&byte| alphanumeric(byte))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&byte| byte == b'-'))
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_NAME {
            return Err(NameError::NameLength);
        }
        if !text.split('/').all(is_component) {
            return Err(NameError::NameForm);
        }
        Ok(Self(text.into()))
    }
}

/// A tag, such as `v1.2.3`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= MAX_TAG
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        if valid { Ok(Self(text.into())) } else { Err(NameError::Tag) }
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    /// A colon can't occur in a tag, so a text with one is meant as a digest.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') { Ok(Reference::Digest(text.parse()?)) } else { Ok(Reference::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

macro_rules! text_newtype {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
text_newtype!(RepositoryName);
text_newtype!(Tag);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::one("library", true)]
    #[case::many("a/b/c/d", true)]
    #[case::separators("a.b/c_d/e__f/g---h", true)]
    #[case::digits("0/1", true)]
    #[case::empty("", false)]
    #[case::upper_case("Team/app", false)]
    #[case::empty_component("a//b", false)]
    #[case::leading_slash("/a", false)]
    #[case::trailing_slash("a/", false)]
    #[case::parent_folder("a/../b", false)]
    #[case::three_underscores("a___b", false)]
    #[case::mixed_separator("a.-b", false)]
    #[case::leading_separator("-a", false)]
    #[case::trailing_separator("a.", false)]
    #[case::not_ascii("ä", false)]
    #[case::nul("a\0b", false)]
    fn knows_repository_names(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<RepositoryName>().is_ok(), valid);
    }

    #[test]
    fn bounds_the_length_of_a_name() {
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert_eq!("a".repeat(256).parse::<RepositoryName>(), Err(NameError::NameLength));
    }

    #[rstest]
    #[case::version("v1.2.3-rc_1", true)]
    #[case::upper_case("Latest", true)]
    #[case::underscore("_x", true)]
    #[case::leading_dot(".x", false)]
    #[case::leading_dash("-x", false)]
    #[case::slash("a/b", false)]
    #[case::empty("", false)]
    #[case::longest(&"a".repeat(128), true)]
    #[case::too_long(&"a".repeat(129), false)]
    fn knows_tags(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<Tag>().is_ok(), valid);
    }

    #[test]
    fn a_reference_with_a_colon_is_a_digest() {
        assert!(matches!("v1".parse(), Ok(Reference::Tag(_))));
        assert!(matches!("sha256:zz".parse::<Reference>(), Err(NameError::Digest(_))));
    }

    #[test]
    fn parents_go_from_the_longest_to_the_shortest() {
        let name: RepositoryName = "a/b/c".parse().unwrap();
        assert_eq!(name.parents().collect::<Vec<_>>(), ["a/b", "a"]);
        let single: RepositoryName = "a".parse().unwrap();
        assert_eq!(single.parents().count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn a_valid_name_holds_nothing_dangerous(text in "[a-z0-9._/-]{0,40}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                proptest::prop_assert!(name.components().all(|c| !c.is_empty() && c != "." && c != ".."));
                proptest::prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn never_panics(text: String) {
            let _ = (text.parse::<RepositoryName>(), text.parse::<Reference>());
        }
    }
}
