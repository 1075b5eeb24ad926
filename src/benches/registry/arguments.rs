//! What `make bench` is asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::scenarios::Scenario;

/// Measures the registry against its peers on this machine.
#[derive(Parser)]
#[command(name = "bench")]
pub struct Arguments {
    /// Only scenarios with one of these in their names; all without any
    scenarios: Vec<String>,
    /// Rounds; each one measures every scenario on every server. The best counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One short round, to see whether all works
    #[arg(long)]
    pub quick: bool,
    /// Another landfast binary than the one built with this benchmark
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Size in MiB of the blob that is pushed to see how memory grows
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    large_blob: u64,
    /// Without landfast on an S3 service, which takes longest to be filled
    #[arg(long)]
    pub no_s3: bool,
    /// Landfast alone, without its peers
    #[arg(long)]
    pub alone: bool,
    /// Folder for data, reports and logs
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Cargo gives it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }

    /// How long a measurement lasts.
    pub fn time(&self) -> Duration {
        Duration::from_millis(if self.quick { 250 } else { 1000 })
    }

    /// In bytes.
    pub fn large_blob(&self) -> u64 {
        self.large_blob << 20
    }

    pub fn wants(&self, scenario: &Scenario) -> bool {
        let named = |part: &String| scenario.rows.iter().any(|row| row.name.contains(part.as_str()));
        self.scenarios.is_empty() || self.scenarios.iter().any(named)
    }
}
