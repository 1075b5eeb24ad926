//! The operator: reconciles the kinds of [`crate::api::v1alpha1`]. It never touches blob data.

pub mod lease;
pub mod registry;
