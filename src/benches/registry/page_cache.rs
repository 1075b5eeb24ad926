//! Makes files cold.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::fs::{Advice, fadvise};

const PAGE: u64 = 4096;
/// `cachestat` of Linux 6.5, which libc has no name for yet on all platforms.
const CACHESTAT: libc::c_long = 451;

/// Writes files of this length below a folder to the disk and drops them from the page cache. An error if there is
/// none or if one stays.
pub fn forget(folder: &Path, length: u64) -> anyhow::Result<()> {
    let mut found = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.len() == length {
                forget_file(&File::open(entry.path())?, length)?;
                found += 1;
            }
        }
    }
    ensure!(found > 0, "the blob's file is not there");
    Ok(())
}

fn forget_file(file: &File, length: u64) -> anyhow::Result<()> {
    file.sync_all()?;
    fadvise(file, 0, None, Advice::DontNeed).context("the page cache can't be told")?;
    if let Some(pages) = cached_pages(file, length) {
        ensure!(pages * 100 < length / PAGE, "{pages} pages of the blob stay in the page cache: is it mapped?");
    }
    Ok(())
}

/// None with an older kernel.
fn cached_pages(file: &File, length: u64) -> Option<u64> {
    let range = [0, length];
    // Pages cached, dirty, under write-back, evicted, recently evicted.
    let mut counts = [0_u64; 5];
    // SAFETY: the kernel reads two numbers and writes five; both arrays live until after the call.
    let result = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0) };
    (result == 0).then_some(counts[0])
}
