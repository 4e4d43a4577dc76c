//! A store's in-memory state under construction from the rows of a file, in order: at a start, and
//! while another member's state arrives.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::alarm::Alarms;
use super::carried::CarriedRow;
use super::compaction::Writer;
use super::disk::Disk;
use super::disk_view::DiskView;
use super::error::DiskError;
use super::history::{Rev, Stamp};
use super::index::Index;
use super::lease::{Leases, Touch};
use super::pending::Pending;
use super::side_tables::Meta;
use super::{Published, Shared, StoreSettings, record, schema};

/// One revision of a file.
#[derive(Debug)]
pub(crate) struct LoadedRow {
    pub rev: Rev,
    pub tombstone: bool,
    /// Whether the value is missing here, because it is in the other table.
    pub value_apart: bool,
    pub record: Bytes,
    /// Roughly the bytes that its rows take in the file.
    pub used_bytes: u64,
}

impl LoadedRow {
    /// Reads a row that is carried to the file; `None` if it cannot be read.
    pub fn of(row: &CarriedRow<'_>) -> Option<LoadedRow> {
        let read = schema::split_revision(row.revision)?;
        let value = read.value_apart.map_or(0, schema::pieces_bytes);
        Some(LoadedRow {
            rev: row.rev,
            tombstone: read.tombstone,
            value_apart: read.value_apart.is_some(),
            record: Bytes::copy_from_slice(read.record),
            used_bytes: schema::row_bytes(row.revision.len()) + value,
        })
    }
}

/// The in-memory state so far.
#[derive(Debug)]
pub(crate) struct Loading {
    index: Index,
    leases: Leases,
    last: Option<Rev>,
    rows: u64,
    used_bytes: u64,
}

impl Loading {
    pub fn new(settings: &StoreSettings) -> Loading {
        Loading {
            index: Index::new(settings.record_cache_bytes),
            leases: Leases::default(),
            last: None,
            rows: 0,
            used_bytes: 0,
        }
    }

    /// Adds the next revision. Errors: what about it does not make sense.
    pub fn add(&mut self, row: LoadedRow) -> Result<(), &'static str> {
        let LoadedRow {
            rev,
            tombstone,
            value_apart,
            record,
            used_bytes,
        } = row;
        let kv = record::decode(&record).map_err(|_| "the record")?;
        let is_behind = self.last.is_none_or(|last| last < rev);
        if !is_behind || (!tombstone && kv.mod_revision != rev.main) {
            return Err("the place");
        }
        self.last = Some(rev);
        self.used_bytes += used_bytes;
        self.rows += 1;
        let stamp = Stamp {
            rev,
            tombstone,
            create: kv.create_revision,
            version: kv.version,
        };
        let lease = kv.lease;
        self.leases.note(Touch {
            key: &kv.key,
            lease,
        });
        let whole = !tombstone && !value_apart;
        self.index.push(&kv.key, stamp, whole.then_some(record));
        Ok(())
    }

    /// Finishes the in-memory state of the store on `disk`, after all rows of the file that `view`
    /// shows were added. Errors: the file holds other rows.
    pub fn finish(
        mut self,
        disk: Arc<Disk>,
        view: &DiskView,
        meta: Meta,
        settings: &StoreSettings,
    ) -> Result<Shared, DiskError> {
        if self.last.is_some_and(|last| last.main > meta.revision) {
            return Err(view.damage("its revisions go beyond the one it says it is at"));
        }
        if self.rows != view.revision_count()? {
            return Err(view.damaged_table("revision"));
        }
        self.leases.attach_noted(view.leases()?);
        let durable = meta.applied.clone();
        Ok(Shared {
            index: self.index,
            pending: RwLock::new(Pending::default()),
            leases: RwLock::new(self.leases),
            writer: Mutex::new(Writer::new(meta.compact_scheduled, meta.compact_finished)),
            published: RwLock::new(Published {
                current: meta.revision,
                compacted: meta.compact_scheduled,
                applied: meta.applied,
                members: meta.members,
                removed: meta.removed,
                cluster_version: meta.cluster_version,
                downgrade_target: meta.downgrade_target,
                alarms: Alarms::load(meta.alarms),
                pin: Arc::new(()),
                older_views: Vec::new(),
            }),
            disk: RwLock::new(disk),
            durable: RwLock::new(durable),
            pending_bytes_max: settings.pending_bytes_max,
            used_bytes: AtomicU64::new(self.used_bytes),
            deleted: AtomicU64::new(0),
            fault: OnceLock::new(),
        })
    }
}
