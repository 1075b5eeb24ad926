//! The command line: one file per mode, wiring only.

mod access;
mod copy_storage;
mod crds;
mod fsck;
mod operator;
mod serve;
mod standalone;
mod storage;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Container registries on Kubernetes: operator and OCI registry in one binary.
#[derive(Parser)]
#[command(name = "landfast", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Run the controllers: custom resources become registries and pull secrets
    Operator(operator::Arguments),
    /// Run a registry: for a Registry of a cluster, or from a folder of manifests
    Serve(serve::Arguments),
    /// Check that a registry's storage is whole, and repair it
    Fsck(fsck::Arguments),
    /// Copy a registry's storage to another one, or adopt a CNCF Distribution registry's
    CopyStorage(copy_storage::Arguments),
    /// Answer who may push and pull what, and why; and who gains or loses access by a change of manifests
    Access(access::Arguments),
    /// Print the custom resource definitions, or write them into a folder
    Crds(crds::Arguments),
}

/// Runs the mode that the command line names, and says what the process ends with.
pub fn run() -> anyhow::Result<ExitCode> {
    // Huge pages would triple what an idle process takes. Without them it only runs a little slower: not worth a word.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let mode = Arguments::parse().mode;
    match &mode {
        Mode::Crds(arguments) => return crds::run(arguments).map(|()| ExitCode::SUCCESS),
        Mode::Serve(arguments) if arguments.print_config_reference => {
            write!(std::io::stdout(), "{}", landfast::config::reference())?;
            return Ok(ExitCode::SUCCESS);
        }
        Mode::Serve(_) | Mode::Operator(_) | Mode::Fsck(_) | Mode::CopyStorage(_) | Mode::Access(_) => {}
    }
    // Before anything makes a TLS connection: there is one provider in this binary, and it is chosen here.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    installed.map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    // What is in its queue is written when this goes out of scope.
    let _logs = landfast::telemetry::Logs::init()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = match mode {
        Mode::Operator(arguments) => runtime.block_on(operator::run(arguments)).map(|()| ExitCode::SUCCESS),
        Mode::Serve(arguments) => runtime.block_on(serve::run(arguments)).map(|()| ExitCode::SUCCESS),
        Mode::Fsck(arguments) => Ok(runtime.block_on(fsck::run(&arguments))),
        Mode::CopyStorage(arguments) => Ok(runtime.block_on(copy_storage::run(&arguments))),
        Mode::Access(arguments) => Ok(runtime.block_on(access::run(&arguments))),
        Mode::Crds(_) => Ok(ExitCode::SUCCESS),
    };
    // A task that hangs in a system call must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// A token that is cancelled by SIGTERM or SIGINT.
fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        cancel.cancel();
    });
    Ok(token)
}

/// A client of the cluster that this process is in, or that the kubeconfig names.
async fn kube_client() -> anyhow::Result<kube::Client> {
    Ok(kube::Client::try_from(kube_config().await?)?)
}

async fn kube_config() -> anyhow::Result<kube::Config> {
    kube::Config::infer().await.context("neither in a cluster nor with a kubeconfig: set KUBECONFIG")
}

/// Listens, or says at which address that is not possible.
async fn listen(address: std::net::SocketAddr, what: &str) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = tokio::net::TcpListener::bind(address).await;
    listener.with_context(|| format!("can't listen on {address} for the {what}: is the port in use? choose another"))
}
