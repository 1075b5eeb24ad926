//! Listings: one pass over a folder per level and page, with memory for one page.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::Path;

use super::super::key::is_component;
use super::super::{Entry, Key, Page, Prefix, StorageError};
use super::root::Root;

pub(super) fn list(
    root: &Root,
    prefix: &Prefix,
    after: Option<&str>,
    limit: usize,
    delimiter: bool,
) -> Result<Page, StorageError> {
    let mut walk = Walk { after, limit, delimiter, page: Page { entries: Vec::new(), more: false } };
    let folder = root.objects().join(prefix.as_str());
    walk.visit(&folder, prefix.as_str()).map_err(StorageError::io("list a folder"))?;
    Ok(walk.page)
}

struct Walk<'a> {
    after: Option<&'a str>,
    limit: usize,
    delimiter: bool,
    page: Page,
}

impl Walk<'_> {
    /// Adds what is in `folder`, whose keys start with `prefix`, until the page is full.
    fn visit(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        // `after` inside of this prefix: what sorts before its first component needn't be looked at.
        let inside = self.after.and_then(|after| after.strip_prefix(prefix)).unwrap_or_default();
        let mut from = Bound::Included(inside.split_inclusive('/').next().unwrap_or_default().to_owned());
        loop {
            let level = Level::read(folder, &from, (self.limit - self.page.entries.len()).saturating_add(1))?;
            for name in &level.names {
                self.add(folder, prefix, name)?;
                if self.page.more {
                    return Ok(());
                }
            }
            match level.names.last() {
                Some(last) if level.more => from = Bound::Excluded(last.clone()),
                _ => return Ok(()),
            }
        }
    }

    fn add(&mut self, folder: &Path, prefix: &str, name: &str) -> io::Result<()> {
        let text = format!("{prefix}{name}");
        let behind = self.after.is_none_or(|after| *text > *after);
        let entry = match (name.ends_with('/'), self.delimiter) {
            // A folder that has become empty, or is about to be filled, is no prefix of any key.
            (true, true) if behind && holds_object(&folder.join(name))? => Prefix::new(text).ok().map(Entry::Prefix),
            (true, false) if behind || self.after.is_some_and(|after| after.starts_with(&text)) => {
                return self.visit(&folder.join(name), &text);
            }
            (false, _) if behind => Key::new(text).ok().map(Entry::Object),
            _ => None,
        };
        match entry {
            Some(_) if self.page.entries.len() == self.limit => self.page.more = true,
            entry => self.page.entries.extend(entry),
        }
        Ok(())
    }
}

/// The first names of a folder, those of folders with a slash, because that is how they sort among keys.
struct Level {
    names: BTreeSet<String>,
    more: bool,
}

impl Level {
    /// At most `limit` names in the byte order of keys.
    fn read(folder: &Path, from: &Bound<String>, limit: usize) -> io::Result<Self> {
        let mut level = Level { names: BTreeSet::new(), more: false };
        each_name(folder, |name| {
            let wanted = match from {
                Bound::Included(from) => name >= *from,
                Bound::Excluded(from) => name > *from,
                Bound::Unbounded => true,
            };
            if wanted {
                level.names.insert(name);
                if level.names.len() > limit {
                    level.names.pop_last();
                    level.more = true;
                }
            }
            Ok(true)
        })?;
        Ok(level)
    }
}

/// Whether there is any object below a folder.
fn holds_object(folder: &Path) -> io::Result<bool> {
    let mut found = false;
    each_name(folder, |name| {
        found = !name.ends_with('/') || holds_object(&folder.join(name))?;
        Ok(!found)
    })?;
    Ok(found)
}

/// Calls `visit` with each name until it returns false. A folder that isn't there has no names.
fn each_name(folder: &Path, mut visit: impl FnMut(String) -> io::Result<bool>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // What isn't a component of a key was put there by somebody else.
        let Ok(mut name) = entry.file_name().into_string() else { continue };
        if !is_component(&name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        if !visit(name)? {
            break;
        }
    }
    Ok(())
}
