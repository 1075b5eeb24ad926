//! `landfast fsck`: is everything in a registry's storage as it should be?

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use landfast::registry::content::{Content, Finding, FsckMode, FsckObserver, FsckSummary};
use landfast::registry::storage::ObjectStore;
use landfast::registry::storage::filesystem::FilesystemStore;
use serde_json::json;

use super::storage;

/// A push that is under way is over, or at its next step, after this.
const PAUSE: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Exit status: 0 if nothing is wrong (any more), 1 if something is, 2 if that could not be found out.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of images, as given to serve
    #[arg(long, value_name = "DIR", env = "LANDFAST_DATA", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// Configuration file of serve that names the storage, such as a bucket; what is in it is only looked at
    #[arg(long, value_name = "FILE", conflicts_with = "repair")]
    config: Option<PathBuf>,
    /// Put right what can be put right; damaged objects are moved to the folder quarantine. No registry may be running
    #[arg(long)]
    repair: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs the check, and prints what it finds to stdout, everything else to stderr.
pub async fn run(arguments: &Arguments) -> ExitCode {
    match check(arguments).await {
        Ok(FsckSummary { findings: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("landfast fsck: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn check(arguments: &Arguments) -> anyhow::Result<FsckSummary> {
    let report = FsckMode::Report { pause: PAUSE };
    let (store, mode): (Arc<dyn ObjectStore>, _) = match (&arguments.config, &arguments.data) {
        (Some(file), _) => (storage::open_to_read(&storage::configured(file)?).await?, report),
        (None, None) => bail!("give --data or --config"),
        (None, Some(data)) => {
            let root = storage_in(data)?;
            if arguments.repair {
                let store = Arc::new(FilesystemStore::open(&root)?);
                (store.clone(), FsckMode::Repair { quarantine: store })
            } else {
                (Arc::new(FilesystemStore::open_read_only(&root)?), report)
            }
        }
    };
    let mut printer = Printer { json: arguments.json, next_progress: Instant::now() + PROGRESS_EVERY, failed: None };
    let summary = Content::new(store).fsck(mode, &mut printer).await?;
    if let Some(error) = printer.failed {
        return Err(error).context("can't print what was found");
    }
    let FsckSummary { objects, bytes, findings, repaired } = summary;
    eprintln!("{objects} objects examined, {bytes} bytes of blobs hashed; {repaired} repaired, {findings} to look at");
    Ok(summary)
}

/// `serve --manifests` keeps images in a folder of its data, a registry of a cluster right in it.
pub(super) fn storage_in(data: &Path) -> anyhow::Result<PathBuf> {
    let candidates = [data.to_owned(), data.join("registry")];
    match candidates.into_iter().find(|folder| folder.join("objects").is_dir()) {
        Some(folder) => Ok(folder),
        None => bail!(
            "{} holds no registry's storage: there is no folder objects in it or in its folder registry; \
             give the folder that serve was given as --data",
            data.display()
        ),
    }
}

struct Printer {
    json: bool,
    next_progress: Instant,
    /// The first line that could not be printed.
    failed: Option<std::io::Error>,
}

impl Printer {
    fn print(&mut self, finding: &Finding, repaired: bool) {
        let Finding { key, problem } = finding;
        let line = if self.json {
            let key = key.as_str();
            json!({
                "key": key, "problem": problem.name(), "detail": problem.to_string(), "advice": problem.advice(),
                "repaired": repaired,
            })
            .to_string()
        } else if repaired {
            format!("{key}: {problem}; repaired")
        } else {
            finding.to_string()
        };
        if let Err(error) = writeln!(std::io::stdout(), "{line}") {
            self.failed.get_or_insert(error);
        }
    }
}

impl FsckObserver for Printer {
    fn found(&mut self, finding: &Finding) {
        self.print(finding, false);
    }

    fn repaired(&mut self, finding: &Finding) {
        self.print(finding, true);
    }

    fn progress(&mut self, summary: &FsckSummary) {
        let now = Instant::now();
        if now < self.next_progress {
            return;
        }
        self.next_progress = now + PROGRESS_EVERY;
        let mut stderr = std::io::stderr();
        let end = if stderr.is_terminal() { "\r" } else { "\n" };
        let megabytes = summary.bytes / 1_000_000;
        // Who doesn't see it misses nothing that counts.
        let _ = write!(stderr, "{} objects examined, {megabytes} MB of blobs hashed{end}", summary.objects);
    }
}
