//! The MVCC store.
use crate::entry::LogId;
use crate::error::OpenError;
use althing_api::error::Error;
use althing_api::etcdserverpb::{RangeRequest, RangeResponse};
use althing_api::mvccpb::{Event, KeyValue};
use bytes::Bytes;
use std::path::Path;

/// Limits of a store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Budget of records kept inline in the key index, in bytes. Default 256 MiB.
    pub record_cache_bytes: usize,
    /// redb's page cache, in bytes. Default 64 MiB.
    pub page_cache_bytes: usize,
    /// Applied but not checkpointed bytes above which `WriteTxn` waits. Default 64 MiB.
    pub pending_bytes_max: usize,
}

/// The store: an in-memory index over a redb file. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {}

/// How far the store is. `compacted` is 0 when nothing was compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Revisions {
    pub current: i64,
    pub compacted: i64,
}

/// The log position of the state, and the membership at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Last applied entry.
    pub log_id: Option<LogId>,
    /// The last applied membership entry: its id and its payload (opaque here).
    pub membership: Option<(LogId, Bytes)>,
}

/// A member as told by `PublishMember`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemberRecord {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}

/// Sizes of the redb file, in bytes.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Sizes {
    pub allocated: u64,
    pub in_use: u64,
}

/// What a checkpoint did.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// redb durably holds the state up to here.
    pub durable: Option<LogId>,
    /// Records still pending.
    pub remaining: usize,
}

/// Why a checkpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk is full: nothing was lost, try again when space is back.
    #[error("no space left on device")]
    NoSpace,
    /// Anything else is final.
    #[error("store: {0}")]
    Failed(String),
}

impl Store {
    /// Opens or creates the store's file and rebuilds the index.
    pub fn open(_path: &Path, _settings: StoreSettings) -> Result<Store, OpenError> {
        todo!()
    }
    /// A view of the current state, pinned at the current revision. Cheap: no I/O, no copy.
    pub fn read(&self) -> ReadView {
        todo!()
    }
    /// Current and compacted revision.
    pub fn revisions(&self) -> Revisions {
        todo!()
    }
    /// Applied log id and membership.
    pub fn applied(&self) -> Applied {
        todo!()
    }
    /// What redb durably holds.
    pub fn durable(&self) -> Option<LogId> {
        todo!()
    }
    /// Members that published themselves, by id.
    pub fn members(&self) -> Vec<MemberRecord> {
        todo!()
    }
    /// The cluster version set through the log, if any.
    pub fn cluster_version(&self) -> Option<String> {
        todo!()
    }
    /// Starts applying one entry. Only the Applier calls it; one at a time.
    pub fn begin(&self) -> WriteTxn {
        todo!()
    }
    /// Blank entries move only the applied id.
    pub fn apply_blank(&self, _id: LogId) {
        todo!()
    }
    /// Records a membership entry.
    pub fn apply_membership(&self, _id: LogId, _payload: Bytes) {
        todo!()
    }
    /// Whether pending is above its bound; the Applier then waits for a checkpoint.
    pub fn is_backlogged(&self) -> bool {
        todo!()
    }
    /// Commits pending changes of entries with index <= `flushed` to redb, at most about `max_records`.
    /// Only the StoreWriter calls it.
    pub fn checkpoint(
        &self,
        _flushed: u64,
        _max_records: usize,
    ) -> Result<Checkpoint, CheckpointError> {
        todo!()
    }
    /// One window of physical compaction. Returns the compacted revision that is now physically
    /// finished once nothing is left, else None.
    pub fn compact_step(&self, _max_revisions: usize) -> Result<CompactStep, CheckpointError> {
        todo!()
    }
    /// etcd's HashKV at `revision` (0 = current): `(hash, compact_revision, hash_revision)`.
    pub fn hash_kv(&self, _revision: i64) -> Result<HashKv, Error> {
        todo!()
    }
    /// A CRC-32C over everything the store holds.
    pub fn hash(&self) -> Result<u32, CheckpointError> {
        todo!()
    }
    /// File sizes.
    pub fn sizes(&self) -> Sizes {
        todo!()
    }
    /// Number of live keys.
    pub fn key_count(&self) -> u64 {
        todo!()
    }
}

/// Progress of physical compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactStep {
    /// Nothing left; everything below this revision is gone from disk (0: never compacted).
    Finished(i64),
    /// More windows follow.
    More,
}

/// etcd's HashKV answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HashKv {
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
}

/// A consistent view of the keys at its revision. `Send + Sync + Clone`, readable from any thread.
#[derive(Clone, Debug)]
pub struct ReadView {}

impl ReadView {
    /// The revision it is pinned at.
    pub fn revision(&self) -> i64 {
        todo!()
    }
    /// etcd's Range without its header: selection, filters, sort, limit, count, more.
    pub fn range(&self, _request: &RangeRequest) -> Result<RangeResponse, Error> {
        todo!()
    }
    /// Starts a scan in key order for RangeStream (limit, keys_only, revision honoured).
    pub fn scan(&self, _request: &RangeRequest) -> Result<RangeScan, Error> {
        todo!()
    }
}

/// A range read in pieces, in key order, at one revision.
#[derive(Debug)]
pub struct RangeScan {}

impl RangeScan {
    /// The next at most `max_keys` records; empty at the end.
    pub fn next_chunk(&mut self, _max_keys: usize) -> Result<Vec<KeyValue>, Error> {
        todo!()
    }
    /// The range's whole count.
    pub fn count(&self) -> i64 {
        todo!()
    }
    /// Whether the limit cut the range.
    pub fn more(&self) -> bool {
        todo!()
    }
}

/// The changes of one entry: all visible at once at `commit`, under one new revision if any key changed.
#[derive(Debug)]
pub struct WriteTxn {}

impl WriteTxn {
    /// Publishes the changes with the entry's id. Returns the events made, in order (empty: no new
    /// revision), and the revision after it.
    pub fn commit(self, _id: LogId) -> Committed {
        todo!()
    }
}

/// What one applied entry changed.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// The store's revision after the entry.
    pub revision: i64,
    /// Its events, in order.
    pub events: Vec<Event>,
}
