//! `landfast serve`: storage, policy and HTTP put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use landfast::config::{PolicySource, ServeConfig, StorageConfig};
use landfast::registry::auth::{HtpasswdFile, Live};
use landfast::registry::content::Content;
use landfast::registry::http::{self, App, CertificateFiles, HttpMetrics};
use landfast::registry::snapshots::{file::FileSource, kube as kube_source};
use landfast::registry::storage::filesystem::FilesystemStore;
use landfast::telemetry::{Metrics, serve_health};
use tokio_util::sync::CancellationToken;

use super::standalone;

/// Uploads that nobody has touched for this long are removed.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);
const ABANDONED_INTERVAL: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["config", "manifests", "kube"]))]
pub struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "LANDFAST_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of manifests with one Registry and its Projects, RepositoryPolicies and Members; needs no cluster
    #[arg(long, value_name = "DIR", requires = "data")]
    manifests: Option<PathBuf>,
    /// The Registry to serve, from the cluster
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "data")]
    kube: Option<String>,
    /// Folder for images, and with --manifests for keys and credentials too
    #[arg(long, value_name = "DIR", env = "LANDFAST_DATA")]
    data: Option<PathBuf>,
    /// Address that serves the registry
    #[arg(long, env = "LANDFAST_LISTEN")]
    listen: Option<SocketAddr>,
    /// Address of /livez, /readyz and /metrics, in plain HTTP
    #[arg(long, env = "LANDFAST_HEALTH_LISTEN")]
    health_listen: Option<SocketAddr>,
    /// Certificate chain in PEM, read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "LANDFAST_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,
    /// Private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate", env = "LANDFAST_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Users and passwords as `htpasswd -B` writes them, read again when they change
    #[arg(long, value_name = "FILE", env = "LANDFAST_HTPASSWD")]
    htpasswd: Option<PathBuf>,
}

impl Arguments {
    /// One configuration, whether it comes from a file or from flags; flags win.
    fn into_config(self) -> anyhow::Result<ServeConfig> {
        let Self { config, manifests, kube, data, listen, health_listen, tls_certificate, tls_key, htpasswd } = self;
        let mut config = match (config, manifests, kube) {
            (Some(path), _, _) => ServeConfig::from_file(&path)?,
            (None, manifests, kube) => standalone::config(manifests, kube, data.clone(), listen)?,
        };
        if let Some(listen) = listen {
            config.listen = listen;
        }
        if let Some(health_listen) = health_listen {
            config.health_listen = health_listen;
        }
        if let (Some(certificate), Some(key)) = (tls_certificate, tls_key) {
            config.tls = Some(landfast::config::TlsFiles { certificate, key });
        }
        if htpasswd.is_some() {
            config.authentication.htpasswd = htpasswd;
        }
        Ok(config)
    }
}

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.into_config()?;
    let shutdown = super::shutdown_on_signal()?;
    let StorageConfig::Filesystem { root } = config.storage.clone();
    let store = tokio::task::spawn_blocking(move || FilesystemStore::open(root)).await??;
    let content = Content::new(Arc::new(store));
    let live = Arc::new(Live::new());
    let metrics = Metrics::new();

    let tls = match &config.tls {
        Some(files) => Some(Arc::new(CertificateFiles::load(files.clone()).await?)),
        None => None,
    };
    let listener = super::listen(config.listen, "registry").await?;
    let health = super::listen(config.health_listen, "health endpoints").await?;
    follow_users(&config, &live, shutdown.clone()).await?;
    let policy = follow_policy(&config, &live, shutdown.clone()).await?;

    let observed = Arc::clone(&live);
    let readiness = move || observed.current().map(drop).ok_or_else(|| "the policy has not been read yet".to_owned());
    let health_shutdown = CancellationToken::new();
    tokio::spawn(serve_health(health, metrics.clone(), readiness, health_shutdown.clone()));
    tokio::spawn(remove_abandoned_uploads(content.clone(), shutdown.clone()));

    let mut app = App::new(content, live, HttpMetrics::register(&metrics));
    app.proxies = config.proxies;
    let drain = Duration::from_secs(config.drain_seconds);
    http::serve(listener, tls, http::router(app), shutdown.clone(), drain).await?;
    // An error of the server ends the rest too.
    shutdown.cancel();
    policy.await?;
    health_shutdown.cancel();
    Ok(())
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

/// Puts the policy in force, and keeps it so in the background.
async fn follow_policy(
    config: &ServeConfig,
    live: &Arc<Live>,
    shutdown: CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    match config.policy.clone() {
        PolicySource::Kube { namespace, registry } => {
            let client = super::kube_client().await?;
            Ok(tokio::spawn(kube_source::run(client, namespace, registry, Arc::clone(live), shutdown)))
        }
        PolicySource::Manifests { directory, state, hosts } => {
            let source = FileSource::open(directory.clone(), state, hosts, Arc::clone(live))?;
            let loaded = source.load().with_context(|| format!("manifests in {}", directory.display()))?;
            if loaded.inputs.registry.spec.tls.disabled.is_none() && config.tls.is_none() {
                bail!(
                    "Registry {} wants TLS: give --tls-certificate and --tls-key, or set spec.tls.disabled: {{}} in its manifest",
                    loaded.inputs.registry.metadata.name.as_deref().unwrap_or_default()
                );
            }
            if let (Some(secret), None) =
                (&loaded.inputs.registry.spec.authentication.htpasswd_secret_ref, &config.authentication.htpasswd)
            {
                bail!(
                    "users come from Secret {}, and there is no cluster to take it from: give --htpasswd",
                    secret.name
                );
            }
            standalone::print_help(config, &loaded);
            Ok(tokio::spawn(source.run(shutdown)))
        }
    }
}

async fn remove_abandoned_uploads(content: Content, shutdown: CancellationToken) {
    loop {
        match content.remove_abandoned_uploads(ABANDONED_AFTER, SystemTime::now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "abandoned uploads removed"),
            Err(error) => tracing::warn!(%error, "abandoned uploads can't be removed"),
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(ABANDONED_INTERVAL)).await.is_none() {
            return;
        }
    }
}
