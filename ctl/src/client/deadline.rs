//! Points in time until which something is waited for.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// A point in time; one beyond the clock's range never comes.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// `time` from now.
    pub fn after(time: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(time))
    }

    /// The earlier of the two.
    pub fn or_earlier(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Deadline(Some(one.min(two))),
            (one, two) => Deadline(one.or(two)),
        }
    }

    /// The outcome of `work`; `None` when the deadline comes first.
    pub async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        match self.0 {
            Some(at) => timeout_at(at, work).await.ok(),
            None => Some(work.await),
        }
    }

    /// Waits for `time`, or only until the deadline and then returns `false`.
    pub async fn pause(self, time: Duration) -> bool {
        self.bound(sleep(time)).await.is_some()
    }

    /// Whether the deadline has passed.
    pub fn is_over(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// The time that is left; `None` for a deadline that never comes.
    pub fn left(self) -> Option<Duration> {
        let at = self.0?;
        Some(at.saturating_duration_since(Instant::now()))
    }
}
