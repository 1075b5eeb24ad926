//! One kind's work queue: what is enqueued is reconciled, what fails is tried again with growing delay.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _, stream};
use kube::Resource;
use kube::runtime::controller::{Action, Config, Error as ControllerError, ReconcileRequest, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::context::{Context, ReconcileError};

/// A whole round of reconciles now and then heals what no event told of.
const RESYNC: Duration = Duration::from_secs(3_600);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// Collects the burst of events that one change makes.
const DEBOUNCE: Duration = Duration::from_millis(50);
const CONCURRENCY: u16 = 8;

/// Reconciles every object of the store, then what `requests` ask for, until `shutdown`.
pub(super) async fn run<K, F>(
    store: Store<K>,
    mut requests: UnboundedReceiver<ObjectRef<K>>,
    context: Arc<Context>,
    shutdown: CancellationToken,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Option<Duration>, ReconcileError>> + 'static,
{
    let all = store.state().into_iter().map(|object| ObjectRef::from_obj(&*object)).collect::<Vec<_>>();
    let later = stream::poll_fn(move |task| requests.poll_recv(task));
    let queue = stream::iter(all)
        .chain(later)
        .map(|object| Ok::<_, Infallible>(ReconcileRequest::from(object)))
        .take_until(shutdown.cancelled_owned());
    let failures = Arc::new(Failures::default());
    let succeeded = Arc::clone(&failures);
    let work = move |object: Arc<K>, context: Arc<Context>| {
        let key = ObjectRef::from_obj(&*object).to_string();
        // Nothing can be made there any more; the object itself is deleted in a moment, and that is another event.
        let in_vain = object.meta().deletion_timestamp.is_none()
            && object.meta().namespace.as_deref().is_some_and(|name| context.world.is_terminating(name));
        let (succeeded, metrics) = (Arc::clone(&succeeded), context.metrics.clone());
        let reconciled = reconcile(object, context);
        async move {
            if in_vain {
                return Ok(Action::await_change());
            }
            let start = Instant::now();
            let result = reconciled.await;
            metrics.reconciled(&K::kind(&()), result.is_ok(), start.elapsed());
            let next = result?;
            succeeded.forget(&key);
            Ok(Action::requeue(next.unwrap_or(RESYNC).min(RESYNC)))
        }
        .boxed_local()
    };
    let retry = move |object: Arc<K>, error: &ReconcileError, _: Arc<Context>| {
        let key = ObjectRef::from_obj(&*object).to_string();
        let delay = failures.next_delay(&key);
        tracing::warn!(kind = %K::kind(&()), object = key, %error, retry_in_seconds = delay.as_secs_f32(), "reconcile failed");
        Action::requeue(delay)
    };
    let config = Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    applier(work, retry, context, store, queue, config)
        .for_each(|result| async move {
            // An object that is gone by its turn is no error, and the others were logged when they were scheduled again.
            if let Err(ControllerError::RunnerError(error)) = result {
                tracing::error!(%error, "work queue failed");
            }
        })
        .await;
}

/// How often each object has failed in a row.
#[derive(Default)]
struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn next_delay(&self, key: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_default();
        let delay = FIRST_DELAY.saturating_mul(1 << (*count).min(16)).min(LONGEST_DELAY);
        *count += 1;
        delay
    }

    fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_its_bound_and_starts_again_after_a_success() {
        let failures = Failures::default();
        let delays: Vec<_> = (0..20).map(|_| failures.next_delay("a")).collect();
        assert_eq!(delays[..3], [500, 1_000, 2_000].map(Duration::from_millis));
        assert_eq!(delays[19], LONGEST_DELAY);
        assert_eq!(failures.next_delay("b"), FIRST_DELAY);
        failures.forget("a");
        assert_eq!(failures.next_delay("a"), FIRST_DELAY);
    }
}
