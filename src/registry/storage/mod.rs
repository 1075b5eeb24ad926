//! An object store: keys, bytes, conditions. It knows nothing of registries.
//!
//! - [`ObjectStore`] is the trait, [`Key`] and [`Prefix`] what it is asked by, [`StorageError`] what it answers.
//! - [`filesystem`] keeps objects in a folder that one process owns.
//! - [`memory`] keeps them in memory, for tests.
//! - [`MeteredStore`] counts what any of them is asked for.
//! - `conformance` states the trait's clauses as tests and holds every back end against them.

mod error;
pub mod filesystem;
mod key;
pub mod memory;
mod metered;
mod object_store;

#[cfg(test)]
mod conformance;

pub use error::StorageError;
pub use key::{Key, KeyError, Prefix};
pub use metered::MeteredStore;
pub use object_store::{
    BodyStream, ByteRange, Condition, DeleteCondition, Entry, Object, ObjectMeta, ObjectStore, Page, Put, Quarantine,
    Stage, StageId, StageState, StageWriter, Version,
};
