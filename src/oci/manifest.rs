//! Manifests as far as a registry has to understand them: what they are and what they refer to.
//!
//! The bytes received are what is stored and served; nothing here is ever serialised again.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Digest, MediaType};

/// Most bytes of annotations of a manifest that has a subject.
const MAX_REFERRER_ANNOTATIONS: usize = 64 * 1024;

/// A reference to content: media type, digest, and size in bytes (image-spec, "Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(deserialize_with = "size")]
    pub size: u64,
    #[serde(default)]
    pub urls: Vec<String>,
}

/// A size is an `int64` that is not negative (image-spec, "Content Descriptors"): clients can't read a greater one.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if i64::try_from(size).is_err() {
        return Err(D::Error::custom(format_args!("size {size} is greater than any content's")));
    }
    Ok(size)
}

impl Descriptor {
    /// Foreign layers (Windows base images) are fetched from their URLs: the registry need not hold them.
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            && (self.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
                || self.media_type.starts_with("application/vnd.oci.image.layer.nondistributable."))
    }
}

/// The two shapes that a manifest has, in OCI's form or Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image manifest: it refers to blobs.
    Image { config: Descriptor, layers: Vec<Descriptor> },
    /// An index (Docker: manifest list): it refers to manifests.
    Index { manifests: Vec<Descriptor> },
}

/// A parsed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: MediaType,
    pub kind: ManifestKind,
    /// What this manifest is about, if it is a referrer. It need not exist.
    pub subject: Option<Descriptor>,
    pub artifact_type: Option<String>,
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Why a body is not a manifest that the registry takes.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest media type {0:?} is not supported; push an OCI or Docker schema 2 manifest or index")]
    UnsupportedMediaType(String),
    #[error("manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest is nested more than {limit} levels deep")]
    Depth { limit: usize },
    #[error("manifest schemaVersion must be 2; schema 1 has been retired")]
    SchemaVersion,
    #[error("manifest mediaType {inside:?} differs from the Content-Type {outside:?}")]
    MediaTypeMismatch { inside: String, outside: String },
    #[error("annotations of a manifest with a subject may have {MAX_REFERRER_ANNOTATIONS} bytes together")]
    Annotations,
    #[error("an image manifest needs config and layers, an index needs manifests, and none has both")]
    Shape,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Refuses JSON whose arrays and objects are nested more than `limit` deep. Whether it is JSON is for others to say.
pub fn check_depth(content: &[u8], limit: usize) -> Result<(), ManifestError> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in content {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return Err(ManifestError::Depth { limit });
        }
    }
    Ok(())
}

impl Manifest {
    /// Parses `content` as pushed with the media type `outside`.
    ///
    /// An index is told from an image by media type and by shape, and the two must agree: content that reads as one
    /// thing to the registry and as another to a runtime is how CVE-2021-41190 worked.
    pub fn parse(outside: &MediaType, content: &[u8]) -> Result<Self, ManifestError> {
        let is_index = match outside.as_str() {
            MediaType::OCI_INDEX | MediaType::DOCKER_LIST => true,
            MediaType::OCI_MANIFEST | MediaType::DOCKER_MANIFEST => false,
            other => return Err(ManifestError::UnsupportedMediaType(other.to_owned())),
        };
        let raw: Raw = serde_json::from_slice(content)?;
        if raw.schema_version != Some(2) {
            return Err(ManifestError::SchemaVersion);
        }
        if let Some(inside) = raw.media_type.filter(|inside| inside != outside.as_str()) {
            return Err(ManifestError::MediaTypeMismatch { inside, outside: outside.to_string() });
        }
        // They are part of each listing of the subject's referrers.
        let annotations = raw.annotations.iter().flatten().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if raw.subject.is_some() && annotations > MAX_REFERRER_ANNOTATIONS {
            return Err(ManifestError::Annotations);
        }
        let kind = match (is_index, raw.config, raw.layers, raw.manifests) {
            (false, Some(config), Some(layers), None) => ManifestKind::Image { config, layers },
            (true, None, None, Some(manifests)) => ManifestKind::Index { manifests },
            _ => return Err(ManifestError::Shape),
        };
        Ok(Self {
            media_type: outside.clone(),
            kind,
            subject: raw.subject,
            artifact_type: raw.artifact_type,
            annotations: raw.annotations,
        })
    }

    /// The blobs that must be in the repository before this manifest.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match &self.kind {
            ManifestKind::Image { config, layers } => (Some(config), layers.as_slice()),
            ManifestKind::Index { .. } => (None, Default::default()),
        };
        config.into_iter().chain(layers).filter(|descriptor| !descriptor.is_foreign())
    }

    /// The manifests that this one lists.
    pub fn manifests(&self) -> &[Descriptor] {
        match &self.kind {
            ManifestKind::Image { .. } => &[],
            ManifestKind::Index { manifests } => manifests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(media_type: &str, content: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(&media_type.parse().unwrap(), content.replace("DIGEST", DIGEST).as_bytes())
    }

    #[test]
    fn an_image_names_its_blobs() {
        let manifest = parse(
            MediaType::OCI_MANIFEST,
            r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"DIGEST","size":2},
                "layers":[{"mediaType":"a/b","digest":"DIGEST","size":3},
                {"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"DIGEST","size":4,"urls":["https://x"]}]}"#,
        )
        .unwrap();
        assert_eq!(manifest.blobs().map(|blob| blob.size).collect::<Vec<_>>(), [2, 3]);
        assert!(manifest.manifests().is_empty());
    }

    #[rstest]
    #[case::null("null")]
    #[case::empty_object("{}")]
    #[case::array("[]")]
    #[case::truncated(r#"{"schemaVersion":2"#)]
    #[case::schema_1(r#"{"schemaVersion":1,"config":{"digest":"DIGEST","size":1},"layers":[]}"#)]
    #[case::no_layers(r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":1}}"#)]
    #[case::index_as_image(r#"{"schemaVersion":2,"manifests":[]}"#)]
    #[case::both(r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":1},"layers":[],"manifests":[]}"#)]
    #[case::bad_digest(r#"{"schemaVersion":2,"config":{"digest":"sha256:x","size":1},"layers":[]}"#)]
    #[case::annotation_that_is_no_text(
        r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":1},"layers":[],"annotations":{"a":[0]}}"#
    )]
    #[case::size_that_is_no_int64(
        r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":9223372036854775808},"layers":[]}"#
    )]
    #[case::negative_size(r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":-1},"layers":[]}"#)]
    #[case::other_media_type(
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{"digest":"DIGEST","size":1},"layers":[]}"#
    )]
    fn rejects(#[case] content: &str) {
        assert!(parse(MediaType::OCI_MANIFEST, content).is_err());
    }

    #[test]
    fn rejects_json_of_endless_depth() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let content = format!(r#"{{"schemaVersion":2,"annotations":{{"a":{deep}}}}}"#);
        assert!(matches!(parse(MediaType::OCI_MANIFEST, &content), Err(ManifestError::Json(_))));
    }

    #[rstest]
    #[case::flat(r#"{"a":1}"#, true)]
    #[case::at_the_limit(r#"{"a":[{}]}"#, true)]
    #[case::too_deep(r#"{"a":[{"b":[]}]}"#, false)]
    #[case::side_by_side("[[],[],[],[[]]]", true)]
    #[case::in_text(r#"{"a":"[[[[[{{{{\"[[[["}"#, true)]
    #[case::after_text(r#"["\\",[[[]]]]"#, false)]
    fn bounds_nesting(#[case] content: &str, #[case] accepted: bool) {
        assert_eq!(check_depth(content.as_bytes(), 3).is_ok(), accepted);
    }

    #[test]
    fn bounds_the_annotations_of_a_referrer() {
        let manifest = |size: usize, subject: &str| {
            let text = "a".repeat(size);
            parse(
                MediaType::OCI_INDEX,
                &format!(r#"{{"schemaVersion":2,"manifests":[],{subject}"annotations":{{"k":"{text}"}}}}"#),
            )
        };
        let subject = r#""subject":{"mediaType":"a/b","digest":"DIGEST","size":1},"#;
        assert!(matches!(manifest(70_000, subject), Err(ManifestError::Annotations)));
        assert!(manifest(60_000, subject).is_ok());
        assert!(manifest(70_000, "").is_ok());
    }

    #[test]
    fn rejects_schema_1_by_its_media_type() {
        let error = parse("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}").unwrap_err();
        assert!(matches!(error, ManifestError::UnsupportedMediaType(_)));
    }
}
