//! The buffers that files are read into.
//!
//! They are used again and again: a fresh one would be zeroed, and the kernel would have to find memory for each of its
//! pages, which costs more than reading into it does.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::root::lock;

/// Large enough that the cost per piece does not matter, small enough that many readers fit into memory.
pub(super) const PIECE: usize = 256 * 1024;
/// Less is taken from the allocator, which is good at it.
const SMALL: usize = 16 * 1024;
/// How many unused buffers are kept.
const KEPT: usize = 16;

/// Buffers that nobody uses. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pieces(Arc<Mutex<Vec<Box<[u8]>>>>);

/// A buffer to be filled.
pub(super) struct Piece {
    /// Zeroed once, and then full of what was read before.
    buffer: Box<[u8]>,
    pieces: Pieces,
}

impl Pieces {
    /// A buffer for `length` bytes, at most [`PIECE`].
    pub(super) fn take(&self, length: usize) -> Piece {
        let pooled = (length > SMALL).then(|| lock(&self.0).pop().unwrap_or_else(|| vec![0; PIECE].into()));
        Piece { buffer: pooled.unwrap_or_else(|| vec![0; length].into()), pieces: self.clone() }
    }
}

impl Piece {
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// The first `length` bytes. The buffer goes back when they have been sent.
    pub(super) fn filled(self, length: usize) -> Bytes {
        Bytes::from_owner(Filled { piece: self, length })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut kept = lock(&self.pieces.0);
        if self.buffer.len() == PIECE && kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

struct Filled {
    piece: Piece,
    length: usize,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.piece.buffer[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_come_back_and_small_ones_do_not() {
        let pieces = Pieces::default();
        let mut piece = pieces.take(PIECE - 1);
        piece.buffer()[..3].copy_from_slice(b"abc");
        let (filled, small) = (piece.filled(3), pieces.take(SMALL).filled(2));
        assert_eq!((&filled[..], small.len()), (&b"abc"[..], 2));
        assert_eq!(lock(&pieces.0).len(), 0);
        drop((filled, small));
        assert_eq!(lock(&pieces.0).len(), 1);
    }

    #[test]
    fn keeps_a_few() {
        let pieces = Pieces::default();
        drop((0..2 * KEPT).map(|_| pieces.take(PIECE)).collect::<Vec<_>>());
        assert_eq!(lock(&pieces.0).len(), KEPT);
    }
}
