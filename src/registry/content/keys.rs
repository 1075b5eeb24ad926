//! The storage layout. No other module knows where anything is.
//!
//! ```text
//! blobs/<algorithm>/<first two digits>/<hex>      content of blobs and manifests, shared by all repositories
//! catalogue/<repository>                          empty: the repository holds a manifest
//! repositories/<repository>/
//!   blobs/<algorithm>-<hex>                       empty: the repository holds this blob
//!   manifests/<algorithm>-<hex>                   JSON: media type, size, subject, who pushed it and when
//!   tags/<tag>                                    JSON: digest, who pushed it and when
//!   referrers/<algorithm>-<hex of the subject>/
//!     <algorithm>-<hex>                           JSON: the referrer's descriptor
//! ```
//!
//! Each listing that the registry offers is one prefix, already in the order in which it is offered:
//! - A `<repository>` is one component, because names nest: `a` and `a/b` can both be repositories. The bytes `-`, `.`
//!   and `/`, which are neighbours in ASCII, are each written as the one before: `,`, `-` and `.`. So the order of
//!   names is that of keys, and a name of 255 bytes still fits into a file name.
//! - A `<tag>` starts with the tag in lower case, because tags are listed in "case-insensitive alphanumeric order"
//!   (distribution-spec, "Listing Tags"). If that loses something, `,` follows, which sorts before what a tag may
//!   hold, and the places of the upper-case letters as hexadecimal digits, four places each: `Latest` is
//!   `latest,8`. So tags that differ by case only are two objects, even on a file system that ignores case.

use crate::oci::{Digest, RepositoryName, Tag};
use crate::registry::storage::{Key, Prefix};

pub const BLOBS: &str = "blobs/";
pub const CATALOGUE: &str = "catalogue/";
const REPOSITORIES: &str = "repositories/";

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Blob(Digest),
    CatalogueEntry(RepositoryName),
    BlobLink(RepositoryName, Digest),
    Manifest(RepositoryName, Digest),
    Tag(RepositoryName, Tag),
    /// The repository, the subject, the referrer.
    Referrer(RepositoryName, Digest, Digest),
}

impl Place {
    /// Nothing if no object of the layout has this key.
    pub fn of(key: &Key) -> Option<Self> {
        let parts: Vec<&str> = key.as_str().split('/').collect();
        let place = match parts[..] {
            ["blobs", algorithm, _, hex] => Place::Blob(format!("{algorithm}:{hex}").parse().ok()?),
            ["catalogue", _] => Place::CatalogueEntry(repository_of(key)?),
            ["repositories", repository, "blobs", _] => {
                Place::BlobLink(decode_repository(repository)?, digest_of(key)?)
            }
            ["repositories", repository, "manifests", _] => {
                Place::Manifest(decode_repository(repository)?, digest_of(key)?)
            }
            ["repositories", repository, "tags", _] => Place::Tag(decode_repository(repository)?, tag_of(key)?),
            ["repositories", repository, "referrers", subject, _] => {
                Place::Referrer(decode_repository(repository)?, decode_digest(subject)?, digest_of(key)?)
            }
            _ => return None,
        };
        (place.key() == *key).then_some(place)
    }

    fn key(&self) -> Key {
        match self {
            Place::Blob(digest) => blob(digest),
            Place::CatalogueEntry(repository) => catalogue_entry(repository),
            Place::BlobLink(repository, digest) => blob_link(repository, digest),
            Place::Manifest(repository, digest) => manifest(repository, digest),
            Place::Tag(repository, of) => tag(repository, of),
            Place::Referrer(repository, subject, digest) => referrer(repository, subject, digest),
        }
    }
}

pub fn blob(digest: &Digest) -> Key {
    let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
    key(format!("blobs/{algorithm}/{}/{hex}", &hex[..2]))
}

pub fn blobs() -> Prefix {
    prefix(BLOBS.to_owned())
}

pub fn catalogue() -> Prefix {
    prefix(CATALOGUE.to_owned())
}

pub fn catalogue_entry(repository: &RepositoryName) -> Key {
    key(format!("{CATALOGUE}{}", encode_repository(repository)))
}

/// The repository that a key of the catalogue, or a folder of a repository, is about.
pub fn repository_of(entry: &Key) -> Option<RepositoryName> {
    decode_repository(entry.name())
}

/// All of them, also those that hold no manifest.
pub fn repositories() -> Prefix {
    prefix(REPOSITORIES.to_owned())
}

pub fn repository(repository: &RepositoryName) -> Prefix {
    prefix(below(repository, ""))
}

pub fn blob_links(repository: &RepositoryName) -> Prefix {
    prefix(below(repository, "blobs/"))
}

pub fn blob_link(repository: &RepositoryName, digest: &Digest) -> Key {
    key(below(repository, &format!("blobs/{}", encode_digest(digest))))
}

pub fn manifests(repository: &RepositoryName) -> Prefix {
    prefix(below(repository, "manifests/"))
}

pub fn manifest(repository: &RepositoryName, digest: &Digest) -> Key {
    key(below(repository, &format!("manifests/{}", encode_digest(digest))))
}

pub fn tags(repository: &RepositoryName) -> Prefix {
    prefix(below(repository, "tags/"))
}

pub fn tag(repository: &RepositoryName, tag: &Tag) -> Key {
    key(below(repository, &format!("tags/{}", encode_tag(tag))))
}

/// The tag that a key is about.
pub fn tag_of(key: &Key) -> Option<Tag> {
    let Some((lower, places)) = key.name().split_once(',') else { return key.name().parse().ok() };
    let is_upper = |at: usize| -> Option<bool> {
        let digit = places.as_bytes().get(at / 4).map_or(Some(0), |&digit| char::from(digit).to_digit(16))?;
        Some(digit & (8 >> (at % 4)) != 0)
    };
    let letter = |(at, letter): (usize, char)| Some(if is_upper(at)? { letter.to_ascii_uppercase() } else { letter });
    lower.chars().enumerate().map(letter).collect::<Option<String>>()?.parse().ok()
}

pub fn referrers(repository: &RepositoryName, subject: &Digest) -> Prefix {
    prefix(below(repository, &format!("referrers/{}/", encode_digest(subject))))
}

pub fn referrer(repository: &RepositoryName, subject: &Digest, digest: &Digest) -> Key {
    key(below(repository, &format!("referrers/{}/{}", encode_digest(subject), encode_digest(digest))))
}

/// The digest that a key is named after.
pub fn digest_of(key: &Key) -> Option<Digest> {
    decode_digest(key.name())
}

fn below(repository: &RepositoryName, rest: &str) -> String {
    format!("{REPOSITORIES}{}/{rest}", encode_repository(repository))
}

fn encode_repository(repository: &RepositoryName) -> String {
    let before = |byte| match byte {
        '-' => ',',
        '.' => '-',
        '/' => '.',
        other => other,
    };
    repository.as_str().chars().map(before).collect()
}

fn decode_repository(name: &str) -> Option<RepositoryName> {
    let back = |byte| match byte {
        ',' => '-',
        '-' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(back).collect::<String>().parse().ok()
}

fn decode_digest(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

fn encode_digest(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

fn encode_tag(tag: &Tag) -> String {
    let mut text = tag.as_str().to_ascii_lowercase();
    if text == tag.as_str() {
        return text;
    }
    text.push(',');
    for four in tag.as_str().as_bytes().chunks(4) {
        let bits = four.iter().enumerate().map(|(at, byte)| if byte.is_ascii_uppercase() { 8u32 >> at } else { 0 });
        text.extend(char::from_digit(bits.sum(), 16));
    }
    text.truncate(text.trim_end_matches('0').len());
    text
}

/// Names and digests are valid before they come here, and their forms are those of components.
fn key(text: String) -> Key {
    Key::new(text).expect("names and digests make valid keys")
}

fn prefix(text: String) -> Prefix {
    Prefix::new(text).expect("names and digests make valid prefixes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_layout_is_as_drawn() {
        let digest: Digest = DIGEST.parse().unwrap();
        let app = name("team/my-app");
        let drawn = [
            (blob(&digest), format!("blobs/sha256/e3/{HEX}")),
            (catalogue_entry(&app), "catalogue/team.my,app".to_owned()),
            (blob_link(&app, &digest), format!("repositories/team.my,app/blobs/sha256-{HEX}")),
            (manifest(&app, &digest), format!("repositories/team.my,app/manifests/sha256-{HEX}")),
            (tag(&app, &"Latest".parse().unwrap()), "repositories/team.my,app/tags/latest,8".to_owned()),
            (tag(&app, &"v1".parse().unwrap()), "repositories/team.my,app/tags/v1".to_owned()),
            (referrer(&app, &digest, &digest), format!("repositories/team.my,app/referrers/sha256-{HEX}/sha256-{HEX}")),
        ];
        for (key, expected) in drawn {
            assert_eq!(key.as_str(), expected);
            assert_eq!(Place::of(&key).map(|place| place.key()), Some(key));
        }
    }

    #[test]
    fn other_keys_stand_for_nothing() {
        let others = [
            "x".to_owned(),
            "blobs/sha256/e3/x".to_owned(),
            format!("blobs/sha256/00/{HEX}"),
            format!("blobs/sha256/e3/{HEX}/x"),
            "catalogue/A".to_owned(),
            "repositories/app/x/y".to_owned(),
            "repositories/app/tags/Latest".to_owned(),
            "repositories/app/tags/latest,80".to_owned(),
            "uploads/x".to_owned(),
        ];
        for other in others {
            assert_eq!(Place::of(&Key::new(other.clone()).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn the_longest_names_have_keys() {
        let longest = name(&"a".repeat(255));
        let digest = Digest::of(crate::oci::Algorithm::Sha512, b"");
        let tag: Tag = "A".repeat(128).parse().unwrap();
        referrer(&longest, &digest, &digest);
        assert_eq!(tag_of(&super::tag(&longest, &tag)), Some(tag));
    }

    fn any_name() -> impl Strategy<Value = RepositoryName> {
        // A small alphabet, so that names often differ in a separator only.
        "[ab0]((\\.|_|__|-{1,3}|/)[ab0]){0,4}".prop_map(|text| name(&text))
    }

    fn any_tag() -> impl Strategy<Value = Tag> {
        prop_oneof!["[abAB0_][abAB0_.-]{0,5}", "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}"]
            .prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn keys_sort_as_repository_names_do(a in any_name(), b in any_name()) {
            prop_assert_eq!(catalogue_entry(&a).cmp(&catalogue_entry(&b)), a.as_str().cmp(b.as_str()));
        }

        #[test]
        fn a_repository_is_read_back_from_its_key(a in any_name()) {
            prop_assert_eq!(repository_of(&catalogue_entry(&a)), Some(a));
        }

        #[test]
        fn a_digest_is_read_back_from_its_key(content: Vec<u8>, long: bool) {
            let algorithm = if long { crate::oci::Algorithm::Sha512 } else { crate::oci::Algorithm::Sha256 };
            let digest = Digest::of(algorithm, &content);
            prop_assert_eq!(digest_of(&manifest(&name("app"), &digest)), Some(digest));
        }

        #[test]
        fn keys_sort_as_tags_do_without_case(a in any_tag(), b in any_tag()) {
            let app = name("app");
            let by_key = tag(&app, &a).cmp(&tag(&app, &b));
            let without_case = a.as_str().to_ascii_lowercase().cmp(&b.as_str().to_ascii_lowercase());
            prop_assert_eq!(without_case.then(by_key), by_key);
            prop_assert_eq!(by_key.is_eq(), a == b);
        }

        #[test]
        fn tags_that_differ_by_case_differ_without_it(a in any_tag(), b in any_tag()) {
            let lower = |tag: &Tag| super::tag(&name("app"), tag).as_str().to_ascii_lowercase();
            prop_assert_eq!(lower(&a) == lower(&b), a == b);
        }

        #[test]
        fn a_tag_is_read_back_from_its_key(a in any_tag()) {
            prop_assert_eq!(tag_of(&tag(&name("app"), &a)), Some(a));
        }
    }
}
