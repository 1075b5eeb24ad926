//! Brings in place what serves a Registry, in the order in which one thing needs another.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::runtime::reflector::ObjectRef;

use super::super::SECOND_LOOK;
use super::super::apply::{ApplyError, Owner, is_final};
use super::super::context::{Context, ReconcileError};
use super::super::finalizer;
use super::super::status::{self, Verdict};
use super::build::{self, Inputs, Objects, claim_name, names};
use super::readiness::{Readiness, judge};
use super::{client_certificates, htpasswd, issuers, keys, replicas, s3, tls};
use crate::api::v1alpha1::{ConditionType, DeletionPolicy, Registry, RegistryStatus};

/// ClusterRoleBindings and a claim outlive their Registry if nobody takes care.
const FINALIZER: &str = "landfast.dev/registry";

/// How often that is looked at which is not ours: the password file, and what is needed for a bucket.
const LOOK_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// Brings everything of a Registry in place and says so in its status.
pub(in super::super) async fn reconcile(
    registry: Arc<Registry>,
    context: Arc<Context>,
) -> Result<Option<Duration>, ReconcileError> {
    let context = &*context;
    let work = |registry: Arc<Registry>| async move { bring_in_place(&registry, context).await };
    let cleanup = |registry: Arc<Registry>| async move { clean_up(&registry, context).await };
    finalizer::under(FINALIZER, registry, context, work, cleanup).await
}

async fn clean_up(registry: &Registry, context: &Context) -> Result<(), ReconcileError> {
    let owner = Owner::from(registry);
    for cluster_role in names::CLUSTER_ROLES {
        let binding = names::cluster_role_binding(registry, cluster_role);
        context.apply.delete_surely::<ClusterRoleBinding>(&owner, None, &binding).await?;
    }
    // Only the claim that this very spec has made: one that was brought stays, and so does one that an earlier
    // Registry of the same name left behind.
    let claim = &registry.spec.storage.persistent_volume_claim;
    let made = claim.as_ref().is_some_and(|claim| claim.existing_claim.is_none());
    if made && registry.spec.deletion_policy == DeletionPolicy::Delete {
        let namespace = names::namespace(registry);
        let name = names::claim(registry);
        context.apply.delete_surely::<PersistentVolumeClaim>(&owner, Some(&namespace), &name).await?;
    }
    Ok(())
}

/// What came of bringing the objects in place.
#[derive(Default)]
struct Outcome {
    tls: tls::Outcome,
    /// What keeps the registry from working, if it is not the pods' affair.
    problem: Option<Verdict>,
    /// What somebody should know although it works.
    note: Option<String>,
    /// When there is something to do next.
    due_at: Option<Timestamp>,
    /// The Deployment as it was just written, which is newer than what the world knows.
    deployment: Option<Deployment>,
}

async fn bring_in_place(registry: &Arc<Registry>, context: &Context) -> Result<Option<Duration>, ReconcileError> {
    let now = Timestamp::now();
    let outcome = match apply_all(registry, context, now).await {
        Ok(outcome) => outcome,
        Err(ReconcileError::Apply(error)) => Outcome { problem: Some(explain(error)?), ..Outcome::default() },
        Err(error) => return Err(error),
    };
    let needs_mending = outcome.problem.is_some();
    let wanted = observe(registry, context, &outcome, now);
    status::write(context, &**registry, registry.status.as_ref(), &wanted, |status| &status.conditions).await?;
    let due = outcome.due_at.map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default());
    let due = due.map(|due| due.max(Duration::from_secs(1)));
    Ok(if needs_mending { Some(due.map_or(SECOND_LOOK, |due| due.min(SECOND_LOOK))) } else { due })
}

/// What the API server refuses for good becomes a condition; the rest is tried again.
fn explain(error: ApplyError) -> Result<Verdict, ReconcileError> {
    match &error {
        ApplyError::Foreign { .. } => Ok(Verdict::no("ObjectConflict", error.to_string())),
        ApplyError::Api { source: kube::Error::Api(status), .. } if is_final(status) => {
            Ok(Verdict::no("ApplyRefused", error.to_string()))
        }
        ApplyError::Api { .. } => Err(error.into()),
    }
}

async fn apply_all(registry: &Registry, context: &Context, now: Timestamp) -> Result<Outcome, ReconcileError> {
    let owner = Owner::from(registry);
    let namespace = Some(names::namespace(registry));
    let namespace = namespace.as_deref();
    let apply = &context.apply;
    let keys::Outcome { problem, note, due_at } = keys::ensure(registry, &owner, context, now).await?;
    if problem.is_some() {
        return Ok(Outcome { problem, ..Outcome::default() });
    }
    let inputs = Inputs { registry, image: &context.settings.registry_image };
    let Objects {
        service_account,
        role,
        role_binding,
        policy_binding,
        cluster_role_bindings,
        config_map,
        persistent_volume_claim,
        service,
        pod_disruption_budget,
        deployment,
        horizontal_pod_autoscaler,
    } = build::objects(&inputs);

    // The certificate names the Service's address.
    let key = ObjectRef::new(&names::name(registry)).within(&names::namespace(registry));
    let applied = apply.apply(&owner, service).await?;
    let service = applied.or_else(|| context.world.children.services.get(&key).map(|service| (*service).clone()));
    let tls = tls::bring_in_place(registry, &owner, service.as_ref().and_then(cluster_ip), context, now).await?;

    apply.apply(&owner, service_account).await?;
    apply.apply(&owner, role).await?;
    apply.apply(&owner, role_binding).await?;
    let has_policy_binding = policy_binding.is_some();
    if let Some(binding) = policy_binding {
        apply.apply(&owner, binding).await?;
    }
    for cluster_role in names::CLUSTER_ROLES {
        match cluster_role_bindings.iter().find(|binding| binding.role_ref.name == cluster_role) {
            Some(binding) => drop(apply.apply(&owner, binding.clone()).await?),
            None => {
                let name = names::cluster_role_binding(registry, cluster_role);
                apply.delete::<ClusterRoleBinding>(&owner, None, &name).await?;
            }
        }
    }
    // Only now: the pods read their policy by the one or the other.
    if !has_policy_binding {
        apply.delete::<RoleBinding>(&owner, namespace, &names::policy_role_binding(registry)).await?;
    }
    apply.apply(&owner, config_map).await?;
    let mut problem = tls.problem.clone().or(htpasswd::problem(registry, context).await?);
    problem = problem.or_else(|| client_certificates::problem(registry)).or_else(|| issuers::problem(registry));
    problem = problem.or(s3::problem(registry, context).await?);
    match persistent_volume_claim {
        Some(claim) => drop(apply.apply(&owner, claim).await?),
        None => problem = problem.or(missing_claim(registry, context).await?),
    }
    match pod_disruption_budget {
        Some(budget) => drop(apply.apply(&owner, budget).await?),
        None => apply.delete::<PodDisruptionBudget>(&owner, namespace, &names::name(registry)).await?,
    }
    let key = ObjectRef::new(&names::name(registry)).within(&names::namespace(registry));
    let known = context.world.children.deployments.get(&key);
    match &horizontal_pod_autoscaler {
        Some(_) => replicas::hand_over(registry, &owner, known.as_deref(), context).await?,
        // Before the Registry's own number counts again.
        None => apply.delete::<HorizontalPodAutoscaler>(&owner, namespace, &names::name(registry)).await?,
    }
    let deployment = apply.apply(&owner, deployment).await?;
    // It needs a Deployment that names no number of pods.
    if let Some(autoscaler) = horizontal_pod_autoscaler {
        apply.apply(&owner, autoscaler).await?;
    }
    // Nothing tells of a change of a Secret that is not ours.
    let has_users = registry.spec.authentication.htpasswd_secret_ref.is_some();
    let look_again = (has_users || s3::depends_on_others(registry)).then(|| now + LOOK_INTERVAL);
    let due_at = [tls.due_at, due_at, look_again].into_iter().flatten().min();
    Ok(Outcome { tls, problem, note, due_at, deployment })
}

/// `None` for a headless Service too.
fn cluster_ip(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.cluster_ip.as_deref().filter(|address| !address.is_empty() && *address != "None")
}

/// Whether a claim that was brought is there.
async fn missing_claim(registry: &Registry, context: &Context) -> Result<Option<Verdict>, ReconcileError> {
    let Some(name) = claim_name(registry) else { return Ok(None) };
    let namespace = names::namespace(registry);
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let message = || {
        format!(
            "there is no PersistentVolumeClaim {name} in namespace {namespace}: create it, or make a Registry with storage.persistentVolumeClaim.size"
        )
    };
    Ok(api.get_metadata_opt(&name).await?.is_none().then(|| Verdict::no("ClaimNotFound", message())))
}

fn observe(registry: &Arc<Registry>, context: &Context, outcome: &Outcome, now: Timestamp) -> RegistryStatus {
    let world = &context.world;
    let namespace = names::namespace(registry);
    let known = || world.children.deployments.get(&ObjectRef::new(&names::name(registry)).within(&namespace));
    let deployment = outcome.deployment.clone().or_else(|| known().map(|known| (*known).clone()));
    let claim =
        claim_name(registry).and_then(|name| world.children.claims.get(&ObjectRef::new(&name).within(&namespace)));
    let wanted = replicas::wanted(registry, deployment.as_ref());
    let pods_of_it = world.pods_of(registry);
    let Readiness { mut ready, progressing } = judge(wanted, deployment.as_ref(), claim.as_deref(), &pods_of_it);
    if let (true, Some(note)) = (ready.holds, &outcome.note) {
        ready.message.clone_from(note);
    }
    let mut accepted = Verdict::yes("Accepted", "");
    if let Some(problem) = &outcome.problem {
        ready = problem.clone();
        if matches!(&*problem.reason, "ObjectConflict" | "ApplyRefused") {
            accepted = problem.clone();
        }
    }
    let previous = registry.status.as_ref();
    let known = previous.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let verdicts = [
        (ConditionType::Accepted, &accepted),
        (ConditionType::Progressing, &progressing),
        (ConditionType::Ready, &ready),
    ];
    let pods = deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
    let serving = pods.and_then(|status| status.ready_replicas).unwrap_or(0);
    let selector =
        names::selector_labels(registry).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    RegistryStatus {
        observed_generation: registry.metadata.generation,
        conditions: status::conditions(&**registry, known, &verdicts, now),
        url: Some(names::url(registry)),
        replicas: Some(pods.and_then(|status| status.replicas).unwrap_or(0)),
        ready_replicas: Some(serving),
        pods: Some(format!("{serving}/{wanted}")),
        selector: Some(selector.join(",")),
        projects: Some(world.compiled(registry).snapshot.projects.len() as i64),
        claim_name: claim_name(registry),
        // What could not be brought in place this time is still as it was.
        tls: outcome
            .tls
            .status
            .clone()
            .or_else(|| outcome.problem.as_ref().and_then(|_| previous.and_then(|status| status.tls.clone()))),
    }
}
