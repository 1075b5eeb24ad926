//! Operator mode: from custom resources to running registries and pull secrets.
//!
//! # Flow
//! [`world`] follows everything that matters and keeps it in memory. A change enqueues the objects that it concerns; per
//! kind one queue reconciles them: gather (from the world) -> decide (pure) -> build (pure) -> [`apply`] -> [`status`].
//! Each replica follows, for [`admission`] is asked of any of them; only the holder of the [`lease`] reconciles.
//!
//! # Guarantees
//! - Nothing is written that is already so: a steady state makes no writes, a restart changes no object.
//! - Nothing is overwritten that is not ours: an object in the way shows as a condition.
//! - One bad object is reported on itself and stops no other.

pub mod admission;
mod apply;
pub mod certificates;
mod context;
mod finalizer;
pub mod lease;
mod member;
mod metrics;
mod project;
mod queue;
pub mod registry;
mod repository_policy;
mod secret;
mod status;
mod world;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use admission::{Webhook, WebhookSettings};
use context::Context;
pub use context::Settings;
use metrics::ControllerMetrics;
use world::{Wake, World};

use crate::telemetry::Metrics;

/// The field manager of everything that the operator applies.
const FIELD_MANAGER: &str = "landfast";

/// What a person has to mend, or what nothing tells of, is looked at again after this.
const SECOND_LOOK: Duration = Duration::from_secs(60);

/// One replica of the operator. Each follows the cluster and judges what the API server asks about; the one that holds
/// the Lease reconciles.
pub struct Operator {
    context: Arc<Context>,
    wake: Wake,
    synced: CancellationToken,
    leading: CancellationToken,
    /// They end with this.
    _followers: JoinSet<()>,
}

impl Operator {
    /// Begins to follow.
    pub fn start(client: Client, settings: Settings, metrics: &Metrics) -> Self {
        let (world, wake, mut followers) = World::follow(&client);
        let synced = CancellationToken::new();
        let (read, all) = (synced.clone(), Arc::clone(&world));
        followers.spawn(async move {
            all.ready().await;
            tracing::info!("everything has been read");
            read.cancel();
        });
        let reporter = Reporter { controller: "landfast".to_owned(), instance: settings.instance.clone() };
        let metrics = ControllerMetrics::register(metrics);
        let context = Arc::new(Context {
            apply: apply::Applier::new(client.clone(), Arc::clone(&world), metrics.clone()),
            metrics,
            recorder: Recorder::new(client.clone(), reporter),
            keys: secret::KeyCache::default(),
            service_accounts: project::service_accounts::Ledger::default(),
            client,
            world,
            settings,
        });
        Self { context, wake, synced, leading: CancellationToken::new(), _followers: followers }
    }

    /// Says whether everything has been read once.
    pub fn is_synced(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let synced = self.synced.clone();
        move || synced.is_cancelled()
    }

    /// This replica's admission webhook.
    pub fn webhook(&self, settings: WebhookSettings, metrics: &Metrics) -> Webhook {
        let Context { client, world, .. } = &*self.context;
        Webhook::new(client, world, settings, self.synced.clone(), self.leading.clone(), metrics)
    }

    /// Reconciles until `shutdown`, once everything has been read: all that there is, then what changes. Only whoever
    /// holds the Lease may call this, and once.
    pub async fn reconcile(&self, shutdown: CancellationToken) {
        self.leading.cancel();
        if shutdown.run_until_cancelled(self.synced.cancelled()).await.is_none() {
            return;
        }
        tracing::info!("reconciling");
        let queues = self.wake.open();
        let (world, context) = (&self.context.world, || Arc::clone(&self.context));
        tokio::join!(
            queue::run(
                world.registries.clone(),
                queues.registries,
                context(),
                shutdown.clone(),
                registry::reconcile::reconcile
            ),
            queue::run(world.projects.clone(), queues.projects, context(), shutdown.clone(), project::reconcile),
            queue::run(world.members.clone(), queues.members, context(), shutdown.clone(), member::reconcile),
            queue::run(world.policies.clone(), queues.policies, context(), shutdown, repository_policy::reconcile),
        );
    }
}
