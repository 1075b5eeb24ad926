//! Everything that there is: to find what was left behind and what was written.

use std::collections::BTreeMap;

use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};

use super::{Cluster, eventually};

/// Kinds that say what happened, or that change by themselves. A Node lists the images that it has pulled.
const PASSING: [&str; 3] = ["Event", "Lease", "Node"];

/// The objects of a test, of every kind that the API server has: those in its namespaces, and those in none that name
/// one of them. Object to resource version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory(BTreeMap<String, String>);

impl Inventory {
    pub async fn of(cluster: &Cluster) -> Self {
        Self::with(cluster, |_| false).await
    }

    /// As [`Inventory::of`], with what belongs to the installation and to no Registry.
    pub async fn with_installation(cluster: &Cluster) -> Self {
        Self::with(cluster, |text| text.contains("landfast") && !text.contains("e2e-")).await
    }

    async fn with(cluster: &Cluster, also: impl Fn(&str) -> bool) -> Self {
        let namespaces = cluster.namespaces();
        let discovery = Discovery::new(cluster.client.clone()).run().await.expect("the API server tells its kinds");
        let mut objects = BTreeMap::new();
        let resources = discovery.groups().flat_map(|group| group.recommended_resources());
        for (resource, capabilities) in resources {
            if !capabilities.supports_operation(verbs::LIST) || PASSING.contains(&resource.kind.as_str()) {
                continue;
            }
            let places = match capabilities.scope {
                Scope::Cluster => vec![None],
                Scope::Namespaced => namespaces.iter().map(Some).collect(),
            };
            for place in places {
                let api: Api<DynamicObject> = match place {
                    None => Api::all_with(cluster.client.clone(), &resource),
                    Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
                };
                for object in api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
                    let text = serde_json::to_string(&object).expect("an object is JSON");
                    let named = || namespaces.iter().any(|namespace| text.contains(namespace.as_str()));
                    if place.is_none() && !named() && !also(&text) {
                        continue;
                    }
                    let metadata = object.metadata;
                    let place = metadata.namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
                    let key = format!("{} {place}{}", resource.kind, metadata.name.unwrap_or_default());
                    objects.insert(key, metadata.resource_version.unwrap_or_default());
                }
            }
        }
        Self(objects)
    }

    /// The objects that are not in `before`.
    pub fn added_to(&self, before: &Self) -> Vec<String> {
        self.0.keys().filter(|object| !before.0.contains_key(*object)).cloned().collect()
    }

    /// What is different, one line for each object.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes: Vec<_> = self.added_to(before).iter().map(|object| format!("new: {object}")).collect();
        changes.extend(before.added_to(self).iter().map(|object| format!("gone: {object}")));
        let changed =
            self.0.iter().filter(|(object, version)| before.0.get(*object).is_some_and(|old| old != *version));
        changes.extend(changed.map(|(object, version)| format!("changed: {object} (to {version})")));
        changes
    }

    /// Waits until nothing is there but what was before and `kept`; each of `kept` is the beginning of a line.
    pub async fn returns_to(before: &Self, cluster: &Cluster, kept: &[String]) {
        let what = format!("nothing is left behind but {kept:?}");
        eventually(&what, async || {
            let left = Self::of(cluster).await.added_to(before);
            let (kept_objects, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|object| kept.iter().any(|kept| object.starts_with(kept.as_str())));
            let missing: Vec<_> = kept
                .iter()
                .filter(|kept| !kept_objects.iter().any(|object| object.starts_with(kept.as_str())))
                .collect();
            if rest.is_empty() && missing.is_empty() {
                return Ok(());
            }
            Err(format!("left behind: {rest:?}; missing: {missing:?}"))
        })
        .await;
    }
}
