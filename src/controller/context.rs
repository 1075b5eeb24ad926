//! What every reconcile has at hand.

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::Recorder;

use super::apply::{Applier, ApplyError};
use super::metrics::ControllerMetrics;
use super::project::service_accounts::Ledger;
use super::secret::KeyCache;
use super::world::World;

/// Settings of the operator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of registry pods where a Registry names none.
    pub registry_image: String,
    /// Name of this pod, for events.
    pub instance: Option<String>,
}

pub(super) struct Context {
    pub client: Client,
    pub world: Arc<World>,
    pub apply: Applier,
    pub recorder: Recorder,
    pub keys: KeyCache,
    pub service_accounts: Ledger,
    pub metrics: ControllerMetrics,
    pub settings: Settings,
}

/// Why a reconcile has to be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
    #[error("finalizer: {0}")]
    Finalizer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("credential: {0}")]
    Credential(#[from] crate::policy::CredentialError),
    #[error("signing key: {0}")]
    Key(#[source] crate::policy::KeyError),
    #[error("certificate: {0}")]
    Certificate(String),
}
