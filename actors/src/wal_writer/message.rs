//! The messages that WalWriter takes.

use std::io;

use actix::Message;
use althing_storage::entry::{Entry, LogId, Vote};

use crate::raft_node::types::Flushed;

/// Make `entries` durable, then complete `flushed`. They are consecutive and follow the last ones.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Append {
    pub(crate) entries: Vec<Entry>,
    pub(crate) flushed: Flushed,
}

/// Make `vote` durable, and everything before it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "io::Result<()>")]
pub(crate) struct SaveVote(pub(crate) Vote);

/// Write, with the next flush, that a quorum granted the vote that is already durable.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct NoteElected(pub(crate) Vote);

/// Drop the entries behind `after`; all entries if it is `None`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Truncate {
    pub(crate) after: Option<LogId>,
}

/// Forget the entries up to and including `upto`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Purge {
    pub(crate) upto: LogId,
}

/// Make everything durable that was sent before.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "io::Result<()>")]
pub(crate) struct Sync;

/// To itself: the mailbox is drained, commit what came.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Flush;
