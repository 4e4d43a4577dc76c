//! When a leader was last heard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Stamped by each message of a leader that raft accepts; read by RaftNode.
#[derive(Debug)]
pub(crate) struct Heard {
    start: Instant,
    /// Microseconds after `start`, plus one; zero means never.
    last: AtomicU64,
}

impl Default for Heard {
    fn default() -> Heard {
        Heard {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heard {
    /// Notes that a leader was heard now.
    pub(in crate::raft_node) fn stamp(&self) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.last.store(now + 1, Ordering::Relaxed);
    }

    /// How long ago a leader was heard; `None` if never.
    pub(in crate::raft_node) fn ago(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(
            self.start
                .elapsed()
                .saturating_sub(Duration::from_micros(last)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_heard_has_no_age_and_what_was_heard_has() {
        let heard = Heard::default();
        assert_eq!(heard.ago(), None);
        heard.stamp();
        assert!(heard.ago().expect("it was stamped") <= heard.start.elapsed());
    }
}
