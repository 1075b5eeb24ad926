//! Operator mode: from custom resources to running registries and pull secrets.
//!
//! # Flow
//! [`world`] follows everything that matters and keeps it in memory. A change enqueues the objects that it concerns; per
//! kind one queue reconciles them: gather (from the world) -> decide (pure) -> build (pure) -> [`apply`] -> [`status`].
//!
//! # Guarantees
//! - Nothing is written that is already so: a steady state makes no writes, a restart changes no object.
//! - Nothing is overwritten that is not ours: an object in the way shows as a condition.
//! - One bad object is reported on itself and stops no other.

mod admission;
mod apply;
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
use tokio_util::sync::CancellationToken;

use context::Context;
pub use context::Settings;
use metrics::ControllerMetrics;
use world::World;

use crate::telemetry::Metrics;

/// The field manager of everything that the operator applies.
const FIELD_MANAGER: &str = "landfast";

/// What a person has to mend, or what nothing tells of, is looked at again after this.
const SECOND_LOOK: Duration = Duration::from_secs(60);

/// Runs the controllers until `shutdown`. `synced` is called once everything has been read.
pub async fn run(
    client: Client,
    settings: Settings,
    metrics: &Metrics,
    shutdown: CancellationToken,
    synced: impl FnOnce(),
) {
    let (world, queues, followers) = World::follow(&client);
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
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = context.world.ready() => {}
    }
    tracing::info!("everything has been read, reconciling");
    synced();
    let world = Arc::clone(&context.world);
    tokio::join!(
        queue::run(
            world.registries.clone(),
            queues.registries,
            Arc::clone(&context),
            shutdown.clone(),
            registry::reconcile::reconcile
        ),
        queue::run(world.projects.clone(), queues.projects, Arc::clone(&context), shutdown.clone(), project::reconcile),
        queue::run(world.members.clone(), queues.members, Arc::clone(&context), shutdown.clone(), member::reconcile),
        queue::run(
            world.policies.clone(),
            queues.policies,
            Arc::clone(&context),
            shutdown,
            repository_policy::reconcile
        ),
    );
    drop(followers);
}
