//! The catalogue: the repositories that hold a manifest.

use super::{Content, ContentError, absent, keys};
use crate::oci::RepositoryName;

impl Content {
    /// At most `limit` repositories behind `after`, in byte order of their names, and whether there are more.
    pub async fn list_repositories(
        &self,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<(Vec<RepositoryName>, bool), ContentError> {
        let after = after.map(keys::catalogue_entry);
        let (entries, more) = self.list_objects(&keys::catalogue(), after.as_ref(), limit).await?;
        Ok((entries.iter().filter_map(keys::repository_of).collect(), more))
    }

    /// The caller excludes pushes to the repository.
    pub(super) async fn remove_from_catalogue_if_empty(&self, repository: &RepositoryName) -> Result<(), ContentError> {
        if !self.holds_any(&keys::manifests(repository)).await? {
            let entry = keys::catalogue_entry(repository);
            let removed = self.remove(&entry).await;
            // Also after an error: it may be gone all the same.
            if self.store.is_shared() && self.holds_any(&keys::manifests(repository)).await? {
                // Another process has pushed one meanwhile, and has taken the entry for its own.
                self.store.put_all(vec![absent(entry, bytes::Bytes::new())]).await?;
            }
            removed?;
        }
        Ok(())
    }
}
