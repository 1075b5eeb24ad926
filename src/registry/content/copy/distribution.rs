//! The layout of CNCF Distribution's registry, below its root directory:
//!
//! ```text
//! docker/registry/v2/
//!   blobs/<algorithm>/<first two digits>/<hex>/data       content of blobs and manifests
//!   repositories/<repository>/
//!     _layers/<algorithm>/<hex>/link                      the repository holds this blob
//!     _manifests/revisions/<algorithm>/<hex>/link         the repository holds this manifest
//!     _manifests/tags/<tag>/current/link                  the digest that the tag points to
//!     _uploads/                                           passed over, as all else
//! ```
//!
//! Its own garbage collection leaves links to blobs behind that it has deleted, so these are no damage; and what no
//! repository holds is not copied. It keeps no media types but in the manifests, and nobody's name: when something was
//! pushed is told by its link.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::records::{Pushed, TagRecord};
use super::super::{Content, ContentError, found};
use super::source::{Listing, Source, SourceManifest, entries, manifest_bytes, objects};
use crate::oci::{Digest, Manifest, MediaType, RepositoryName, Tag};
use crate::registry::storage::{Entry, Key, ObjectMeta, ObjectStore, Prefix};

const ROOT: &str = "docker/registry/v2/";
/// What stands for who has pushed.
const PUSHER: &str = "distribution";

pub(super) struct Distribution {
    content: Content,
}

impl Distribution {
    pub(super) fn new(content: Content) -> Self {
        Self { content }
    }

    /// The repositories in a folder and in those below it. A folder is one itself if it holds `_manifests`.
    fn repositories_below(&self, folder: Prefix) -> Listing<'_, RepositoryName> {
        let found = entries(self.store(), folder.clone(), true).map_ok(move |entry| {
            let Entry::Prefix(inner) = entry else { return stream::empty().boxed() };
            match inner.as_str()[folder.as_str().len()..].trim_end_matches('/') {
                "_manifests" => {
                    let name = repository_in(&folder).ok_or_else(|| folder.to_string());
                    stream::iter([Ok(name)]).boxed()
                }
                marker if marker.starts_with('_') => stream::empty().boxed(),
                _ => self.repositories_below(inner),
            }
        });
        found.try_flatten().boxed()
    }

    /// The digest that a link names, and when it was written.
    async fn link(&self, key: &Key) -> Result<Option<(Digest, ObjectMeta)>, ContentError> {
        let Some(meta) = found(self.content.store.head(key).await)? else { return Ok(None) };
        let Some(text) = manifest_bytes(&self.content, key).await? else { return Ok(None) };
        let digest = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        let digest = digest.ok_or_else(|| ContentError::Corrupt {
            key: key.clone(),
            source: <serde_json::Error as serde::de::Error>::custom("it is no digest"),
        })?;
        Ok(Some((digest, meta)))
    }
}

#[async_trait]
impl Source for Distribution {
    fn store(&self) -> &dyn ObjectStore {
        &*self.content.store
    }

    fn blob(&self, digest: &Digest) -> Key {
        let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
        key(format!("{ROOT}blobs/{algorithm}/{}/{hex}/data", &hex[..2]))
    }

    fn blobs(&self) -> Listing<'_, Digest> {
        stream::empty().boxed()
    }

    fn repositories(&self) -> Listing<'_, RepositoryName> {
        self.repositories_below(prefix(format!("{ROOT}repositories/")))
    }

    fn links(&self, repository: &RepositoryName) -> Listing<'_, Digest> {
        digests(self.store(), below(repository, "_layers/"))
    }

    fn manifests(&self, repository: &RepositoryName) -> Listing<'_, Digest> {
        digests(self.store(), below(repository, "_manifests/revisions/"))
    }

    fn tags(&self, repository: &RepositoryName) -> Listing<'_, Tag> {
        let tags = entries(self.store(), prefix(below(repository, "_manifests/tags/")), true).map_ok(|entry| {
            let name = entry.as_str().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            name.parse().map_err(|_| entry.as_str().to_owned())
        });
        tags.boxed()
    }

    async fn holds_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError> {
        self.content.exists(&link_of(repository, "_layers", digest)).await
    }

    async fn holds_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError> {
        self.content.exists(&link_of(repository, "_manifests/revisions", digest)).await
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<SourceManifest>, ContentError> {
        let revision = link_of(repository, "_manifests/revisions", digest);
        let Some((_, meta)) = self.link(&revision).await? else { return Ok(None) };
        let bytes = manifest_bytes(&self.content, &self.blob(digest)).await?.unwrap_or_default();
        Ok(Some(SourceManifest { manifest: parse(&bytes), bytes, pushed: pushed(&meta) }))
    }

    async fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<TagRecord>, ContentError> {
        let link = self.link(&key(below(repository, &format!("_manifests/tags/{tag}/current/link")))).await?;
        Ok(link.map(|(digest, meta)| TagRecord { digest, pushed: pushed(&meta) }))
    }

    fn keeps_dead_links(&self) -> bool {
        true
    }
}

fn pushed(link: &ObjectMeta) -> Pushed {
    Pushed::new(PUSHER.to_owned(), link.modified)
}

/// What says nothing of its media type is OCI's: an index if it lists manifests, an image otherwise.
fn parse(bytes: &Bytes) -> Result<Manifest, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        media_type: String,
        manifests: Option<IgnoredAny>,
    }
    if bytes.is_empty() {
        return Err("its content is missing".to_owned());
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
    let media_type = match (shape.media_type.as_str(), shape.manifests) {
        ("", Some(_)) => MediaType::OCI_INDEX,
        ("", None) => MediaType::OCI_MANIFEST,
        (media_type, _) => media_type,
    };
    let media_type: MediaType = media_type.parse().map_err(str::to_owned)?;
    Manifest::parse(&media_type, bytes).map_err(|error| error.to_string())
}

fn repository_in(folder: &Prefix) -> Option<RepositoryName> {
    folder.as_str().strip_prefix(ROOT)?.strip_prefix("repositories/")?.trim_end_matches('/').parse().ok()
}

fn below(repository: &RepositoryName, rest: &str) -> String {
    format!("{ROOT}repositories/{repository}/{rest}")
}

fn link_of(repository: &RepositoryName, folder: &str, digest: &Digest) -> Key {
    key(below(repository, &format!("{folder}/{}/{}/link", digest.algorithm().name(), digest.hex())))
}

/// The digests whose links are below `folder`; what else is there belongs to them.
fn digests(store: &dyn ObjectStore, folder: String) -> Listing<'_, Digest> {
    let start = folder.len();
    let parse = move |key: &Key| match key.as_str()[start..].split('/').collect::<Vec<_>>()[..] {
        [algorithm, hex, "link"] => Some(Some(format!("{algorithm}:{hex}").parse().ok()?)),
        // Such as the signatures of manifests of schema 1.
        _ => Some(None),
    };
    let found = objects(store, prefix(folder), parse);
    found.try_filter_map(|listed| async move { Ok(listed.transpose()) }).boxed()
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
    use rstest::rstest;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[rstest]
    #[case::docker(
        r#""mediaType":"application/vnd.docker.distribution.manifest.v2+json","#,
        MediaType::DOCKER_MANIFEST
    )]
    #[case::oci(r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#, MediaType::OCI_MANIFEST)]
    #[case::nothing_said("", MediaType::OCI_MANIFEST)]
    fn an_image_is_of_the_media_type_that_it_names(#[case] media_type: &str, #[case] expected: &str) {
        let config = format!(r#"{{"mediaType":"a/b","digest":"{DIGEST}","size":2}}"#);
        let content = format!(r#"{{"schemaVersion":2,{media_type}"config":{config},"layers":[]}}"#);
        let manifest = parse(&content.into()).unwrap();
        assert_eq!(manifest.media_type.as_str(), expected);
    }

    #[test]
    fn what_lists_manifests_is_an_index() {
        let manifest = parse(&Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#)).unwrap();
        assert_eq!(manifest.media_type.as_str(), MediaType::OCI_INDEX);
    }

    #[rstest]
    #[case::nothing("", "missing")]
    #[case::text("x", "no manifest")]
    #[case::schema_1(r#"{"schemaVersion":1,"name":"a"}"#, "schema 1")]
    #[case::other(r#"{"schemaVersion":2,"mediaType":"a/b"}"#, "not supported")]
    fn what_is_no_manifest_says_why(#[case] content: &'static str, #[case] expected: &str) {
        let reason = parse(&Bytes::from_static(content.as_bytes())).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
}
