//! openraft's view of a log entry: our stored entry, so that log, network and store share one
//! encoding and one buffer.

use std::fmt;

use althing_storage::entry::{Entry as StoredEntry, EntryKind, LogId};
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;

use super::types::{Encoded, Leader, Membership, PeerNode, RaftLogId, from_raft_log_id, leader_of};
use crate::raft_node::membership;

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of `stored`, in the form that openraft borrows.
    leader: Leader,
    stored: StoredEntry,
}

impl Entry {
    /// The entry as storage knows it.
    pub fn into_stored(self) -> StoredEntry {
        self.stored
    }

    /// An entry that another member sent. `None` for a membership that cannot be read: taken into
    /// the log, it would bring the node down.
    pub(crate) fn received(stored: StoredEntry) -> Option<Entry> {
        let readable =
            stored.kind != EntryKind::Membership || membership::decode(&stored.payload).is_ok();
        readable.then(|| Entry::from(stored))
    }

    /// Its place in the log.
    pub fn id(&self) -> LogId {
        self.stored.id
    }

    /// The membership that the entry carries, if it is a membership entry.
    ///
    /// # Panics
    /// If the payload is damaged: the log checks a CRC before it hands an entry out, so some other
    /// program wrote this entry.
    pub(super) fn membership(&self) -> Option<Membership> {
        (self.stored.kind == EntryKind::Membership).then(|| {
            membership::decode(&self.stored.payload)
                .expect("a membership entry of the log holds a membership")
        })
    }
}

impl From<StoredEntry> for Entry {
    fn from(stored: StoredEntry) -> Entry {
        Entry {
            leader: leader_of(stored.id.term),
            stored,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogId { term, index } = self.stored.id;
        write!(f, "{term}-{index}:{:?}", self.stored.kind)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = Leader;
    type Payload = EntryPayload<Encoded, u64, PeerNode>;

    fn new(log_id: RaftLogId, payload: Self::Payload) -> Entry {
        let (kind, payload) = match payload {
            EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
            EntryPayload::Normal(command) => (EntryKind::Command, command.0),
            EntryPayload::Membership(m) => (EntryKind::Membership, membership::encode(&m)),
        };
        let id = from_raft_log_id(log_id);
        Entry::from(StoredEntry { id, kind, payload })
    }

    fn log_id_parts(&self) -> (&Leader, u64) {
        (&self.leader, self.stored.id.index)
    }

    fn set_log_id(&mut self, new: RaftLogId) {
        self.leader = new.leader_id;
        self.stored.id = from_raft_log_id(new);
    }

    fn get_membership(&self) -> Option<Membership> {
        self.membership()
    }
}
