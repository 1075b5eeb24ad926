//! The signing keys of a Registry: made once, replaced step by step where the Registry asks for it ([`KeyRing`]), never
//! overwritten otherwise.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};

use super::super::FIELD_MANAGER;
use super::super::apply::{ApplyError, MANAGED_BY, OWNER, Owner};
use super::super::context::{Context, ReconcileError};
use super::super::secret::{StoredKeys, read_keys};
use super::super::status::{self, Verdict};
use super::super::world::Child as _;
use super::build::names;
use crate::api::v1alpha1::Registry;
use crate::policy::compile::claims;
use crate::policy::{KeyPlan, KeyRing, KeyStep, MOST_PREVIOUS, SigningKey};

/// What came out.
#[derive(Default)]
pub(super) struct Outcome {
    /// What is wrong with the keys, if anything.
    pub problem: Option<Verdict>,
    /// What somebody should know, though all works.
    pub note: Option<String>,
    /// When there is something to do next.
    pub due_at: Option<Timestamp>,
}

impl From<Option<Verdict>> for Outcome {
    fn from(problem: Option<Verdict>) -> Self {
        Self { problem, ..Self::default() }
    }
}

/// Makes the keys if there are none, and replaces them when it is time. Says what is wrong with those that are there, if
/// they can't be used: making new ones unasked would revoke every credential.
pub(super) async fn ensure(
    registry: &Registry,
    owner: &Owner,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, ReconcileError> {
    let (namespace, name) = (names::namespace(registry), names::keys_secret(registry));
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    if let Some(observed) = Secret::observed(&context.world, Some(&namespace), &name)
        && owner.owns(&observed)
    {
        return match context.keys.stored(context, registry).await? {
            Some(stored) => rotate(registry, &stored, &api, context, now).await,
            None => Ok(Some(unusable(&name)).into()),
        };
    }
    // Not seen is not the same as not there: it is created, which overwrites nothing, and never applied.
    context.metrics.wrote("Secret");
    match api.create(&PostParams::default(), &new(registry, owner, name.clone(), now)?).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            take_up(&api, &name, owner, context).await.map(Outcome::from)
        }
        result => {
            result?;
            Ok(Outcome::default())
        }
    }
}

/// Brings the keys a step forward, if it is time.
async fn rotate(
    registry: &Registry,
    stored: &StoredKeys,
    api: &Api<Secret>,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, ReconcileError> {
    let rotation = registry.spec.authentication.signing_key_rotation.as_ref();
    let rotation = rotation.map(|rotation| SignedDuration::from_secs(rotation.as_secs() as i64));
    let (projects, members) = context.world.signed_for(registry);
    let needed_until = |stopped| {
        let (projects, members) = (projects.iter().map(|project| &**project), members.iter().map(|member| &**member));
        claims::key_needed_until(projects, members, stopped)
    };
    let plan = stored.ring.advance(rotation, needed_until, now, || SigningKey::from_seed(&rand::random()));
    let KeyPlan { ring, steps, due_at, is_held } = plan.map_err(ReconcileError::Key)?;
    if !steps.is_empty() {
        write(registry, stored, &ring, api, context).await?;
    }
    for note in steps.iter().filter_map(|step| note(*step)) {
        status::event(context, registry, EventType::Normal, "SigningKeysChanged", note.to_owned()).await;
    }
    let note = is_held.then(|| {
        format!(
            "the signing key is not replaced while {MOST_PREVIOUS} older ones are needed for credentials without an end: set rotation or expiresAt in the Members with robots"
        )
    });
    Ok(Outcome { problem: None, note, due_at })
}

/// Only over what was read: two operators, one of them about to stop, must not make two next keys.
async fn write(
    registry: &Registry,
    stored: &StoredKeys,
    ring: &KeyRing,
    api: &Api<Secret>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let patch = serde_json::json!({
        "metadata": { "resourceVersion": stored.resource_version },
        "data": changes(&stored.ring, ring),
    });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    context.metrics.wrote("Secret");
    api.patch(&names::keys_secret(registry), &parameters, &Patch::Merge(patch)).await?;
    Ok(())
}

/// The data of a merge patch: files that are gone are null.
fn changes(before: &KeyRing, after: &KeyRing) -> BTreeMap<String, Option<ByteString>> {
    let mut changes: BTreeMap<_, _> = before.to_files().into_keys().map(|name| (name, None)).collect();
    changes.extend(after.to_files().into_iter().map(|(name, content)| (name, Some(ByteString(content)))));
    changes
}

fn note(step: KeyStep) -> Option<&'static str> {
    match step {
        KeyStep::Published => Some("a new signing key is trusted from now on and will sign later"),
        KeyStep::Switched => {
            Some("the new signing key signs from now on; the old one stays trusted while it is needed")
        }
        KeyStep::Retired => Some("an old signing key is not needed any more and not trusted from now on"),
        KeyStep::Dated => None,
    }
}

fn unusable(name: &str) -> Verdict {
    let message = format!(
        "Secret {name} holds no usable signing key: restore it, or delete it to have a new one made and every credential issued anew"
    );
    Verdict::no("KeysUnreadable", message)
}

fn new(registry: &Registry, owner: &Owner, name: String, now: Timestamp) -> Result<Secret, ReconcileError> {
    let key = SigningKey::from_seed(&rand::random()).map_err(ReconcileError::Key)?;
    let files = KeyRing::new(key, now).to_files().into_iter();
    let data = files.map(|(name, content)| (name, ByteString(content))).collect();
    let mut secret = Secret { metadata: names::owned(registry, name), data: Some(data), ..Secret::default() };
    secret.labels_mut().insert(MANAGED_BY.to_owned(), "landfast".to_owned());
    secret.annotations_mut().insert(OWNER.to_owned(), owner.to_string());
    Ok(secret)
}

/// Keys that are there but were not seen: the watch lags behind, or somebody took the label away that it goes by.
async fn take_up(
    api: &Api<Secret>,
    name: &str,
    owner: &Owner,
    context: &Context,
) -> Result<Option<Verdict>, ReconcileError> {
    let Some(secret) = api.get_opt(name).await? else { return Ok(None) };
    if !owner.owns(&secret.metadata) {
        return Err(ApplyError::Foreign { kind: "Secret".to_owned(), name: name.to_owned() }.into());
    }
    if secret.labels().get(MANAGED_BY).map(String::as_str) != Some("landfast") {
        let patch = serde_json::json!({ "metadata": { "labels": { MANAGED_BY: "landfast" } } });
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        context.metrics.wrote("Secret");
        api.patch(name, &parameters, &Patch::Merge(patch)).await?;
    }
    Ok(read_keys(&secret).is_none().then(|| unusable(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(seed: u8, day: i64) -> KeyRing {
        let now = Timestamp::from_second(day * 86_400).unwrap();
        KeyRing::new(SigningKey::from_seed(&[seed; 32]).unwrap(), now)
    }

    #[test]
    fn a_patch_takes_away_what_is_gone() {
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let advance = |ring: &KeyRing, at: i64| {
            let rotation = Some(SignedDuration::from_hours(240));
            let plan = ring.advance(rotation, |_| None, day(at), || SigningKey::from_seed(&[2; 32]));
            plan.unwrap().ring
        };
        let first = ring(1, 0);
        let published = advance(&first, 9);
        let switched = advance(&published, 10);
        let names = |changes: BTreeMap<String, Option<ByteString>>, there: bool| {
            changes
                .into_iter()
                .filter(|(_, content)| content.is_some() == there)
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(changes(&first, &published), true), ["dates.json", "next.pem", "signing.pem"]);
        assert_eq!(names(changes(&first, &published), false), Vec::<String>::new());
        assert_eq!(names(changes(&published, &switched), false), ["next.pem"]);
        let secret = Secret {
            data: Some(switched.to_files().into_iter().map(|(name, content)| (name, ByteString(content))).collect()),
            ..Secret::default()
        };
        assert_eq!(read_keys(&secret).unwrap().keys().current().id(), switched.keys().current().id());
    }
}
