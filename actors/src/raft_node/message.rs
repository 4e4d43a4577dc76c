//! What RaftNode is told.

use actix::Message;
use althing_api::error::Error;
use bytes::Bytes;

use super::types::WriteResult;
use crate::reply::Reply;

/// Put commands into the log, in this order. Each is answered by whoever finishes it: the Applier,
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
    pub(crate) reply: Reply<Result<u64, Error>>,
}

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
