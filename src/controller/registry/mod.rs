//! What a Registry becomes in its namespace: certificates, and the objects that serve it.

pub mod build;
pub mod certificates;
