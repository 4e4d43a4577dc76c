//! openraft's type configuration, and the only openraft names that other actors use.

use std::fmt;

use althing_storage::entry::{LogId, Vote};
use bytes::Bytes;
use openraft::alias::{
    CommittedLeaderIdOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::impls::{BoxedErrorSource, EntryPayload, InlineBatch, leader_id_std};
use openraft::raft::responder::Responder;
use openraft::storage::{ApplyResponder, IOFlushed};
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, Raft, RaftTypeConfig};

use super::entry::Entry;
use super::runtime::Runtime;
use super::state_machine::StateMachine;
use crate::applier::Outcome;
use crate::reply::Reply;
use crate::snapshotter::SnapshotData;

/// openraft's type parameters.
///
/// `leader_id_std`: one leader per term, so that a log id is a term and an index, as in etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Encoded;
    type R = Outcome;
    type NodeId = u64;
    type Node = PeerNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Encoded, u64, PeerNode>;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// A command, encoded once by its proposer and shared from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded(pub Bytes);

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What raft's membership records about a member besides its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNode {
    /// The URLs where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Set for a learner that was added as a voter: it gets its vote by itself once it has caught
    /// up, so that a member that cannot be reached never counts in a quorum.
    pub wants_vote: bool,
}

/// Our replies are openraft's responders: whatever finishes the entry answers the client.
impl<T: OptionalSend + 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(self, result: T) {
        self.send(result);
    }
}

/// A handle to the raft core. Cheap to clone.
pub type RaftHandle = Raft<Types, StateMachine>;
/// Completed when entries are durable, or when it is certain that they never will be.
pub type Flushed = IOFlushed<Types>;
/// Answers the client that waits for an entry to be applied.
pub type Waiter = ApplyResponder<Types>;
/// What openraft answers to a proposal.
pub type WriteResult = openraft::raft::ClientWriteResult<Types>;
pub(crate) type Membership = openraft::Membership<u64, PeerNode>;
pub(crate) type StoredMembership = StoredMembershipOf<Types>;
pub(crate) type RaftLogId = LogIdOf<Types>;
pub(crate) type RaftVote = VoteOf<Types>;
pub(crate) type Leader = CommittedLeaderIdOf<Types>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;
pub(crate) type ServerMetrics = openraft::metrics::RaftServerMetrics<Types>;
pub(crate) type Snapshot = SnapshotOf<Types, SnapshotData>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<Types>;

pub(crate) fn to_raft_log_id(id: LogId) -> RaftLogId {
    RaftLogId::new(leader_of(id.term), id.index)
}

pub(crate) fn from_raft_log_id(id: RaftLogId) -> LogId {
    LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn to_raft_vote(vote: Vote) -> RaftVote {
    RaftVote {
        leader_id: leader_id_std::LeaderId {
            term: vote.term,
            voted_for: vote.voted_for.unwrap_or_default(),
        },
        committed: vote.committed,
    }
}

pub(crate) fn from_raft_vote(vote: &RaftVote) -> Vote {
    Vote {
        term: vote.leader_id.term,
        voted_for: Some(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

/// The leader of `term` as log ids name it; the node does not matter, a term has one leader.
pub(crate) fn leader_of(term: u64) -> Leader {
    leader_id_std::LeaderId::<u64, u64>::new(term, 0).to_committed()
}
