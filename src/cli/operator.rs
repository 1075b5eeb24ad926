//! `landfast operator`: each replica follows the cluster, the one that holds the Lease reconciles.

use std::net::SocketAddr;

use anyhow::bail;
use landfast::controller::lease::{LeaseElection, LeaseTimes};
use landfast::controller::{Operator, Settings};
use landfast::telemetry::{Metrics, serve_health};
use tokio_util::sync::CancellationToken;

const LEASE: &str = "landfast-operator";

#[derive(clap::Args)]
pub struct Arguments {
    /// Namespace of the operator: its Lease lies there
    #[arg(long, env = "POD_NAMESPACE", default_value = "landfast-system")]
    namespace: String,
    /// Image of registry pods where a Registry names none; best the operator's own
    #[arg(long, env = "LANDFAST_REGISTRY_IMAGE")]
    registry_image: String,
    /// Address of /livez, /readyz and /metrics, in plain HTTP
    #[arg(long, env = "LANDFAST_HEALTH_LISTEN", default_value = "0.0.0.0:8080")]
    health_listen: SocketAddr,
    /// Name of this process in the Lease and in events; must differ between processes
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let shutdown = super::shutdown_on_signal()?;
    let client = super::kube_client().await?;
    let health = super::listen(arguments.health_listen, "health endpoints").await?;
    let metrics = Metrics::new();
    // A pod's name is unique in its namespace, and a restarted container may take up where it left.
    let identity = arguments.identity.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let settings = Settings { registry_image: arguments.registry_image, instance: Some(identity.clone()) };
    let operator = Operator::start(client.clone(), settings, &metrics);
    // A candidate that waits for the Lease is ready too: it takes over when asked, and knows what there is.
    let is_synced = operator.is_synced();
    let readiness = move || if is_synced() { Ok(()) } else { Err("not everything has been read yet".to_owned()) };
    let health_shutdown = CancellationToken::new();
    let health_task = tokio::spawn(serve_health(health, metrics, readiness, health_shutdown.clone()));

    let election = LeaseElection::new(client, &arguments.namespace, LEASE, &identity, LeaseTimes::default());
    tracing::info!(identity, "waiting for the lease");
    if let Some(held) = election.acquire(shutdown.cancelled()).await {
        tracing::info!(identity, "lease taken");
        let lost = held.lost();
        tokio::select! {
            () = operator.reconcile(shutdown) => held.release().await,
            // Another process may be at work already: stop at once.
            () = lost => bail!("the lease was lost"),
        }
    }
    health_shutdown.cancel();
    let _ = health_task.await;
    Ok(())
}
