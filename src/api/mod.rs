//! The custom resources, by version. Types, schemas and validation rules only: no I/O.

pub mod v1alpha1;

/// The API group of every kind here.
pub const GROUP: &str = "landfast.dev";
