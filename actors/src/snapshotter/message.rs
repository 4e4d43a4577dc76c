//! What Snapshotter is told.

use actix::Message;
use althing_storage::entry::LogId;
use althing_storage::store::ReadView;
use bytes::Bytes;

/// What does the store's file hold?
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "SnapshotMark")]
pub(crate) struct OpenSnapshot;

/// A snapshot: a mark, and a view of the store.
#[derive(Clone, Debug)]
pub struct SnapshotMark {
    /// The last entry that the store's file durably holds; `None` when it holds nothing.
    pub log_id: Option<LogId>,
    /// The membership at it: its entry and its payload.
    pub membership: Option<(LogId, Bytes)>,
    /// The store, at the mark or later.
    pub view: ReadView,
}
