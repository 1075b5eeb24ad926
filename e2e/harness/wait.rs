//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How long a test waits for what should come soon, before it takes the thing for stuck.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the product promises: a change of policy is in force after at most this time.
pub const PROMISED: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(150);
const PROGRESS: Duration = Duration::from_secs(5);

/// Tries until it succeeds, with [`PATIENCE`].
pub async fn eventually<T>(what: &str, attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, attempt).await
}

/// Tries until it succeeds. An attempt that fails says what it saw instead.
///
/// # Panics
/// When the time is up, with what was seen last.
pub async fn within<T>(limit: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let (start, mut shown, mut shown_at) = (Instant::now(), String::new(), Duration::ZERO);
    loop {
        // Taken before the attempt: one that began in time counts, however slow its client is.
        let elapsed = start.elapsed();
        match attempt().await {
            Ok(value) => {
                println!("[{:5.1} s] {what}", start.elapsed().as_secs_f32());
                return value;
            }
            Err(seen) if elapsed > limit => panic!("not within {} s: {what}; seen last: {seen}", limit.as_secs()),
            Err(seen) if elapsed >= shown_at + PROGRESS => {
                if seen != shown {
                    println!("[{:5.1} s] waiting: {what}; seen: {seen}", elapsed.as_secs_f32());
                }
                (shown, shown_at) = (seen, elapsed);
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
