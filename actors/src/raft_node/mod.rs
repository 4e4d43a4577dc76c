//! RaftNode: this process's part in raft. It hands proposals and reads to openraft's core, which
//! runs on the same thread, and publishes what raft decides about term, leader and membership.
//!
//! ```text
//!            RaftChanged: leads                    LeadConfirmed
//!  follower -------------------> leader, unproven --------------> leader (sole voter: reads are
//!     ^                               |                           |  answered without a round)
//!     '------ RaftChanged: another ---+---------------------------'
//! ```
//! Owns: the handle of openraft; the reads that wait for a round; the picture of the cluster.
//! Waits for: the core, on its own thread, in tasks and never in a handler.
//! Fails: when openraft ends with an error or RaftNode dies, the node halts.
//!
//! openraft's names appear in this folder only.

mod config;
mod entry;
mod log_store;
mod membership;
mod message;
mod network;
mod outbox;
mod picture;
mod propose;
mod read_index;
mod sole_voter;
mod start;
mod state_machine;
pub(crate) mod types;

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use althing_api::error::Error;
use futures_util::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{ReadPolicy, ServerState};

pub(crate) use self::config::{CORE_QUEUE, RaftSettings};
pub use self::log_store::LogStore;
pub(crate) use self::log_store::LogStoreSetup;
use self::message::Proposal;
use self::message::{BeginReadRound, CoreEnded, LeadConfirmed, RaftChanged};
pub(crate) use self::message::{Propose, ReadIndex};
pub(crate) use self::outbox::Outbox;
pub(crate) use self::picture::Picture;
pub(crate) use self::propose::Proposer;
use self::read_index::ReadRounds;
pub(crate) use self::sole_voter::SoleVoter;
pub(crate) use self::start::{RaftSetup, StartedRaft, start};
pub use self::state_machine::StateMachine;
use self::types::{Encoded, RaftHandle};
use crate::halt::Halt;
use crate::lessor::Lead;
use crate::progress::Progress;
use crate::reply::Reply;
use crate::supervisor::DeathWatch;

/// What RaftNode shares with the rest of the node.
pub(crate) struct RaftNodeSetup {
    pub(crate) me: u64,
    pub(crate) progress: Arc<Progress>,
    pub(crate) picture: Arc<Picture>,
    pub(crate) sole_voter: Arc<SoleVoter>,
    /// Told who leads.
    pub(crate) lead: Lead,
    pub(crate) halt: Halt,
    pub(crate) _watch: DeathWatch,
}

/// The actor.
pub(crate) struct RaftNode {
    raft: RaftHandle,
    setup: RaftNodeSetup,
    reads: ReadRounds<Reply<Result<u64, Error>>>,
    /// The term in which a proof of leading is under way or done.
    proven_term: Option<u64>,
}

impl RaftNode {
    fn new(raft: RaftHandle, setup: RaftNodeSetup) -> RaftNode {
        RaftNode {
            raft,
            setup,
            reads: ReadRounds::default(),
            proven_term: None,
        }
    }

    /// Publishes what raft says now.
    fn publish(&mut self, ctx: &mut Context<Self>) {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        let term = metrics.vote.leader_id.term;
        let leader = metrics.current_leader.unwrap_or_default();
        self.setup
            .picture
            .set_membership(Arc::clone(&metrics.membership_config));
        let changed = self.setup.progress.lead(term, leader);
        let leads = metrics.state == ServerState::Leader && leader == self.setup.me;
        if changed && leads {
            tracing::info!(term, member_id = %format_args!("{leader:x}"), "elected leader");
        } else if changed {
            tracing::info!(term, leader = %format_args!("{leader:x}"), "leader changed");
        }
        if !leads {
            self.proven_term = None;
            self.setup.sole_voter.follow();
            self.setup.lead.lost();
        } else if self.proven_term != Some(term) {
            self.proven_term = Some(term);
            self.prove_lead(term, ctx);
        } else if !self.setup.sole_voter.is_alone() {
            // The membership changed; the term's proof is under way or holds.
            self.prove_lead(term, ctx);
        }
    }

    /// Finds out that we lead in `term` and that an entry of that term is applied.
    fn prove_lead(&self, term: u64, ctx: &mut Context<Self>) {
        let raft = self.raft.clone();
        let progress = Arc::clone(&self.setup.progress);
        let addr = ctx.address();
        actix_rt::spawn(async move {
            if let Ok(index) = read_index(&raft).await {
                progress.until_applied(index).await;
                addr.do_send(LeadConfirmed { term });
            }
        });
    }
}

/// One round of raft: the entry that must be applied before a read that began earlier.
async fn read_index(raft: &RaftHandle) -> Result<u64, Error> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(Error::NoLeader),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Error::Timeout),
        Err(RaftError::Fatal(_)) => Err(Error::Stopped),
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
    }
}

impl Handler<Propose> for RaftNode {
    type Result = ();

    fn handle(&mut self, propose: Propose, _: &mut Context<Self>) {
        for Proposal { command, reply } in propose.proposals {
            let handed_over = self.raft.client_write_ff(Encoded(command), Some(reply));
            // The core's queue is longer than the number of admitted proposals, so this never
            // waits. Without `unconstrained` tokio would make it, once per 128 messages, to be
            // fair to others. Should the core be gone, the reply is dropped, which answers
            // `Stopped`.
            let done = tokio::task::unconstrained(handed_over).now_or_never();
            debug_assert!(
                done.is_some(),
                "admission is below the capacity of the core's queue"
            );
        }
    }
}

impl Handler<ReadIndex> for RaftNode {
    type Result = ();

    fn handle(&mut self, read: ReadIndex, ctx: &mut Context<Self>) {
        if self.reads.add(read.reply) {
            ctx.notify(BeginReadRound);
        }
    }
}

impl Handler<BeginReadRound> for RaftNode {
    type Result = ();

    fn handle(&mut self, _: BeginReadRound, ctx: &mut Context<Self>) {
        let readers = self.reads.begin();
        let raft = self.raft.clone();
        let round = async move { read_index(&raft).await }.into_actor(self);
        ctx.spawn(round.map(move |result, node, ctx| {
            for reader in readers {
                reader.send(result);
            }
            if node.reads.end() {
                ctx.notify(BeginReadRound);
            }
        }));
    }
}

impl Handler<RaftChanged> for RaftNode {
    type Result = ();

    fn handle(&mut self, _: RaftChanged, ctx: &mut Context<Self>) {
        self.publish(ctx);
    }
}

impl Handler<LeadConfirmed> for RaftNode {
    type Result = ();

    fn handle(&mut self, LeadConfirmed { term }: LeadConfirmed, _: &mut Context<Self>) {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        let leads = metrics.state == ServerState::Leader && metrics.vote.leader_id.term == term;
        if leads {
            self.setup
                .sole_voter
                .confirm(&metrics.committed_membership_config);
            self.setup.lead.won(term);
        }
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
            // An orderly stop: the node asked for it.
            Err(openraft::errors::Fatal::Stopped) => {}
            Err(fatal) => self.setup.halt.trip(format!("raft: {fatal}")),
        }
    }
}
