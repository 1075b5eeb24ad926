//! Listings.

use aws_sdk_s3::types::Object as Listed;

use super::super::{Entry, Key, Page, Prefix, StorageError};
use super::bucket::Bucket;
use super::error::storage_error;

/// Most entries that a service gives at once.
const MAX_ENTRIES: usize = 1000;
/// Sorts behind everything that a key may hold.
const LAST: char = '\u{7f}';

/// A part of a listing: objects and folders together, by name.
pub(super) struct Listing {
    pub names: Vec<String>,
    pub objects: Vec<Listed>,
    pub more: bool,
}

impl Bucket {
    pub(super) async fn list_objects(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Page, StorageError> {
        let root = self.objects();
        let below = format!("{root}{prefix}");
        let mut after = after.map(|after| format!("{root}{after}"));
        let mut page = Page { entries: Vec::new(), more: true };
        while page.more && page.entries.len() < limit.max(1) {
            let wanted = limit.max(1) - page.entries.len();
            let Listing { names, more, .. } = self.list_page(&below, after.as_deref(), wanted, delimiter).await?;
            page.more = more;
            // What isn't a key was put there by someone else.
            page.entries.extend(names.iter().filter_map(|name| entry(name.strip_prefix(&root)?)));
            match names.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        if limit == 0 {
            return Ok(Page { more: !page.entries.is_empty(), entries: Vec::new() });
        }
        Ok(page)
    }

    /// At most `limit` names below `below` and behind `after`.
    pub(super) async fn list_page(
        &self,
        below: &str,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Listing, StorageError> {
        // Behind a folder comes what is behind all that is in it.
        let start = after.filter(|after| *after > below).map(|after| match after.ends_with('/') && delimiter {
            true => format!("{after}{LAST}"),
            false => after.to_owned(),
        });
        let list = self.client.list_objects_v2().bucket(&self.name).prefix(below).set_start_after(start);
        let list = list.set_delimiter(delimiter.then(|| "/".to_owned()));
        let output = list.max_keys(limit.min(MAX_ENTRIES) as i32).send().await;
        let output = output.map_err(storage_error("list objects", below))?;
        let objects = output.contents.unwrap_or_default();
        let folders = output.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix);
        let mut names: Vec<String> = objects.iter().filter_map(|object| object.key.clone()).chain(folders).collect();
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        names.sort_unstable();
        Ok(Listing { names, objects, more: output.is_truncated.unwrap_or(false) })
    }
}

fn entry(text: &str) -> Option<Entry> {
    match text.ends_with('/') {
        true => Prefix::new(text).ok().map(Entry::Prefix),
        false => Key::new(text).ok().map(Entry::Object),
    }
}
