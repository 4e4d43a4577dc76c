//! Lessor: counts, on the leader, how long each lease still lives, and ends those whose time is
//! over.
//!
//! ```text
//!             LeaderChanged: leads                 LeaderChanged: another
//!  idle ---------------------------------> counting ----------------------> idle
//!                                           |  ^
//!            a tick: expired or shortened --'  '-- LeasesChanged: from what was applied
//! ```
//! Owns: the deadlines, which it shares with the workers: a renewal changes nothing else. An expiry
//! and the remaining time of long leases go through the log, so no clock decides about the state.
//! Waits for: the answers to its own proposals, in a task.
//! Fails: it is started again and goes on with the same deadlines; renewals do not notice. It finds
//! in the store what it was told meanwhile. A lease may live longer than granted, never shorter.

mod ask;
mod clock;
mod expiry;
mod message;
mod metrics;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler};
use althing_api::commandpb::{Command, LeaseRemaining, LeaseRevoke, command};
use althing_api::error::Error;
use althing_storage::store::Store;
use futures_util::StreamExt;
use futures_util::stream;

pub(crate) use self::ask::LeaseKeeper;
pub use self::clock::{Clock, LeaseTime};
pub(crate) use self::clock::{LeaseClock, LeaseState};
use self::expiry::{Due, Expired, Left, Limits};
pub(crate) use self::message::{LeaderChanged, LeasesChanged};
pub(crate) use self::metrics::LeaseMetrics;
use crate::node::Applied;
use crate::raft_node::Proposer;
use crate::supervisor::{ActorRef, DeathWatch};

/// Pause between two looks at what is due, as in etcd.
const TICK: Duration = Duration::from_millis(500);
/// Leases ended in one tick; this makes 1,000 a second, as in etcd.
const EXPIRED_PER_TICK_MAX: usize = 500;
/// Ends that are on their way through the log, at most.
const ENDING_MAX: usize = 1_000;
/// Ends proposed at the same time.
const ENDING_AT_ONCE: usize = 64;
/// Leases whose remaining time is logged in one tick.
const LEFT_PER_TICK_MAX: usize = 5_000;
/// Leases in one entry of the log.
const LEFT_PER_ENTRY_MAX: usize = 1_000;

/// Leases looked up in one go, while renewals wait.
const LOOKED_UP_AT_ONCE: usize = 1_000;

/// What a Lessor is made of, also after its death.
pub(crate) struct LessorSetup {
    pub(crate) store: Store,
    pub(crate) clock: Arc<LeaseClock>,
    pub(crate) metrics: LeaseMetrics,
    /// Set once raft runs; no member leads before that.
    pub(crate) proposer: OnceLock<Proposer>,
}

/// The actor.
pub(crate) struct Lessor {
    setup: Arc<LessorSetup>,
    /// Ends under way.
    ending: Arc<AtomicUsize>,
    _death_watch: DeathWatch,
}

/// RaftNode's way to tell who leads.
pub(crate) struct Lead {
    pub(crate) clock: Arc<LeaseClock>,
    pub(crate) lessor: ActorRef<Lessor>,
}

impl Lead {
    /// Notes that this member leads in `term` and has applied everything that was committed before.
    pub(crate) fn won(&self, term: u64) {
        if self.clock.lead(term) {
            self.lessor.addr().do_send(LeaderChanged);
        }
    }

    /// Notes that this member does not lead.
    pub(crate) fn lost(&self) {
        if self.clock.lead(0) {
            self.lessor.addr().do_send(LeaderChanged);
        }
    }

    /// Notes whether a quorum hears this leading member; the last time that it did was `ago`.
    pub(crate) fn quorum_hears(&self, is_heard: bool, ago: Duration) {
        self.clock.quorum_hears(is_heard, ago);
    }
}

impl Lessor {
    pub(crate) fn new(setup: Arc<LessorSetup>, watch: DeathWatch) -> Lessor {
        Lessor {
            setup,
            ending: Arc::default(),
            _death_watch: watch,
        }
    }

    fn follow_lead(&self) {
        if let Some(leases) = self.setup.clock.follow_lead(&self.setup.store) {
            tracing::info!(leases, "counts the time of leases");
        }
    }

    fn tick(&mut self, _: &mut Context<Self>) {
        self.follow_lead();
        let Some(proposer) = self.setup.proposer.get() else {
            return;
        };
        // Leases that nobody could renew meanwhile are not due: RaftNode has to look first.
        if self.setup.clock.stood_still(proposer) {
            return;
        }
        let room = ENDING_MAX.saturating_sub(self.ending.load(Ordering::Relaxed));
        let due = self.setup.clock.due(Limits {
            expired: EXPIRED_PER_TICK_MAX.min(room),
            left: LEFT_PER_TICK_MAX,
        });
        let Due {
            term,
            expired,
            left,
        } = due;
        if !expired.is_empty() {
            self.ending.fetch_add(expired.len(), Ordering::Relaxed);
            let (setup, ending) = (Arc::clone(&self.setup), Arc::clone(&self.ending));
            let proposer = proposer.clone();
            actix_rt::spawn(async move {
                let ends = expired
                    .into_iter()
                    .map(|lease| end(&setup, &proposer, lease, term));
                let mut ends = stream::iter(ends).buffer_unordered(ENDING_AT_ONCE);
                while ends.next().await.is_some() {
                    ending.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
        for left in left.chunks(LEFT_PER_ENTRY_MAX) {
            let command = ask::checkpoint(left.iter().map(remaining).collect(), term);
            let proposer = proposer.clone();
            actix_rt::spawn(async move {
                if let Some(Err(error)) = while_counted(&proposer, command).await {
                    tracing::debug!(%error, "what is left of leases was not logged");
                }
            });
        }
    }
}

fn remaining(left: &Left) -> LeaseRemaining {
    LeaseRemaining {
        id: left.id,
        remaining_ttl: left.remaining,
        generation: left.generation,
    }
}

/// Ends a lease whose time is over, as counted in `term`. What fails is tried again when
/// the lease is due again.
async fn end(setup: &LessorSetup, proposer: &Proposer, lease: Expired, term: u64) {
    let Expired { id, generation } = lease;
    let request = command::Request::LeaseRevoke(LeaseRevoke {
        id,
        generation,
        counted_in_term: term,
    });
    let command = Command {
        request: Some(request),
    };
    match while_counted(proposer, command).await {
        Some(Ok(applied)) => match applied.response {
            Ok(_) => setup.metrics.expired(),
            // A client ended it first, or granted it again.
            Err(Error::LeaseNotFound) => setup.clock.look_up(&setup.store, &[id]),
            // The members of a cluster marked corrupt refuse every change.
            Err(error) => tracing::debug!(%error, "leases do not end"),
        },
        Some(Err(error)) => {
            tracing::debug!(lease = %format_args!("{id:x}"), %error, "not ended yet");
        }
        None => {}
    }
}

/// Proposes what this member's clock says; `None` if a quorum no longer hears it: the lease becomes
/// due again later.
async fn while_counted(proposer: &Proposer, command: Command) -> Option<Result<Applied, Error>> {
    let led = proposer.progress.term_leader();
    if led.leader != proposer.me {
        return None;
    }
    let proposing = proposer.propose(command);
    proposer.progress.while_leads(led, proposing).await
}

impl Actor for Lessor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.follow_lead();
        // A former Lessor may have died with notices in its mailbox.
        let known = self.setup.clock.by_deadline(&self.setup.store);
        for ids in known.chunks(LOOKED_UP_AT_ONCE) {
            self.setup.clock.look_up(&self.setup.store, ids);
        }
        ctx.run_interval(TICK, Lessor::tick);
    }
}

impl Handler<LeasesChanged> for Lessor {
    type Result = ();

    fn handle(&mut self, LeasesChanged(ids): LeasesChanged, _: &mut Context<Self>) {
        self.setup.clock.look_up(&self.setup.store, &ids);
    }
}

impl Handler<LeaderChanged> for Lessor {
    type Result = ();

    fn handle(&mut self, _: LeaderChanged, _: &mut Context<Self>) {
        self.follow_lead();
    }
}
