//! Raft settings that can change at run time, and what RaftNode therefore does itself: it beats,
//! asks for snapshots and has the log purged, each by the current settings.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message};
use futures_util::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;

use super::RaftNode;
use super::adapters::clock;
use super::retention::{Extent, purge_upto};
use super::types::{RaftLogId, Types};
use crate::latest;

/// Pause between two looks at how much of the log is kept.
pub(super) const RETENTION_INTERVAL: Duration = Duration::from_millis(100);

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

    /// As leader, sends a heartbeat.
    pub(super) fn beat(&self) {
        if self.leads.is_some() {
            let trigger = self.raft.trigger();
            post(trigger.heartbeat());
        }
    }

    /// Asks for a snapshot, or purges entries that are in one.
    pub(super) fn retain_log(&mut self) {
        let extent = {
            let metrics = self.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            Extent {
                applied: count(metrics.last_applied.as_ref()),
                snapshot: count(metrics.snapshot.as_ref()),
                purged: count(metrics.purged.as_ref()),
            }
        };
        let snapshot_count = self.tuning().snapshot_count;
        let trigger = self.raft.trigger();
        if self.retention.needs_snapshot(extent, snapshot_count) {
            post(trigger.snapshot());
        }
        if let Some(upto) = purge_upto(extent, snapshot_count) {
            post(trigger.purge_log(upto));
        }
    }
}

/// The number of entries from the beginning of the log to `last`.
fn count(last: Option<&RaftLogId>) -> u64 {
    last.map_or(0, |id| id.index + 1)
}

/// Hands something to the core, whose queue is longer than what is ever admitted, so this never
/// waits. Without `unconstrained` tokio would make it wait, once per 128 messages, to be fair to
/// others. If the core is gone, so is what the message was for (the reply of a proposal is dropped,
/// which answers `Stopped`), and nobody waits until the core has ended.
pub(super) fn post(asked: impl Future<Output = Result<(), Fatal<Types>>>) {
    let _ = tokio::task::unconstrained(asked).now_or_never();
}
