//! What a copy asks of the layout that it reads.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};

use super::super::records::{Pushed, TagRecord};
use super::super::{Content, ContentError, PAGE, found};
use crate::oci::{Digest, Manifest, RepositoryName, Tag};
use crate::registry::storage::{Entry, Key, ObjectStore, Prefix, StorageError};

/// Larger ones no registry takes.
const MAX_MANIFEST: u64 = 16 << 20;

/// A thing, or the path of what is none.
pub(super) type Listed<T> = Result<T, String>;
pub(super) type Listing<'a, T> = BoxStream<'a, Result<Listed<T>, StorageError>>;

/// A manifest as it is kept.
pub(super) struct SourceManifest {
    /// Or why it is none that can be taken.
    pub manifest: Result<Manifest, String>,
    pub bytes: Bytes,
    pub pushed: Pushed,
}

/// A registry's content in some layout. What it lists may be gone by the time that it is asked for.
#[async_trait]
pub(super) trait Source: Send + Sync {
    fn store(&self) -> &dyn ObjectStore;
    /// Where a blob's content is.
    fn blob(&self, digest: &Digest) -> Key;
    /// Blobs that are to be copied whether a repository holds them or not.
    fn blobs(&self) -> Listing<'_, Digest>;
    fn repositories(&self) -> Listing<'_, RepositoryName>;
    /// The blobs that a repository holds.
    fn links(&self, repository: &RepositoryName) -> Listing<'_, Digest>;
    fn manifests(&self, repository: &RepositoryName) -> Listing<'_, Digest>;
    fn tags(&self, repository: &RepositoryName) -> Listing<'_, Tag>;
    async fn holds_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError>;
    async fn holds_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, ContentError>;
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<SourceManifest>, ContentError>;
    async fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<TagRecord>, ContentError>;
    /// Whether links to blobs that are gone are no damage.
    fn keeps_dead_links(&self) -> bool;
}

/// Everything below `prefix`, page by page.
pub(super) fn entries(
    store: &dyn ObjectStore,
    prefix: Prefix,
    delimiter: bool,
) -> impl Stream<Item = Result<Entry, StorageError>> + Send {
    let page = move |from: Option<Option<String>>| {
        let prefix = prefix.clone();
        async move {
            let Some(after) = from else { return Ok(None) };
            let page = store.list(&prefix, after.as_deref(), PAGE, delimiter).await?;
            let next = page.entries.last().filter(|_| page.more).map(|last| Some(last.as_str().to_owned()));
            Ok(Some((stream::iter(page.entries).map(Ok), next)))
        }
    };
    stream::try_unfold(Some(None), page).try_flatten()
}

/// The objects below `prefix`, as what `parse` makes of their keys.
pub(super) fn objects<'a, T: Send + 'a>(
    store: &'a dyn ObjectStore,
    prefix: Prefix,
    parse: impl Fn(&Key) -> Option<T> + Send + 'a,
) -> Listing<'a, T> {
    let parsed = entries(store, prefix, false).map_ok(move |entry| match entry {
        Entry::Object(key) => parse(&key).ok_or_else(|| key.to_string()),
        Entry::Prefix(prefix) => Err(prefix.to_string()),
    });
    parsed.boxed()
}

/// A manifest's bytes, if they are not too many to be one's.
pub(super) async fn manifest_bytes(content: &Content, key: &Key) -> Result<Option<Bytes>, ContentError> {
    match found(content.store.head(key).await)? {
        Some(meta) if meta.size > MAX_MANIFEST => {
            let reason = format!("it has {} bytes, more than any manifest", meta.size);
            let source = <serde_json::Error as serde::de::Error>::custom(reason);
            Err(ContentError::Corrupt { key: key.clone(), source })
        }
        Some(_) => content.read_small(key).await,
        None => Ok(None),
    }
}
