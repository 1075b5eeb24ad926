//! The removal of abandoned uploads, from time to time while the registry runs.

use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use super::{Content, ContentError};
use crate::telemetry::Metrics;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What is removed, and how often.
pub struct UploadSweep {
    content: Content,
    abandoned_after: Duration,
    removed: Counter,
}

impl UploadSweep {
    /// Removes uploads that nothing has been added to for `abandoned_after`.
    pub fn new(content: Content, abandoned_after: Duration, metrics: &Metrics) -> Self {
        let removed = Counter::default();
        metrics.register(|registry| {
            registry.register("abandoned_uploads_removed", "Uploads removed because nobody went on", removed.clone());
        });
        Self { content, abandoned_after, removed }
    }

    /// Sweeps until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let removed = self.content.remove_abandoned_uploads(self.abandoned_after, SystemTime::now()).await;
            self.record(removed);
            let pause = interval(self.abandoned_after, rand::random());
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    fn record(&self, removed: Result<usize, ContentError>) {
        match removed {
            Ok(0) => {}
            Ok(count) => {
                self.removed.inc_by(count as u64);
                tracing::info!(count, "abandoned uploads removed");
            }
            Err(error) => tracing::warn!(%error, "abandoned uploads can't be removed"),
        }
    }
}

/// Often enough that nothing stays for much longer than it should; `random`, from 0 to 1, keeps processes that were
/// started together from sweeping together.
fn interval(abandoned_after: Duration, random: f64) -> Duration {
    (abandoned_after / 8).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL).mul_f64(0.75 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_day(24 * 3600, 0.5, 3600)]
    #[case::an_hour(3600, 0.5, 450)]
    #[case::at_once(0, 0.5, 60)]
    #[case::early(24 * 3600, 0.0, 2700)]
    #[case::late(24 * 3600, 1.0, 4500)]
    fn an_interval(#[case] abandoned_after: u64, #[case] random: f64, #[case] expected: u64) {
        let interval = interval(Duration::from_secs(abandoned_after), random);
        assert_eq!(interval, Duration::from_secs(expected));
    }
}
