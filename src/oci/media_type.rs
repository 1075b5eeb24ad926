//! Media types of manifests, and the syntax of any media type (RFC 6838, section 4.2).

use std::fmt;
use std::str::FromStr;

/// A media type without parameters, such as `application/vnd.oci.image.manifest.v1+json`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaType(Box<str>);

impl MediaType {
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";

    /// Those that a manifest may be pushed as, in the order in which clients should prefer them.
    pub const MANIFESTS: [&'static str; 4] =
        [Self::OCI_MANIFEST, Self::OCI_INDEX, Self::DOCKER_MANIFEST, Self::DOCKER_LIST];

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MediaType {
    type Err = &'static str;

    /// Parses a `Content-Type`; parameters such as `; charset=utf-8` are dropped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a media type has the form type/subtype";
        let essence = text.split(';').next().unwrap_or_default().trim();
        let (kind, subtype) = essence.split_once('/').ok_or(FORM)?;
        let restricted_name = |name: &str| {
            name.len() <= 127
                && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        if !restricted_name(kind) || !restricted_name(subtype) {
            return Err(FORM);
        }
        Ok(Self(essence.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_parameters_and_case() {
        let parsed: MediaType = "Application/JSON; charset=utf-8".parse().unwrap();
        assert_eq!(parsed.as_str(), "application/json");
    }

    #[test]
    fn rejects_what_has_no_subtype() {
        for text in ["", "json", "application/", "/json", "a b/c", "application/json\r\nx: y"] {
            assert!(text.parse::<MediaType>().is_err(), "{text:?}");
        }
    }
}
