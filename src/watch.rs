//! Following objects of the API server, for both shells: the operator and `serve --kube`.
//!
//! # Guarantees
//! - The store holds an object's new state before anybody is told of the change: who is told never reads an old state.
//! - An object that can't be read (stored under an older schema, say) stops nothing: the store keeps its last readable
//!   state, and the caller is told.
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
    /// It is there but can't be read; the store still has its last readable state, if there ever was one.
    Unreadable(&'a InvalidObject),
}

/// Keeps `writer` in step with the API server until the future is dropped.
pub async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    writer: Writer<K>,
    changed: impl FnMut(Change<'_, K>) + Send,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash + Unpin,
{
    let events = watch(api, config).map(|event| event.map(unguard));
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
    let events = watch(api, config).map(|event| event.map(|event| Ok(strip_managed_fields(event))));
    pump(events, writer, changed).await;
}

type Readable<K> = Result<Event<K>, Box<InvalidObject>>;

fn unguard<K: Resource>(event: Event<DeserializeGuard<K>>) -> Readable<K> {
    Ok(strip_managed_fields(match event {
        Event::Apply(DeserializeGuard(object)) => Event::Apply(object?),
        Event::Delete(DeserializeGuard(object)) => Event::Delete(object?),
        Event::InitApply(DeserializeGuard(object)) => Event::InitApply(object?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }))
}

/// Managed fields are the larger part of most metadata, and nobody here reads them.
fn strip_managed_fields<K: Resource>(mut event: Event<K>) -> Event<K> {
    if let Event::Apply(object) | Event::InitApply(object) = &mut event {
        object.meta_mut().managed_fields = None;
    }
    event
}

async fn pump<K>(
    events: impl Stream<Item = Result<Readable<K>, watcher::Error>> + Send,
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
            Ok(Err(invalid)) => changed(Change::Unreadable(&invalid)),
            Ok(Ok(Event::InitDone)) => {
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
            Ok(Ok(event)) => {
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
}

fn by_uid<K: Resource>(objects: Vec<Arc<K>>) -> HashMap<String, Arc<K>> {
    objects.into_iter().map(|object| (object.uid().unwrap_or_default(), object)).collect()
}
