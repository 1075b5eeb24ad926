//! The process's metrics, in OpenMetrics' text format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::logging::DROPPED;
use super::process::Process;

const PREFIX: &str = "landfast";

/// Everything that the process counts. Clones share it.
///
/// Each part of the process makes its own counters and registers them here; it keeps a clone of each to count with.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process::started_now()));
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let own = registry.sub_registry_with_prefix(PREFIX);
        own.register("build", "The program", build);
        let help = "Lines about single requests that were not logged, because lines came faster than they were read";
        own.register("log_lines_dropped", help, DROPPED.droppable.clone());
        let help = "Audit records without a valid credential behind them that were not logged, because lines came faster than they were read";
        own.register("audit_records_dropped", help, DROPPED.unverified.clone());
        Self { registry: Arc::new(Mutex::new(registry)) }
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers counters. Their names get the prefix `landfast_`.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(registry.sub_registry_with_prefix(PREFIX));
    }

    /// All metrics as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn shows_what_was_registered() {
        let (metrics, counter) = (Metrics::new(), Counter::<u64>::default());
        metrics.register(|registry| registry.register("things", "Things done", counter.clone()));
        counter.inc();
        assert!(metrics.encode().unwrap().contains("landfast_things_total 1\n"));
    }

    #[test]
    fn tells_of_the_process() {
        let text = Metrics::new().encode().unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_start_time_seconds ") > 1.7e9);
        assert_eq!(value(concat!("landfast_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")), 1.0);
    }
}
