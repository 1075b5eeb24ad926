//! Reconciling under a finalizer: for what no owner reference can clean up.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Error, Event, finalizer};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::{Context, ReconcileError};

/// Runs `work` while the object lives, and `cleanup` before it goes. Returns what `work` returned.
///
/// The finalizer is there before `work` runs for the first time, so that nothing it makes can be forgotten.
pub(super) async fn under<K, W, C>(
    name: &str,
    object: Arc<K>,
    context: &Context,
    work: impl FnOnce(Arc<K>) -> W,
    cleanup: impl FnOnce(Arc<K>) -> C,
) -> Result<Option<Duration>, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    W: Future<Output = Result<Option<Duration>, ReconcileError>>,
    C: Future<Output = Result<(), ReconcileError>>,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let next = Mutex::new(None);
    let run = |event| async {
        match event {
            Event::Apply(object) => {
                let delay = work(object).await?;
                *next.lock().unwrap_or_else(PoisonError::into_inner) = delay;
            }
            Event::Cleanup(object) => cleanup(object).await?,
        }
        Ok(Action::await_change())
    };
    match finalizer(&api, name, object, run).await {
        Ok(_) => Ok(next.into_inner().unwrap_or_else(PoisonError::into_inner)),
        Err(Error::ApplyFailed(error) | Error::CleanupFailed(error)) => Err(error),
        Err(error) => Err(ReconcileError::Finalizer(Box::new(error))),
    }
}
