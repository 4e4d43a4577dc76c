//! Whether this member may answer linearizable reads by itself, without a round of raft.
//!
//! The argument. Let this member be the only voter of the newest configuration in its log, let that
//! configuration be committed, and let this member lead. Then
//! 1. no other member can become leader, since every election needs our vote (a quorum of a set of
//!    one) and we give it to nobody while we lead; so nobody else acknowledges a write;
//! 2. every write acknowledged by us was applied to our store before its answer was sent, and those
//!    acknowledged in earlier terms are in our log before our own blank entry, which is applied.
//!
//! So the store holds every write acknowledged before the read began, which is what linearizable
//! means. The flag must fall before another voter can matter. A new configuration takes effect in
//! openraft when its entry is appended; [`SoleVoter::appended`] runs inside that append, before the
//! entry can reach another member or be committed, and every acknowledgement by another leader
//! comes later still. The flag rises only when the newest configuration appended is the committed
//! one, which rules out answers from an older picture of the cluster.

use std::sync::atomic::{AtomicBool, Ordering};

use althing_storage::entry::LogId;
use parking_lot::Mutex;

use crate::raft_node::types::{Membership, StoredMembership, from_raft_log_id};

/// Whether `me` is the only voter, in the present configuration and in the one that may follow.
pub(in crate::raft_node) fn is_sole_voter(membership: &Membership, me: u64) -> bool {
    let mut voters = membership.voter_ids();
    voters.next() == Some(me) && voters.all(|id| id == me)
}

/// The flag and what guards it. Shared by the log store, RaftNode and every reader.
#[derive(Debug)]
pub(crate) struct SoleVoter {
    me: u64,
    alone: AtomicBool,
    newest: Mutex<Newest>,
}

/// The newest configuration of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    /// No configuration was appended since the start, so it is the one that raft recovered.
    Recovered,
    /// Appended since the start.
    Appended(LogId),
    /// Entries were cut off. That happens to followers only, so the answer is not worth finding
    /// out.
    Unknown,
    /// It does not matter any more, since the node ends.
    Closed,
}

impl Newest {
    fn becomes(&mut self, newest: Newest) {
        if *self != Newest::Closed {
            *self = newest;
        }
    }
}

impl SoleVoter {
    pub(crate) fn new(me: u64) -> SoleVoter {
        SoleVoter {
            me,
            alone: AtomicBool::new(false),
            newest: Mutex::new(Newest::Recovered),
        }
    }

    /// Whether a read of the local store is linearizable right now.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// Notes that a configuration is being appended to the log.
    pub(in crate::raft_node) fn appended(&self, id: LogId, membership: &Membership) {
        let mut newest = self.newest.lock();
        newest.becomes(Newest::Appended(id));
        if !is_sole_voter(membership, self.me) {
            self.alone.store(false, Ordering::Release);
        }
    }

    /// Notes that entries are being cut off the log.
    pub(in crate::raft_node) fn truncated(&self) {
        let mut newest = self.newest.lock();
        newest.becomes(Newest::Unknown);
        self.alone.store(false, Ordering::Release);
    }

    /// Notes that this member votes for `candidate`, or lost the lead.
    pub(in crate::raft_node) fn follow(&self) {
        let _newest = self.newest.lock();
        self.alone.store(false, Ordering::Release);
    }

    /// The node ends: the flag falls and stays down.
    pub(crate) fn close(&self) {
        let mut newest = self.newest.lock();
        *newest = Newest::Closed;
        self.alone.store(false, Ordering::Release);
    }

    /// Notes that this member leads, an entry of its own term is applied, and `committed` is the
    /// committed configuration. Returns whether the flag is up.
    pub(super) fn confirm(&self, committed: &StoredMembership) -> bool {
        let newest = self.newest.lock();
        let current = match *newest {
            Newest::Recovered => true,
            Newest::Appended(id) => committed.log_id().map(from_raft_log_id) == Some(id),
            Newest::Unknown | Newest::Closed => false,
        };
        if current && is_sole_voter(committed.membership(), self.me) {
            self.alone.store(true, Ordering::Release);
        }
        self.is_alone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft_node::types::{PeerNode, to_raft_log_id};

    const ME: u64 = 1;

    fn voters(ids: &[u64]) -> Membership {
        let nodes: BTreeMap<_, _> = ids.iter().map(|id| (*id, PeerNode::default())).collect();
        Membership::new(vec![BTreeSet::from_iter(ids.iter().copied())], nodes).unwrap()
    }

    fn at(index: u64) -> LogId {
        LogId { term: 1, index }
    }

    fn stored(index: u64, ids: &[u64]) -> StoredMembership {
        StoredMembership::new(Some(to_raft_log_id(at(index))), voters(ids))
    }

    #[test]
    fn a_joint_configuration_with_another_voter_has_no_sole_voter() {
        let nodes = BTreeMap::from([(ME, PeerNode::default()), (2, PeerNode::default())]);
        let of = |sets| Membership::new(sets, nodes.clone()).unwrap();
        let (ours, both) = (BTreeSet::from([ME]), BTreeSet::from([ME, 2]));
        assert!(!is_sole_voter(&of(vec![ours.clone(), both]), ME));
        assert!(is_sole_voter(&of(vec![ours]), ME), "learners do not vote");
        assert!(!is_sole_voter(&of(vec![BTreeSet::from([2])]), ME));
    }

    #[test]
    fn the_flag_rises_for_a_sole_voter_and_never_for_one_of_two() {
        let flag = SoleVoter::new(ME);
        assert!(!flag.is_alone());
        assert!(!flag.confirm(&stored(0, &[ME, 2])));
        assert!(flag.confirm(&stored(0, &[ME])));
        assert!(flag.is_alone());
    }

    #[test]
    fn the_flag_falls_in_the_append_that_adds_a_voter() {
        let flag = SoleVoter::new(ME);
        assert!(flag.confirm(&stored(0, &[ME])));
        flag.appended(at(7), &voters(&[ME, 2]));
        assert!(!flag.is_alone());
    }

    #[test]
    fn an_older_picture_does_not_raise_it_again() {
        let flag = SoleVoter::new(ME);
        flag.appended(at(7), &voters(&[ME, 2]));
        assert!(
            !flag.confirm(&stored(0, &[ME])),
            "the picture from before the append"
        );
        flag.appended(at(9), &voters(&[ME]));
        assert!(!flag.confirm(&stored(0, &[ME])), "not committed yet");
        assert!(flag.confirm(&stored(9, &[ME])));
    }

    #[test]
    fn what_is_closed_stays_down() {
        let flag = SoleVoter::new(ME);
        flag.close();
        flag.truncated();
        flag.appended(at(7), &voters(&[ME]));
        assert!(!flag.confirm(&stored(7, &[ME])));
    }

    #[test]
    fn following_or_losing_entries_lowers_it() {
        let flag = SoleVoter::new(ME);
        assert!(flag.confirm(&stored(0, &[ME])));
        flag.follow();
        assert!(!flag.is_alone());
        assert!(flag.confirm(&stored(0, &[ME])));
        flag.truncated();
        assert!(!flag.is_alone());
        assert!(
            !flag.confirm(&stored(0, &[ME])),
            "what is newest is not known"
        );
    }
}
