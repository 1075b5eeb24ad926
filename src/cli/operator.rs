//! `landfast operator`: each replica follows the cluster, the one that holds the Lease reconciles.

use std::net::SocketAddr;

use anyhow::bail;
use clap::ArgAction;
use clap::builder::NonEmptyStringValueParser;
use landfast::controller::admission::WebhookSettings;
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
    /// Whether to serve the admission webhook
    #[arg(long, env = "LANDFAST_WEBHOOK", default_value_t = true, action = ArgAction::Set)]
    webhook: bool,
    /// Address of the admission webhook, in HTTPS
    #[arg(long, env = "LANDFAST_WEBHOOK_LISTEN", default_value = "0.0.0.0:9443")]
    webhook_listen: SocketAddr,
    /// Secret with the webhook's certificate that somebody else makes and tells the API server of, such as cert-manager;
    /// without it the operator does both
    #[arg(long, env = "LANDFAST_WEBHOOK_CERTIFICATE_SECRET", value_parser = NonEmptyStringValueParser::new())]
    webhook_certificate_secret: Option<String>,
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
    let webhook = match arguments.webhook {
        true => {
            let listener = super::listen(arguments.webhook_listen, "admission webhook").await?;
            let settings = WebhookSettings {
                namespace: arguments.namespace.clone(),
                certificate_secret: arguments.webhook_certificate_secret,
            };
            Some((operator.webhook(settings, &metrics), listener))
        }
        false => None,
    };
    let answers = webhook.as_ref().map(|(webhook, _)| webhook.readiness());
    let readiness = move || match &answers {
        _ if !is_synced() => Err("not everything has been read yet".to_owned()),
        Some(answers) => answers(),
        None => Ok(()),
    };
    let webhook = webhook.map(|(webhook, listener)| tokio::spawn(webhook.serve(listener, shutdown.clone())));
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
    if let Some(webhook) = webhook {
        let _ = webhook.await;
    }
    health_shutdown.cancel();
    let _ = health_task.await;
    Ok(())
}
