//! landfast: container registries on Kubernetes, operator and OCI registry in one binary.

pub mod api;
pub mod config;
pub mod controller;
pub mod oci;
pub mod policy;
pub mod registry;
pub mod telemetry;
pub mod watch;
