//! Raft's clock, which runs at a pace of its own.
//!
//! openraft copies its timeouts when it is built, so they stay as they are; but the clock that
//! measures them is ours. An election timeout is always one second of raft's time, and the operator
//! chooses how long such a second takes. A change of that reaches leases, votes, elections and
//! probes at once, in proportion: a lease that is half over stays half over. Raft's safety rests on
//! no clock, so members may differ for as long as they like.
//!
//! Only the raft thread asks this clock. In a simulation the nodes share a thread, and each has its
//! clock put there while it runs.

use std::cell::Cell;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use tokio::time::Instant as RealInstant;

/// The election timeout in raft's time.
pub(super) const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Where raft's time begins: far enough from zero that no subtraction reaches it.
const ORIGIN: Duration = Duration::from_secs(1 << 32);

thread_local! {
    static CLOCK: Cell<Option<RaftClock>> = const { Cell::new(None) };
}

/// A moment of raft's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RaftInstant(Duration);

impl Add<Duration> for RaftInstant {
    type Output = RaftInstant;

    fn add(self, time: Duration) -> RaftInstant {
        RaftInstant(self.0.saturating_add(time))
    }
}

impl AddAssign<Duration> for RaftInstant {
    fn add_assign(&mut self, time: Duration) {
        *self = *self + time;
    }
}

impl Sub<Duration> for RaftInstant {
    type Output = RaftInstant;

    fn sub(self, time: Duration) -> RaftInstant {
        RaftInstant(self.0.saturating_sub(time))
    }
}

impl SubAssign<Duration> for RaftInstant {
    fn sub_assign(&mut self, time: Duration) {
        *self = *self - time;
    }
}

impl Sub for RaftInstant {
    type Output = Duration;

    fn sub(self, earlier: RaftInstant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl openraft_rt::Instant for RaftInstant {
    fn now() -> RaftInstant {
        on_this_thread().at(RealInstant::now())
    }
}

/// How raft's time follows from the real one.
#[derive(Clone, Copy, Debug)]
struct RaftClock {
    /// When the pace was last set, and what this clock showed then.
    set_at: RealInstant,
    showed: RaftInstant,
    election_timeout: Duration,
}

impl RaftClock {
    fn new(now: RealInstant) -> RaftClock {
        RaftClock {
            set_at: now,
            showed: RaftInstant(ORIGIN),
            election_timeout: ELECTION_TIMEOUT,
        }
    }

    fn at(&self, now: RealInstant) -> RaftInstant {
        self.showed + self.to_raft(now.saturating_duration_since(self.set_at))
    }

    fn set(self, now: RealInstant, election_timeout: Duration) -> RaftClock {
        RaftClock {
            set_at: now,
            showed: self.at(now),
            election_timeout,
        }
    }

    fn to_raft(self, real: Duration) -> Duration {
        let parts = (real.as_nanos()).saturating_mul(ELECTION_TIMEOUT.as_nanos());
        from_nanos(parts / self.election_timeout.as_nanos().max(1))
    }

    /// Rounded up, so that a task that waits for a moment does not wake before it.
    fn to_real(self, raft: Duration) -> Duration {
        let parts = (raft.as_nanos()).saturating_mul(self.election_timeout.as_nanos());
        from_nanos(parts.div_ceil(ELECTION_TIMEOUT.as_nanos()))
    }
}

fn from_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn on_this_thread() -> RaftClock {
    CLOCK.get().unwrap_or_else(|| {
        let clock = RaftClock::new(RealInstant::now());
        CLOCK.set(Some(clock));
        clock
    })
}

/// Sets how long raft's election timeout on this thread takes from now on.
pub(in crate::raft_node) fn set_election_timeout(election_timeout: Duration) {
    let clock = on_this_thread().set(RealInstant::now(), election_timeout);
    CLOCK.set(Some(clock));
}

/// The real time that a span of raft's time takes.
pub(super) fn to_real(raft: Duration) -> Duration {
    on_this_thread().to_real(raft)
}

/// How much of raft's time passes in a span of real time.
pub(super) fn to_raft(real: Duration) -> Duration {
    on_this_thread().to_raft(real)
}

/// The real time until `moment`.
pub(super) fn until(moment: RaftInstant) -> Duration {
    let clock = on_this_thread();
    clock.to_real(moment - clock.at(RealInstant::now()))
}

/// The real time since `moment`.
pub(in crate::raft_node) fn since(moment: RaftInstant) -> Duration {
    let clock = on_this_thread();
    clock.to_real(clock.at(RealInstant::now()) - moment)
}

/// The clock of a node that shares its thread with others, while it does not run.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
pub struct KeptClock(Option<RaftClock>);

#[cfg(any(test, feature = "testing"))]
impl KeptClock {
    /// Swaps this clock with the thread's.
    pub fn swap(&mut self) {
        self.0 = CLOCK.replace(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_election_timeout_is_a_second_of_its_time_whatever_it_takes() {
        let start = RealInstant::now();
        for timeout in [SECOND / 100, SECOND, 50 * SECOND] {
            let clock = RaftClock::new(start).set(start, timeout);
            let before = clock.at(start);
            assert_eq!(clock.at(start + timeout) - before, ELECTION_TIMEOUT);
            assert_eq!(clock.to_real(ELECTION_TIMEOUT), timeout);
            assert_eq!(clock.to_raft(3 * timeout), 3 * SECOND);
        }
    }

    #[test]
    fn another_pace_neither_leaps_nor_goes_back() {
        let start = RealInstant::now();
        let first = RaftClock::new(start);
        let half = start + SECOND / 2;
        let slow = first.set(half, 10 * SECOND);
        assert_eq!(slow.at(half), first.at(half));
        let end = half + 5 * SECOND;
        assert_eq!(slow.at(end) - first.at(start), SECOND, "half of each");
        let fast = slow.set(end, SECOND / 10);
        assert_eq!(fast.at(end), slow.at(end));
        assert_eq!(fast.at(end + SECOND / 10) - fast.at(end), SECOND);
    }

    #[test]
    fn who_waits_for_a_moment_does_not_wake_before_it() {
        let start = RealInstant::now();
        let clock = RaftClock::new(start).set(start, Duration::from_nanos(333_333_333));
        for nanos in [1, 7, 1_000, 999_999_937] {
            let moment = clock.at(start) + Duration::from_nanos(nanos);
            let wait = clock.to_real(Duration::from_nanos(nanos));
            assert!(clock.at(start + wait) >= moment, "{nanos}");
        }
    }
}
