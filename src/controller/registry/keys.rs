//! The signing keys of a Registry: made once, never overwritten.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};

use super::super::FIELD_MANAGER;
use super::super::apply::{ApplyError, MANAGED_BY, OWNER, Owner};
use super::super::context::{Context, ReconcileError};
use super::super::secret::read_keys;
use super::super::status::Verdict;
use super::super::world::Child as _;
use super::build::names;
use crate::api::v1alpha1::Registry;
use crate::policy::{KeySet, SigningKey};

/// Makes the keys if there are none. Says what is wrong with those that are there, if they can't be used: making new ones
/// unasked would revoke every credential.
pub(super) async fn ensure(
    registry: &Registry,
    owner: &Owner,
    context: &Context,
) -> Result<Option<Verdict>, ReconcileError> {
    let (namespace, name) = (names::namespace(registry), names::keys_secret(registry));
    if let Some(observed) = Secret::observed(&context.world, Some(&namespace), &name)
        && owner.owns(&observed)
    {
        let usable = context.keys.get(context, registry).await?.is_some();
        return Ok((!usable).then(|| unusable(&name)));
    }
    // Not seen is not the same as not there: it is created, which overwrites nothing, and never applied.
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    context.metrics.wrote("Secret");
    match api.create(&PostParams::default(), &new(registry, owner, name.clone())?).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => take_up(&api, &name, owner, context).await,
        result => {
            result?;
            Ok(None)
        }
    }
}

fn unusable(name: &str) -> Verdict {
    let message = format!(
        "Secret {name} holds no usable signing key: restore it, or delete it to have a new one made and every credential issued anew"
    );
    Verdict::no("KeysUnreadable", message)
}

fn new(registry: &Registry, owner: &Owner, name: String) -> Result<Secret, ReconcileError> {
    let key = SigningKey::from_seed(&rand::random()).map_err(ReconcileError::Key)?;
    let data = BTreeMap::from([(KeySet::CURRENT_FILE.to_owned(), ByteString(key.to_pem().as_bytes().to_vec()))]);
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
