//! What is measured, in the order in which it is reported, and what landfast is to reach.

mod lifecycle;
mod listings;
mod pushes;
mod reads;
mod storms;

pub use pushes::LARGEST_PUSH;

use std::cell::Cell;
use std::time::Duration;

use crate::content::{Content, Fresh};
use crate::measure::Measured;
use crate::push::Way;
use crate::servers::{Mode, Server};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    CpuSecondsPerGigabyte,
    CpuMicroseconds,
    PerSecond,
    Mebibytes,
    Milliseconds,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuSecondsPerGigabyte => "CPU s/GB",
            Self::CpuMicroseconds => "CPU µs",
            Self::PerSecond => "requests/s",
            Self::Mebibytes => "MiB",
            Self::Milliseconds => "ms",
        }
    }

    pub fn more_is_better(self) -> bool {
        self == Self::PerSecond
    }

    /// The round that says most: the one that was disturbed least. Of memory it is the one that took most.
    pub fn best(self, values: &[f64]) -> Option<f64> {
        let high = matches!(self, Self::PerSecond | Self::Mebibytes);
        values.iter().copied().reduce(|a, b| if high { a.max(b) } else { a.min(b) })
    }
}

/// One line of the table.
pub struct Row {
    pub name: &'static str,
    pub unit: Unit,
    pub target: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Pull,
    PullHttp2,
    PullCold,
    SmallPulls,
    Ranges,
    Storm,
    ManyConnections,
    NewConnections,
    HeadBlob,
    Push(Way),
    Growth,
    SmallPushes,
    TagPut,
    Mount,
    Tags,
    Catalogue,
    Start,
    Memory,
    Htpasswd,
}

impl Work {
    /// Whether a server of static files can do it too.
    pub fn only_reads(self) -> bool {
        !matches!(
            self,
            Self::Push(_)
                | Self::Growth
                | Self::SmallPushes
                | Self::TagPut
                | Self::Mount
                | Self::Tags
                | Self::Catalogue
                | Self::Htpasswd
        )
    }

    /// Whether it is measured on a bucket too, where what a request waits for is another service.
    pub fn on_s3(self) -> bool {
        let reads = matches!(self, Self::Pull | Self::Storm | Self::Tags | Self::Catalogue);
        reads || matches!(self, Self::Push(_) | Self::Growth)
    }

    /// Whether once is enough, because it takes long and says the same each time.
    pub fn only_once(self) -> bool {
        self == Self::Growth
    }

    pub fn needs_listings(self) -> bool {
        matches!(self, Self::Tags | Self::Catalogue)
    }
}

/// What is measured at once, and the lines that come of it.
pub struct Scenario {
    pub work: Work,
    pub mode: Mode,
    pub rows: &'static [Row],
}

const fn row(name: &'static str, unit: Unit, target: f64) -> Row {
    Row { name, unit, target }
}

use Unit::{CpuMicroseconds, CpuSecondsPerGigabyte, Mebibytes, Milliseconds, PerSecond};

#[rustfmt::skip] // A table.
pub const ALL: &[Scenario] = &[
    Scenario { work: Work::Pull, mode: Mode::Plain, rows: &[row("pull warm, HTTP", CpuSecondsPerGigabyte, 0.20)] },
    Scenario { work: Work::PullCold, mode: Mode::Plain, rows: &[
        row("pull cold, HTTP", CpuSecondsPerGigabyte, 0.30)] },
    Scenario { work: Work::Pull, mode: Mode::Tls, rows: &[
        row("pull warm, TLS, HTTP/1.1", CpuSecondsPerGigabyte, 0.50)] },
    Scenario { work: Work::PullHttp2, mode: Mode::Tls, rows: &[
        row("pull warm, TLS, HTTP/2", CpuSecondsPerGigabyte, 0.65)] },
    Scenario { work: Work::SmallPulls, mode: Mode::Plain, rows: &[
        row("pull of 4 KiB blobs", CpuMicroseconds, 30.0)] },
    Scenario { work: Work::Ranges, mode: Mode::Plain, rows: &[row("64 KiB ranges", CpuSecondsPerGigabyte, 0.7)] },
    Scenario { work: Work::Storm, mode: Mode::Plain, rows: &[
        row("storm", CpuMicroseconds, 20.0), row("storm, throughput", PerSecond, 28_000.0)] },
    Scenario { work: Work::ManyConnections, mode: Mode::Plain, rows: &[
        row("storm-many, peak memory", Mebibytes, 25.0)] },
    Scenario { work: Work::NewConnections, mode: Mode::Plain, rows: &[row("storm-new", CpuMicroseconds, 55.0)] },
    Scenario { work: Work::NewConnections, mode: Mode::Tls, rows: &[row("storm-new, TLS", CpuMicroseconds, 250.0)] },
    Scenario { work: Work::HeadBlob, mode: Mode::Plain, rows: &[
        row("HEAD of a blob, hit", CpuMicroseconds, 18.0), row("HEAD of a blob, miss", CpuMicroseconds, 20.0)] },
    Scenario { work: Work::Push(Way::Monolithic), mode: Mode::Plain, rows: &[
        row("push, monolithic, durable", CpuSecondsPerGigabyte, 1.1)] },
    Scenario { work: Work::Push(Way::Streamed), mode: Mode::Plain, rows: &[
        row("push, streamed PATCH, durable", CpuSecondsPerGigabyte, 1.1)] },
    Scenario { work: Work::Push(Way::Chunks), mode: Mode::Plain, rows: &[
        row("push, 8 MiB chunks, durable", CpuSecondsPerGigabyte, 1.2)] },
    Scenario { work: Work::Growth, mode: Mode::Plain, rows: &[
        row("large blob, growth of memory", Mebibytes, 64.0), row("large blob", CpuSecondsPerGigabyte, 1.1)] },
    Scenario { work: Work::SmallPushes, mode: Mode::Plain, rows: &[
        row("push of 4 KiB blobs, durable", CpuMicroseconds, 300.0)] },
    Scenario { work: Work::TagPut, mode: Mode::Plain, rows: &[row("tag PUT, durable", CpuMicroseconds, 150.0)] },
    Scenario { work: Work::Mount, mode: Mode::Plain, rows: &[row("cross-repository mount", CpuMicroseconds, 70.0)] },
    Scenario { work: Work::Tags, mode: Mode::Plain, rows: &[
        row("10,000 tags, whole", Milliseconds, 3.0), row("10,000 tags, pages of 100", Milliseconds, 10.0)] },
    Scenario { work: Work::Catalogue, mode: Mode::Plain, rows: &[
        row("_catalog of 1,000 repositories, pages of 100", Milliseconds, 2.0)] },
    Scenario { work: Work::Start, mode: Mode::Plain, rows: &[row("start to first 200 on /v2/", Milliseconds, 6.0)] },
    Scenario { work: Work::Memory, mode: Mode::Plain, rows: &[
        row("memory after start", Mebibytes, 10.0), row("memory, peak in a pull", Mebibytes, 18.0)] },
    Scenario { work: Work::Htpasswd, mode: Mode::Htpasswd, rows: &[
        row("htpasswd storm (bcrypt cost 5)", CpuMicroseconds, 30.0)] },
];

/// What all measurements share.
pub struct Context {
    pub content: Content,
    pub fresh: Fresh,
    /// How long one measurement lasts, about.
    pub time: Duration,
    /// Bytes of the blob that is pushed to see how memory grows.
    pub large_blob: u64,
    serial: Cell<u64>,
}

impl Context {
    pub fn new(content: Content, fresh: Fresh, time: Duration, large_blob: u64) -> Self {
        Self { content, fresh, time, large_blob, serial: Cell::new(0) }
    }

    /// For names that have not been there before.
    fn serial(&self) -> u64 {
        self.serial.replace(self.serial.get() + 1)
    }

    /// For what goes ahead of a measurement, so that the server is as it is after a while.
    fn warm_up(&self) -> Duration {
        self.time / 5
    }
}

/// One value for each row, and what lies behind them.
pub struct Outcome {
    pub values: Vec<f64>,
    pub measured: Vec<Measured>,
}

impl Outcome {
    fn of(measured: Measured, value: fn(&Measured) -> f64) -> Self {
        Self { values: vec![value(&measured)], measured: vec![measured] }
    }
}

/// Measures once. The server runs in the scenario's mode.
pub async fn run(work: Work, server: &mut Server, context: &mut Context) -> anyhow::Result<Outcome> {
    match work {
        Work::Pull => reads::pull(server, context).await,
        Work::PullHttp2 => reads::pull_http2(server, context).await,
        Work::PullCold => reads::pull_cold(server, context).await,
        Work::SmallPulls => reads::small(server, context).await,
        Work::Ranges => reads::ranges(server, context).await,
        Work::Storm => storms::kept(server, context).await,
        Work::ManyConnections => storms::many(server, context).await,
        Work::NewConnections => storms::new(server, context).await,
        Work::HeadBlob => storms::head_blob(server, context).await,
        Work::Push(way) => pushes::large(server, context, way).await,
        Work::Growth => pushes::growth(server, context).await,
        Work::SmallPushes => pushes::small(server, context).await,
        Work::TagPut => pushes::tag(server, context).await,
        Work::Mount => pushes::mount(server, context).await,
        Work::Tags => listings::tags(server, context).await,
        Work::Catalogue => listings::catalogue(server, context).await,
        Work::Start => lifecycle::start(server).await,
        Work::Memory => lifecycle::memory(server, context).await,
        Work::Htpasswd => storms::htpasswd(server, context).await,
    }
}
