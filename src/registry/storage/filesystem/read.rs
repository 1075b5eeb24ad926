//! Objects are read in pieces: from the page cache at once, from the disk on a blocking thread.

use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use rustix::io::{Errno, ReadWriteFlags};

use super::super::{BodyStream, ByteRange, Key, Object, ObjectMeta, StorageError};
use super::root::{Root, absent};
use super::{blocking, write};

/// Large enough that the cost per piece does not matter, small enough that many readers fit into memory.
const PIECE: u64 = 256 * 1024;

pub(super) fn head(root: &Root, key: &Key) -> Result<ObjectMeta, StorageError> {
    meta(&std::fs::symlink_metadata(root.object(key)).map_err(absent("look at a file", key))?, key)
}

/// Opens an object, and reads its first piece on the way: most objects are smaller than that.
pub(super) fn open(root: &Arc<Root>, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError> {
    let file = File::open(root.object(key)).map_err(absent("open a file", key))?;
    let meta = meta(&file.metadata().map_err(StorageError::io("look at a file"))?, key)?;
    let range = range.map_or(Ok(0..meta.size), |range| range.resolve(meta.size))?;
    let body = body(root, file, range.clone()).map_err(StorageError::io("read a file"))?;
    Ok(Object { meta, range, body })
}

fn meta(metadata: &std::fs::Metadata, key: &Key) -> Result<ObjectMeta, StorageError> {
    // A folder is what other keys lie in.
    if !metadata.is_file() {
        return Err(StorageError::NotFound(key.to_string()));
    }
    let modified = metadata.modified().map_err(StorageError::io("look at a file"))?;
    Ok(ObjectMeta { size: metadata.len(), version: write::version(metadata), modified })
}

/// The content of `file` in `range`, whose first piece is read here and now.
pub(super) fn body(root: &Arc<Root>, file: File, range: Range<u64>) -> io::Result<BodyStream> {
    let first = read_piece(&file, &range)?;
    let rest = range.start + first.len() as u64..range.end;
    // The root goes along: the folder isn't given to another process while somebody reads from it.
    let source = (Arc::new(file), root.clone());
    let rest = futures::stream::try_unfold(rest, move |rest| {
        let source = source.clone();
        async move {
            if rest.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let piece = next_piece(source, rest.clone()).await?;
            let behind = rest.start + piece.len() as u64..rest.end;
            Ok(Some((piece, behind)))
        }
    });
    let first = (!first.is_empty()).then_some(Ok(first));
    Ok(futures::stream::iter(first).chain(rest).boxed())
}

async fn next_piece(source: (Arc<File>, Arc<Root>), range: Range<u64>) -> io::Result<Bytes> {
    if let Some(piece) = read_cached(&source.0, &range) {
        return Ok(piece);
    }
    blocking(move || read_piece(&source.0, &range)).await.map_err(io::Error::other)?
}

fn piece_len(range: &Range<u64>) -> usize {
    (range.end - range.start).min(PIECE) as usize
}

/// What the page cache holds of the next piece; nothing if the disk would have to be waited for.
///
/// A hop to another thread and back costs more than copying a piece.
fn read_cached(file: &File, range: &Range<u64>) -> Option<Bytes> {
    let mut buffer = vec![0; piece_len(range)];
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut buffer)], range.start, ReadWriteFlags::NOWAIT);
    // An error may only mean that this file system can't tell: the blocking read finds out.
    let length = read.ok().filter(|&length| length > 0)?;
    buffer.truncate(length);
    Some(buffer.into())
}

fn read_piece(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    let length = piece_len(range);
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let at = range.start + buffer.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), at) {
            // Objects never shrink: the file system has lost something.
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more than was asked for.
    buffer.truncate(length);
    Ok(buffer.into())
}
