//! What can go wrong in an object store.

use std::io;

/// An object store's error. It says nothing of what the objects mean.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{0} is not in the store")]
    NotFound(String),
    /// The object is not in the state that the condition asks for.
    #[error("{0} has been changed by someone else")]
    PreconditionFailed(String),
    /// The object would be a folder to some back ends.
    #[error("{0} can't be an object: it lies below another object, or others lie below it")]
    KeyConflict(String),
    #[error("the range is outside of the object's {size} bytes")]
    RangeNotSatisfiable { size: u64 },
    /// Someone else is writing to this staged upload.
    #[error("staged upload {0} is being written to")]
    Busy(String),
    #[error("the store is full: free space in it or enlarge it")]
    OutOfSpace,
    /// A store somewhere else that can't be reached, or says that it can't do it now.
    #[error("the store can't {action} now: {source}")]
    Unavailable { action: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the content is larger than the store can take")]
    TooLarge,
    #[error("the store was opened for reading only")]
    ReadOnly,
    #[error("can't {action}: {source}")]
    Io { action: &'static str, source: io::Error },
}

impl StorageError {
    /// For `map_err`: names what was tried, and tells a full disk from other failures.
    pub(in crate::registry) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::OutOfSpace,
            _ => StorageError::Io { action, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn tells_a_full_disk_from_other_failures() {
        for full in [Errno::NOSPC, Errno::DQUOT] {
            assert!(matches!(StorageError::io("write")(full.into()), StorageError::OutOfSpace));
        }
        assert!(matches!(StorageError::io("write")(Errno::IO.into()), StorageError::Io { action: "write", .. }));
    }
}
