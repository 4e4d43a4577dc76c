//! The MVCC store: an index of all keys in memory over a redb file, written behind.
//!
//! ```text
//!  Applier: WriteTxn --commit--> index + pending --checkpoint (StoreWriter)--> redb
//!  readers: ReadView ----------> index, then pending, then redb
//! ```
//!
//! A change is in the index first, then, with its entry's id, in `pending`, then visible: the
//! published revision moves and new views see it whole. Views read at their own revision, so a
//! half-applied entry is never seen. A checkpoint moves whole entries from `pending` into redb, in
//! one transaction with the applied id; the log replays what redb lacks.
//!
//! The store owns the redb file; nothing else opens it. Three parties call it: the Applier (one at
//! a time) changes, the StoreWriter checkpoints and compacts, everybody reads. Nobody waits for
//! redb except a reader of a record that is neither inline nor pending.
//!
//! Failures: a full disk fails a checkpoint with `NoSpace`, loses nothing, and the next one tries
//! again. Damage found by a reader is remembered: the reader gets `Corrupt`, and the next
//! checkpoint fails with the damage's text, which halts the node. The Applier panics on damage,
//! because it cannot refuse a committed entry.

mod alarm;
mod builder;
mod carried;
mod checkpoint;
mod compaction;
mod disk;
mod disk_view;
mod error;
mod events;
mod hash;
mod held_history;
mod history;
mod index;
mod lease;
mod loading;
mod look;
mod medium;
mod open;
mod ordered;
mod pending;
mod read;
mod rebuild;
mod record;
mod replace;
mod scan;
mod schema;
mod side_tables;
mod unfinished;
mod write;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

pub(crate) use alarm::AlarmChanges;
pub use alarm::AlarmRecord;
pub(crate) use builder::FileBuilder;
pub(crate) use carried::{CarriedRow, Unsound};
pub(crate) use disk_view::DiskView;
pub(crate) use error::DiskError;
pub use error::StoreOpenError;
pub use events::{HistorySlice, SliceLimits};
pub use held_history::HeldHistory;
pub(crate) use history::Rev;
pub use lease::{LeaseFact, LeaseRecord};
pub(crate) use loading::{LoadedRow, Loading};
pub use medium::Medium;
pub(crate) use pending::SideChanges;
pub(crate) use read::{Keyspace, every, range, read_range};
pub use read::{ReadMeter, ReadView, held_bytes};
pub use rebuild::RebuildStep;
pub use replace::{Former, Replacement};
pub use scan::RangeScan;
pub(crate) use side_tables::Meta as DiskMeta;
pub use write::{Committed, WriteTxn};

use alarm::Alarms;
use compaction::Writer;
use disk::Disk;
use index::Index;
use lease::Leases;
use medium::FileMedium;
use pending::Pending;

use crate::entry::LogId;
use crate::error::OpenError;

/// The first page of the store's file, in use even when nothing is stored.
const HEADER_PAGE_BYTES: u64 = 4096;

/// Limits of a store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Budget of records kept inline in the key index, in bytes.
    pub record_cache_bytes: usize,
    /// redb's page cache, in bytes.
    pub page_cache_bytes: usize,
    /// Applied but not checkpointed bytes above which `WriteTxn` waits.
    pub pending_bytes_max: usize,
}

/// The store: an in-memory index over a redb file. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    /// Replaced as a whole when a snapshot of another member takes its place. Views and scans keep
    /// what they were opened on.
    current: Arc<RwLock<Arc<Shared>>>,
}

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Shared {
    index: Index,
    pending: RwLock<Pending>,
    /// Changed by the Applier alone, before an entry becomes visible.
    leases: RwLock<Leases>,
    published: RwLock<Published>,
    /// Replaced as a whole when the file was copied into a smaller one.
    disk: RwLock<Arc<Disk>>,
    /// Held by the one call that writes redb.
    writer: Mutex<Writer>,
    /// What redb durably holds.
    durable: RwLock<AppliedMark>,
    pending_bytes_max: usize,
    /// Roughly the bytes of live rows in the file.
    used_bytes: AtomicU64,
    /// Revisions that compaction deleted since the start.
    deleted: AtomicU64,
    /// The first damage that a reader met.
    fault: OnceLock<String>,
}

/// What is visible. `compacted <= current`.
#[derive(Debug)]
struct Published {
    current: i64,
    /// -1 if nothing was compacted.
    compacted: i64,
    applied: AppliedMark,
    members: Vec<MemberRecord>,
    removed: BTreeSet<u64>,
    cluster_version: Option<String>,
    downgrade_target: Option<String>,
    alarms: Alarms,
    /// Held by the views opened since the last compaction.
    pin: Arc<()>,
    /// Pins of views opened before that; the writer takes them over.
    older_views: Vec<Weak<()>>,
}

/// How far the store is. `compacted` is 0 if nothing was compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// The newest revision.
    pub current: i64,
    /// The last compacted revision; 0 if nothing was compacted.
    pub compacted: i64,
}

/// The log position of the state, and the membership at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedMark {
    /// Last applied entry.
    pub log_id: Option<LogId>,
    /// The last applied membership entry: its id and its payload (opaque here).
    pub membership: Option<(LogId, Bytes)>,
}

/// A member as told by `PublishMember`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRecord {
    /// The member's id.
    pub id: u64,
    /// The member's name.
    pub name: String,
    /// The URLs where the other members reach it.
    pub peer_urls: Vec<String>,
    /// The URLs where clients reach it.
    pub client_urls: Vec<String>,
}

/// Sizes of the redb file, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Bytes that the file takes on disk.
    pub allocated: u64,
    /// Bytes of the file that are in use; see [`Store::sizes`].
    pub in_use: u64,
}

/// What a checkpoint did.
#[derive(Clone, Debug)]
pub struct CheckpointOutcome {
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
    /// Any other failure, which is final.
    #[error("store: {0}")]
    Failed(String),
}

impl From<DiskError> for CheckpointError {
    fn from(error: DiskError) -> CheckpointError {
        match error {
            // Only a commit that met a full disk closes a file that may be opened again.
            DiskError::NoSpace | DiskError::Closed => CheckpointError::NoSpace,
            error => CheckpointError::Failed(error.to_string()),
        }
    }
}

/// Progress of physical compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactStep {
    /// Nothing is left; everything below this revision is gone from disk (0: never compacted).
    Finished(i64),
    /// More windows follow.
    More,
    /// There is something to do, but not yet: the compaction's entry is not checkpointed, or views
    /// opened before it are still in use.
    Waits,
}

/// etcd's HashKV answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// etcd's hash of the records up to `hash_revision`.
    pub hash: u32,
    /// -1 if nothing was compacted.
    pub compact_revision: i64,
    /// The newest hashed revision.
    pub hash_revision: i64,
}

impl Store {
    /// Opens or creates the store's file and rebuilds the index. Errors name the file and the
    /// remedy: an I/O error, damage, a foreign file, or a newer format.
    pub fn open(path: &Path, settings: StoreSettings) -> Result<Store, OpenError> {
        open::create_if_absent(path)?;
        Store::open_on(Arc::new(FileMedium(path.to_path_buf())), settings)
    }

    /// Like [`Store::open`], on any medium; an empty one becomes a new store.
    pub fn open_on(medium: Arc<dyn Medium>, settings: StoreSettings) -> Result<Store, OpenError> {
        let shared = open::open(medium, &settings)?;
        Ok(Store {
            current: Arc::new(RwLock::new(Arc::new(shared))),
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.current.read())
    }

    /// A view of the current state, pinned at the current revision. Cheap: no I/O, no copy. Drop it
    /// soon: physical compaction waits for older views.
    pub fn read(&self) -> ReadView {
        ReadView::open(self.shared()).0
    }

    /// Current and compacted revision.
    pub fn revisions(&self) -> Revisions {
        self.position().0
    }

    /// How far the store is, and the index of the last applied entry, at the same moment.
    pub fn position(&self) -> (Revisions, u64) {
        let shared = self.shared();
        let published = shared.published.read();
        let revisions = Revisions {
            current: published.current,
            compacted: published.compacted.max(0),
        };
        let index = published.applied.log_id.map_or(0, |id| id.index);
        (revisions, index)
    }

    /// Applied log id and membership.
    pub fn applied(&self) -> AppliedMark {
        self.shared().published.read().applied.clone()
    }

    /// The last entry that redb durably holds.
    pub fn durable(&self) -> Option<LogId> {
        self.shared().durable.read().log_id
    }

    /// The log position and membership of exactly the state that redb durably holds.
    #[cfg(any(test, feature = "testing"))]
    pub fn durable_mark(&self) -> AppliedMark {
        self.shared().durable.read().clone()
    }

    /// A consistent view of what redb durably holds, and its side tables.
    pub(crate) fn disk_view(&self) -> Result<(DiskView, DiskMeta), CheckpointError> {
        self.shared().refuse_after_fault()?;
        Ok(self.shared().disk().read(DiskView::meta)?)
    }

    /// Members that published themselves, by id.
    pub fn members(&self) -> Vec<MemberRecord> {
        self.shared().published.read().members.clone()
    }

    /// Whether `id` was a member once and no longer is. An id is never used again.
    pub fn is_removed(&self, id: u64) -> bool {
        self.shared().published.read().removed.contains(&id)
    }

    /// The cluster version set through the log, if any.
    pub fn cluster_version(&self) -> Option<String> {
        self.shared().published.read().cluster_version.clone()
    }

    /// The lease `id`, if it is granted and has not ended.
    pub fn lease(&self, id: i64) -> Option<LeaseRecord> {
        self.shared().leases.read().get(id)
    }

    /// The keys attached to lease `id`, in order.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.shared().leases.read().keys(id)
    }

    /// All leases, in the order of ids.
    pub fn leases(&self) -> Vec<LeaseRecord> {
        self.shared().leases.read().all()
    }

    /// Number of leases.
    pub fn lease_count(&self) -> usize {
        self.shared().leases.read().len()
    }

    /// Starts applying one entry. Only the Applier calls this, one at a time. Dropped without
    /// `commit`, the transaction leaves no trace.
    pub fn begin(&self) -> WriteTxn {
        WriteTxn::begin(self.shared())
    }

    /// Applies a blank entry, which moves only the applied id.
    pub fn apply_blank(&self, id: LogId) {
        let side = SideChanges::default();
        self.shared().publish(id, Vec::new(), side);
    }

    /// Records a membership entry. It ends the membership of `removed`, and the alarms that only
    /// those members would end.
    pub fn apply_membership(&self, id: LogId, payload: Bytes, removed: Vec<u64>) {
        let mut alarms = self.alarms();
        alarms.retain(|alarm| alarm.clears_itself && removed.contains(&alarm.member_id));
        let ended = |alarm: AlarmRecord| ((alarm.alarm, alarm.member_id), None);
        let side = SideChanges {
            membership: Some((id, payload)),
            removed,
            alarms: alarms.into_iter().map(ended).collect(),
            ..SideChanges::default()
        };
        self.shared().publish(id, Vec::new(), side);
    }

    /// Whether pending is above its bound; the Applier then waits for a checkpoint.
    pub fn is_backlogged(&self) -> bool {
        self.shared().pending.read().bytes() > self.shared().pending_bytes_max
    }

    /// File sizes. `in_use` is the file's header page and what live rows take, without redb's other
    /// pages.
    pub fn sizes(&self) -> Sizes {
        let allocated = self.shared().disk().medium().allocated_bytes().unwrap_or(0);
        let leases = self.lease_count() as u64 * lease::LEASE_BYTES;
        let in_use = HEADER_PAGE_BYTES + leases + self.shared().used_bytes.load(Ordering::Relaxed);
        Sizes {
            allocated,
            in_use: in_use.min(allocated),
        }
    }

    /// Roughly how many bytes all records and leases take, in the store's file or on their way to
    /// it; the disk is not asked.
    pub fn used_bytes(&self) -> u64 {
        let leases = self.lease_count() as u64 * lease::LEASE_BYTES;
        // Both are read while pending stands still: a checkpoint moves bytes from one to the other.
        let shared = self.shared();
        let pending = shared.pending.read();
        pending.bytes() as u64 + leases + shared.used_bytes.load(Ordering::Relaxed)
    }

    /// Revisions that compaction deleted from the file since the start.
    pub fn compacted_records(&self) -> u64 {
        self.shared().deleted.load(Ordering::Relaxed)
    }

    /// The number of open views of the state.
    pub fn open_views(&self) -> usize {
        let shared = self.shared();
        let published = shared.published.read();
        let older = published.older_views.iter().map(Weak::strong_count);
        // One reference to the newest pin is the store's own.
        Arc::strong_count(&published.pin) - 1 + older.sum::<usize>()
    }

    /// Number of live keys, an uncommitted entry's changes included.
    pub fn key_count(&self) -> u64 {
        self.shared().index.live()
    }
}
