//! The process's metrics, in OpenMetrics' text format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Everything that the process counts. Clones share it.
///
/// Each part of the process makes its own counters and registers them here; it keeps a clone of each to count with.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("landfast"))) }
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers counters. Their names get the prefix `landfast_`.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
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
}
