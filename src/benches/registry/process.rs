//! What the processes of a server have cost so far, and the memory that they hold.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::Context as _;

const TICKS_PER_SECOND: f64 = 100.0;

/// A process and all that it has started.
#[derive(Clone, Copy)]
pub struct Tree {
    pub root: u32,
}

/// CPU time, user and system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// In nanoseconds, by the kernel's clock of each process.
    pub total: Duration,
    /// In steps of 10 ms: only how the total divides up.
    pub user: Duration,
    pub system: Duration,
}

impl Cpu {
    pub fn since(&self, before: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }

    pub fn plus(&self, other: &Self) -> Self {
        Self { total: self.total + other.total, user: self.user + other.user, system: self.system + other.system }
    }

    /// The part of the total that was spent in user mode.
    pub fn user_share(&self) -> f64 {
        let sum = (self.user + self.system).as_secs_f64();
        if sum == 0.0 { 0.0 } else { self.user.as_secs_f64() / sum }
    }
}

impl Tree {
    fn processes(self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|process| Some((process, stat(process).ok()?.get(1)?.parse().ok()?)))
            .collect();
        let mut found = vec![self.root];
        let mut at = 0;
        while at < found.len() {
            let parent = found[at];
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| process));
            at += 1;
        }
        found
    }

    /// CPU time of all processes that are there now, their ended threads included.
    pub fn cpu(self) -> anyhow::Result<Cpu> {
        let mut sum = Cpu::default();
        for process in self.processes() {
            let fields = stat(process)?;
            let ticks = |index: usize| -> anyhow::Result<Duration> {
                let count: f64 = fields.get(index).context("a short /proc/PID/stat")?.parse()?;
                Ok(Duration::from_secs_f64(count / TICKS_PER_SECOND))
            };
            sum = sum.plus(&Cpu { total: clock(process)?, user: ticks(11)?, system: ticks(12)? });
        }
        Ok(sum)
    }

    /// Makes [`peak`](Tree::peak) start again from what is resident now.
    pub fn reset_peak(self) -> anyhow::Result<()> {
        self.processes().iter().try_for_each(|process| {
            fs::write(format!("/proc/{process}/clear_refs"), "5").context("the peak of memory can't be reset")
        })
    }

    /// Bytes resident at most since the start or the last reset. What processes share counts in each of them.
    pub fn peak(self) -> anyhow::Result<u64> {
        self.processes().into_iter().map(|process| memory(process, "VmHWM:")).sum()
    }

    /// Bytes resident now.
    pub fn resident(self) -> anyhow::Result<u64> {
        self.processes().into_iter().map(|process| memory(process, "VmRSS:")).sum()
    }
}

/// Fields of `/proc/PID/stat` after the name, which may hold anything: state, parent, ...
fn stat(process: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("/proc/PID/stat has another form")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn memory(process: u32, field: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no memory in /proc/PID/status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

fn clock(process: u32) -> anyhow::Result<Duration> {
    let (mut id, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both calls only write to the variables that they are given, which live until after them.
    let failed = unsafe {
        libc::clock_getcpuclockid(process.try_into()?, &mut id) != 0 || libc::clock_gettime(id, &mut time) != 0
    };
    if failed {
        return Err(io::Error::last_os_error()).context("the CPU time of a process can't be read");
    }
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}
