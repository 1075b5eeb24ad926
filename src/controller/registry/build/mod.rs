//! The objects that serve a Registry: pure builders, one file per kind.
pub mod names;
