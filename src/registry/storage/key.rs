//! Keys and prefixes: relative paths of safe components, so that no back end can be led out of its root.

use std::fmt;

/// Longest key, in bytes: S3's limit.
const MAX_KEY: usize = 1024;
/// Longest component, in bytes: a file name's limit on Linux.
const MAX_COMPONENT: usize = 255;

/// Why a text is not a [`Key`] or a [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key has 1 to {MAX_KEY} bytes")]
    Length,
    #[error(
        "{0:?} can't be a component of a key: 1 to {MAX_COMPONENT} printable ASCII characters, neither '.' nor '..'"
    )]
    Component(String),
    #[error("a prefix is empty or ends with '/'")]
    OpenPrefix,
}

/// What an object is stored under, such as `catalogue/app`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        check(&text)?;
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The keys of which this one lies below: `a/b/c` gives `a/b`, `a`.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(&*self.0), |key| key.rsplit_once('/').map(|(parent, _)| parent)).skip(1)
    }
}

/// What a listing is about: everything below a path. Empty, or ends with `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(Box<str>);

impl Prefix {
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        if !text.is_empty() {
            check(text.strip_suffix('/').ok_or(KeyError::OpenPrefix)?)?;
        }
        Ok(Self(text.into()))
    }

    /// The prefix of every key.
    pub fn all() -> Self {
        Self("".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of what is called `name` right below this; nothing if it would be too long.
    ///
    /// `name` must be a component: a listing has looked at each name once already.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        let length = self.0.len() + name.len();
        (length <= MAX_KEY).then(|| Key([&self.0, name].concat().into()))
    }
}

pub(super) fn is_component(text: &str) -> bool {
    (1..=MAX_COMPONENT).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\'))
}

fn check(text: &str) -> Result<(), KeyError> {
    if text.is_empty() || text.len() > MAX_KEY {
        return Err(KeyError::Length);
    }
    match text.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(KeyError::Component(component.to_owned())),
        None => Ok(()),
    }
}

macro_rules! prints_its_text {
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
    };
}
prints_its_text!(Key);
prints_its_text!(Prefix);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nested("a/b,c/d.e", true)]
    #[case::dots_inside("a/..b", true)]
    #[case::longest_component(&"a".repeat(255), true)]
    #[case::empty("", false)]
    #[case::absolute("/a", false)]
    #[case::trailing_slash("a/", false)]
    #[case::empty_component("a//b", false)]
    #[case::this_folder("a/./b", false)]
    #[case::parent_folder("a/../../etc/passwd", false)]
    #[case::backslash("a\\b", false)]
    #[case::space("a b", false)]
    #[case::nul("a\0b", false)]
    #[case::line_feed("a\nb", false)]
    #[case::not_ascii("ä", false)]
    #[case::too_long_component(&"a".repeat(256), false)]
    #[case::too_long(&"a/".repeat(513)[..1025], false)]
    fn knows_keys(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(Key::new(text).is_ok(), valid);
    }

    #[rstest]
    #[case::all("", true)]
    #[case::folder("a/b/", true)]
    #[case::no_slash("a/b", false)]
    #[case::only_slash("/", false)]
    #[case::parent_folder("../", false)]
    fn knows_prefixes(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(Prefix::new(text).is_ok(), valid);
    }

    #[test]
    fn ancestors_go_from_the_longest_to_the_shortest() {
        let key = Key::new("a/b/c").unwrap();
        assert_eq!(key.ancestors().collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(key.name(), "c");
    }
}
