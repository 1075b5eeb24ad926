//! Who may do what: pure decisions over values. No I/O, no clock (the time is an argument), no Kubernetes.
//!
//! [`compile`] makes a [`Snapshot`] from the custom resources; [`authorize`] asks it. The operator runs the same
//! `compile` to write conditions, so what a status says and what a registry enforces can't differ.

pub mod access;
mod authorize;
pub mod compile;
mod credential;
mod docker_config;
mod glob;
pub mod htpasswd;
mod identity;
mod key_rotation;
mod matrix;
mod object_key;
mod operation;
mod providers;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
mod trust_anchors;

pub use authorize::{Decision, Denial, authorize};
pub use compile::{Inputs, Problem, Reason, compile};
pub use credential::{CredentialClaims, CredentialError, KeyError, KeySet, SigningKey};
pub use docker_config::docker_config_json;
pub use glob::Glob;
pub use htpasswd::{HtpasswdError, Users};
pub use identity::{CredentialSubject, Group, Identity, Provider, User, UserError};
pub use key_rotation::{KeyRing, MOST_PREVIOUS, Plan as KeyPlan, Step as KeyStep};
pub use matrix::{Kind, Needs, needs};
pub use object_key::ObjectKey;
pub use operation::{Action, Operation};
pub use providers::{ClaimCondition, ClientCertificates, NamespaceSet, OidcIssuer, Providers, ServiceAccounts};
pub use snapshot::{
    FailureLimits, Grant, ImageType, ImmutableTags, PolicyRule, ProjectEntry, PullGrant, RegistryFacts, RobotGrant,
    Role, Scope, Snapshot, Visibility,
};
pub use trust_anchors::{TrustAnchorsError, trust_anchors};
