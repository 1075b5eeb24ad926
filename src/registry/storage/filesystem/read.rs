//! Objects are opened and read at once where the kernel has everything in memory, and on a blocking thread where the
//! disk would have to be waited for: a hop to another thread and back costs more than most reads.
//!
//! A body of which something had to be waited for is read on a blocking thread to its end, in order, for which the kernel
//! reads ahead, in large steps. It does neither well for reads that may not wait, nor when it is told what to read ahead:
//! both take several times the processor time.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use rustix::io::ReadWriteFlags;

use super::super::{BodyStream, ByteRange, Key, Object, ObjectMeta, StorageError};
use super::pieces::{PIECE, Piece};
use super::root::{Root, absent};
use super::{blocking, write};

/// Less than this is not worth an answer of its own while more of the piece is on its way from the disk.
const LEAST: usize = 64 * 1024;

/// An open object.
struct Opened {
    file: File,
    meta: ObjectMeta,
}

pub(super) async fn head(root: &Arc<Root>, key: &Key) -> Result<ObjectMeta, StorageError> {
    match root.open_cached(key) {
        Some(file) => meta_of(&file.map_err(absent("open a file", key))?, key),
        None => {
            let (path, key) = (root.object(key), key.clone());
            blocking(move || meta(&std::fs::symlink_metadata(path).map_err(absent("look at a file", &key))?, &key))
                .await?
        }
    }
}

/// Opens an object, and reads its first piece on the way: most objects are smaller than that.
pub(super) async fn open(root: &Arc<Root>, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError> {
    let Opened { file, meta } = match root.open_cached(key) {
        Some(file) => Opened::new(file, key)?,
        None => {
            let (path, key) = (root.object(key), key.clone());
            blocking(move || Opened::new(File::open(path), &key)).await??
        }
    };
    let range = range.map_or(Ok(0..meta.size), |range| range.resolve(meta.size))?;
    let body = body(root, file, range.clone()).await.map_err(StorageError::io("read a file"))?;
    Ok(Object { meta, range, body })
}

impl Opened {
    fn new(file: io::Result<File>, key: &Key) -> Result<Self, StorageError> {
        let file = file.map_err(absent("open a file", key))?;
        let meta = meta_of(&file, key)?;
        Ok(Self { file, meta })
    }
}

fn meta_of(file: &File, key: &Key) -> Result<ObjectMeta, StorageError> {
    meta(&file.metadata().map_err(StorageError::io("look at a file"))?, key)
}

fn meta(metadata: &std::fs::Metadata, key: &Key) -> Result<ObjectMeta, StorageError> {
    // A folder is what other keys lie in.
    if !metadata.is_file() {
        return Err(StorageError::NotFound(key.to_string()));
    }
    let modified = metadata.modified().map_err(StorageError::io("look at a file"))?;
    Ok(ObjectMeta { size: metadata.len(), version: write::version(metadata), modified })
}

/// The content of `file` in `range`, whose first piece is read here and now, so that a disk that fails is noticed in
/// time for an answer.
pub(super) async fn body(root: &Arc<Root>, file: File, range: Range<u64>) -> io::Result<BodyStream> {
    // The root goes along: the folder isn't given to another process while somebody reads from it.
    let mut source = Source { file: Arc::new(file), root: root.clone(), is_cached: true };
    let first = if range.is_empty() { Bytes::new() } else { source.next_piece(&range).await? };
    let rest = range.start + first.len() as u64..range.end;
    if rest.is_empty() {
        let only = (!first.is_empty()).then_some(Ok(first));
        return Ok(futures::stream::iter(only).boxed());
    }
    let rest = futures::stream::try_unfold((source, rest), |(mut source, rest)| async move {
        if rest.is_empty() {
            return Ok(None);
        }
        let piece = source.next_piece(&rest).await?;
        let behind = rest.start + piece.len() as u64..rest.end;
        Ok(Some((piece, (source, behind))))
    });
    Ok(futures::stream::iter([Ok(first)]).chain(rest).boxed())
}

struct Source {
    file: Arc<File>,
    root: Arc<Root>,
    /// Nothing had to be waited for yet.
    is_cached: bool,
}

impl Source {
    async fn next_piece(&mut self, range: &Range<u64>) -> io::Result<Bytes> {
        let length = (range.end - range.start).min(PIECE as u64) as usize;
        let mut piece = self.root.pieces().take(length);
        if self.is_cached {
            match read_cached(&self.file, piece, range.start, length) {
                Ok(bytes) => return Ok(bytes),
                Err(unfilled) => piece = unfilled,
            }
            self.is_cached = false;
        }
        let (file, at) = (Arc::clone(&self.file), range.start);
        let read = move || {
            // Objects never shrink: the file system has lost something if it ends early.
            file.read_exact_at(&mut piece.buffer()[..length], at)?;
            Ok(piece.filled(length))
        };
        blocking(read).await.map_err(io::Error::other)?
    }
}

/// What the page cache holds of the next piece; gives the buffer back if the disk would have to be waited for.
fn read_cached(file: &File, mut piece: Piece, at: u64, length: usize) -> Result<Bytes, Piece> {
    let mut slices = [IoSliceMut::new(&mut piece.buffer()[..length])];
    // An error may only mean that this file system can't tell: the blocking read finds out.
    match rustix::io::preadv2(file, &mut slices, at, ReadWriteFlags::NOWAIT) {
        Ok(read) if read >= length.min(LEAST) => Ok(piece.filled(read)),
        _ => Err(piece),
    }
}
