//! RaftNode: this process's part in raft. It hands proposals, reads and what other members say to
//! openraft's core, which runs on the same thread, and publishes what raft decides about term,
//! leader and membership.
//!
//! ```text
//!            RaftChanged: leads                    LeadConfirmed
//!  follower -------------------> leader, unproven --------------> leader (sole voter: reads are
//!     ^                               |                           |  answered without a round)
//!     '------ RaftChanged: another ---+---------------------------'
//! ```
//! A member of several that leads without hearing its quorum, or follows a leader that it does not
//! hear, reports that there is no leader.
//!
//! Owns: the handle of openraft; the reads that wait for a round; the membership that is published.
//! Waits for: the core, on its own thread, and PeerLinks, in tasks and never in a handler.
//! Fails: when openraft ends with an error or RaftNode dies, the node halts.
//!
//! | folder | holds |
//! |---|---|
//! | `adapters` | openraft's traits on our parts: log, state machine, network, runtime, types |
//! | `lead` | who leads, what a leader does, and how a lead ends |
//! | `membership` | who is a member, and how that changes |
//! | `requests` | the ways of proposals, reads, and what other members send |
//!
//! openraft's names appear in this folder and in `peer_link/wire.rs` only.

mod adapters;
mod held_up;
mod lead;
pub(crate) mod membership;
mod message;
mod requests;
mod retention;
mod start;
mod tuning;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, SpawnHandle};
use althing_storage::store::Store;
use bytes::Bytes;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

#[cfg(any(test, feature = "testing"))]
pub use self::adapters::clock::KeptClock;
pub(crate) use self::adapters::core_queue::CORE_QUEUE;
pub(crate) use self::adapters::entry::Entry;
pub use self::adapters::log_store::LogStore;
pub(crate) use self::adapters::log_store::LogStoreSetup;
pub use self::adapters::state_machine::StateMachine;
pub(crate) use self::adapters::types;
use self::adapters::{clock, core_queue};
use self::held_up::HeldUp;
use self::lead::dead_leader::Suspect;
use self::lead::heard::Heard;
use self::lead::leader_view::LeaderEvidence;
pub(crate) use self::lead::sole_voter::SoleVoter;
use self::lead::sole_voter::is_sole_voter;
use self::lead::stall::Stall;
use self::lead::{hand_over, leader_view};
pub use self::membership::change::MemberChange;
pub(crate) use self::membership::change::{Ask, Change};
pub(crate) use self::membership::members::{PublishedMembership, applied_members};
use self::membership::reconfigure::Changes;
pub(crate) use self::message::Pulse;
use self::message::{CoreEnded, Proposal, Propose, RaftChanged, ReadIndex};
pub use self::requests::inbound::{Inbound, Refusal};
pub(crate) use self::requests::outbox::Outbox;
pub(crate) use self::requests::propose::Proposer;
pub(crate) use self::requests::read_index::Asker;
use self::requests::read_index::ReadRounds;
use self::retention::{RETENTION_INTERVAL, Retention};
pub(crate) use self::start::{RaftSetup, StartedRaft, start};
pub use self::tuning::RaftTuning;
pub(crate) use self::tuning::{LiveTuning, Retune};
use self::types::{Encoded, RaftHandle, ServerMetrics, StoredMembership};
use crate::halt::Halt;
use crate::lessor::Lead;
use crate::metrics::Metrics;
use crate::peer_link::{Call, Links};
use crate::progress::Progress;
use crate::supervisor::DeathWatch;
use crate::wal_writer::FlushClock;

/// What RaftNode shares with the rest of the node.
pub(crate) struct RaftNodeSetup {
    pub(crate) me: u64,
    pub(crate) progress: Arc<Progress>,
    pub(crate) membership: Arc<PublishedMembership>,
    pub(crate) sole_voter: Arc<SoleVoter>,
    pub(crate) links: Arc<Links>,
    pub(crate) store: Store,
    pub(crate) tuning: LiveTuning,
    /// Tells the Lessor who leads.
    pub(crate) lead: Lead,
    pub(crate) flush_clock: Arc<FlushClock>,
    pub(crate) metrics: Metrics,
    pub(crate) halt: Halt,
    pub(crate) _death_watch: DeathWatch,
}

/// The actor.
pub(crate) struct RaftNode {
    raft: RaftHandle,
    setup: RaftNodeSetup,
    reads: ReadRounds<ReadIndex>,
    heard: Arc<Heard>,
    /// The term in which this member leads, and since when.
    leads: Option<(u64, Instant)>,
    /// The term in which a proof of leading alone is under way or done.
    proven_term: Option<u64>,
    membership: Arc<StoredMembership>,
    /// The leader suspected dead.
    suspected: Option<Suspect>,
    stall: Stall,
    held_up: HeldUp,
    changes: Changes,
    retention: Retention,
    /// The timer that calls `look`.
    looks: Option<SpawnHandle>,
    /// Since when no leader is known; set again after each round of asking.
    leaderless: Option<Instant>,
}

impl RaftNode {
    fn new(raft: RaftHandle, setup: RaftNodeSetup) -> RaftNode {
        RaftNode {
            raft,
            setup,
            reads: ReadRounds::default(),
            heard: Arc::default(),
            leads: None,
            proven_term: None,
            membership: Arc::default(),
            suspected: None,
            stall: Stall::default(),
            held_up: HeldUp::default(),
            changes: Changes::default(),
            retention: Retention::default(),
            looks: None,
            leaderless: None,
        }
    }

    /// Publishes the current state of raft.
    fn publish(&mut self, ctx: &mut Context<Self>) {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        self.follow(&metrics.membership_config);
        let term = metrics.vote.leader_id.term;
        let leads = metrics.state == ServerState::Leader;
        self.leads = match self.leads {
            _ if !leads => None,
            Some((same, since)) if same == term => Some((term, since)),
            _ => Some((term, Instant::now())),
        };
        self.tell_leader(&metrics);
        if !leads {
            self.setup.sole_voter.follow();
        }
        self.count_leases(&metrics, ctx);
    }

    /// Keeps links to the members of the newest configuration.
    fn follow(&mut self, membership: &Arc<StoredMembership>) {
        if *membership == self.membership {
            return;
        }
        self.membership = Arc::clone(membership);
        self.setup.membership.publish(Arc::clone(membership));
        let nodes = membership.membership().nodes();
        let members = nodes.map(|(id, node)| (*id, node.peer_urls.as_slice()));
        self.setup.links.follow(members);
    }

    fn leads_alone(&self, metrics: &ServerMetrics) -> bool {
        let membership = metrics.membership_config.membership();
        is_sole_voter(membership, self.setup.me)
    }

    /// How long ago a quorum last answered this member as the leader.
    fn quorum_heard(&self) -> Option<Duration> {
        let acked = self.raft.metrics().borrow_watched().last_quorum_acked;
        acked.map(|at| clock::since(*at))
    }

    /// Publishes who leads, as this member sees it now.
    fn tell_leader(&self, metrics: &ServerMetrics) {
        let evidence = match (self.leads, metrics.current_leader) {
            (Some(_), _) if self.leads_alone(metrics) => LeaderEvidence::LeadsAlone,
            (Some((_, since)), _) => LeaderEvidence::Leads {
                since: since.elapsed(),
                quorum_heard: self.quorum_heard(),
            },
            (None, Some(leader)) if leader != self.setup.me => LeaderEvidence::Follows {
                leader,
                heard: self.heard.ago(&metrics.vote),
            },
            (None, _) => LeaderEvidence::Alone,
        };
        let leader = leader_view::leader(self.setup.me, evidence, self.tuning().election_timeout);
        let unheard_in = self.leads.filter(|_| leader == 0).map(|(term, _)| term);
        self.setup.progress.lead_unheard(unheard_in);
        let term = metrics.vote.leader_id.term;
        if !self.setup.progress.lead(term, leader) {
            return;
        }
        let leader_id = format_args!("{leader:x}");
        match leader {
            0 => tracing::warn!(term, "lost the leader"),
            _ if leader == self.setup.me => {
                tracing::info!(term, member_id = %leader_id, "elected leader");
            }
            _ => tracing::info!(term, leader = %leader_id, "leader changed"),
        }
    }

    /// Looks whether the core answers and whether the leader is still heard. A leader also shows
    /// that it lives, and looks whether its disk lets it lead and whether a change is left to make.
    /// A sole voter hears no others and has nobody to hand over to.
    fn look(&mut self, ctx: &mut Context<Self>) {
        self.look_at_the_core(ctx);
        self.beat();
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        if !self.leads_alone(&metrics) {
            self.tell_leader(&metrics);
            self.count_leases(&metrics, ctx);
            self.ask_around();
            self.look_at_the_disk();
        }
        self.change_next(ctx);
        self.take_up_duty(ctx);
    }

    /// A member that hears no leader may have been removed, so it asks all others; the one that
    /// turns it away says why. A voter learns it when it asks for votes, unless all voters that it
    /// knows are gone and only members are left that had no vote when it last heard of them.
    fn ask_around(&mut self) {
        if self.setup.progress.leader() != 0 {
            self.leaderless = None;
            return;
        }
        let since = *self.leaderless.get_or_insert_with(Instant::now);
        if since.elapsed() >= 2 * self.tuning().election_timeout {
            self.leaderless = None;
            for link in self.setup.links.all() {
                actix_rt::spawn(async move {
                    // The answer itself is of no use to a member without a leader.
                    let _ = link.call(Call::ReadIndex, Bytes::new()).await;
                });
            }
        }
    }

    /// Hands the lead over if the disk hangs.
    fn look_at_the_disk(&mut self) {
        let busy_for = self.setup.flush_clock.busy_for();
        let (leads, timeout) = (self.leads.is_some(), self.tuning().election_timeout);
        if self.stall.hands_over(leads, busy_for, timeout) {
            self.leave_stalled(busy_for.unwrap_or_default());
        }
    }

    /// Hands the lead over because the disk hangs.
    fn leave_stalled(&self, busy_for: Duration) {
        self.setup.metrics.stall_hand_over();
        tracing::error!(
            took = ?busy_for,
            "the disk does not finish a write of the log; handing the lead over"
        );
        let (raft, progress) = (self.raft.clone(), Arc::clone(&self.setup.progress));
        let patience = self.tuning().election_timeout;
        actix_rt::spawn(async move {
            match hand_over::hand_over(raft, progress, None, patience).await {
                Ok(()) => tracing::warn!("another member leads, since the disk of this one hangs"),
                Err(error) => tracing::warn!(%error, "no other member took the lead yet"),
            }
        });
    }
}

impl Actor for RaftNode {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let mut changes = self.raft.server_metrics();
        let addr = ctx.address();
        actix_rt::spawn(async move {
            while changes.changed().await.is_ok() {
                addr.do_send(RaftChanged);
            }
            addr.do_send(CoreEnded);
        });
        self.look_regularly(ctx);
        ctx.run_interval(RETENTION_INTERVAL, |node, _| node.retain_log());
    }
}

impl Handler<Propose> for RaftNode {
    type Result = ();

    fn handle(&mut self, propose: Propose, _: &mut Context<Self>) {
        for Proposal { command, reply } in propose.proposals {
            core_queue::post(self.raft.client_write_ff(Encoded(command), Some(reply)));
        }
    }
}

impl Handler<Pulse> for RaftNode {
    type Result = ();

    fn handle(&mut self, _: Pulse, _: &mut Context<Self>) {}
}

impl Handler<RaftChanged> for RaftNode {
    type Result = ();

    fn handle(&mut self, _: RaftChanged, ctx: &mut Context<Self>) {
        self.publish(ctx);
    }
}

impl Handler<CoreEnded> for RaftNode {
    type Result = ();

    fn handle(&mut self, _: CoreEnded, _: &mut Context<Self>) {
        self.setup.sole_voter.follow();
        self.setup.lead.lost();
        let state = self.raft.metrics().borrow_watched().running_state.clone();
        match state {
            Ok(()) => self.setup.halt.trip("raft: the core ended"),
            // The node asked for it: an orderly stop.
            Err(openraft::errors::Fatal::Stopped) => {}
            Err(fatal) => self.setup.halt.trip(format!("raft: {fatal}")),
        }
    }
}
