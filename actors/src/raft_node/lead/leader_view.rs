//! Which member this one takes for the leader. Pure.
//!
//! openraft goes on naming a dead leader until somebody asks for a vote, and a leader that lost its
//! quorum goes on calling itself one. Both count as "no leader" here once nothing was heard for an
//! election timeout: by then etcd's leader would have stepped down, and its follower would have
//! begun to campaign.

use std::time::Duration;

/// This member's part in raft, with how long ago the others were heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft_node) enum LeaderEvidence {
    /// It leads and is the only voter.
    LeadsAlone,
    /// It has led for `since`, and a quorum last answered `quorum_heard` ago.
    Leads {
        since: Duration,
        quorum_heard: Option<Duration>,
    },
    /// It follows a leader, whose last message came `heard` ago.
    Follows {
        leader: u64,
        heard: Option<Duration>,
    },
    /// It knows no leader.
    Alone,
}

/// The leader as `me` sees it; zero when there is none.
pub(in crate::raft_node) fn leader(
    me: u64,
    evidence: LeaderEvidence,
    election_timeout: Duration,
) -> u64 {
    let lately = |heard: Duration| heard <= election_timeout;
    match evidence {
        LeaderEvidence::LeadsAlone => me,
        LeaderEvidence::Leads {
            since,
            quorum_heard,
        } if lately(quorum_heard.unwrap_or(since).min(since)) => me,
        LeaderEvidence::Follows { leader, heard } if heard.is_some_and(lately) => leader,
        LeaderEvidence::Leads { .. } | LeaderEvidence::Follows { .. } | LeaderEvidence::Alone => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u64 = 1;
    const TIMEOUT: Duration = Duration::from_millis(1_000);

    fn seen(evidence: LeaderEvidence) -> u64 {
        leader(ME, evidence, TIMEOUT)
    }

    fn leads(since_ms: u64, heard_ms: Option<u64>) -> LeaderEvidence {
        LeaderEvidence::Leads {
            since: Duration::from_millis(since_ms),
            quorum_heard: heard_ms.map(Duration::from_millis),
        }
    }

    fn follows(heard_ms: Option<u64>) -> LeaderEvidence {
        LeaderEvidence::Follows {
            leader: 7,
            heard: heard_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn a_leader_without_its_quorum_is_none_after_the_election_timeout() {
        assert_eq!(seen(leads(90_000, Some(1_000))), ME);
        assert_eq!(seen(leads(90_000, Some(1_001))), 0);
        assert_eq!(seen(leads(90_000, None)), 0);
    }

    #[test]
    fn a_new_leader_has_an_election_timeout_to_be_heard() {
        assert_eq!(seen(leads(10, None)), ME);
        assert_eq!(
            seen(leads(10, Some(5_000))),
            ME,
            "an answer to an earlier lead"
        );
    }

    #[test]
    fn a_leader_that_is_silent_is_none_after_the_election_timeout() {
        assert_eq!(seen(follows(Some(999))), 7);
        assert_eq!(seen(follows(Some(1_001))), 0);
        assert_eq!(seen(follows(None)), 0, "what a log remembers is not heard");
        assert_eq!(seen(LeaderEvidence::Alone), 0);
    }

    #[test]
    fn a_sole_voter_needs_to_hear_nobody() {
        assert_eq!(seen(LeaderEvidence::LeadsAlone), ME);
    }
}
