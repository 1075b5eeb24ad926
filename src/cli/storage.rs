//! The storage that a configuration names, opened.

use std::sync::Arc;

use landfast::config::StorageConfig;
use landfast::registry::storage::ObjectStore;
use landfast::registry::storage::filesystem::FilesystemStore;

/// The store, and its name in the metrics.
pub async fn open(storage: &StorageConfig) -> anyhow::Result<(Arc<dyn ObjectStore>, &'static str)> {
    match storage.clone() {
        StorageConfig::Filesystem { root } => {
            let store = tokio::task::spawn_blocking(move || FilesystemStore::open(root)).await??;
            Ok((Arc::new(store), "filesystem"))
        }
        #[cfg(feature = "s3")]
        StorageConfig::S3(settings) => {
            use landfast::registry::storage::s3::{Purpose, S3Store};
            Ok((Arc::new(S3Store::connect(&settings, Purpose::Write).await?), "s3"))
        }
        #[cfg(not(feature = "s3"))]
        StorageConfig::S3(_) => anyhow::bail!("this landfast was built without the feature s3"),
    }
}
