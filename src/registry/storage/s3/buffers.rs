//! Memory for chunks, used again and again: memory that one thread takes and another gives back stays with the process.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::chunks::CHUNK;

/// So many are kept while nobody needs them.
const KEPT: usize = 4;

/// Buffers of the usual size that are free.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty one with room for `size` bytes.
    pub(super) fn take(&self, size: usize) -> Vec<u8> {
        let free = if size == CHUNK { self.0.lock().unwrap_or_else(PoisonError::into_inner).pop() } else { None };
        free.unwrap_or_else(|| Vec::with_capacity(size))
    }

    /// What a buffer holds. When nobody needs it any more, the buffer is free.
    pub(super) fn shared(&self, content: Vec<u8>) -> Bytes {
        Bytes::from_owner(Shared { content, buffers: self.clone() })
    }
}

struct Shared {
    content: Vec<u8>,
    buffers: Buffers,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut free = self.buffers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.content.capacity() == CHUNK && free.len() < KEPT {
            self.content.clear();
            free.push(std::mem::take(&mut self.content));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_reads_it() {
        let buffers = Buffers::default();
        let mut first = buffers.take(CHUNK);
        first.extend_from_slice(b"one");
        let place = first.as_ptr();
        let (content, other) = (buffers.shared(first), buffers.take(CHUNK));
        assert_ne!(other.as_ptr(), place);
        let reader = content.slice(1..);
        drop(content);
        assert_eq!(reader, "ne");
        drop(reader);
        let again = buffers.take(CHUNK);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn few_are_kept() {
        let buffers = Buffers::default();
        let many: Vec<Bytes> = (0..2 * KEPT).map(|_| buffers.shared(buffers.take(CHUNK))).collect();
        drop(many);
        drop(buffers.shared(buffers.take(2 * CHUNK)));
        assert_eq!(buffers.0.lock().unwrap().len(), KEPT);
    }
}
