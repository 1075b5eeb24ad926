//! Writing at the end of a file, past the page cache where that pays.
//!
//! Layers are large, and the kernel spends more on finding memory for their pages than the registry spends on hashing
//! them; and they would push out of that memory what is pulled again and again. So large writes go to the disk directly
//! (`O_DIRECT`), whose blocks they have to be made of: what is left over waits for more, or for the end.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use rustix::io::Errno;

/// Of the addresses, lengths and places of direct writes. No disk in use wants more.
const BLOCK: usize = 4096;
/// Held for each upload that is being received.
const BUFFER: usize = 256 * 1024;
/// After so much, more is expected.
const LARGE: u64 = 128 * 1024;

/// A file that grows at its end. Nobody else writes to it.
pub(super) struct Appender {
    file: File,
    /// How long it is.
    length: u64,
    /// How long it was before anything was appended.
    start: u64,
    direct: Direct,
}

enum Direct {
    /// Little has come yet.
    NotYet,
    Buffered(Buffered),
    /// The file system can't, or the end of the content has been written.
    Never,
}

/// Content that waits for more, so that whole blocks can be written.
struct Buffered {
    file: File,
    /// Longer than `BUFFER`, so that it has an aligned part of that length.
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Appender {
    /// Opens a file for writing at its end.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Not for appending: writes that are repeated have to go to the same place.
        let file = File::options().write(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, start: length, direct: Direct::NotYet })
    }

    /// How long the file is, without what waits for more.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Appends `pieces`. Some of it may be in the file only after [`flush`](Self::flush).
    pub(super) fn append(&mut self, path: &Path, pieces: &[Bytes]) -> io::Result<()> {
        let mut pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if matches!(self.direct, Direct::NotYet) && self.length - self.start + length >= LARGE {
            self.fill_block(&mut pieces)?;
            if self.length.is_multiple_of(BLOCK as u64) {
                self.direct = Buffered::open(path).map_or(Direct::Never, Direct::Buffered);
            }
        }
        match self.direct {
            Direct::Buffered(_) => pieces.iter().try_for_each(|piece| self.append_piece(piece)),
            Direct::NotYet | Direct::Never => self.append_plainly(&pieces),
        }
    }

    /// Takes from `pieces` what the file's last block has room for, and writes it plainly.
    fn fill_block(&mut self, pieces: &mut [&[u8]]) -> io::Result<()> {
        for piece in pieces {
            let room = self.length.next_multiple_of(BLOCK as u64) - self.length;
            let (now, rest) = piece.split_at(piece.len().min(room as usize));
            self.append_plainly(&[now])?;
            *piece = rest;
        }
        Ok(())
    }

    /// Writes what waits for more. Nothing does afterwards.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.write_blocks()?;
        self.write_the_rest()?;
        let length = self.file.metadata()?.len();
        if length == self.length { Ok(()) } else { Err(io::Error::other("a file is not as long as what was written")) }
    }

    fn append_piece(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while let Direct::Buffered(buffered) = &mut self.direct {
            piece = buffered.take(piece);
            if buffered.filled < BUFFER {
                return Ok(());
            }
            self.write_blocks()?;
        }
        self.append_plainly(&[piece])
    }

    fn write_blocks(&mut self) -> io::Result<()> {
        let Direct::Buffered(buffered) = &mut self.direct else { return Ok(()) };
        if buffered.write(&mut self.length)? { Ok(()) } else { self.write_the_rest() }
    }

    /// Plainly, and so all that comes after it.
    fn write_the_rest(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.direct, Direct::Never) {
            Direct::Buffered(buffered) => self.append_plainly(&[buffered.held()]),
            Direct::NotYet | Direct::Never => Ok(()),
        }
    }

    fn append_plainly(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        write_all(&self.file, pieces, self.length)?;
        self.length += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        Ok(())
    }
}

impl Buffered {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let file = File::options().write(true).custom_flags(flags).open(path)?;
        let memory = vec![0; BUFFER + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        Ok(Self { file, memory, start, filled: 0 })
    }

    /// Takes as much of `content` as there is room for, and gives back the rest.
    fn take<'a>(&mut self, content: &'a [u8]) -> &'a [u8] {
        let (now, rest) = content.split_at(content.len().min(BUFFER - self.filled));
        let at = self.start + self.filled;
        self.memory[at..at + now.len()].copy_from_slice(now);
        self.filled += now.len();
        rest
    }

    fn held(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }

    /// Writes the whole blocks at the file's end, `length`. False if the file system doesn't take them that way: then
    /// they are to be written again, to the same place.
    fn write(&mut self, length: &mut u64) -> io::Result<bool> {
        let whole = self.filled - self.filled % BLOCK;
        match self.file.write_all_at(&self.memory[self.start..self.start + whole], *length) {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => return Ok(false),
            written => written?,
        }
        *length += whole as u64;
        self.memory.copy_within(self.start + whole..self.start + self.filled, self.start);
        self.filled -= whole;
        Ok(true)
    }
}

fn write_all(file: &File, pieces: &[&[u8]], mut at: u64) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match rustix::io::pwritev(file, rest, at) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(length: usize) -> Vec<u8> {
        (0..length as u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).take(length).collect()
    }

    /// Most uploads come in small pieces, after a head of any length.
    #[test]
    fn what_comes_in_small_pieces_is_written_directly_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content(1)).unwrap();
        let can = Buffered::open(&path).unwrap().write(&mut 4096).is_ok_and(|taken| taken);
        let mut appender = Appender::open(&path).unwrap();
        let piece = Bytes::from(content(1000));
        (0..100).for_each(|_| appender.append(&path, std::slice::from_ref(&piece)).unwrap());
        assert!(matches!(appender.direct, Direct::NotYet));
        (0..100).for_each(|_| appender.append(&path, std::slice::from_ref(&piece)).unwrap());
        assert_eq!(matches!(appender.direct, Direct::Buffered(_)), can);
        appender.flush().unwrap();
        assert_eq!(appender.length(), 200_001);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is there and however the rest comes, the file holds it all.
        #[test]
        fn a_file_holds_what_was_appended(there in 0usize..9000, lengths in prop::collection::vec(0usize..700_000, 0..6)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            // Every second one starts at a block's end.
            let there = if there.is_multiple_of(2) { there - there % BLOCK } else { there };
            let mut expected = content(there);
            std::fs::write(&path, &expected).unwrap();
            let mut appender = Appender::open(&path).unwrap();
            for length in lengths {
                let more = content(length);
                expected.extend_from_slice(&more);
                let (one, two) = more.split_at(length / 3);
                appender.append(&path, &[Bytes::copy_from_slice(one), Bytes::copy_from_slice(two)]).unwrap();
                let written = std::fs::metadata(&path).unwrap().len();
                prop_assert_eq!(appender.length(), written);
                prop_assert!(expected.len() as u64 - written <= BUFFER as u64);
            }
            appender.flush().unwrap();
            prop_assert_eq!(appender.length(), expected.len() as u64);
            prop_assert!(std::fs::read(&path).unwrap() == expected);
        }
    }
}
