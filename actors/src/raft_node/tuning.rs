//! Raft settings that can change at run time, and what RaftNode therefore does itself, by the
//! current settings: it beats, and looks around as often.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message};

use super::RaftNode;
use super::adapters::clock;
use super::adapters::core_queue::post;
use crate::latest;

/// Raft settings that an operator may choose, also at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTuning {
    /// How often a leader sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// How long the others wait for one; at least five heartbeat intervals.
    pub election_timeout: Duration,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// Members without a vote at once; a further one is refused.
    pub learners_max: usize,
}

/// The tuning in force, as RaftNode took it over. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LiveTuning(latest::Sender<RaftTuning>);

impl LiveTuning {
    pub(crate) fn new(tuning: RaftTuning) -> LiveTuning {
        LiveTuning(latest::Sender::new(tuning))
    }

    pub(crate) fn get(&self) -> RaftTuning {
        *self.0.borrow()
    }
}

/// Go on with this tuning.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Retune(pub(crate) RaftTuning);

impl Handler<Retune> for RaftNode {
    type Result = ();

    fn handle(&mut self, Retune(tuning): Retune, ctx: &mut Context<Self>) {
        let before = self.setup.tuning.0.send_replace(tuning);
        if before.election_timeout != tuning.election_timeout {
            clock::set_election_timeout(tuning.election_timeout);
        }
        if before.heartbeat_interval != tuning.heartbeat_interval {
            self.beat();
            self.look_regularly(ctx);
        }
    }
}

impl RaftNode {
    pub(super) fn tuning(&self) -> RaftTuning {
        self.setup.tuning.get()
    }

    /// Starts looking once in each heartbeat interval.
    pub(super) fn look_regularly(&mut self, ctx: &mut Context<Self>) {
        let looks = ctx.run_interval(self.tuning().heartbeat_interval, RaftNode::look);
        if let Some(former) = self.looks.replace(looks) {
            ctx.cancel_future(former);
        }
    }

    /// As leader, sends a heartbeat. A core that is held up would send all of them afterwards.
    pub(super) fn beat(&self) {
        if self.leads.is_some() && !self.held_up.is_known() {
            let trigger = self.raft.trigger();
            post(trigger.heartbeat());
        }
    }
}
