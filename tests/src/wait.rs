//! Waiting for what a member does by itself: for a condition, with a deadline.

use std::time::{Duration, Instant};

use crate::process::DEADLINE;

/// Pause between two checks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold in time; the message names `what` was waited for.
pub async fn until(mut condition: impl AsyncFnMut() -> bool, what: &str) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}
