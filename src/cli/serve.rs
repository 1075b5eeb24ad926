//! `landfast serve`: storage, policy and HTTP put together.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use landfast::config::{PolicySource, ServeConfig, TraceSettings};
use landfast::registry::auth::{HtpasswdFile, Issuers, Live, TokenReviewer};
use landfast::registry::content::{Content, UploadSweep};
use landfast::registry::http::{self, App, Bounds, CertificateFiles, Farewell, HttpMetrics};
use landfast::registry::metrics::observe;
use landfast::registry::snapshots::{ClusterReviews, file::FileSource, kube as kube_source};
use landfast::registry::storage::MeteredStore;
use landfast::telemetry::{Metrics, TraceExport, Traces, serve_health};
use tokio_util::sync::CancellationToken;

use super::standalone;
use super::storage::Opened;

#[derive(clap::Args)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "LANDFAST_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of manifests with one Registry and its Projects, RepositoryPolicies and Members; needs no cluster
    #[arg(long, value_name = "DIR", conflicts_with = "kube")]
    pub manifests: Option<PathBuf>,
    /// The Registry to serve, from the cluster
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub kube: Option<String>,
    /// Folder for images, unless they go to a bucket, and with --manifests for keys and credentials [env: LANDFAST_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address that serves the registry [env: LANDFAST_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address of /livez, /readyz and /metrics, in plain HTTP [env: LANDFAST_HEALTH_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub health_listen: Option<String>,
    /// Certificate chain in PEM, read again when it changes [env: LANDFAST_TLS_CERTIFICATE]
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key in PEM [env: LANDFAST_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Users and passwords as `htpasswd -B` writes them, read again when they change
    /// [env: LANDFAST_AUTHENTICATION_HTPASSWD]
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// Any key of the configuration, such as limits.uploads=100; as often as needed
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the configuration that file, environment and flags make together, and end
    #[arg(long)]
    print_config: bool,
    /// Print what can be configured, in Markdown, and end
    #[arg(long)]
    pub print_config_reference: bool,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = standalone::config(&arguments)?;
    if arguments.print_config {
        return Ok(write!(std::io::stdout(), "{}", config.to_yaml())?);
    }
    let leaving = Arc::new(AtomicBool::new(false));
    let asked = super::shutdown_on_signal()?;
    let shutdown = shutdown_after(asked.clone(), Arc::clone(&leaving), config.drain_delay_seconds);
    let metrics = Metrics::new();
    // A bucket may take long to answer, and nobody is served yet who would have to be waited for.
    let Some(opened) = asked.run_until_cancelled(super::storage::open(&config.storage)).await else { return Ok(()) };
    let Opened { store, name, redirect } = opened?;
    let store = MeteredStore::new(store, name, &metrics);
    let content = Content::with_cache(Arc::new(store), &config.cache).with_redirect(redirect);
    let live = Arc::new(Live::new());

    let tls = match &config.tls {
        Some(files) => Some(Arc::new(CertificateFiles::load(files.clone()).await?)),
        None => None,
    };
    let issuers = Arc::new(Issuers::default());
    observe(&metrics, Arc::clone(&live), Arc::clone(&issuers), tls.clone());
    let listener = super::listen(config.listen, "registry").await?;
    let health = super::listen(config.health_listen, "health endpoints").await?;
    follow_users(&config, &live, shutdown.clone()).await?;
    let Followed { policy, reviewer } = follow_policy(&config, &live, shutdown.clone()).await?;
    tokio::spawn(Arc::clone(&issuers).keep_fresh(Arc::clone(&live), shutdown.clone()));

    let (observed, is_leaving) = (Arc::clone(&live), Arc::clone(&leaving));
    let readiness = move || match (is_leaving.load(Ordering::Relaxed), observed.current()) {
        (true, _) => Err("the process is about to end".to_owned()),
        (false, None) => Err("the policy has not been read yet".to_owned()),
        (false, Some(_)) => Ok(()),
    };
    let health_shutdown = CancellationToken::new();
    tokio::spawn(serve_health(health, metrics.clone(), readiness, health_shutdown.clone()));
    let abandoned_after = Duration::from_secs(config.uploads.abandoned_after_hours * 3600);
    tokio::spawn(UploadSweep::new(content.clone(), abandoned_after, &metrics).run(shutdown.clone()));

    let mut app = App::new(content, live, HttpMetrics::register(&metrics));
    app.proxies = config.proxies;
    app.limits = Arc::new(config.limits.clone());
    let traces = start_traces(&config.telemetry.traces)?;
    app.traces = traces.clone();
    (app.issuers, app.reviewer) = (issuers, reviewer);
    let bounds = Bounds::of(&app);
    let drain = Duration::from_secs(config.drain_seconds);
    let service = Farewell::new(http::router(app), leaving);
    http::serve(listener, tls, service, bounds, shutdown.clone(), drain).await?;
    // An error of the server ends the rest too.
    shutdown.cancel();
    policy.await?;
    traces.stop().await;
    health_shutdown.cancel();
    Ok(())
}

/// A token that is cancelled when the process has been asked to stop and those in front of it have had time to hear of it.
/// Meanwhile all goes on, but `leaving` is set.
fn shutdown_after(asked: CancellationToken, leaving: Arc<AtomicBool>, delay_seconds: u64) -> CancellationToken {
    let shutdown = CancellationToken::new();
    let cancel = shutdown.clone();
    tokio::spawn(async move {
        asked.cancelled().await;
        leaving.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(delay_seconds)).await;
        cancel.cancel();
    });
    shutdown
}

/// Lets users in, and keeps them as the file says in the background.
async fn follow_users(config: &ServeConfig, live: &Arc<Live>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Some(path) = config.authentication.htpasswd.clone() else { return Ok(()) };
    let mut file = HtpasswdFile::new(path, Arc::clone(live));
    match (file.load().await, &config.policy) {
        // In a cluster it comes from a Secret that may be made or mended later; robots and nodes don't wait for it.
        (Err(error), PolicySource::Kube { .. }) => tracing::warn!(%error, "no user can log in yet"),
        (result, _) => result?,
    }
    tokio::spawn(file.watch(shutdown));
    Ok(())
}

fn start_traces(settings: &TraceSettings) -> anyhow::Result<Traces> {
    let TraceSettings { endpoint, sample_ratio, service_name } = settings;
    let Some(endpoint) = endpoint else { return Ok(Traces::default()) };
    Ok(Traces::start(&TraceExport { endpoint, sample_ratio: *sample_ratio, service_name })?)
}

/// A policy that is kept in force.
struct Followed {
    policy: tokio::task::JoinHandle<()>,
    /// Who is asked about tokens of ServiceAccounts, where there is a cluster.
    reviewer: Option<Arc<dyn TokenReviewer>>,
}

/// Puts the policy in force, and keeps it so in the background.
async fn follow_policy(
    config: &ServeConfig,
    live: &Arc<Live>,
    shutdown: CancellationToken,
) -> anyhow::Result<Followed> {
    match config.policy.clone() {
        PolicySource::Kube { namespace, registry } => {
            let client = super::kube_client().await?;
            let reviewer: Option<Arc<dyn TokenReviewer>> = Some(Arc::new(ClusterReviews::new(client.clone())));
            let policy = tokio::spawn(kube_source::run(client, namespace, registry, Arc::clone(live), shutdown));
            Ok(Followed { policy, reviewer })
        }
        PolicySource::Manifests { directory, state, hosts } => {
            let source = FileSource::open(directory.clone(), state, hosts, Arc::clone(live))?;
            let loaded = source.load().with_context(|| format!("manifests in {}", directory.display()))?;
            let registry = &loaded.inputs.registry;
            if registry.spec.authentication.client_certificates.is_some() && config.tls.is_none() {
                bail!(
                    "Registry {} takes client certificates, which come with TLS: give --tls-certificate and --tls-key, or leave authentication.clientCertificates out of its manifest",
                    registry.metadata.name.as_deref().unwrap_or_default()
                );
            }
            if registry.spec.tls.disabled.is_none() && config.tls.is_none() {
                bail!(
                    "Registry {} wants TLS: give --tls-certificate and --tls-key, or set spec.tls.disabled: {{}} in its manifest",
                    registry.metadata.name.as_deref().unwrap_or_default()
                );
            }
            if let (Some(secret), None) =
                (&registry.spec.authentication.htpasswd_secret_ref, &config.authentication.htpasswd)
            {
                bail!(
                    "users come from Secret {}, and there is no cluster to take it from: give --htpasswd",
                    secret.name
                );
            }
            if loaded.inputs.registry.spec.authentication.service_accounts.is_some() {
                bail!(
                    "Registry {} lets ServiceAccounts in, and there is no cluster to ask about their tokens: take spec.authentication.serviceAccounts out of its manifest, or serve it with --kube",
                    loaded.inputs.registry.metadata.name.as_deref().unwrap_or_default()
                );
            }
            standalone::print_help(config, &loaded);
            Ok(Followed { policy: tokio::spawn(source.run(shutdown)), reviewer: None })
        }
    }
}
