//! The rules: who may change what, and what can't be accepted.

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;

use super::{Request, Requester};
use crate::controller::world::World;

/// What a requester may do by Kubernetes' own rights (a SubjectAccessReview).
#[async_trait]
pub trait Privileges: Send + Sync {
    /// Whether he may do `verb` to `resource` of our API group, in this namespace, to the object of this name if there is one.
    async fn may(
        &self,
        requester: &Requester,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<bool, kube::Error>;
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why not, and what to do instead.
    pub denial: Option<String>,
    /// What somebody should know who does this.
    pub warnings: Vec<String>,
}

/// Judges a change.
pub async fn judge(
    _world: &World,
    _privileges: &dyn Privileges,
    _request: &Request,
    _now: Timestamp,
) -> Result<Judgement, kube::Error> {
    Ok(Judgement::default())
}
