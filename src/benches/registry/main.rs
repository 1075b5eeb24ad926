//! Measures the registry against its peers: `make bench`.
//!
//! Each server is a process with its default configuration on a folder of its own, all on the same file system. Each
//! round does every scenario on one server after the other, so that what disturbs the machine disturbs all of them. The
//! load comes from one thread, the other cores are the server's. What counts is CPU time, user and system, of the
//! server's processes: it says more than time does on a machine that does other things too. Before each
//! measurement the answers are looked at: digests, bytes, statuses, and that a wrong digest is refused.
//!
//! landfast asks for a token at each request, as it always does; the others ask for nothing, as is their default.

mod arguments;
mod client;
mod content;
mod measure;
mod page_cache;
mod process;
mod push;
mod report;
mod scenarios;
mod seed;
mod servers;
mod trust;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use clap::Parser as _;

use arguments::Arguments;
use content::{Content, Fresh};
use report::Report;
use scenarios::{Context, Scenario, Work};
use servers::{Kind, Mode, Server, distribution, landfast, nginx, s3};
use trust::Trust;

/// Seen by tracing the calls of a push.
const SYNC_POLICY: &str = "Sync policy: landfast answers once the file and each folder that names it are synced. \
    Distribution 2.8 syncs each file, most of them twice, and no folder.";

const ON_S3: &str = "landfast-s3 is landfast on a bucket of an S3 service, versitygw, on the same machine and disk. Its CPU \
    time and memory are landfast's alone, without the service's; requests per second and milliseconds are both's. Targets \
    and ratios are those of landfast on a folder.";

const LARGE: usize = 256 * 1024 * 1024;
const SMALL: usize = 512;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = arguments.folder.clone().unwrap_or_else(default_folder);
    let data = folder.join("registry-data");
    // What an interrupted run has left.
    let _ = std::fs::remove_dir_all(&data);
    std::fs::create_dir_all(&data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (report, table) = runtime.block_on(run(&arguments, &data))?;
    std::fs::write(folder.join("registry.md"), &table)?;
    std::fs::write(folder.join("registry.jsonl"), report.raw())?;
    println!("{table}");
    eprintln!("table and raw values are in {}; removing the data", folder.display());
    std::fs::remove_dir_all(&data)?;
    ensure!(!report.landfast_failed(), "landfast gave a wrong answer: see the notes below the table");
    Ok(())
}

/// Next to what Cargo builds.
fn default_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench")
}

async fn run(arguments: &Arguments, data: &Path) -> anyhow::Result<(Report, String)> {
    let wanted: Vec<&Scenario> = scenarios::ALL.iter().filter(|scenario| arguments.wants(scenario)).collect();
    let load_before = load_average();
    let mut report = Report::default();
    let on_s3 = wanted.iter().any(|scenario| scenario.work.on_s3()) && !arguments.no_s3;
    let mut servers = installed(arguments, on_s3, data, &mut report)?;
    let fresh = Fresh::new(scenarios::LARGEST_PUSH);
    let mut context = Context::new(Content::make(LARGE, SMALL), fresh, arguments.time(), arguments.large_blob());
    for server in &mut servers {
        eprintln!("filling {}", server.kind.name());
        seed::content(server, &context.content).await.with_context(|| server.kind.name())?;
        if wanted.iter().any(|scenario| scenario.work.needs_listings()) && server.kind.is_registry() {
            seed::listings(server, &context.content).await.with_context(|| server.kind.name())?;
        }
    }
    for round in 0..arguments.rounds() {
        // Servers start again where the mode changes: so all of one mode together.
        for mode in [Mode::Plain, Mode::Tls, Mode::Htpasswd] {
            for scenario in wanted.iter().filter(|scenario| scenario.mode == mode) {
                eprintln!("round {}, {}", round + 1, scenario.rows[0].name);
                for server in &mut servers {
                    measure(scenario, server, &mut context, round, &mut report).await;
                }
            }
        }
    }
    let peers: Vec<Kind> = servers.iter().map(|server| server.kind).filter(|kind| *kind != Kind::Landfast).collect();
    report.note(conditions(arguments, &servers, load_before));
    if peers.contains(&Kind::LandfastS3) {
        report.note(ON_S3.to_owned());
    }
    if wanted.iter().any(|scenario| !scenario.work.only_reads()) {
        report.note(SYNC_POLICY.to_owned());
    }
    let table = report.markdown(&wanted, &peers);
    Ok((report, table))
}

/// What one has to know to compare the table with another one.
fn conditions(arguments: &Arguments, servers: &[Server], load_before: f64) -> String {
    let versions: Vec<String> = servers.iter().map(|server| servers::version(&server.binary)).collect();
    let (cores, rounds) = (std::thread::available_parallelism().map_or(0, usize::from), arguments.rounds());
    let (time, load) = (arguments.time().as_secs_f64(), load_average());
    format!(
        "{cores} cores, {rounds} rounds of about {time} s each, the best round counts; load average {load_before:.1} \
         before and {load:.1} after. Servers: {}.",
        versions.join("; ")
    )
}

/// Of the last minute.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

async fn measure(scenario: &Scenario, server: &mut Server, context: &mut Context, round: usize, report: &mut Report) {
    let can = match server.kind {
        Kind::Nginx => scenario.work.only_reads(),
        Kind::LandfastS3 => scenario.work.on_s3(),
        Kind::Landfast | Kind::Distribution => true,
    };
    // On a bucket TLS says nothing that it doesn't say on a folder.
    let is_told = server.kind == Kind::LandfastS3 && scenario.mode != Mode::Plain;
    if !can || is_told || (round > 0 && scenario.work.only_once()) {
        return;
    }
    if let Some(reason) = skipped(scenario.work, server) {
        report.note(format!("{}: {} was skipped: {reason}.", server.kind.name(), scenario.rows[0].name));
        return;
    }
    let outcome = async {
        server.ensure(scenario.mode).await?;
        scenarios::run(scenario.work, server, context).await
    };
    match outcome.await {
        Ok(outcome) => {
            eprintln!("    {}", report::progress(scenario, server.kind, &outcome));
            report.add(scenario, server.kind, round, &outcome);
        }
        Err(error) => {
            eprintln!("    {} failed: {error:#}", server.kind.name());
            report.failed(server.kind, scenario.rows[0].name, &error);
        }
    }
}

fn skipped(work: Work, server: &Server) -> Option<&'static str> {
    let unknown = work == Work::Htpasswd && server.kind == Kind::Landfast && !landfast::knows_htpasswd(&server.binary);
    unknown.then_some("`landfast serve` has no `--htpasswd`")
}

/// The servers that are there, in the order in which they are measured.
fn installed(arguments: &Arguments, on_s3: bool, data: &Path, report: &mut Report) -> anyhow::Result<Vec<Server>> {
    let trust = Rc::new(Trust::make(data)?);
    let mut servers = Vec::new();
    for kind in Kind::ALL {
        let landfast = || arguments.server.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_landfast")));
        let binary = match kind {
            Kind::Landfast => Some(landfast()),
            Kind::LandfastS3 if !on_s3 => continue,
            Kind::LandfastS3 => s3::program().map(|_| landfast()),
            _ if arguments.alone => continue,
            Kind::Distribution => servers::find_program(distribution::PROGRAM),
            Kind::Nginx => servers::find_program(nginx::PROGRAM),
        };
        let Some(binary) = binary else {
            report.note(format!("{} was skipped: it is not installed (src/benches/install, as root).", kind.name()));
            continue;
        };
        servers.push(Server::new(kind, binary, data, Rc::clone(&trust))?);
    }
    Ok(servers)
}
