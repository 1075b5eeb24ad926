//! Member: is it in force, and are the credentials of its robots where they should be.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use super::SECOND_LOOK;
use super::apply::{ApplyError, Owner, is_final};
use super::context::{Context, ReconcileError};
use super::secret::{Target, credential};
use super::status::{self, Verdict};
use crate::api::v1alpha1::{ConditionType, Member, MemberStatus, Registry, RobotStatus};
use crate::policy::KeySet;
use crate::policy::compile::claims;

/// Brings the credentials of a Member's robots in place and says so in its status.
pub(super) async fn reconcile(member: Arc<Member>, context: Arc<Context>) -> Result<Option<Duration>, ReconcileError> {
    // The Secrets have an owner reference: Kubernetes collects them.
    if member.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let now = Timestamp::now();
    let (accepted, registry) = accept(&member, &context, now);
    let mut outcome = Outcome::default();
    let ready = match &registry {
        None => {
            let reason = if accepted.holds { "Expired" } else { "NotAccepted" };
            Verdict::no(reason, accepted.message.clone())
        }
        Some(registry) => match context.keys.get(&context, registry).await? {
            None => {
                let message = format!("waiting for the keys of Registry {}: see its conditions", registry.name_any());
                return finish(&member, &context, (accepted, Verdict::no("KeysPending", message)), outcome, now).await;
            }
            Some(keys) => {
                outcome = bring_in_place(&member, registry, &keys, &context, now).await?;
                outcome.verdict()
            }
        },
    };
    remove_unwanted(&member, &context, &outcome).await?;
    finish(&member, &context, (accepted, ready), outcome, now).await
}

/// What came out.
#[derive(Default)]
struct Outcome {
    robots: Vec<RobotStatus>,
    /// Secrets of a wanted name that are not ours.
    conflicts: Vec<String>,
    /// What the API server refuses to take, and why.
    refusals: Vec<String>,
    renew_at: Option<Timestamp>,
}

impl Outcome {
    fn verdict(&self) -> Verdict {
        if !self.refusals.is_empty() {
            return Verdict::no("SecretRefused", format!("can't write Secret {}", self.refusals.join("; ")));
        }
        if self.conflicts.is_empty() {
            return Verdict::yes("CredentialsInPlace", "");
        }
        let message = format!(
            "Secret {} exists and is not this Member's, or two robots share it: delete it, or set secretName of the robot",
            self.conflicts.join(", ")
        );
        Verdict::no("SecretConflict", message)
    }
}

/// Whether the Member is in force; its Registry if credentials are due.
fn accept(member: &Member, context: &Context, now: Timestamp) -> (Verdict, Option<Arc<Registry>>) {
    let namespace = member.namespace().unwrap_or_default();
    let live = |registry: &Arc<Registry>| registry.metadata.deletion_timestamp.is_none();
    let registry = match (&member.spec.registry_ref, &member.spec.project_ref) {
        (Some(reference), _) => {
            let key = ObjectRef::new(&reference.name).within(&namespace);
            match context.world.registries.get(&key).filter(live) {
                Some(registry) => registry,
                None => {
                    let message = format!(
                        "there is no Registry {} in namespace {namespace}: create it, or correct registryRef",
                        reference.name
                    );
                    return (Verdict::no("RegistryNotFound", message), None);
                }
            }
        }
        (None, reference) => {
            let name = reference.as_ref().map(|reference| reference.name.as_str()).unwrap_or_default();
            let Some(project) = context.world.project(&namespace, name) else {
                let message =
                    format!("there is no Project {name} in namespace {namespace}: create it, or correct projectRef");
                return (Verdict::no("ProjectNotFound", message), None);
            };
            match context.world.registry_of(&project).filter(live) {
                Some(registry) => registry,
                None => {
                    let message = format!("the Registry of Project {name} doesn't exist: see the Project's conditions");
                    return (Verdict::no("RegistryNotFound", message), None);
                }
            }
        }
    };
    if let Some(problem) = context.world.compiled(&registry).problem(member) {
        return (Verdict::no(problem.reason.as_str(), problem.message.clone()), None);
    }
    match &member.spec.expires_at {
        Some(Time(end)) if *end <= now => {
            let message = format!("expired at {end}: set expiresAt to a later time, or delete the Member");
            (Verdict::yes("Accepted", message), None)
        }
        _ => (Verdict::yes("Accepted", ""), Some(registry)),
    }
}

fn owner_reference(member: &Member) -> OwnerReference {
    OwnerReference {
        controller: Some(true),
        block_owner_deletion: Some(true),
        ..member.owner_ref(&()).unwrap_or_default()
    }
}

async fn bring_in_place(
    member: &Member,
    registry: &Registry,
    keys: &KeySet,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, ReconcileError> {
    let owner = Owner::from(member);
    let mut outcome = Outcome::default();
    for robot in member.robots() {
        let Some(issued) = claims::robot(registry, member, robot, now) else { continue };
        let name = member.robot_secret_name(robot);
        // Two credentials can't share a Secret: each would be written over the other for ever.
        if outcome.robots.iter().any(|other| other.secret_name == name) {
            outcome.conflicts.push(name);
            continue;
        }
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            namespace: member.namespace(),
            owner_references: Some(vec![owner_reference(member)]),
            ..ObjectMeta::default()
        };
        let secret = credential(Target { metadata, registry, with_login: true }, &issued.claims, keys)?;
        match context.apply.apply(&owner, secret).await {
            Ok(_) => {}
            Err(ApplyError::Foreign { name, .. }) => {
                outcome.conflicts.push(name);
                continue;
            }
            Err(ApplyError::Api { source: kube::Error::Api(status), .. }) if is_final(&status) => {
                outcome.refusals.push(format!("{name}: {}", status.message));
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        outcome.renew_at = [outcome.renew_at, issued.renew_at].into_iter().flatten().min();
        let expires_at = issued.claims.exp.and_then(|second| Timestamp::from_second(second).ok()).map(Time);
        outcome.robots.push(RobotStatus { name: robot.name.clone(), secret_name: name, expires_at });
    }
    Ok(outcome)
}

/// Deletes the Secrets of robots that are no longer listed.
async fn remove_unwanted(member: &Member, context: &Context, outcome: &Outcome) -> Result<(), ReconcileError> {
    let owner = Owner::from(member);
    for secret in context.world.children.secrets.state() {
        let name = secret.name_any();
        let wanted = outcome.robots.iter().any(|robot| robot.secret_name == name);
        let ours = owner.owns(&secret.metadata) && secret.namespace() == member.namespace();
        if ours && !wanted {
            context.apply.delete::<Secret>(&owner, secret.namespace().as_deref(), &name).await?;
        }
    }
    Ok(())
}

async fn finish(
    member: &Member,
    context: &Context,
    (accepted, ready): (Verdict, Verdict),
    outcome: Outcome,
    now: Timestamp,
) -> Result<Option<Duration>, ReconcileError> {
    let previous = member.status.as_ref();
    let known = previous.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let verdicts = [(ConditionType::Accepted, &accepted), (ConditionType::Ready, &ready)];
    let wanted = MemberStatus {
        observed_generation: member.metadata.generation,
        conditions: status::conditions(member, known, &verdicts, now),
        robots: outcome.robots.clone(),
    };
    status::write(context, member, previous, &wanted, |status| &status.conditions).await?;
    let until = |due: Timestamp| Duration::try_from(due.duration_since(now)).unwrap_or_default();
    let renewal = outcome.renew_at.map(|due| until(due).max(Duration::from_secs(1)));
    // Nothing tells when what is in the way goes.
    let second_look = (!outcome.conflicts.is_empty() || !outcome.refusals.is_empty()).then_some(SECOND_LOOK);
    Ok([renewal, second_look].into_iter().flatten().min())
}
