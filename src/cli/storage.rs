//! The storage that a configuration names, opened.

use std::path::Path;
use std::sync::Arc;

use landfast::config::{Layers, S3Storage, StorageConfig};
use landfast::registry::storage::filesystem::FilesystemStore;
use landfast::registry::storage::{ObjectStore, SignedUrls};

/// A store, and what it can do besides.
pub struct Opened {
    pub store: Arc<dyn ObjectStore>,
    /// In the metrics.
    pub name: &'static str,
    /// Where clients are to be sent for blobs.
    pub redirect: Option<Arc<dyn SignedUrls>>,
}

pub async fn open(storage: &StorageConfig) -> anyhow::Result<Opened> {
    match storage.clone() {
        StorageConfig::Filesystem { root } => {
            let store = tokio::task::spawn_blocking(move || FilesystemStore::open(root)).await??;
            Ok(Opened { store: Arc::new(store), name: "filesystem", redirect: None })
        }
        #[cfg(feature = "s3")]
        StorageConfig::S3(settings) => {
            use landfast::registry::storage::s3::{Purpose, S3Store};
            let store = S3Store::connect(&settings, Purpose::Write).await?;
            let redirect = settings.redirect.enabled.then(|| Arc::new(store.clone()) as Arc<dyn SignedUrls>);
            Ok(Opened { store: Arc::new(store), name: "s3", redirect })
        }
        #[cfg(not(feature = "s3"))]
        StorageConfig::S3(_) => anyhow::bail!("this landfast was built without the feature s3"),
    }
}

/// The store, to be read while a registry may be running on it.
pub async fn open_to_read(storage: &StorageConfig) -> anyhow::Result<Arc<dyn ObjectStore>> {
    match storage {
        StorageConfig::Filesystem { root } => Ok(Arc::new(FilesystemStore::open_read_only(root)?)),
        StorageConfig::S3(settings) => open_bucket(settings, false).await,
    }
}

/// A bucket to be read. As a tree it is another program's, and has no layout of ours.
#[cfg(feature = "s3")]
pub async fn open_bucket(settings: &S3Storage, is_tree: bool) -> anyhow::Result<Arc<dyn ObjectStore>> {
    use landfast::registry::storage::s3::{Purpose, S3Store};
    let purpose = if is_tree { Purpose::ReadTree } else { Purpose::Read };
    Ok(Arc::new(S3Store::connect(settings, purpose).await?))
}

#[cfg(not(feature = "s3"))]
pub async fn open_bucket(_: &S3Storage, _: bool) -> anyhow::Result<Arc<dyn ObjectStore>> {
    anyhow::bail!("this landfast was built without the feature s3")
}

/// The storage that a configuration file of `serve` names.
pub fn configured(file: &Path) -> anyhow::Result<StorageConfig> {
    let mut layers = Layers::default();
    // It may be said by flags of serve, and is not asked for here.
    let nobody = |key| (key, "none".to_owned(), "a command that needs no policy");
    layers.assignments([nobody("policy.kube.namespace"), nobody("policy.kube.registry")])?;
    Ok(layers.file(file)?.finish()?.storage)
}
