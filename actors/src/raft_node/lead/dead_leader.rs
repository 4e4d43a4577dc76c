//! Finds out that the leader's process is dead, and has a successor elected at once.
//!
//! Each voter looks for itself. Until it has seen a connection to the leader refused it keeps its
//! promise to the leader, its lease, and refuses to vote; so a connection that is reset costs a few
//! knocks and no lead, and one member that is mistaken gets no votes. Once it has, it drops the
//! lease: nobody reads under that lease here (reads ask a quorum, see `read_index`), so a vote
//! before its end breaks no promise to a client, and raft's own rules make it safe.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use futures_util::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::suspicion::{Turns, knock_waits};
use crate::metrics::Metrics;
use crate::peer_link::{Knock, Link};
use crate::raft_node::RaftNode;
use crate::raft_node::message::PipeEnded;
use crate::raft_node::types::{RaftHandle, RaftVote};

/// A leader suspected dead.
#[derive(Clone, Debug)]
pub(in crate::raft_node) struct Suspect {
    /// The vote by which it leads; raft's vote changes as soon as somebody campaigns.
    vote: RaftVote,
    /// Told when another of its connections ended.
    again: Arc<Notify>,
}

impl Suspect {
    fn new(vote: RaftVote) -> Suspect {
        let again = Arc::default();
        Suspect { vote, again }
    }

    /// If `other` is the same leader, makes the inquiry about it look again: what ended so far may
    /// not have been its death, and this may be. Returns whether it is the same.
    fn look_again_if_same(&self, other: &Suspect) -> bool {
        let is_same = self.vote == other.vote;
        if is_same {
            self.again.notify_one();
        }
        is_same
    }

    /// Whether both belong to the same inquiry.
    fn is_same(&self, other: &Suspect) -> bool {
        Arc::ptr_eq(&self.again, &other.again)
    }
}

/// An inquiry about one leader.
struct Inquiry {
    raft: RaftHandle,
    leader: u64,
    link: Link,
    suspect: Suspect,
    metrics: Metrics,
}

impl Inquiry {
    /// Knocks at the leader's door and, if nobody listens, campaigns in turns with the others.
    /// `interval` lies between two turns; `patience` is the election timeout.
    async fn run(self, interval: Duration, patience: Duration) {
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
            // If two members campaigned at once, on busy hosts, they split the votes: the turns go
            // on.
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
        let look = async || {
            if self.still_leads() {
                (self.link.knock().await == Knock::Refused).then_some(true)
            } else {
                Some(false)
            }
        };
        let found = look_until_known(&self.suspect.again, patience, look).await;
        found.unwrap_or(false)
    }

    /// Whether another leader was elected since.
    fn is_succeeded(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let vote = &metrics.borrow_watched().vote;
        *vote != self.suspect.vote && vote.is_committed()
    }

    /// Whether nobody campaigned since.
    fn still_leads(&self) -> bool {
        self.raft.server_metrics().borrow_watched().vote == self.suspect.vote
    }

    /// Lets this member vote. Raft does so when a leader hands its lead to somebody else; this
    /// request names the leader itself as the successor, so that nobody takes the lead by it.
    async fn drop_lease(&self) -> Option<()> {
        let to = TransferLeaderRequest::new(self.suspect.vote, self.leader, None);
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

/// Looks after each wait until `look` tells; the waits start over whenever `again` is notified.
/// `None` if it never told.
async fn look_until_known<T>(
    again: &Notify,
    patience: Duration,
    look: impl AsyncFn() -> Option<T>,
) -> Option<T> {
    let mut waits = knock_waits(patience);
    loop {
        let is_again = match waits.next() {
            Some(wait) => tokio::select! {
                biased;
                () = again.notified() => true,
                () = tokio::time::sleep(wait) => false,
            },
            None => {
                // The notice may have come during the last look.
                again.notified().now_or_never()?;
                true
            }
        };
        if is_again {
            waits = knock_waits(patience);
            continue;
        }
        if let Some(told) = look().await {
            return Some(told);
        }
    }
}

impl Handler<PipeEnded> for RaftNode {
    type Result = ();

    fn handle(&mut self, PipeEnded { from }: PipeEnded, ctx: &mut Context<Self>) {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        let leads = metrics.current_leader == Some(from) && from != self.setup.me;
        let Some(link) = self.setup.links.to(from).filter(|_| leads) else {
            return;
        };
        let suspect = Suspect::new(metrics.vote);
        if self
            .suspected
            .as_ref()
            .is_some_and(|s| s.look_again_if_same(&suspect))
        {
            return;
        }
        self.suspected = Some(suspect.clone());
        let inquiry = Inquiry {
            raft: self.raft.clone(),
            leader: from,
            link,
            suspect: suspect.clone(),
            metrics: self.setup.metrics.clone(),
        };
        let tuning = self.tuning();
        let asking = inquiry.run(tuning.heartbeat_interval, tuning.election_timeout);
        let asking = asking.into_actor(self);
        ctx.spawn(asking.map(move |(), node, _| {
            node.suspected.take_if(|s| s.is_same(&suspect));
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The election timeout of a cluster whose members are far apart.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// How long it takes to see a death that happens at `death` and ends a connection, when another
    /// connection ended at the start.
    async fn seen_after(death: Duration) -> Option<Duration> {
        let (again, start) = (Notify::new(), Instant::now());
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            (start.elapsed() >= death).then(|| start.elapsed() - death)
        };
        let tell = async {
            tokio::time::sleep_until(start + death).await;
            again.notify_one();
        };
        let (seen, ()) = tokio::join!(look_until_known(&again, PATIENCE, look), tell);
        assert!(looks.get() < 20);
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_death_while_an_earlier_sign_is_looked_at_is_seen_at_once() {
        for death_ms in [1, 20, 299, 700, 1_500, 4_500] {
            let seen = seen_after(Duration::from_millis(death_ms)).await;
            assert!(
                seen.unwrap() < Duration::from_millis(5),
                "{death_ms}: {seen:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_during_the_last_look_is_not_forgotten() {
        let (again, last) = (Notify::new(), knock_waits(PATIENCE).count());
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            if looks.get() == last {
                again.notify_one();
            }
            (looks.get() > last).then_some(())
        };
        assert_eq!(look_until_known(&again, PATIENCE, look).await, Some(()));
        assert_eq!(
            look_until_known(&again, PATIENCE, async || None::<()>).await,
            None
        );
    }
}
