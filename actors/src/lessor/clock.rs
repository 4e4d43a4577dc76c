//! The deadlines, shared by the whole node. Renewals come straight from the workers, many thousands
//! a second, and must not cross a mailbox; the lock is held for one look-up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use althing_storage::store::{LeaseRecord, Store};
use parking_lot::Mutex;

use super::expiry::{Due, Expiry, Limits, Renewal};
use crate::raft_node::{LiveTuning, Proposer};

/// As in etcd, a leader that has not looked for this many heartbeat intervals does not trust
/// itself.
const LOOKS_MISSED_MAX: u32 = 3;

/// The time; tests bring their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    /// A clock that shows what `now` returns; it must never go back.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new(Instant::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The deadlines, which only the leader keeps.
#[derive(Debug)]
pub(crate) struct LeaseClock {
    clock: Clock,
    /// A new leader adds its election timeout and a heartbeat to each lease: nobody could renew the
    /// lease during the election, and the former leader may have done so until it noticed.
    tuning: LiveTuning,
    /// The term in which this member proved that it leads, zero when it does not lead.
    led_term: AtomicU64,
    pause: Mutex<Pause>,
    deadlines: Mutex<Deadlines>,
}

/// While no quorum hears the leader nobody can renew a lease, so no time passes for leases. Kept
/// apart from the deadlines, so that the raft thread, which sets it, never waits for a count.
#[derive(Debug, Default)]
struct Pause {
    /// Since when this member leads without being heard by a quorum.
    since: Option<Instant>,
    /// The length of all earlier pauses.
    before: Duration,
}

#[derive(Debug, Default)]
struct Deadlines {
    /// The term that `expiry` was made for; zero if it was made for none.
    term: u64,
    /// Deadlines in the time of leases.
    expiry: Expiry,
}

/// The outcome of a request to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptAlive {
    /// The lease lives this many seconds from now on.
    Renewed(i64),
    /// The lease does not exist.
    Unknown,
    /// Its time is over, and the end of this generation is on its way.
    Expired(u64),
    /// The log knows of a shorter time, which must be taken back first.
    Shortened(LeaseRecord),
    /// Another member counts, or none does yet.
    NotLeading,
}

/// How long a lease still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTime {
    /// The time to live as granted, in seconds.
    pub granted: i64,
    /// What is left, in whole seconds.
    pub remaining: i64,
}

/// What the member that counts says of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// It lives this long; after a renewal, its whole time.
    Lives(LeaseTime),
    /// Its time is over, and the end of this generation is on its way.
    Ending(u64),
    /// It does not exist.
    Unknown,
}

impl LeaseClock {
    pub(crate) fn new(clock: Clock, tuning: LiveTuning) -> LeaseClock {
        LeaseClock {
            clock,
            tuning,
            led_term: AtomicU64::new(0),
            pause: Mutex::default(),
            deadlines: Mutex::default(),
        }
    }

    /// The current time as it passes for leases.
    fn now(&self) -> Instant {
        let pause = self.pause.lock();
        pause.since.unwrap_or_else(|| (self.clock.0)()) - pause.before
    }

    fn is_paused(&self) -> bool {
        self.pause.lock().since.is_some()
    }

    /// Whether this process may have stood still for so long that another member leads by now
    /// without RaftNode having seen it.
    pub(super) fn stood_still(&self, proposer: &Proposer) -> bool {
        let span = self.tuning.get().heartbeat_interval * LOOKS_MISSED_MAX;
        !proposer.sole_voter.is_alone() && !proposer.progress.is_seen_within(span)
    }

    /// Notes that this member leads in `term`, with everything applied that was committed before;
    /// zero means that it does not lead. Returns whether that is news.
    pub(super) fn lead(&self, term: u64) -> bool {
        self.led_term.swap(term, Ordering::AcqRel) != term
    }

    /// Notes whether a quorum hears this member; the last time that it did was `ago`.
    pub(super) fn quorum_hears(&self, is_heard: bool, ago: Duration) {
        let now = (self.clock.0)();
        let mut pause = self.pause.lock();
        if !is_heard {
            pause.since.get_or_insert_with(|| now - ago);
        } else if let Some(since) = pause.since.take() {
            pause.before += now - since;
        }
    }

    fn led_term(&self) -> u64 {
        self.led_term.load(Ordering::Acquire)
    }

    /// Whether the deadlines are those of the term that this member leads in.
    fn counts(&self, deadlines: &Deadlines) -> bool {
        let term = self.led_term();
        term != 0 && deadlines.term == term
    }

    /// Begins or ends counting, as the lead demands. Returns the number of leases if it begins.
    /// Only the Lessor calls this, and it is told afterwards what entries change meanwhile. With
    /// many leases this takes a while: renewals do not wait at the lock, they find that nobody
    /// counts.
    pub(super) fn follow_lead(&self, store: &Store) -> Option<usize> {
        let term = self.led_term();
        if self.deadlines.lock().term == term {
            return None;
        }
        let now = self.now();
        let leases = match term {
            0 => Vec::new(),
            _ => store.leases(),
        };
        let tuning = self.tuning.get();
        let extend = tuning.election_timeout + tuning.heartbeat_interval;
        let mut expiry = Expiry::of_a_new_leader(&leases, now, extend);
        let mut deadlines = self.deadlines.lock();
        deadlines.term = term;
        std::mem::swap(&mut deadlines.expiry, &mut expiry);
        drop(deadlines);
        // The former deadlines may be many as well.
        drop(expiry);
        (term != 0).then_some(leases.len())
    }

    /// Looks up leases that entries changed.
    pub(super) fn look_up(&self, store: &Store, ids: &[i64]) {
        let mut deadlines = self.deadlines.lock();
        if !self.counts(&deadlines) {
            return;
        }
        for id in ids {
            match store.lease(*id) {
                Some(lease) => deadlines.expiry.update(&lease, self.now()),
                None => deadlines.expiry.remove(*id),
            }
        }
    }

    /// Renews a lease. The store is read under the lock, so that a checkpoint is either seen there
    /// or known here to be on its way.
    pub(super) fn keep_alive(&self, store: &Store, id: i64) -> KeptAlive {
        let mut deadlines = self.deadlines.lock();
        if !self.counts(&deadlines) || self.is_paused() {
            return KeptAlive::NotLeading;
        }
        let Some(lease) = store.lease(id) else {
            return KeptAlive::Unknown;
        };
        match deadlines.expiry.renew(&lease, self.now()) {
            Renewal::Renewed => KeptAlive::Renewed(lease.ttl),
            Renewal::Expired => KeptAlive::Expired(lease.generation),
            Renewal::Shortened => KeptAlive::Shortened(lease),
        }
    }

    /// How long a lease still lives; the inner `None`: the lease does not exist; the outer: this
    /// member does not count.
    pub(super) fn time_of(&self, store: &Store, id: i64) -> Option<Option<LeaseTime>> {
        let deadlines = self.deadlines.lock();
        if !self.counts(&deadlines) {
            return None;
        }
        Some(store.lease(id).map(|lease| {
            let remaining = deadlines.expiry.remaining(id, self.now());
            // The lease was granted so recently that it is not counted yet.
            let remaining = remaining.map_or(lease.ttl, |left| left.as_secs() as i64);
            LeaseTime {
                granted: lease.ttl,
                remaining,
            }
        }))
    }

    /// All leases: those that end first come first if this member knows, otherwise in the order of
    /// ids.
    pub(super) fn by_deadline(&self, store: &Store) -> Vec<i64> {
        let mut all: Vec<i64> = store.leases().iter().map(|lease| lease.id).collect();
        let deadlines = self.deadlines.lock();
        if !self.counts(&deadlines) {
            return all;
        }
        let mut order: Vec<_> = deadlines.expiry.deadlines().collect();
        // Renewals wait for this copy, and no longer.
        drop(deadlines);
        order.sort_unstable();
        let mut order: Vec<_> = order.into_iter().map(|(_, id)| id).collect();
        order.retain(|id| all.binary_search(id).is_ok());
        if order.len() < all.len() {
            let mut counted = order.clone();
            counted.sort_unstable();
            all.retain(|id| counted.binary_search(id).is_err());
            order.append(&mut all);
        }
        order
    }

    /// What is due now.
    pub(super) fn due(&self, limits: Limits) -> Due {
        let mut deadlines = self.deadlines.lock();
        if !self.counts(&deadlines) || self.is_paused() {
            return Due::default();
        }
        let term = deadlines.term;
        Due {
            term,
            ..deadlines.expiry.due(self.now(), limits)
        }
    }
}
