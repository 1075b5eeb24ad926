//! `landfast copy-storage`: from one registry's storage to another's.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use landfast::config::{S3Redirect, S3Storage, StorageConfig};
use landfast::registry::content::{Content, CopyOptions, CopyProblem, CopyProgress, CopySource, CopySummary};
use landfast::registry::storage::ObjectStore;
use landfast::registry::storage::filesystem::FilesystemStore;
use serde_json::json;

use super::storage;

const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What `--help` says about all of it.
const HELP: &str = "\
STORAGE is a folder, or s3://BUCKET or s3://BUCKET/PREFIX.

What is there already is left alone, so a copy that was broken off goes on where it was. The source may be written to
meanwhile: run it again until there is little to do, then once more with the source stopped. Nothing may be pushed to
the target before that.

Exit status: 0 if the target has everything, 1 if something had to be left out, 2 if it could not be done.";

/// Exit status: 0 if the target has everything, 1 if something had to be left out, 2 if it could not be done.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    from_s3: FromS3,
    #[command(flatten)]
    to_s3: ToS3,
    /// Remove tags, manifests and links to blobs from the target that the source doesn't have
    #[arg(long)]
    delete: bool,
    /// Large blobs that are copied at the same time; to S3 each takes up to 60 MiB of memory
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Print problems and, at the end, the summary as JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct SourceArguments {
    /// Storage of a landfast registry to read; as a folder also the one given to serve as --data
    #[arg(long, value_name = "STORAGE")]
    from: Option<String>,
    /// The storage that a configuration file of serve names
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
    /// Root directory of a CNCF Distribution registry (docker-registry): the folder with docker/registry/v2 in it
    #[arg(long, value_name = "STORAGE")]
    from_distribution: Option<String>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// Storage to write. No registry may run on a folder meanwhile; serve --data DIR has it in DIR/registry
    #[arg(long, value_name = "STORAGE")]
    to: Option<String>,
    /// The storage that a configuration file of serve names
    #[arg(long, value_name = "FILE")]
    to_config: Option<PathBuf>,
}

/// How to get at a bucket. Without credentials: the environment's.
macro_rules! s3_arguments {
    ($name:ident, $endpoint:literal, $region:literal, $path_style:literal, $credentials:literal, $authority:literal) => {
        #[derive(clap::Args)]
        struct $name {
            /// Address of the S3 service; without it, Amazon's
            #[arg(id = $endpoint, long = $endpoint, value_name = "URL")]
            endpoint: Option<String>,
            /// Region of the bucket
            #[arg(id = $region, long = $region, value_name = "REGION", default_value = "us-east-1")]
            region: String,
            /// The bucket stands in the path, as most services other than Amazon's want it
            #[arg(id = $path_style, long = $path_style)]
            path_style: bool,
            /// Folder with the files accessKeyId and secretAccessKey; without it, the environment's credentials
            #[arg(id = $credentials, long = $credentials, value_name = "DIR")]
            credentials: Option<PathBuf>,
            /// File with certificates in PEM that may vouch for the service
            #[arg(id = $authority, long = $authority, value_name = "FILE")]
            certificate_authority: Option<PathBuf>,
        }

        impl $name {
            fn storage(&self, bucket: &str, prefix: &str) -> S3Storage {
                let Self { endpoint, region, path_style, credentials, certificate_authority } = self;
                S3Storage {
                    bucket: bucket.to_owned(),
                    region: region.clone(),
                    endpoint: endpoint.clone(),
                    prefix: prefix.to_owned(),
                    force_path_style: *path_style,
                    credentials: credentials.clone(),
                    certificate_authority: certificate_authority.clone(),
                    require_conditional_writes: false,
                    redirect: S3Redirect::default(),
                }
            }
        }
    };
}
s3_arguments!(
    FromS3,
    "from-endpoint",
    "from-region",
    "from-path-style",
    "from-credentials",
    "from-certificate-authority"
);
s3_arguments!(ToS3, "to-endpoint", "to-region", "to-path-style", "to-credentials", "to-certificate-authority");

/// Copies, and prints problems to stdout, everything else to stderr.
pub async fn run(arguments: &Arguments) -> ExitCode {
    match copy(arguments).await {
        Ok(CopySummary { problems: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("landfast copy-storage: {}", chain(&error));
            ExitCode::from(2)
        }
    }
}

/// The error with everything that it comes from. Most of them say that themselves already.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

async fn copy(arguments: &Arguments) -> anyhow::Result<CopySummary> {
    let source = open_source(arguments).await.context("can't open the source")?;
    let target = open_target(arguments).await.context("can't open the target")?;
    let options = CopyOptions { delete: arguments.delete, parallel_blobs: arguments.parallel.into() };
    let progress = Arc::new(CopyProgress::default());
    let report = |problem: &CopyProblem| print(&problem_line(problem, arguments.json));
    let target = Content::new(target);
    let copying = target.copy_from(source, options, &progress, &report);
    tokio::pin!(copying);
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    ticks.tick().await;
    let copied = loop {
        tokio::select! {
            copied = &mut copying => break copied,
            _ = ticks.tick() => eprintln!("{}", told(&progress.summary())),
        }
    };
    let summary = progress.summary();
    eprintln!("{}", told(&summary));
    if arguments.json {
        let CopySummary { examined, copied, bytes, removed, problems } = summary;
        print(
            &json!({
                "examined": examined, "copied": copied, "bytes": bytes, "removed": removed, "problems": problems,
            })
            .to_string(),
        );
    }
    copied.context("given up; what has been copied stays, and the next run goes on there")
}

fn problem_line(problem: &CopyProblem, as_json: bool) -> String {
    match as_json {
        true => json!({"problem": problem.name(), "detail": problem.to_string()}).to_string(),
        false => problem.to_string(),
    }
}

/// Who doesn't read it any more misses nothing that the exit status doesn't say.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn told(summary: &CopySummary) -> String {
    let CopySummary { examined, copied, bytes, removed, problems } = summary;
    let megabytes = bytes / 1_000_000;
    format!("{examined} looked at, {copied} copied ({megabytes} MB of blobs), {removed} removed, {problems} problems")
}

async fn open_source(arguments: &Arguments) -> anyhow::Result<CopySource> {
    let SourceArguments { from, from_config, from_distribution } = &arguments.source;
    if let Some(storage) = from_distribution {
        let store: Arc<dyn ObjectStore> = match in_bucket(storage)? {
            Some((bucket, prefix)) => storage::open_bucket(&arguments.from_s3.storage(bucket, prefix), true).await?,
            None => Arc::new(FilesystemStore::open_tree(root_directory(Path::new(storage))?)?),
        };
        return Ok(CopySource::Distribution(store));
    }
    let source = match (from, from_config) {
        (Some(storage), _) => match in_bucket(storage)? {
            Some((bucket, prefix)) => StorageConfig::S3(arguments.from_s3.storage(bucket, prefix)),
            None => StorageConfig::Filesystem { root: super::fsck::storage_in(Path::new(storage))? },
        },
        (None, Some(file)) => storage::configured(file)?,
        (None, None) => bail!("give --from, --from-config or --from-distribution"),
    };
    Ok(CopySource::Registry(storage::open_to_read(&source).await?))
}

async fn open_target(arguments: &Arguments) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let TargetArguments { to, to_config } = &arguments.target;
    let target = match (to, to_config) {
        (Some(storage), _) => match in_bucket(storage)? {
            Some((bucket, prefix)) => StorageConfig::S3(arguments.to_s3.storage(bucket, prefix)),
            None => StorageConfig::Filesystem { root: target_folder(Path::new(storage)) },
        },
        (None, Some(file)) => storage::configured(file)?,
        (None, None) => bail!("give --to or --to-config"),
    };
    Ok(storage::open(&target).await?.store)
}

/// Bucket and prefix, if the text names them.
fn in_bucket(storage: &str) -> anyhow::Result<Option<(&str, &str)>> {
    let Some(rest) = storage.strip_prefix("s3://") else { return Ok(None) };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        bail!("{storage} names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX");
    }
    Ok(Some((bucket, prefix.trim_matches('/'))))
}

/// The folder of data of a registry that has run already, or the folder itself.
fn target_folder(folder: &Path) -> PathBuf {
    let inner = folder.join("registry");
    if inner.join("objects").is_dir() { inner } else { folder.to_owned() }
}

fn root_directory(folder: &Path) -> anyhow::Result<&Path> {
    if folder.join("docker/registry/v2").is_dir() {
        return Ok(folder);
    }
    let folder = folder.display();
    bail!(
        "{folder} holds no docker/registry/v2: give what the registry's configuration has as storage.filesystem.rootdirectory"
    )
}
