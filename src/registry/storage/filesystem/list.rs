//! Listings. The names of a folder that is listed by itself are remembered ([`Names`](crate::registry::names::Names)),
//! so that a page costs what it returns; everything else is one pass over a folder per level and page, with memory for
//! one page.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::Path;

use super::super::key::is_component;
use super::super::{Entry, Key, Page, Prefix, StorageError};
use super::root::Root;

/// The page, if it can be had without the disk.
pub(super) fn remembered(root: &Root, prefix: &Prefix, after: Option<&str>, limit: usize) -> Option<Page> {
    let from = first_name(prefix.as_str(), after)?;
    root.names.with(prefix.as_str(), |names| {
        let mut page = Page { entries: Vec::new(), more: false };
        for name in names.range::<str, _>((from, Bound::Unbounded)) {
            if page.entries.len() == limit {
                page.more = true;
                break;
            }
            // Whether there is anything in a folder is not remembered.
            page.entries.push(Entry::Object(prefix.key(name).filter(|_| !name.ends_with('/'))?));
        }
        Some(page)
    })?
}

/// Where a listing of one level begins. Nothing if `after` lies deeper.
fn first_name<'a>(prefix: &str, after: Option<&'a str>) -> Option<Bound<&'a str>> {
    match after {
        None => Some(Bound::Unbounded),
        Some(after) => after.strip_prefix(prefix).filter(|name| !name.contains('/')).map(Bound::Excluded),
    }
}

pub(super) fn list(
    root: &Root,
    prefix: &Prefix,
    after: Option<&str>,
    limit: usize,
    delimiter: bool,
) -> Result<Page, StorageError> {
    let failed = StorageError::io("list a folder");
    let folder = root.objects().join(prefix.as_str());
    if limit == 0 && after.is_none() {
        // "Is there anything?": the first thing found answers it.
        return Ok(Page { entries: Vec::new(), more: holds_object(&folder).map_err(failed)? });
    }
    let mut walk = Walk { root, after, limit, delimiter, page: Page { entries: Vec::new(), more: false } };
    walk.visit(&folder, prefix.as_str()).map_err(failed)?;
    Ok(walk.page)
}

struct Walk<'a> {
    root: &'a Root,
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
            let limit = (self.limit - self.page.entries.len()).saturating_add(1);
            // What a walk through everything comes across would only crowd out what is asked for again.
            let level = match self.delimiter {
                true => Level::remember(self.root, folder, prefix, &from, limit)?,
                false => Level::read(folder, &from, limit)?,
            };
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
    /// At most `limit` names in the byte order of keys, from memory, or from the disk into memory.
    fn remember(root: &Root, folder: &Path, prefix: &str, from: &Bound<String>, limit: usize) -> io::Result<Self> {
        let of = |names: &BTreeSet<Box<str>>| Level::part(names, from, limit);
        if let Some(level) = root.names.with(prefix, of) {
            return Ok(level);
        }
        let Some(mut reading) = root.names.begin(prefix) else { return Level::read(folder, from, limit) };
        let mut fits = true;
        each_name(folder, |name| {
            fits = reading.add(&name);
            Ok(fits)
        })?;
        if !fits {
            drop(reading);
            return Level::read(folder, from, limit);
        }
        let level = of(reading.names());
        reading.finish();
        Ok(level)
    }

    fn part(names: &BTreeSet<Box<str>>, from: &Bound<String>, limit: usize) -> Self {
        let mut rest = names.range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded));
        let names = rest.by_ref().take(limit).map(|name| name.to_string()).collect();
        Level { names, more: rest.next().is_some() }
    }

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
