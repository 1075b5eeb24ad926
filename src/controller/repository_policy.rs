//! RepositoryPolicy: is it in force. It makes no objects.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::context::{Context, ReconcileError};
use super::status::{self, Verdict};
use crate::api::v1alpha1::{ConditionType, RepositoryPolicy, RepositoryPolicyStatus};

/// Says in the status of a RepositoryPolicy whether it is in force.
pub(super) async fn reconcile(
    policy: Arc<RepositoryPolicy>,
    context: Arc<Context>,
) -> Result<Option<Duration>, ReconcileError> {
    let now = Timestamp::now();
    let accepted = accept(&policy, &context);
    let previous = policy.status.as_ref();
    let known = previous.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let wanted = RepositoryPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: status::conditions(&*policy, known, &[(ConditionType::Accepted, &accepted)], now),
    };
    status::write(&context, &*policy, previous, &wanted, |status| &status.conditions).await?;
    Ok(None)
}

fn accept(policy: &RepositoryPolicy, context: &Context) -> Verdict {
    let (namespace, name) = (policy.namespace().unwrap_or_default(), &policy.spec.project_ref.name);
    let Some(project) = context.world.project(&namespace, name) else {
        let message = format!("there is no Project {name} in namespace {namespace}: create it, or correct projectRef");
        return Verdict::no("ProjectNotFound", message);
    };
    let Some(registry) = context.world.registry_of(&project) else {
        let message = format!("the Registry of Project {name} doesn't exist: see the Project's conditions");
        return Verdict::no("RegistryNotFound", message);
    };
    match context.world.compiled(&registry).problem(policy) {
        Some(problem) => Verdict::no(problem.reason.as_str(), problem.message.clone()),
        None => Verdict::yes("Accepted", ""),
    }
}
