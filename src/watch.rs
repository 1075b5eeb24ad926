//! Following objects of the API server, for both shells: the operator and `serve --kube`.
//!
//! # Guarantees
//! - The store holds an object's new state before anybody is told of the change: who is told never reads an old state.
//! - An object that can't be read (stored under an older schema, say) stops nothing. The caller says whether the store
//!   then keeps its last readable state or forgets it, and is told. Once it is deleted it is gone in any case.
//! - After the connection was lost, everything that changed meanwhile is told.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::api::PartialObjectMeta;
use kube::core::error_boundary::InvalidObject;
use kube::core::{DeserializeGuard, Resource};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;

/// What became of an object.
pub enum Change<'a, K> {
    /// It is there, new or changed; `before` is its last state, if it was known.
    Present { object: &'a K, before: Option<Arc<K>> },
    /// It is gone.
    Gone(&'a K),
    /// It is there but can't be read. See [`Unreadable`].
    Unreadable(&'a InvalidObject),
}

/// What happens to the last readable state of an object that can't be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It stays in the store: what was made for the object is not torn down by a schema's slip.
    Keep,
    /// It is forgotten: what gives rights gives none while nobody can tell which.
    Forget,
}

/// Keeps `writer` in step with the API server until the future is dropped.
pub async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    writer: Writer<K>,
    unreadable: Unreadable,
    changed: impl FnMut(Change<'_, K>) + Send,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash + Unpin,
{
    let store = writer.as_reader();
    let events = watch(api, config).map(move |event| event.map(|event| unguard(event, &store, unreadable)));
    pump(events, writer, changed).await;
}

/// The same for objects of which only the metadata matters.
pub async fn follow_metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
    writer: Writer<PartialObjectMeta<K>>,
    changed: impl FnMut(Change<'_, PartialObjectMeta<K>>) + Send,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let events = watch(api, config).map(|event| event.map(|event| (Some(strip_managed_fields(event)), None)));
    pump(events, writer, changed).await;
}

/// The same for objects whose status nobody needs, where it changes for ever: it is taken out by `without_status`, and an
/// object of which nothing else has changed stays in the store as it was, with its old resource version.
pub async fn follow_spec<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    writer: Writer<K>,
    without_status: fn(&mut K),
    changed: impl FnMut(Change<'_, K>) + Send,
) where
    K: Resource + Clone + Debug + DeserializeOwned + PartialEq + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash + Unpin,
{
    let store = writer.as_reader();
    let events = watch(api, config).map(move |event| {
        event.map(|event| {
            let (event, invalid) = unguard(event, &store, Unreadable::Keep);
            (event.and_then(|event| unless_same(event, &store, without_status)), invalid)
        })
    });
    pump(events, writer, changed).await;
}

/// The event, unless it tells of nothing but the status.
fn unless_same<K>(event: Event<K>, store: &Store<K>, without_status: fn(&mut K)) -> Option<Event<K>>
where
    K: Resource + Clone + PartialEq + 'static,
    K::DynamicType: Clone + Default + Eq + Hash,
{
    let same = |object: &K| {
        let known = store.get(&ObjectRef::from_obj(object))?;
        let mut object = object.clone();
        object.meta_mut().resource_version.clone_from(&known.meta().resource_version);
        (*known == object).then(|| (*known).clone())
    };
    match event {
        Event::Apply(mut object) => {
            without_status(&mut object);
            same(&object).is_none().then_some(Event::Apply(object))
        }
        Event::InitApply(mut object) => {
            without_status(&mut object);
            // A list that leaves it out would say that it is gone.
            Some(Event::InitApply(same(&object).unwrap_or(object)))
        }
        other => Some(other),
    }
}

/// What an event says, and what could not be read of it.
type Seen<K> = (Option<Event<K>>, Option<Box<InvalidObject>>);

fn unguard<K>(event: Event<DeserializeGuard<K>>, store: &Store<K>, unreadable: Unreadable) -> Seen<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Default + Eq + Hash,
{
    // The store's state of an object of which only the metadata could be read.
    let last = |invalid: &InvalidObject| {
        let key = ObjectRef::new(invalid.metadata.name.as_deref()?);
        let key = match &invalid.metadata.namespace {
            Some(namespace) => key.within(namespace),
            None => key,
        };
        store.get(&key).map(|object| (*object).clone())
    };
    let seen = match event {
        Event::Init => (Some(Event::Init), None),
        Event::InitDone => (Some(Event::InitDone), None),
        Event::Apply(DeserializeGuard(Ok(object))) => (Some(Event::Apply(object)), None),
        Event::InitApply(DeserializeGuard(Ok(object))) => (Some(Event::InitApply(object)), None),
        Event::Delete(DeserializeGuard(Ok(object))) => (Some(Event::Delete(object)), None),
        Event::Delete(DeserializeGuard(Err(invalid))) => (last(&invalid).map(Event::Delete), None),
        Event::Apply(DeserializeGuard(Err(invalid))) => match unreadable {
            Unreadable::Keep => (None, Some(Box::new(invalid))),
            Unreadable::Forget => (last(&invalid).map(Event::Delete), Some(Box::new(invalid))),
        },
        Event::InitApply(DeserializeGuard(Err(invalid))) => match unreadable {
            // A list that leaves it out would say that it is gone.
            Unreadable::Keep => (last(&invalid).map(Event::InitApply), Some(Box::new(invalid))),
            Unreadable::Forget => (None, Some(Box::new(invalid))),
        },
    };
    (seen.0.map(strip_managed_fields), seen.1)
}

/// Managed fields are the larger part of most metadata, and nobody here reads them.
fn strip_managed_fields<K: Resource>(mut event: Event<K>) -> Event<K> {
    if let Event::Apply(object) | Event::InitApply(object) = &mut event {
        object.meta_mut().managed_fields = None;
    }
    event
}

async fn pump<K>(
    events: impl Stream<Item = Result<Seen<K>, watcher::Error>> + Send,
    mut writer: Writer<K>,
    mut changed: impl FnMut(Change<'_, K>) + Send,
) where
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let store = writer.as_reader();
    let mut events = std::pin::pin!(events.default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Err(error) => tracing::warn!(kind, %error, "watch failed, trying again"),
            Ok((event, invalid)) => {
                if let Some(invalid) = invalid {
                    changed(Change::Unreadable(&invalid));
                }
                if let Some(event) = event {
                    take(event, &mut writer, &store, &mut changed);
                }
            }
        }
    }
}

/// Updates the store, then tells.
fn take<K>(event: Event<K>, writer: &mut Writer<K>, store: &Store<K>, changed: &mut impl FnMut(Change<'_, K>))
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash,
{
    match event {
        Event::InitDone => {
            let before = by_uid(store.state());
            writer.apply_watcher_event(&Event::InitDone);
            let after = by_uid(store.state());
            for (uid, object) in &before {
                if !after.contains_key(uid) {
                    changed(Change::Gone(object));
                }
            }
            for (uid, object) in &after {
                let before = before.get(uid).cloned();
                if before.as_ref().is_none_or(|old| old.resource_version() != object.resource_version()) {
                    changed(Change::Present { object, before });
                }
            }
        }
        event => {
            let before = match &event {
                Event::Apply(object) => store.get(&ObjectRef::from_obj(object)),
                _ => None,
            };
            writer.apply_watcher_event(&event);
            match &event {
                Event::Apply(object) => changed(Change::Present { object, before }),
                Event::Delete(object) => changed(Change::Gone(object)),
                Event::Init | Event::InitApply(_) | Event::InitDone => {}
            }
        }
    }
}

fn by_uid<K: Resource>(objects: Vec<Arc<K>>) -> HashMap<String, Arc<K>> {
    objects.into_iter().map(|object| (object.uid().unwrap_or_default(), object)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector::store;

    fn readable(name: &str) -> DeserializeGuard<ConfigMap> {
        serde_json::from_value(serde_json::json!({ "metadata": { "name": name, "namespace": "n", "uid": name } }))
            .unwrap()
    }

    fn broken(name: &str) -> DeserializeGuard<ConfigMap> {
        let metadata = serde_json::json!({ "name": name, "namespace": "n", "uid": name });
        serde_json::from_value(serde_json::json!({ "metadata": metadata, "data": 5 })).unwrap()
    }

    /// Feeds events and returns what was told, and the names that are left in the store.
    async fn feed(
        unreadable: Unreadable,
        events: Vec<Event<DeserializeGuard<ConfigMap>>>,
    ) -> (Vec<String>, Vec<String>) {
        let (reader, writer) = store();
        let mut told = Vec::new();
        let known = reader.clone();
        let events = futures::stream::iter(events).map(move |event| Ok(unguard(event, &known, unreadable)));
        pump(events, writer, |change| {
            told.push(match change {
                Change::Present { object, .. } => format!("+{}", object.name_any()),
                Change::Gone(object) => format!("-{}", object.name_any()),
                Change::Unreadable(invalid) => format!("?{}", invalid.metadata.name.clone().unwrap_or_default()),
            });
        })
        .await;
        let left = reader.state().iter().map(|object| object.name_any()).collect();
        (told, left)
    }

    fn list(objects: Vec<DeserializeGuard<ConfigMap>>) -> Vec<Event<DeserializeGuard<ConfigMap>>> {
        let mut events = vec![Event::Init];
        events.extend(objects.into_iter().map(Event::InitApply));
        events.push(Event::InitDone);
        events
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[tokio::test]
    async fn one_unreadable_object_stops_no_other() {
        let mut events = list(vec![broken("bad"), readable("good")]);
        events.push(Event::Apply(readable("later")));
        let (told, mut left) = feed(Unreadable::Keep, events).await;
        left.sort();
        assert_eq!((told, left), (strings(&["?bad", "+good", "+later"]), strings(&["good", "later"])));
    }

    #[tokio::test]
    async fn the_last_readable_state_is_kept_or_forgotten() {
        let events = || {
            let mut events = list(vec![readable("a")]);
            events.push(Event::Apply(broken("a")));
            events.extend(list(vec![broken("a")]));
            events
        };
        assert_eq!(feed(Unreadable::Keep, events()).await, (strings(&["+a", "?a", "?a"]), strings(&["a"])));
        assert_eq!(feed(Unreadable::Forget, events()).await, (strings(&["+a", "?a", "-a", "?a"]), strings(&[])));
    }

    #[tokio::test]
    async fn an_unreadable_object_that_is_deleted_is_gone() {
        let mut events = list(vec![readable("a")]);
        events.push(Event::Apply(broken("a")));
        events.push(Event::Delete(broken("a")));
        assert_eq!(feed(Unreadable::Keep, events).await, (strings(&["+a", "?a", "-a"]), strings(&[])));
    }

    #[tokio::test]
    async fn a_change_of_the_status_alone_is_none() {
        // The status of this kind is its data.
        let object = |version: &str, label: &str, status: &str| {
            let metadata =
                serde_json::json!({ "name": "a", "uid": "a", "resourceVersion": version, "labels": { "l": label } });
            serde_json::from_value::<ConfigMap>(serde_json::json!({ "metadata": metadata, "data": { "s": status } }))
                .unwrap()
        };
        let (reader, writer) = store();
        let known = reader.clone();
        let events = [
            Event::Init,
            Event::InitApply(object("1", "x", "0")),
            Event::InitDone,
            Event::Apply(object("2", "x", "1")),
            Event::Apply(object("3", "y", "2")),
            Event::Init,
            Event::InitApply(object("4", "y", "3")),
            Event::InitDone,
            Event::Apply(object("5", "z", "4")),
        ];
        let events = futures::stream::iter(events)
            .map(move |event| Ok((unless_same(event, &known, |object: &mut ConfigMap| object.data = None), None)));
        let mut told = Vec::new();
        pump(events, writer, |change| {
            if let Change::Present { object, .. } = change {
                told.push(object.resource_version().unwrap());
            }
        })
        .await;
        assert_eq!(told, ["1", "3", "5"]);
        assert_eq!(reader.state()[0].resource_version().as_deref(), Some("5"));
    }
}
