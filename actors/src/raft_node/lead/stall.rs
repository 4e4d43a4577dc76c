//! When a leader whose disk hangs hands its lead over. Pure.
//!
//! Its heartbeats go on, so no other member would notice, and nothing that it takes becomes durable
//! here. A disk that has not finished a flush within an election timeout counts as hung: a dead
//! leader would be replaced after that time too.

use std::time::Duration;

/// The hand-overs attempted during one hang of the disk.
#[derive(Debug, Default)]
pub(in crate::raft_node) struct Stall {
    /// How long the flush had taken when the last hand-over was begun; `None` if none was in this
    /// hang.
    tried_at: Option<Duration>,
}

impl Stall {
    /// Whether to hand over now. `busy_for` is how long the flush under way has taken. As long as
    /// it hangs and this member leads, the hand-over is repeated after two election timeouts, which
    /// is how long one may take.
    #[must_use]
    pub(in crate::raft_node) fn hands_over(
        &mut self,
        leads: bool,
        busy_for: Option<Duration>,
        election_timeout: Duration,
    ) -> bool {
        let Some(busy_for) = busy_for.filter(|busy| leads && *busy > election_timeout) else {
            self.tried_at = None;
            return false;
        };
        // A shorter time belongs to a later flush.
        let pause = 2 * election_timeout;
        let waits = |tried: Duration| busy_for >= tried && busy_for - tried < pause;
        if self.tried_at.is_some_and(waits) {
            return false;
        }
        self.tried_at = Some(busy_for);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1_000);

    fn look(stall: &mut Stall, leads: bool, busy_ms: Option<u64>) -> bool {
        stall.hands_over(leads, busy_ms.map(Duration::from_millis), TIMEOUT)
    }

    #[test]
    fn a_leader_whose_disk_hangs_for_an_election_timeout_hands_over_once() {
        let mut stall = Stall::default();
        assert!(!look(&mut stall, true, None));
        assert!(!look(&mut stall, true, Some(1_000)));
        assert!(look(&mut stall, true, Some(1_001)));
        assert!(!look(&mut stall, true, Some(1_100)));
        assert!(!look(&mut stall, true, Some(3_000)));
        assert!(look(&mut stall, true, Some(3_001)), "it still leads");
    }

    #[test]
    fn a_later_hang_counts_anew_and_a_follower_has_nothing_to_hand_over() {
        let mut stall = Stall::default();
        assert!(look(&mut stall, true, Some(2_500)));
        assert!(look(&mut stall, true, Some(1_200)), "another flush");
        assert!(!look(&mut stall, false, Some(9_000)));
        assert!(look(&mut stall, true, Some(1_500)), "elected meanwhile");
    }
}
