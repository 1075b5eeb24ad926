//! The signing keys of a Registry: made once, never overwritten.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::super::apply::Owner;
use super::super::context::{Context, ReconcileError};
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
    let name = names::keys_secret(registry);
    if Secret::observed(&context.world, Some(&names::namespace(registry)), &name).is_some() {
        let usable = context.keys.get(context, registry).await?.is_some();
        return Ok((!usable).then(|| {
            let message = format!(
                "Secret {name} holds no usable signing key: restore it, or delete it to have a new one made and every credential issued anew"
            );
            Verdict::no("KeysUnreadable", message)
        }));
    }
    let key = SigningKey::from_seed(&rand::random()).map_err(|error| ReconcileError::Certificate(error.to_string()))?;
    let data = BTreeMap::from([(KeySet::CURRENT_FILE.to_owned(), ByteString(key.to_pem().as_bytes().to_vec()))]);
    let secret = Secret { metadata: names::owned(registry, name), data: Some(data), ..Secret::default() };
    context.apply.apply(owner, secret).await?;
    Ok(None)
}
