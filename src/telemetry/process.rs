//! What Prometheus's clients everywhere tell of their process, under the names that they all use.

use std::fmt;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;

/// Read when somebody asks.
#[derive(Debug)]
pub(super) struct Process {
    /// In seconds since the epoch.
    started: f64,
}

impl Process {
    /// To be called when the process starts.
    pub fn started_now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: since.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut show = |name, help, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        show("process_start_time_seconds", "Start time of the process, in seconds since the epoch.", self.started)?;
        // Where there is no /proc these are left out.
        if let Some(bytes) = resident_bytes() {
            show("process_resident_memory_bytes", "Resident memory.", bytes)?;
        }
        if let Some(count) = open_descriptors() {
            show("process_open_fds", "Open file descriptors.", count)?;
        }
        Ok(())
    }
}

/// proc_pid_status(5): `VmRSS`, in KiB whatever the unit says.
fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// Without the one that the counting itself takes.
fn open_descriptors() -> Option<f64> {
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)) as f64)
}
