//! One measurement: what a server spends while a client works.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::client::{Client, Target};
use crate::process::{Cpu, Tree};
use crate::servers::Server;

/// For what a server still does after its last answer.
const SETTLE: Duration = Duration::from_millis(20);

/// What some work has cost, and how much of it there was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub cpu: Cpu,
    pub wall: Duration,
    pub requests: u64,
    pub bytes: u64,
}

impl Measured {
    pub fn cpu_seconds_per_gigabyte(&self) -> f64 {
        self.cpu.total.as_secs_f64() / (self.bytes as f64 / 1e9)
    }

    pub fn cpu_microseconds_per_request(&self) -> f64 {
        self.cpu.total.as_secs_f64() * 1e6 / self.requests as f64
    }

    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.wall.as_secs_f64()
    }

    pub fn plus(&self, other: &Self) -> Self {
        Self {
            cpu: self.cpu.plus(&other.cpu),
            wall: self.wall + other.wall,
            requests: self.requests + other.requests,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Runs between its start and its stop.
pub struct Meter {
    tree: Tree,
    before: Cpu,
    started: Instant,
}

impl Meter {
    pub fn start(server: &Server) -> anyhow::Result<Self> {
        let tree = server.tree()?;
        Ok(Self { before: tree.cpu()?, started: Instant::now(), tree })
    }

    pub async fn stop(self, requests: u64, bytes: u64) -> anyhow::Result<Measured> {
        let wall = self.started.elapsed();
        tokio::time::sleep(SETTLE).await;
        Ok(Measured { cpu: self.tree.cpu()?.since(&self.before), wall, requests, bytes })
    }
}

/// How much is asked for: until the time is over or all has been done.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    pub time: Duration,
    pub most: u64,
    pub buffer: usize,
}

/// Works over several connections, each of which takes the next number when it is done with the last. Returns how
/// many there were.
pub async fn drive<W>(target: &Target, load: Load, work: W) -> anyhow::Result<u64>
where
    W: AsyncFn(&mut Client, u64) -> anyhow::Result<()>,
{
    let (next, end) = (Cell::new(0), Instant::now() + load.time);
    let connection = async || {
        let mut client = Client::new(target.clone(), load.buffer);
        while Instant::now() < end && next.get() < load.most {
            let number = next.replace(next.get() + 1);
            work(&mut client, number).await?;
        }
        client.close().await;
        anyhow::Ok(())
    };
    try_join_all((0..load.connections).map(|_| connection())).await?;
    Ok(next.get())
}
