//! The storage that a configuration names, opened.

use std::sync::Arc;

use anyhow::bail;
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
        StorageConfig::S3(_) => bail!("this landfast was built without the feature s3"),
    }
}
