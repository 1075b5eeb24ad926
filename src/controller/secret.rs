//! Credentials as Secrets, and the keys that sign them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};

use super::apply::Owner;
use super::context::{Context, ReconcileError};
use super::registry::build::names;
use super::world::Child as _;
use crate::api::v1alpha1::Registry;
use crate::policy::{CredentialClaims, CredentialError, KeyRing, KeySet, docker_config_json};

/// The type of a Secret that pods can pull with.
pub(super) const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";

/// The keys of the Registries, read once per change of their Secret.
#[derive(Default)]
pub(super) struct KeyCache(Mutex<HashMap<Uid, Arc<StoredKeys>>>);

type Uid = String;

/// Keys as they are kept in their Secret.
pub(super) struct StoredKeys {
    pub resource_version: Option<String>,
    pub ring: KeyRing,
    pub keys: Arc<KeySet>,
}

impl KeyCache {
    /// The keys of a Registry, or `None` if they are not there yet or can't be read: its own reconcile takes care.
    pub async fn get(&self, context: &Context, registry: &Registry) -> Result<Option<Arc<KeySet>>, ReconcileError> {
        Ok(self.stored(context, registry).await?.map(|stored| Arc::clone(&stored.keys)))
    }

    /// The same with all that is kept with them.
    pub async fn stored(
        &self,
        context: &Context,
        registry: &Registry,
    ) -> Result<Option<Arc<StoredKeys>>, ReconcileError> {
        let (namespace, name) = (registry.namespace().unwrap_or_default(), names::keys_secret(registry));
        let owner = Owner::from(registry);
        let observed = Secret::observed(&context.world, Some(&namespace), &name);
        let Some(observed) = observed.filter(|observed| owner.owns(observed)) else { return Ok(None) };
        let uid = observed.uid.clone().unwrap_or_default();
        if let Some(stored) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&uid)
            && stored.resource_version == observed.resource_version
        {
            return Ok(Some(Arc::clone(stored)));
        }
        let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
        let Some(secret) = api.get_opt(&name).await? else { return Ok(None) };
        let Some(ring) = read_keys(&secret) else { return Ok(None) };
        let (resource_version, keys) = (secret.metadata.resource_version.clone(), Arc::new(ring.keys()));
        let stored = Arc::new(StoredKeys { resource_version, ring, keys });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, Arc::clone(&stored));
        Ok(Some(stored))
    }
}

/// The keys in a Secret, if they can be read.
pub(super) fn read_keys(secret: &Secret) -> Option<KeyRing> {
    let data = secret.data.as_ref()?;
    let files = data.iter().map(|(name, content)| (name.as_str(), content.0.as_slice()));
    KeyRing::from_files(files, Timestamp::now()).ok()
}

/// Where a credential goes.
pub(super) struct Target<'a> {
    pub metadata: ObjectMeta,
    pub registry: &'a Registry,
    /// Whether `username` and `password` are written too. A Secret of type dockerconfigjson may hold more than its one
    /// required key, but what pods of a namespace mount by mistake should be as little as possible.
    pub with_login: bool,
}

/// Builds the Secret that holds a credential. Deterministic: same claims and keys, same Secret.
pub(super) fn credential(
    target: Target<'_>,
    claims: &CredentialClaims,
    keys: &KeySet,
) -> Result<Secret, CredentialError> {
    let (username, password) = (claims.subject.username(), claims.sign(keys)?);
    let hosts = names::hosts(target.registry);
    let config = docker_config_json(hosts.iter().map(String::as_str), &username, &password);
    let mut data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(config.into_bytes()))]);
    if target.with_login {
        data.insert("username".to_owned(), ByteString(username.into_bytes()));
        data.insert("password".to_owned(), ByteString(password.into_bytes()));
    }
    Ok(Secret {
        metadata: target.metadata,
        type_: Some(DOCKER_CONFIG.to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}
