//! The messages that RaftNode takes.

use actix::Message;
use althing_api::error::Error;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::membership::change::{Ask, Change, MemberChange};
use super::requests::inbound::Refusal;
use super::requests::read_index::Reader;
use super::requests::step::FromPeer;
use super::types::WriteResult;
use crate::reply::Reply;

/// Put commands into the log, in this order. Each is answered by whatever finishes it: the Applier,
/// or raft's refusal.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Propose {
    pub(crate) proposals: Vec<Proposal>,
}

/// A command on its way to the log.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// The encoded command.
    pub(crate) command: Bytes,
    pub(crate) reply: Reply<WriteResult>,
}

/// Which entry must be applied here for a local read to be linearizable?
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ReadIndex {
    pub(crate) reader: Reader,
    pub(crate) reply: Reply<Result<u64, Error>>,
}

/// A message of another member's raft to ours.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Step {
    pub(crate) message: FromPeer,
    pub(crate) reply: oneshot::Sender<Result<Bytes, Refusal>>,
}

/// Hand the lead over: to this voter, or to the one that has most of the log.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct MoveLeader {
    pub(crate) to: Option<u64>,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// Is the raft thread alive? The sender waits for the answer.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Pulse;

/// Another member ended the pipe through which it sent entries.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct PipeEnded {
    pub(super) from: u64,
}

/// Change the membership, if this member leads.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ChangeMembers {
    pub(crate) change: MemberChange,
    /// Whether an earlier attempt may have made the change already.
    pub(crate) ask: Ask,
    pub(crate) reply: oneshot::Sender<Result<Change, Error>>,
}

/// To itself: a change of the membership ended, whatever its outcome.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ChangeEnded;

/// To itself: the mailbox is drained, begin a round for the reads that wait.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct BeginReadRound;

/// Term, role or membership changed.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct RaftChanged;

/// The raft core ended.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct CoreEnded;

/// Leading in `term` was confirmed, and an entry of that term is applied here.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LeadConfirmed {
    pub(super) term: u64,
}
