//! When a leader was last heard.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peer_link::wire::FromLeader;
use crate::raft_node::types::RaftVote;

/// Stamped by the messages of leaders as they arrive; read by RaftNode.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Option<Stamp>>);

#[derive(Clone, Copy, Debug)]
struct Stamp {
    /// The vote by which the leader leads.
    vote: RaftVote,
    at: Instant,
}

impl Heard {
    /// Notes a message that arrives now. A leader that says itself that it is none, since no quorum
    /// hears it, is not heard: raft has it go on probing, while etcd's would have stepped down.
    pub(in crate::raft_node) fn note(&self, message: &FromLeader) {
        if !message.is_unheard {
            self.stamp(message.request.vote);
        }
    }

    /// Notes that the leader by `vote` is heard now. One whose vote is smaller was succeeded.
    fn stamp(&self, vote: RaftVote) {
        let mut last = self.0.lock();
        if last.is_none_or(|stamp| vote >= stamp.vote) {
            let at = Instant::now();
            *last = Some(Stamp { vote, at });
        }
    }

    /// How long ago the leader by `vote` was heard; `None` if never, or if its successor was. A
    /// successor is known to raft only once the vote for it is on the disk, which may take long:
    /// what is heard meanwhile does not speak for the leader that raft still names, and counts
    /// as soon as raft names the other.
    pub(in crate::raft_node) fn ago(&self, vote: &RaftVote) -> Option<Duration> {
        let last = *self.0.lock();
        let stamp = last.filter(|stamp| stamp.vote == *vote)?;
        Some(stamp.at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use althing_storage::entry::Vote;
    use openraft::raft::AppendEntriesRequest;

    use super::*;
    use crate::raft_node::types::to_raft_vote;

    fn leader_of(term: u64) -> RaftVote {
        to_raft_vote(Vote {
            term,
            voted_for: Some(term),
            committed: true,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_heard_has_no_age_and_what_was_heard_has() {
        let heard = Heard::default();
        assert_eq!(heard.ago(&leader_of(1)), None);
        heard.stamp(leader_of(1));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(heard.ago(&leader_of(1)), Some(Duration::from_secs(3)));
        heard.stamp(leader_of(1));
        assert_eq!(heard.ago(&leader_of(1)), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_says_that_no_quorum_hears_it_is_not_heard() {
        let heartbeat = |is_unheard| FromLeader {
            request: AppendEntriesRequest {
                vote: leader_of(1),
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            },
            is_unheard,
        };
        let heard = Heard::default();
        heard.note(&heartbeat(true));
        assert_eq!(heard.ago(&leader_of(1)), None);
        heard.note(&heartbeat(false));
        tokio::time::advance(Duration::from_secs(3)).await;
        heard.note(&heartbeat(true));
        assert_eq!(heard.ago(&leader_of(1)), Some(Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_successor_does_not_speak_for_a_former_leader_nor_the_other_way_round() {
        let heard = Heard::default();
        heard.stamp(leader_of(1));
        heard.stamp(leader_of(2));
        assert_eq!(heard.ago(&leader_of(1)), None, "raft may still name it");
        tokio::time::advance(Duration::from_secs(3)).await;
        heard.stamp(leader_of(1));
        assert_eq!(heard.ago(&leader_of(1)), None);
        assert_eq!(heard.ago(&leader_of(2)), Some(Duration::from_secs(3)));
    }
}
