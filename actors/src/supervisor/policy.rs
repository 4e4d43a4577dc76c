//! What to do when a child dies. Pure: it is told the time and decides.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deaths within [`WINDOW`] that a new child may follow; one more halts the node.
const RESTARTS_MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// The first new child starts after this pause, each further one after twice the pause before.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a child's death means for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The node halts: start-up is the only recovery of the core.
    Halt,
    /// A new value takes the child's place, unless it dies too often.
    Restart,
}

/// What the supervisor has to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Stop the node.
    Halt,
    /// Start a new child after this delay.
    RestartAfter(Duration),
}

/// The deaths of one child that still count.
#[derive(Debug)]
pub struct Deaths {
    policy: Policy,
    recent: VecDeque<Instant>,
}

impl Deaths {
    /// A child that has not died yet.
    pub fn new(policy: Policy) -> Deaths {
        Deaths {
            policy,
            recent: VecDeque::new(),
        }
    }

    /// Notes that the child died at `now`. Calls must come in the order of time.
    pub fn died(&mut self, now: Instant) -> Decision {
        match self.policy {
            Policy::Halt => Decision::Halt,
            Policy::Restart => self.restart(now),
        }
    }

    fn restart(&mut self, now: Instant) -> Decision {
        while let Some(oldest) = self.recent.front()
            && now.duration_since(*oldest) > WINDOW
        {
            self.recent.pop_front();
        }
        if self.recent.len() >= RESTARTS_MAX {
            return Decision::Halt;
        }
        let doublings = u32::try_from(self.recent.len()).expect("at most RESTARTS_MAX");
        self.recent.push_back(now);
        Decision::RestartAfter((BACKOFF_MIN * 2_u32.pow(doublings)).min(BACKOFF_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_answers_a_first_death_in_its_own_way() {
        let now = Instant::now();
        let table = [
            (Policy::Halt, Decision::Halt),
            (Policy::Restart, Decision::RestartAfter(BACKOFF_MIN)),
        ];
        for (policy, decision) in table {
            assert_eq!(Deaths::new(policy).died(now), decision, "{policy:?}");
        }
    }

    #[test]
    fn the_delay_doubles_and_the_sixth_death_in_ten_seconds_halts() {
        let start = Instant::now();
        let mut deaths = Deaths::new(Policy::Restart);
        for (death, millis) in (0_u64..).zip([50, 100, 200, 400, 800]) {
            let now = start + Duration::from_secs(death);
            let expected = Decision::RestartAfter(Duration::from_millis(millis));
            assert_eq!(deaths.died(now), expected, "death {death}");
        }
        assert_eq!(deaths.died(start + Duration::from_secs(9)), Decision::Halt);
    }

    #[test]
    fn deaths_older_than_the_window_are_forgotten() {
        let start = Instant::now();
        let mut deaths = Deaths::new(Policy::Restart);
        for death in 0..100 {
            let now = start + Duration::from_secs(11 * death);
            assert_eq!(
                deaths.died(now),
                Decision::RestartAfter(BACKOFF_MIN),
                "death {death}"
            );
        }
    }
}
