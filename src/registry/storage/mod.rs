//! An object store: keys, bytes, conditions. It knows nothing of registries.
//!
//! - [`ObjectStore`] is the trait, [`Key`] and [`Prefix`] what it is asked by, [`StorageError`] what it answers.
//! - [`filesystem`] keeps objects in a folder that one process owns.
//! - [`s3`] keeps them in a bucket that any number of processes may use.
//! - [`memory`] keeps them in memory, for tests.
//! - [`MeteredStore`] counts what any of them is asked for.
//! - `faulty` makes any of them fail as it is told, for tests.
//! - `conformance` states the trait's clauses as tests and holds every back end against them.

mod error;
pub mod filesystem;
mod key;
pub mod memory;
mod metered;
mod object_store;
#[cfg(feature = "s3")]
pub mod s3;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub mod faulty;

pub use error::StorageError;
pub use key::{Key, KeyError, Prefix};
pub use metered::MeteredStore;
pub use object_store::{
    BodyStream, ByteRange, Condition, DeleteCondition, Entry, Object, ObjectMeta, ObjectStore, Page, Put, Quarantine,
    SignedUrls, Stage, StageId, StageState, StageWriter, Version,
};
