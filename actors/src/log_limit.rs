//! Limits log lines that would repeat to one a second, and counts those left out. Pure.

use std::time::{Duration, Instant};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// When the last line was written, and how many were not since.
#[derive(Debug, Default)]
pub struct LogLimit {
    last: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line may be written now, and how many were left out before it.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + INTERVAL) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_a_second_and_the_next_tells_of_the_others() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        assert_eq!(limit.pass(start), Some(0));
        assert_eq!(limit.pass(start), None);
        assert_eq!(limit.pass(start + INTERVAL / 2), None);
        assert_eq!(limit.pass(start + INTERVAL), Some(2));
        assert_eq!(limit.pass(start + 3 * INTERVAL), Some(0));
    }
}
