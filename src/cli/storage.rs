//! The storage that a configuration names, opened.

use std::sync::Arc;

use landfast::config::StorageConfig;
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
