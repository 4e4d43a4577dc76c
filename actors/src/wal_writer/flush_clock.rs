//! Since when the disk has been busy with a flush of the log. The log's own thread cannot tell,
//! because it stands still meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Set by WalWriter around each flush, read by RaftNode.
#[derive(Debug)]
pub(crate) struct FlushClock {
    start: Instant,
    /// When the flush under way began, in microseconds after `start`, plus one; zero if there is
    /// none.
    began: AtomicU64,
}

impl Default for FlushClock {
    fn default() -> FlushClock {
        FlushClock {
            start: Instant::now(),
            began: AtomicU64::new(0),
        }
    }
}

impl FlushClock {
    pub(super) fn begins(&self) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.began.store(now + 1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// How long the flush under way has taken so far; `None` if there is none.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed).checked_sub(1)?;
        let began = Duration::from_micros(began);
        Some(self.start.elapsed().saturating_sub(began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flush_under_way_has_an_age() {
        let clock = FlushClock::default();
        assert_eq!(clock.busy_for(), None);
        clock.begins();
        assert!(clock.busy_for().expect("it began") <= clock.start.elapsed());
        clock.ended();
        assert_eq!(clock.busy_for(), None);
    }
}
