//! When each lease ends, and what has to be done about it now. Pure: it is told the time and
//! decides.
//!
//! One look is planned for each lease, in an ordered set: at its deadline, or earlier at its next
//! checkpoint. A renewal only moves the deadline, so it costs one look-up; the look that was
//! planned finds that it came too early and plans the next one.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use althing_storage::store::LeaseRecord;

/// Leases that may end within one second after a change of leader: three quarters of what is
/// revoked in a second, so that new expiries find room too.
const ENDS_PER_SECOND_MAX: usize = 750;
/// What is left of a lease is logged this often at most.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// What is left is logged about this many times in a lease's life, however long.
const CHECKPOINTS_PER_LIFE: u32 = 10;
/// An expiry that was proposed and had no effect is proposed again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// The deadlines of all leases.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    timers: HashMap<i64, Timer>,
    /// When to look at which lease; one entry per timer.
    looks: BTreeSet<(Instant, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    generation: u64,
    ttl: Duration,
    deadline: Instant,
    /// From this time on the log knows at least what is left of the lease.
    logged: Instant,
    look: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// A checkpoint of the lease is on its way to the log.
    Checkpointing,
    /// The lease's time is over, and its end is on its way to the log.
    Ending,
}

/// The outcome of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The lease lives its whole time from now on.
    Renewed,
    /// The lease's time was over; it will end.
    Expired,
    /// The log knows, or is about to know, of a shorter time: that must be taken back first.
    Shortened,
}

/// A lease to be ended, if it is still of this generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expired {
    pub(super) id: i64,
    pub(super) generation: u64,
}

/// What is left of a lease, to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) id: i64,
    pub(super) generation: u64,
    /// Seconds left, rounded up.
    pub(super) remaining: i64,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The term in which these deadlines were counted.
    pub(super) term: u64,
    pub(super) expired: Vec<Expired>,
    pub(super) left: Vec<Left>,
}

/// How much may be due at once; the rest waits for the next look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) expired: usize,
    pub(super) left: usize,
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

/// The time that the log grants a lease from now on.
fn granted(lease: &LeaseRecord) -> Duration {
    match lease.remaining {
        0 => seconds(lease.ttl),
        remaining => seconds(remaining),
    }
}

impl Timer {
    fn new(lease: &LeaseRecord, now: Instant, deadline: Instant) -> Timer {
        let mut timer = Timer {
            generation: lease.generation,
            ttl: seconds(lease.ttl),
            deadline,
            logged: now,
            look: deadline,
            state: State::Running,
        };
        timer.look = timer.next_look();
        timer
    }

    fn checkpoint_interval(&self) -> Duration {
        (self.ttl / CHECKPOINTS_PER_LIFE).max(CHECKPOINT_INTERVAL_MIN)
    }

    /// The end, or the next checkpoint unless the end is close to it.
    fn next_look(&self) -> Instant {
        let interval = self.checkpoint_interval();
        let checkpoint = self.logged + interval;
        if self.deadline > checkpoint + interval {
            checkpoint
        } else {
            self.deadline
        }
    }
}

impl Expiry {
    /// The deadlines of a new leader: each lease lives what the log grants it and `extend` more,
    /// because nobody could renew it meanwhile. Deadlines that pile up are spread, and only to
    /// later.
    pub(super) fn of_a_new_leader(
        leases: &[LeaseRecord],
        now: Instant,
        extend: Duration,
    ) -> Expiry {
        let deadline = |lease: &LeaseRecord| now + extend + granted(lease);
        let mut order: Vec<_> = leases
            .iter()
            .map(|lease| (deadline(lease), lease))
            .collect();
        order.sort_by_key(|(deadline, lease)| (*deadline, lease.id));
        let spread = spread(order.iter().map(|(deadline, _)| *deadline).collect());
        let timers = order.into_iter().zip(spread);
        let timers = timers.map(|((_, lease), end)| (lease.id, Timer::new(lease, now, end)));
        let timers: HashMap<i64, Timer> = timers.collect();
        let looks = timers.iter().map(|(id, timer)| (timer.look, *id));
        Expiry {
            looks: looks.collect(),
            timers,
        }
    }

    /// Notes that the log has `lease` like this.
    pub(super) fn update(&mut self, lease: &LeaseRecord, now: Instant) {
        let known = self.timers.get(&lease.id);
        match known.copied() {
            // A new generation begins with its whole time.
            Some(timer) if timer.generation == lease.generation => {
                if timer.state == State::Checkpointing {
                    self.change(lease.id, |timer| {
                        timer.state = State::Running;
                        timer.logged = now;
                        timer.look = timer.next_look();
                    });
                }
            }
            _ => {
                self.remove(lease.id);
                let deadline = now + granted(lease);
                self.insert(lease.id, Timer::new(lease, now, deadline));
            }
        }
    }

    /// Notes that the log ended a lease.
    pub(super) fn remove(&mut self, id: i64) {
        if let Some(timer) = self.timers.remove(&id) {
            self.looks.remove(&(timer.look, id));
        }
    }

    /// Renews a lease that the log has like this.
    pub(super) fn renew(&mut self, lease: &LeaseRecord, now: Instant) -> Renewal {
        let known = self.timers.get(&lease.id);
        if known.is_none_or(|timer| timer.generation != lease.generation) {
            self.update(lease, now);
        }
        let timer = self.timers.get_mut(&lease.id).expect("it was just updated");
        if timer.deadline <= now || timer.state == State::Ending {
            return Renewal::Expired;
        }
        if lease.remaining != 0 || timer.state == State::Checkpointing {
            return Renewal::Shortened;
        }
        timer.deadline = now + timer.ttl;
        timer.logged = now;
        Renewal::Renewed
    }

    /// What is left of a lease; zero if it is about to end, `None` if it is unknown.
    pub(super) fn remaining(&self, id: i64, now: Instant) -> Option<Duration> {
        let timer = self.timers.get(&id)?;
        Some(timer.deadline.saturating_duration_since(now))
    }

    /// When each lease ends.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = (Instant, i64)> {
        let timers = self.timers.iter();
        timers.map(|(id, timer)| (timer.deadline, *id))
    }

    /// What is due now. Each item is due again after a while unless the log shows its effect.
    pub(super) fn due(&mut self, now: Instant, limits: Limits) -> Due {
        let mut due = Due::default();
        while let Some((look, id)) = self.looks.first().copied()
            && look <= now
            && due.expired.len() < limits.expired
            && due.left.len() < limits.left
        {
            self.change(id, |timer| {
                let generation = timer.generation;
                if timer.deadline <= now {
                    due.expired.push(Expired { id, generation });
                    timer.state = State::Ending;
                    timer.look = now + RETRY_INTERVAL;
                    return;
                }
                timer.look = timer.next_look();
                if timer.look > now {
                    return;
                }
                due.left.push(Left {
                    id,
                    generation,
                    remaining: whole_seconds_up(timer.deadline - now),
                });
                timer.state = State::Checkpointing;
                timer.look = timer.deadline.min(now + timer.checkpoint_interval());
            });
        }
        due
    }

    fn insert(&mut self, id: i64, timer: Timer) {
        self.looks.insert((timer.look, id));
        self.timers.insert(id, timer);
    }

    /// Changes a timer and moves its look with it.
    fn change(&mut self, id: i64, change: impl FnOnce(&mut Timer)) {
        let timer = self.timers.get_mut(&id);
        let timer = timer.expect("each look is of a known lease");
        self.looks.remove(&(timer.look, id));
        change(timer);
        self.looks.insert((timer.look, id));
    }
}

fn whole_seconds_up(duration: Duration) -> i64 {
    let up = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(up).unwrap_or(i64::MAX)
}

/// Moves deadlines, which come in order, apart until no second has more than
/// [`ENDS_PER_SECOND_MAX`] ends. None comes earlier.
fn spread(mut deadlines: Vec<Instant>) -> Vec<Instant> {
    for position in ENDS_PER_SECOND_MAX..deadlines.len() {
        let free_from = deadlines[position - ENDS_PER_SECOND_MAX] + Duration::from_secs(1);
        deadlines[position] = deadlines[position].max(free_from);
    }
    deadlines
}

#[cfg(test)]
#[path = "expiry_test.rs"]
mod tests;
