//! What the peer port may ask of this node: the entrance for everything that other members send.

use actix::Addr;
use althing_api::commandpb::Command;
use althing_api::error::Error;
use althing_api::id::{ClusterId, MemberId};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prost::Message as _;
use tokio::sync::oneshot;

use super::propose::{Attempt, Proposer};
use super::read_index::{Asker, Reader};
use super::step::FromPeer;
use crate::lessor::LeaseKeeper;
use crate::peer_link::proposal::{self, Forwarded};
use crate::peer_link::wire::{self, WireError};
use crate::peer_link::{Call, Pipe, SnapshotBytes};
use crate::peer_link::{change, hash, lease};
use crate::raft_node::RaftNode;
use crate::raft_node::adapters::state_machine::to_received;
use crate::raft_node::message::{PipeEnded, ReadIndex, Step};
use crate::reply::Reply;
use crate::snapshotter::{Receive, Snapshotter};
use crate::supervisor::ActorRef;
use crate::upkeep::Hasher;

/// The entrance. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub(crate) member_id: MemberId,
    pub(crate) cluster_id: ClusterId,
    pub(crate) raft_node: Addr<RaftNode>,
    pub(crate) proposer: Proposer,
    pub(crate) leases: LeaseKeeper,
    pub(crate) snapshotter: ActorRef<Snapshotter>,
    pub(crate) hasher: Hasher,
}

/// Why a message of another member was not acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender belongs to another cluster.
    #[error(
        "cluster ID mismatch: this member belongs to cluster {ours}, the sender to {theirs}; \
        members of one cluster begin with the same --initial-cluster and --initial-cluster-token"
    )]
    OtherCluster {
        /// This member's cluster.
        ours: ClusterId,
        /// The sender's cluster.
        theirs: ClusterId,
    },
    /// The message is meant for another member: an address changed hands.
    #[error("this is member {ours}, the message is for member {theirs}")]
    OtherMember {
        /// This member.
        ours: MemberId,
        /// The member that the message is for.
        theirs: MemberId,
    },
    /// The sender was removed from the cluster.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// The message cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The message cannot be dealt with now.
    #[error("{0}")]
    Busy(&'static str),
    /// This member stops.
    #[error("this member stops")]
    Stopped,
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Refusal {
        Refusal::Malformed(error.to_string())
    }
}

impl Inbound {
    /// Checks which member a message comes from and which it is for, before reading any of it.
    /// Errors: `OtherCluster`, `OtherMember`, `Removed`.
    pub fn admit(&self, cluster: ClusterId, from: MemberId, to: MemberId) -> Result<(), Refusal> {
        let (ours, theirs) = (self.cluster_id, cluster);
        if ours != theirs {
            return Err(Refusal::OtherCluster { ours, theirs });
        }
        let (ours, theirs) = (self.member_id, to);
        if ours != theirs {
            return Err(Refusal::OtherMember { ours, theirs });
        }
        if self.proposer.store.is_removed(from.0) {
            return Err(Refusal::Removed);
        }
        Ok(())
    }

    /// Answers one call. Errors: `Malformed`, `Busy`, `Stopped`.
    pub async fn call(&self, call: Call, body: Bytes) -> Result<Bytes, Refusal> {
        let message = match call {
            Call::Heartbeat => FromPeer::Append(wire::append_in(body)?),
            Call::Vote => FromPeer::Vote(wire::vote_request_in(body)?),
            Call::PreVote => FromPeer::PreVote(wire::vote_request_in(body)?),
            Call::HandOver => FromPeer::HandOver(wire::hand_over_in(body)?),
            Call::ReadIndex => {
                let asker = wire::read_index_question_in(body)?;
                return self.read_index(asker).await;
            }
            Call::ChangeMembers => {
                let (change, ask) = change::question_in(body)?;
                let made = self.proposer.change_here(change, ask).await;
                return Ok(change::answer_out(made));
            }
            Call::KeepLease => {
                let id = lease::question_in(body)?;
                return Ok(lease::answer_out(self.leases.renew_here(id).await));
            }
            Call::LeaseTime => {
                let id = lease::question_in(body)?;
                return Ok(lease::answer_out(self.leases.time_here(id).await));
            }
            Call::Hash => {
                let question = hash::question_in(body)?;
                return Ok(hash::answer_out(self.hasher.ask(question)));
            }
        };
        self.step(message).await
    }

    /// Takes in the next message of a pipe, at once; the future is its answer. Messages of one pipe
    /// must be passed here in their order. Errors: as for `call`.
    pub fn send(&self, pipe: Pipe, body: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        match pipe {
            Pipe::Append => match wire::append_in(body) {
                Ok(sent) => self.step(FromPeer::Append(sent)).boxed(),
                Err(error) => std::future::ready(Err(error.into())).boxed(),
            },
            Pipe::Propose => {
                let proposer = self.proposer.clone();
                propose(proposer, body).boxed()
            }
        }
    }

    /// Notes that member `from` ended its end of a pipe. A leader keeps its pipe of entries open
    /// for as long as it lives.
    pub fn pipe_ended(&self, pipe: Pipe, from: MemberId) {
        if pipe == Pipe::Append {
            self.raft_node.do_send(PipeEnded { from: from.0 });
        }
    }

    /// Takes a snapshot over. Returns once it is this member's state. Errors: as for `call`.
    pub async fn snapshot(&self, head: Bytes, body: SnapshotBytes) -> Result<Bytes, Refusal> {
        let vote = wire::snapshot_head_in(head)?;
        let received = self.snapshotter.send(Receive { body }).await;
        let received = received.map_err(|_| Refusal::Busy("the snapshot's receiver ended"))?;
        let snapshot = to_received(received?)?;
        self.step(FromPeer::Snapshot { vote, snapshot }).await
    }

    /// Hands a message to raft at once; the future is its answer.
    fn step(
        &self,
        message: FromPeer,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.raft_node.do_send(Step { message, reply });
        async move { answer.await.unwrap_or(Err(Refusal::Stopped)) }
    }

    async fn read_index(&self, asker: Option<Asker>) -> Result<Bytes, Refusal> {
        let index = match self.proposer.reads.admit() {
            Ok(permit) => {
                let (reply, answer) = Reply::new(permit);
                let reader = Reader::Member(asker);
                self.raft_node.do_send(ReadIndex { reader, reply });
                answer.wait().await.unwrap_or_else(Err)
            }
            Err(error) => Err(error),
        };
        Ok(wire::read_index_answer_out(index))
    }
}

/// Proposes another member's command here, and nowhere else: a command makes one hop.
async fn propose(proposer: Proposer, command: Bytes) -> Result<Bytes, Refusal> {
    // A command that does not decode would halt every member when it is applied.
    let decoded = Command::decode(command.clone());
    let decoded = decoded.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let admitted = match proposer.proposals.admit() {
        Ok(permit) => {
            let room = proposer.gate.reserve(&decoded, command.len()).await;
            room.map(|room| (permit, room))
        }
        Err(error) => Err(error),
    };
    let attempt = match admitted {
        Ok((permit, room)) => proposer.propose_here(command, permit, Some(room)).await,
        // Nothing was proposed, so another member may be asked.
        Err(Error::Stopped) => Ok(Attempt::Elsewhere),
        Err(error) => Err(error),
    };
    let answer = match attempt {
        Ok(Attempt::Applied(applied)) => Forwarded::Applied(applied),
        Ok(Attempt::Elsewhere) => Forwarded::NotLeader,
        // The command may be in the log.
        Err(Error::Stopped) => Forwarded::Failed(Error::TimeoutDueToLeaderFail),
        Err(error) => Forwarded::Failed(error),
    };
    Ok(proposal::answer_out(answer))
}
