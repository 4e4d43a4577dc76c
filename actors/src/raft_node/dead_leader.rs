//! Finds out that the leader's process is dead, and has a successor elected at once.
//!
//! Each voter looks for itself. Until it has seen a connection to the leader refused it keeps its
//! promise to the leader, its lease, and refuses to vote; so a connection that is reset costs
//! nothing, and one member that sees ghosts gets no votes. Once it has, it drops the lease: nobody
//! reads under that lease here (reads take a round, see `read_index`), so a vote before its end
//! breaks no promise to a client, and raft's own rules make it safe.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::time::Instant;

use super::suspicion::{Turns, knock_waits};
use super::types::{RaftHandle, RaftVote};
use crate::metrics::Metrics;
use crate::peer_link::{Knock, Link};

/// An inquiry about one leader.
pub(super) struct Inquiry {
    pub(super) raft: RaftHandle,
    pub(super) leader: u64,
    pub(super) link: Link,
    /// By which it leads; raft's vote changes as soon as somebody campaigns.
    pub(super) vote: RaftVote,
    pub(super) metrics: Metrics,
}

impl Inquiry {
    /// Knocks at the leader's door and, if nobody listens, campaigns in turns with the others.
    /// `interval` lies between two turns; `patience` is the election timeout.
    pub(super) async fn run(self, interval: Duration, patience: Duration) {
        let start = Instant::now();
        if !self.is_dead(patience).await || !self.still_leads() {
            return;
        }
        self.metrics.leader_death_seen();
        tracing::warn!(
            leader = %format_args!("{:x}", self.leader),
            took = ?start.elapsed(),
            "the leader's connection ended and nobody listens at its address; \
             electing another without waiting for the timer"
        );
        if self.drop_lease().await.is_none() {
            return;
        }
        let Some(turns) = self.turns(interval, patience) else {
            return;
        };
        for wait in turns.waits() {
            tokio::time::sleep(wait).await;
            // Two that campaigned at once, on busy hosts, have split the votes: the turns go on.
            if self.is_succeeded() || self.link.knock().await != Knock::Refused {
                return;
            }
            // An error means that the core ended.
            if self.raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
    }

    async fn is_dead(&self, patience: Duration) -> bool {
        for wait in knock_waits(patience) {
            tokio::time::sleep(wait).await;
            if !self.still_leads() {
                return false;
            }
            if self.link.knock().await == Knock::Refused {
                return true;
            }
        }
        false
    }

    /// Whether another leader was elected since.
    fn is_succeeded(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let vote = &metrics.borrow_watched().vote;
        *vote != self.vote && vote.is_committed()
    }

    /// Whether nobody campaigned since.
    fn still_leads(&self) -> bool {
        self.raft.server_metrics().borrow_watched().vote == self.vote
    }

    /// Lets this member vote. raft does so on a hand-over in the leader's name to somebody else;
    /// this one names the leader itself, so that nobody takes the lead by it.
    async fn drop_lease(&self) -> Option<()> {
        let to = TransferLeaderRequest::new(self.vote, self.leader, None);
        self.raft.handle_transfer_leader(to).await.ok()?.ok()
    }

    fn turns(&self, interval: Duration, patience: Duration) -> Option<Turns> {
        let membership = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            Arc::clone(&metrics.membership_config)
        };
        let voters = membership.membership().voter_ids();
        Turns::new(
            *self.raft.node_id(),
            self.leader,
            voters,
            interval,
            patience,
        )
    }
}
