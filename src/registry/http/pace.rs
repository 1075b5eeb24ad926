//! How fast a client goes on while it is waited for.

use std::time::Duration;

/// Bytes per second of waiting, judged over windows.
#[derive(Clone, Debug)]
pub struct Pace {
    minimum: u64,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// `minimum` is in bytes per second.
    pub fn new(minimum: u64, window: Duration) -> Self {
        Self { minimum, window, waited: Duration::ZERO, bytes: 0 }
    }

    /// Takes note of bytes that nobody had to wait for: they count once others have been waited for.
    pub fn at_once(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Takes note of bytes that have been waited for, and judges at the end of each window.
    pub fn is_too_slow(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.at_once(bytes);
        if self.waited < self.window {
            return false;
        }
        let too_slow = (self.bytes as f64) < self.minimum as f64 * self.waited.as_secs_f64();
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        too_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_judged_over_a_window_of_waiting() {
        let second = Duration::from_secs(1);
        let pace = |minimum| Pace::new(minimum, 10 * second);
        let judged = |bytes: u64, minimum: u64| {
            let mut pace = pace(minimum);
            (0..30).position(|_| pace.is_too_slow(second, bytes))
        };
        assert_eq!(judged(1, 100), Some(9), "not before the window is over");
        assert_eq!(judged(100, 100), None);
        assert_eq!(judged(1, 0), None);
        let mut late = pace(100);
        assert!((0..15).all(|_| !late.is_too_slow(second, 1000)), "each window for itself");
        assert!((0..15).any(|_| late.is_too_slow(second, 1)));
    }
}
