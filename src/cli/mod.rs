//! The command line: one file per mode, wiring only.

mod crds;

use clap::{Parser, Subcommand};

/// Container registries on Kubernetes: operator and OCI registry in one binary.
#[derive(Parser)]
#[command(name = "landfast", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Print the custom resource definitions, or write them into a folder
    Crds(crds::Arguments),
}

/// Runs the mode that the command line names.
pub fn run() -> anyhow::Result<()> {
    match Arguments::parse().mode {
        Mode::Crds(arguments) => crds::run(&arguments),
    }
}
