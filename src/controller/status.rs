//! Conditions and events: what a person reads about an object.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FIELD_MANAGER;
use super::context::{Context, ReconcileError};
use crate::api::v1alpha1::{ConditionType, condition};

/// What is to be said in one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub holds: bool,
    pub reason: String,
    pub message: String,
}

impl Verdict {
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: true, reason: reason.to_owned(), message: message.into() }
    }

    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: false, reason: reason.to_owned(), message: message.into() }
    }
}

/// Builds the conditions of an object from verdicts, with the transition times of those it has.
pub(super) fn conditions<K: Resource>(
    object: &K,
    previous: &[Condition],
    verdicts: &[(ConditionType, &Verdict)],
    now: Timestamp,
) -> Vec<Condition> {
    let generation = object.meta().generation;
    let build = |(type_, verdict): &(ConditionType, &Verdict)| {
        condition(previous, *type_, verdict.holds, &verdict.reason, verdict.message.clone(), generation, now)
    };
    verdicts.iter().map(build).collect()
}

/// Writes the status if it differs from the object's, and an event for each condition whose meaning has changed.
pub(super) async fn write<K, S>(
    context: &Context,
    object: &K,
    previous: Option<&S>,
    wanted: &S,
    conditions_of: impl Fn(&S) -> &[Condition],
) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    S: Serialize + PartialEq,
{
    if previous == Some(wanted) {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "uid": object.uid() },
        "status": wanted,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    context.metrics.wrote(&K::kind(&()));
    match api.patch_status(&object.name_any(), &parameters, &Patch::Apply(patch)).await {
        // It was deleted meanwhile, or made anew: there is nobody to tell.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(()),
        result => drop(result?),
    }
    let before = previous.map(&conditions_of).unwrap_or_default();
    for condition in conditions_of(wanted).iter().filter(|condition| is_news(before, condition)) {
        publish(context, object, condition).await;
    }
    Ok(())
}

/// Progress is no news: it would tell the same as `Ready`, twice.
fn is_news(before: &[Condition], now: &Condition) -> bool {
    let same = |old: &Condition| old.type_ == now.type_ && old.status == now.status && old.reason == now.reason;
    now.type_ != ConditionType::Progressing.as_str() && !before.iter().any(same)
}

async fn publish<K: Resource<DynamicType = ()>>(context: &Context, object: &K, condition: &Condition) {
    let progressing = condition.status == "False" && is_transient(&condition.reason);
    let type_ = if condition.status == "True" || progressing { EventType::Normal } else { EventType::Warning };
    event(context, object, type_, &condition.reason, condition.message.clone()).await;
}

/// Reasons that pass by themselves.
fn is_transient(reason: &str) -> bool {
    matches!(reason, "PodsStarting" | "KeysPending")
}

/// Publishes an event. One that can't be written is logged: it must not stop a reconcile.
pub(super) async fn event<K: Resource<DynamicType = ()>>(
    context: &Context,
    object: &K,
    type_: EventType,
    reason: &str,
    note: String,
) {
    // The API takes at most 1 kB.
    let note: String = note.chars().take(1_000).collect();
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(if note.is_empty() { reason.to_owned() } else { note }),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    match context.recorder.publish(&event, &object.object_ref(&())).await {
        // The namespace is on its way out, or the event that this one repeats has been collected.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.message.contains("being terminated") => {}
        Err(error) => tracing::warn!(%error, reason, "event could not be written"),
        Ok(()) => {}
    }
}
