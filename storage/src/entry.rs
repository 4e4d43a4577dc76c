//! The raft log's vocabulary, free of any raft library: ids, votes and entries.

use bytes::Bytes;

/// Where an entry stands in the log. Ordered by term, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term of the leader that proposed the entry.
    pub term: u64,
    /// Position in the log; the first entry has index 0.
    pub index: u64,
}

impl LogId {
    /// Greater than the id of every entry.
    pub const MAX: LogId = LogId {
        term: u64::MAX,
        index: u64::MAX,
    };
}

/// A member's vote: the candidate it follows in a term, and whether that candidate won.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term voted in.
    pub term: u64,
    /// The candidate, if any.
    pub voted_for: Option<u64>,
    /// Whether a quorum granted the vote: `voted_for` leads in `term`.
    pub committed: bool,
}

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: a new leader's first entry.
    Blank = 0,
    /// An encoded [`althing_api::commandpb::Command`].
    Command = 1,
    /// An encoded membership, opaque to this crate.
    Membership = 2,
}

/// One entry of the raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's place in the log.
    pub id: LogId,
    /// The entry's kind, which says how to read the payload.
    pub kind: EntryKind,
    /// Encoded once by the proposer, shared by log, network and apply.
    pub payload: Bytes,
}
