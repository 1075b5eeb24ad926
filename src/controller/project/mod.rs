//! Project: is it accepted, and are its pull secrets where they should be.

mod pull_secrets;
pub(super) mod service_accounts;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::context::{Context, ReconcileError};
use super::finalizer;
use super::registry::build::names;
use super::status::{self, Verdict};
use crate::api::v1alpha1::{ConditionType, Project, ProjectStatus, Registry};
use pull_secrets::Outcome;

/// Pull secrets lie in other namespaces, where no owner reference reaches.
const FINALIZER: &str = "landfast.dev/pull-secrets";

/// Brings the pull secrets of a Project in place and says so in its status.
pub(super) async fn reconcile(
    project: Arc<Project>,
    context: Arc<Context>,
) -> Result<Option<Duration>, ReconcileError> {
    let context = &*context;
    let work = |project: Arc<Project>| async move { bring_in_place(&project, context).await };
    let cleanup = |project: Arc<Project>| async move { pull_secrets::clean_up(&project, context).await };
    finalizer::under(FINALIZER, project, context, work, cleanup).await
}

async fn bring_in_place(project: &Project, context: &Context) -> Result<Option<Duration>, ReconcileError> {
    let now = Timestamp::now();
    let (accepted, registry) = accept(project, context);
    let (ready, outcome) = match &registry {
        None => {
            pull_secrets::remove_all(project, context).await?;
            (Verdict::no("NotAccepted", accepted.message.clone()), Outcome::default())
        }
        Some(registry) => match context.keys.get(context, registry).await? {
            None => {
                let message = format!("waiting for the keys of Registry {}: see its conditions", registry.name_any());
                (Verdict::no("KeysPending", message), Outcome::default())
            }
            Some(keys) => {
                let outcome = pull_secrets::bring_in_place(project, registry, &keys, context, now).await?;
                (outcome.verdict(&project.pull_secret_name()), outcome)
            }
        },
    };
    let previous = project.status.as_ref();
    let verdicts = [(ConditionType::Accepted, &accepted), (ConditionType::Ready, &ready)];
    let known = previous.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let wanted = ProjectStatus {
        observed_generation: project.metadata.generation,
        conditions: status::conditions(project, known, &verdicts, now),
        address: registry.as_ref().map(|registry| format!("{}/{}", names::address(registry), project.path())),
        pull_secrets: registry.as_ref().map(|_| outcome.namespaces as i64),
        pull_secret_name: (outcome.namespaces > 0).then(|| project.pull_secret_name()),
    };
    status::write(context, project, previous, &wanted, |status| &status.conditions).await?;
    Ok(outcome.next(now))
}

/// Whether the Registry takes the Project; the Registry if so.
fn accept(project: &Project, context: &Context) -> (Verdict, Option<Arc<Registry>>) {
    let live = |registry: &Arc<Registry>| registry.metadata.deletion_timestamp.is_none();
    let Some(registry) = context.world.registry_of(project).filter(live) else {
        let reference = &project.spec.registry_ref;
        let namespace = reference.namespace.clone().or_else(|| project.namespace()).unwrap_or_default();
        let message = format!("there is no Registry {namespace}/{}: create it, or correct registryRef", reference.name);
        return (Verdict::no("RegistryNotFound", message), None);
    };
    match context.world.compiled(&registry).problem(project) {
        Some(problem) => (Verdict::no(problem.reason.as_str(), problem.message.clone()), None),
        None => (Verdict::yes("Accepted", ""), Some(registry)),
    }
}
