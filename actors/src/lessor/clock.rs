//! The deadlines as the whole node shares them. Renewals come straight from the workers, many
//! thousand a second, and must not cross a mailbox; the lock is held for one look-up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use althing_storage::store::{LeaseRecord, Store};
use parking_lot::Mutex;

use super::expiry::{Due, Expiry, Limits, Renewal};
use crate::raft_node::{LiveTuning, Proposer};

/// As in etcd, a leader that looked at nothing for so many heartbeats does not trust itself.
const LOOKS_MISSED_MAX: u32 = 3;

/// Tells the time; tests bring their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    /// A clock that shows what `now` says; it must never go back.
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

/// The deadlines, known to the leader only.
#[derive(Debug)]
pub(crate) struct LeaseClock {
    clock: Clock,
    /// Its election timeout, and a heartbeat, is what a new leader adds to each lease: nobody could
    /// renew it during the election, and the leader before it may have done so until it noticed.
    tuning: LiveTuning,
    /// The term in which this member proved that it leads, zero when it does not lead.
    led_term: AtomicU64,
    pause: Mutex<Pause>,
    deadlines: Mutex<Deadlines>,
}

/// While no quorum hears the leader nobody can renew a lease, so no time passes for them. Apart
/// from the deadlines, so that the raft thread, which tells it, never waits for whoever counts.
#[derive(Debug, Default)]
struct Pause {
    /// Since when no quorum hears this member that leads.
    since: Option<Instant>,
    /// All pauses before that one.
    before: Duration,
}

#[derive(Debug, Default)]
struct Deadlines {
    /// The term that `expiry` was made for; zero: for none.
    term: u64,
    /// In the time of leases.
    expiry: Expiry,
}

/// What came of a request to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptAlive {
    /// It lives so many seconds from now on.
    Renewed(i64),
    /// There is none.
    Unknown,
    /// Its time is over, its end is on its way.
    Expired,
    /// The log knows of a shorter time, which must be taken back first.
    Shortened(LeaseRecord),
    /// Another member counts, or none yet.
    NotLeading,
}

/// How long a lease still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTime {
    /// As granted, in seconds.
    pub granted: i64,
    /// What is left, in whole seconds.
    pub remaining: i64,
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

    /// The time as it passes for leases.
    fn now(&self) -> Instant {
        let pause = self.pause.lock();
        pause.since.unwrap_or_else(|| (self.clock.0)()) - pause.before
    }

    fn is_paused(&self) -> bool {
        self.pause.lock().since.is_some()
    }

    /// Whether this process may have stood still so long that another member leads by now, which
    /// RaftNode has not seen yet.
    pub(super) fn stood_still(&self, proposer: &Proposer) -> bool {
        let span = self.tuning.get().heartbeat_interval * LOOKS_MISSED_MAX;
        !proposer.sole_voter.is_alone() && !proposer.progress.is_seen_within(span)
    }

    /// This member leads in `term`, with everything applied that was committed before it; zero: it
    /// does not lead. Answers whether that is news.
    pub(super) fn lead(&self, term: u64) -> bool {
        self.led_term.swap(term, Ordering::AcqRel) != term
    }

    /// Whether a quorum hears this member, which last did so `ago`.
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

    /// Begins or ends to count, as the lead demands. Answers the number of leases if it begins.
    /// Only the Lessor calls it, and what entries change meanwhile it is told afterwards. With
    /// many leases it takes its time: renewals do not wait at the lock, they find that nobody
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
        // The former ones are many as well.
        drop(expiry);
        (term != 0).then_some(leases.len())
    }

    /// Looks up what became of leases that entries changed.
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
            Renewal::Expired => KeptAlive::Expired,
            Renewal::Shortened => KeptAlive::Shortened(lease),
        }
    }

    /// How long a lease still lives, `None` when there is no such lease; outside: this member does
    /// not count.
    pub(super) fn time_of(&self, store: &Store, id: i64) -> Option<Option<LeaseTime>> {
        let deadlines = self.deadlines.lock();
        if !self.counts(&deadlines) {
            return None;
        }
        Some(store.lease(id).map(|lease| {
            let remaining = deadlines.expiry.remaining(id, self.now());
            // Granted so recently that it is not counted yet.
            let remaining = remaining.map_or(lease.ttl, |left| left.as_secs() as i64);
            LeaseTime {
                granted: lease.ttl,
                remaining,
            }
        }))
    }

    /// All leases, the first to end first where this member knows, else in the order of ids.
    pub(super) fn by_deadline(&self, store: &Store) -> Vec<i64> {
        let mut all: Vec<i64> = store.leases().iter().map(|lease| lease.id).collect();
        let deadlines = self.deadlines.lock();
        if !self.counts(&deadlines) {
            return all;
        }
        let mut order: Vec<_> = deadlines.expiry.deadlines().collect();
        // Renewals wait no longer than for the copy.
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
