//! Writing objects: server-side, only what differs, and never over something that is not ours.
//!
//! # Guarantees
//! - An object is written when its wanted form changes, or when somebody else has changed it; otherwise not.
//! - An object of the wanted name that has another owner is left alone: [`ApplyError::Foreign`].

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Debug};
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FIELD_MANAGER;
use super::metrics::ControllerMetrics;
use super::world::{Child, World};
use crate::api::v1alpha1::{Member, Project, Registry};

/// The label of everything that we make.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The annotation that says for which object: `Project/<namespace>/<name>`.
pub(super) const OWNER: &str = "landfast.dev/owner";

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("{kind} {name} exists and is not landfast's: rename or delete it, or choose another name")]
    Foreign { kind: String, name: String },
    #[error("{kind} {name}: {source}")]
    Api { kind: String, name: String, source: kube::Error },
}

/// For which object a child is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Registry(ObjectRef<Registry>),
    Project(ObjectRef<Project>),
    Member(ObjectRef<Member>),
}

impl From<&Registry> for Owner {
    fn from(registry: &Registry) -> Self {
        Owner::Registry(ObjectRef::from_obj(registry))
    }
}

impl From<&Project> for Owner {
    fn from(project: &Project) -> Self {
        Owner::Project(ObjectRef::from_obj(project))
    }
}

impl From<&Member> for Owner {
    fn from(member: &Member) -> Self {
        Owner::Member(ObjectRef::from_obj(member))
    }
}

impl Owner {
    /// Whether the annotation of an object names this owner.
    pub fn owns(&self, metadata: &ObjectMeta) -> bool {
        Self::of(metadata).as_ref() == Some(self)
    }

    /// What the annotation of a child says.
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let mut parts = metadata.annotations.as_ref()?.get(OWNER)?.splitn(3, '/');
        let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        match kind {
            "Registry" => Some(Owner::Registry(ObjectRef::new(name).within(namespace))),
            "Project" => Some(Owner::Project(ObjectRef::new(name).within(namespace))),
            "Member" => Some(Owner::Member(ObjectRef::new(name).within(namespace))),
            _ => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, namespace, name) = match self {
            Owner::Registry(object) => ("Registry", &object.namespace, &object.name),
            Owner::Project(object) => ("Project", &object.namespace, &object.name),
            Owner::Member(object) => ("Member", &object.namespace, &object.name),
        };
        write!(f, "{kind}/{}/{name}", namespace.as_deref().unwrap_or_default())
    }
}

/// Where an object lives, by its scope: cluster-scoped and namespaced kinds take different constructors.
pub(super) trait Located: Resource<DynamicType = ()> + Sized {
    fn api(client: &Client, namespace: Option<&str>) -> Api<Self>;
}

impl<K> Located for K
where
    K: Resource<DynamicType = ()> + Sized,
    K::Scope: ScopeApi<K>,
{
    fn api(client: &Client, namespace: Option<&str>) -> Api<Self> {
        K::Scope::api(client, namespace)
    }
}

pub(super) trait ScopeApi<K> {
    fn api(client: &Client, namespace: Option<&str>) -> Api<K>;
}

impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> ScopeApi<K> for NamespaceResourceScope {
    fn api(client: &Client, namespace: Option<&str>) -> Api<K> {
        Api::namespaced(client.clone(), namespace.unwrap_or_default())
    }
}

impl<K: Resource<DynamicType = (), Scope = ClusterResourceScope>> ScopeApi<K> for ClusterResourceScope {
    fn api(client: &Client, _: Option<&str>) -> Api<K> {
        Api::all(client.clone())
    }
}

/// Remembers what was written, to write nothing twice.
pub(super) struct Applier {
    client: Client,
    world: Arc<World>,
    metrics: ControllerMetrics,
    written: Mutex<HashMap<String, Written>>,
}

#[derive(Clone, Copy)]
struct Written {
    /// Of the wanted form.
    hash: u64,
    /// The object's resource version after it was written.
    resource_version: u64,
    /// How often in a row somebody else's change had to be undone, and from when on it may be undone again.
    undone: u32,
    not_before: Instant,
    /// A change has been seen that must not be undone yet.
    contested: bool,
}

impl Written {
    /// How often in a row somebody else's change has been undone before `now`: after a quiet while it begins anew.
    fn undone_before(&self, now: Instant) -> u32 {
        let quiet = !self.contested && now.saturating_duration_since(self.not_before) > QUIET;
        if quiet { 0 } else { self.undone }
    }
}

/// Changes by others that are undone at once; from then on with growing delay, lest two controllers write for ever.
const UNDONE_AT_ONCE: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_secs(10);
const LONGEST_DELAY: Duration = Duration::from_secs(3_600);
/// Who has changed nothing for so long is not fighting.
pub(super) const QUIET: Duration = Duration::from_secs(600);

impl Applier {
    pub fn new(client: Client, world: Arc<World>, metrics: ControllerMetrics) -> Self {
        Self { client, world, metrics, written: Mutex::default() }
    }

    /// Makes the object on the server what `wanted` says, for `owner`. Returns it where a write was needed.
    pub async fn apply<K>(&self, owner: &Owner, mut wanted: K) -> Result<Option<K>, ApplyError>
    where
        K: Child + Located + Clone + Debug + Serialize + DeserializeOwned,
    {
        wanted.labels_mut().insert(MANAGED_BY.to_owned(), "landfast".to_owned());
        wanted.annotations_mut().insert(OWNER.to_owned(), owner.to_string());
        let (namespace, name) = (wanted.namespace(), wanted.name_any());
        let key = format!("{}/{}/{name}", K::kind(&()), namespace.as_deref().unwrap_or_default());
        let failed = |source| ApplyError::Api { kind: K::kind(&()).into_owned(), name: name.clone(), source };
        let hash = hash_of(&wanted).map_err(|error| failed(kube::Error::SerdeError(error)))?;

        let observed = K::observed(&self.world, namespace.as_deref(), &name);
        let before = self.written(&key).filter(|written| written.hash == hash);
        if let (Some(observed), Some(written)) = (&observed, before) {
            // The watch may lag behind our own write: an older version than the one we wrote is no change by others.
            if resource_version(observed) <= written.resource_version {
                return Ok(None);
            }
            if Instant::now() < written.not_before {
                let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                all.entry(key).and_modify(|written| written.contested = true);
                return Ok(None);
            }
        }
        let api = K::api(&self.client, namespace.as_deref());
        let observed_version = observed.as_ref().map(resource_version);
        let existing = match observed {
            Some(observed) => Some(observed),
            // What does not carry our label is not in the world; it may still be in the way.
            None => api.get_metadata_opt(&name).await.map_err(failed)?.map(|object| object.metadata),
        };
        if existing.is_some_and(|existing| !owner.owns(&existing)) {
            return Err(ApplyError::Foreign { kind: K::kind(&()).into_owned(), name });
        }
        wanted.meta_mut().managed_fields = None;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.metrics.wrote(&K::kind(&()));
        let applied = api.patch(&name, &parameters, &Patch::Apply(&wanted)).await.map_err(failed)?;
        let (version, now) = (resource_version(applied.meta()), Instant::now());
        // A new version although we wanted the same as before: somebody else's change has been undone.
        let undone = match before {
            Some(written) if observed_version != Some(version) => written.undone_before(now) + 1,
            Some(written) => written.undone_before(now),
            None => 0,
        };
        let not_before = now + delay(undone);
        let written = Written { hash, resource_version: version, undone, not_before, contested: false };
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key, written);
        Ok(Some(applied))
    }

    /// Deletes an object of ours, if it is there.
    pub async fn delete<K>(&self, owner: &Owner, namespace: Option<&str>, name: &str) -> Result<(), ApplyError>
    where
        K: Child + Located + Clone + Debug + DeserializeOwned,
    {
        let Some(observed) = K::observed(&self.world, namespace, name) else { return Ok(()) };
        self.delete_known::<K>(owner, observed, namespace, name).await
    }

    /// Deletes an object of ours whether or not the watch has told of it yet: for the last chance to do so.
    pub async fn delete_surely<K>(&self, owner: &Owner, namespace: Option<&str>, name: &str) -> Result<(), ApplyError>
    where
        K: Child + Located + Clone + Debug + DeserializeOwned,
    {
        let failed = |source| ApplyError::Api { kind: K::kind(&()).into_owned(), name: name.to_owned(), source };
        match K::api(&self.client, namespace).get_metadata_opt(name).await.map_err(failed)? {
            Some(found) => self.delete_known::<K>(owner, found.metadata, namespace, name).await,
            None => Ok(()),
        }
    }

    async fn delete_known<K>(
        &self,
        owner: &Owner,
        observed: ObjectMeta,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), ApplyError>
    where
        K: Child + Located + Clone + Debug + DeserializeOwned,
    {
        let failed = |source| ApplyError::Api { kind: K::kind(&()).into_owned(), name: name.to_owned(), source };
        if !owner.owns(&observed) || observed.deletion_timestamp.is_some() {
            return Ok(());
        }
        let preconditions = Preconditions { uid: observed.uid, resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        self.metrics.wrote(&K::kind(&()));
        match K::api(&self.client, namespace).delete(name, &parameters).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            result => drop(result.map_err(failed)?),
        }
        let key = format!("{}/{}/{name}", K::kind(&()), namespace.unwrap_or_default());
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Ok(())
    }

    fn written(&self, key: &str) -> Option<Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

pub(super) fn delay(undone: u32) -> Duration {
    match undone.checked_sub(UNDONE_AT_ONCE) {
        None => Duration::ZERO,
        Some(more) => FIRST_DELAY.saturating_mul(1 << more.min(16)).min(LONGEST_DELAY),
    }
}

/// What the API server will refuse again, whoever asks how often: for a condition, not for another try at once.
pub(super) fn is_final(status: &kube::core::Status) -> bool {
    matches!(status.code, 400 | 403 | 413 | 422) && !status.message.contains("being terminated")
}

/// Resource versions are compared as numbers (KEP-5504); one that is none makes every comparison say "changed".
pub(super) fn resource_version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(u64::MAX)
}

fn hash_of(object: &impl Serialize) -> serde_json::Result<u64> {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(object)?.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_over_an_object_slows_down() {
        assert_eq!(delay(UNDONE_AT_ONCE - 1), Duration::ZERO);
        assert_eq!(delay(UNDONE_AT_ONCE), FIRST_DELAY);
        assert_eq!(delay(UNDONE_AT_ONCE + 1), FIRST_DELAY * 2);
        assert_eq!(delay(1_000), LONGEST_DELAY);
    }

    #[test]
    fn a_fight_is_over_after_a_quiet_while() {
        let not_before = Instant::now();
        let written = Written { hash: 0, resource_version: 1, undone: 9, not_before, contested: false };
        assert_eq!(written.undone_before(not_before + QUIET), 9);
        assert_eq!(written.undone_before(not_before + 2 * QUIET), 0);
        let contested = Written { contested: true, ..written };
        assert_eq!(contested.undone_before(not_before + 2 * QUIET), 9, "it was changed at once, and seen late");
    }

    #[test]
    fn an_owner_is_read_from_what_it_prints() {
        let mut metadata = ObjectMeta::default();
        for text in ["Registry/ns/main", "Project/ns/team", "Member/ns/ci"] {
            metadata.annotations = Some([(OWNER.to_owned(), text.to_owned())].into());
            assert_eq!(Owner::of(&metadata).map(|owner| owner.to_string()).as_deref(), Some(text));
        }
        for text in ["", "Registry", "Registry/ns", "Pod/ns/x"] {
            metadata.annotations = Some([(OWNER.to_owned(), text.to_owned())].into());
            assert_eq!(Owner::of(&metadata), None, "{text}");
        }
    }
}
