//! Handing the lead to another voter, on purpose.
//!
//! openraft cannot take a hand-over back: until somebody else leads, the old leader takes no more
//! writes. So it begins only when the successor is there and nearly caught up; should it fail
//! nevertheless, the others elect a leader after an election timeout.

use std::sync::Arc;
use std::time::Duration;

use actix::{Context, Handler};
use althing_api::error::Error;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use crate::progress::Progress;
use crate::raft_node::RaftNode;
use crate::raft_node::adapters::clock;
use crate::raft_node::message::MoveLeader;
use crate::raft_node::types::{Metrics, RaftHandle};

/// Entries that a successor may lack: they are on their way, and it waits for them.
const LAG_MAX: u64 = 1_024;

/// What the leader knows of a member that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft_node) struct Follower {
    pub(in crate::raft_node) id: u64,
    /// The last entry that it is known to have; `None`: none.
    pub(in crate::raft_node) matched: Option<u64>,
    /// How long ago it answered; `None`: never.
    heard: Option<Duration>,
}

impl Follower {
    pub(in crate::raft_node) fn of(metrics: &Metrics, id: u64) -> Follower {
        Follower {
            id,
            matched: (metrics.replication.as_ref())
                .and_then(|all| all.get(&id)?.as_ref().map(|matched| matched.index)),
            heard: (metrics.heartbeat.as_ref())
                .and_then(|all| all.get(&id)?.as_ref().map(|at| clock::since(**at))),
        }
    }

    /// Whether it answers and has all but what is on its way.
    pub(in crate::raft_node) fn is_ready(&self, last: u64, patience: Duration) -> bool {
        let lag = last.saturating_sub(self.matched.unwrap_or(0));
        lag <= LAG_MAX && self.heard.is_some_and(|heard| heard <= patience)
    }
}

/// The one that is ready and has most.
fn successor(voters: &[Follower], last: u64, patience: Duration) -> Option<u64> {
    let ready = voters.iter().filter(|voter| voter.is_ready(last, patience));
    ready
        .max_by_key(|voter| voter.matched)
        .map(|voter| voter.id)
}

fn other_voters(metrics: &Metrics, me: u64) -> Vec<Follower> {
    let voters = metrics.membership_config.membership().voter_ids();
    let others = voters.filter(|id| *id != me);
    others.map(|id| Follower::of(metrics, id)).collect()
}

/// Hands the lead to `to`, or to the voter that has most, and returns when that one leads.
/// `patience` is the election timeout. Errors: `NotLeader`, `BadLeaderTransferee` (no voter),
/// `TimeoutLeaderTransfer`, `Stopped`.
pub(in crate::raft_node) async fn hand_over(
    raft: RaftHandle,
    progress: Arc<Progress>,
    to: Option<u64>,
    patience: Duration,
) -> Result<(), Error> {
    let me = *raft.node_id();
    let mut watch = raft.metrics();
    let deadline = tokio::time::sleep(2 * patience);
    tokio::pin!(deadline);
    let successor = loop {
        let metrics = watch.borrow_watched().clone();
        if metrics.state != ServerState::Leader {
            return Err(Error::NotLeader);
        }
        let voters = other_voters(&metrics, me);
        let last = metrics.last_log_index.unwrap_or(0);
        let ready = match to {
            Some(to) if to == me => return Ok(()),
            Some(to) => {
                let voter = voters.iter().find(|voter| voter.id == to);
                let voter = voter.ok_or(Error::BadLeaderTransferee)?;
                voter.is_ready(last, patience).then_some(to)
            }
            None if voters.is_empty() => return Err(Error::BadLeaderTransferee),
            None => successor(&voters, last, patience),
        };
        if let Some(ready) = ready {
            break ready;
        }
        tokio::select! {
            biased;
            changed = watch.changed() => changed.map_err(|_| Error::Stopped)?,
            () = &mut deadline => return Err(Error::TimeoutLeaderTransfer),
        }
    };
    let begun = raft.trigger().transfer_leader(successor).await;
    begun.map_err(|_| Error::Stopped)?;
    tokio::select! {
        biased;
        () = progress.until_leader(|leader| leader == successor) => Ok(()),
        () = &mut deadline => Err(Error::TimeoutLeaderTransfer),
    }
}

impl Handler<MoveLeader> for RaftNode {
    type Result = ();

    fn handle(&mut self, MoveLeader { to, reply }: MoveLeader, _: &mut Context<Self>) {
        let raft = self.raft.clone();
        let progress = Arc::clone(&self.setup.progress);
        let patience = self.tuning().election_timeout;
        actix_rt::spawn(async move {
            // The caller may have given up.
            let _ = reply.send(hand_over(raft, progress, to, patience).await);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(1_000);

    fn voter(id: u64, matched: Option<u64>, heard_ms: Option<u64>) -> Follower {
        Follower {
            id,
            matched,
            heard: heard_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn the_voter_that_has_most_succeeds() {
        let voters = [
            voter(2, Some(900), Some(10)),
            voter(3, Some(990), Some(10)),
            voter(4, Some(1_000), Some(5_000)),
            voter(5, None, None),
        ];
        assert_eq!(successor(&voters, 1_000, PATIENCE), Some(3), "4 is silent");
        assert_eq!(successor(&voters, 1_990, PATIENCE), Some(3));
        assert_eq!(successor(&voters, 5_000, PATIENCE), None, "all lag");
        assert_eq!(successor(&[], 0, PATIENCE), None);
    }
}
