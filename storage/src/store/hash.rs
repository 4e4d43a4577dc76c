//! Checksums over the stored revisions, for comparing members.

use std::collections::VecDeque;
use std::sync::Arc;

use althing_api::error::Error;

use super::disk_view::{DiskView, StoredRecord};
use super::error::DiskError;
use super::history::Rev;
use super::pending::PendingRecord;
use super::{CheckpointError, HashKv, ReadView, Shared, Store, schema};

/// The name of the bucket that holds revisions in etcd; its hash starts with it.
const ETCD_BUCKET: &[u8] = b"key";

/// What etcd skips in a hash at `revision`.
struct Selection<'a> {
    shared: &'a Shared,
    revision: i64,
    compacted: i64,
    /// Whether some key exists at `revision`.
    has_keys: bool,
}

impl Selection<'_> {
    /// Whether etcd's hash covers a change. Up to the compacted revision a change counts only if it
    /// is still the newest at the hashed revision, because the rest may be deleted at any time. If
    /// no key exists then, etcd counts what compaction leaves.
    fn covers(&self, key: &[u8], rev: Rev, tombstone: bool) -> bool {
        if rev.main > self.compacted {
            return rev.main <= self.revision;
        }
        if tombstone || rev.main > self.revision {
            return false;
        }
        let at = if self.has_keys {
            self.revision
        } else {
            self.compacted
        };
        let newest = self.shared.index.stamp_at(key, at);
        newest.is_some_and(|stamp| stamp.rev == rev)
    }
}

/// A change's name in etcd's bucket, and whether a mark follows.
fn etcd_key(rev: Rev, tombstone: bool) -> ([u8; 18], usize) {
    let mut name = [0; 18];
    name[..8].copy_from_slice(&rev.main.to_be_bytes());
    name[8] = b'_';
    name[9..17].copy_from_slice(&u64::from(rev.sub).to_be_bytes());
    name[17] = b't';
    (name, if tombstone { 18 } else { 17 })
}

impl Shared {
    /// Visits every stored change up to `revision`, in order: those in redb, then those only in
    /// pending.
    pub(super) fn each_record(
        &self,
        revision: i64,
        mut visit: impl FnMut(&PendingRecord) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let (view, mut pending): (DiskView, VecDeque<PendingRecord>) = {
            // A checkpoint drops records from pending only after its commit, so a view opened while
            // pending cannot change misses nothing; it may show some records twice.
            let pending = self.pending.read();
            (self.disk().view()?, pending.up_to(revision).into())
        };
        for stored in view.revisions()? {
            let StoredRecord {
                rev,
                tombstone,
                value_apart,
                record,
                ..
            } = stored?;
            if rev.main > revision {
                break;
            }
            while pending.front().is_some_and(|front| front.rev <= rev) {
                pending.pop_front();
            }
            let record = match value_apart {
                Some(bytes) => view.join_value(rev, &record, bytes)?,
                None => record,
            };
            visit(&PendingRecord {
                rev,
                tombstone,
                record,
            })?;
        }
        pending.iter().try_for_each(visit)
    }
}

impl Store {
    /// etcd's HashKV at `revision` (0 = current). Errors: `Compacted`, `FutureRevision`; when the
    /// file cannot be read, as for [`ReadView::range`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        // The view keeps compaction from deleting what it counts.
        let (view, compacted) = ReadView::open(self.shared());
        let shared = Arc::clone(view.store());
        if revision > 0 && revision < compacted {
            return Err(Error::Compacted);
        }
        if revision > view.revision() {
            return Err(Error::FutureRevision);
        }
        let revision = if revision == 0 {
            view.revision()
        } else {
            revision
        };
        let all = std::ops::Bound::Unbounded;
        let selection = Selection {
            shared: &shared,
            revision,
            compacted,
            has_keys: shared.index.count(all, all, revision) > 0,
        };
        let mut hash = crc32c::crc32c(ETCD_BUCKET);
        let visited = shared.each_record(revision, |pending| {
            let kv = super::record::decode(&pending.record);
            let kv = kv.map_err(|error| DiskError::Failed(error.to_string()))?;
            if selection.covers(&kv.key, pending.rev, pending.tombstone) {
                let (name, len) = etcd_key(pending.rev, pending.tombstone);
                hash = crc32c::crc32c_append(hash, &name[..len]);
                hash = crc32c::crc32c_append(hash, &pending.record);
            }
            Ok(())
        });
        visited.map_err(|error| shared.remember(error))?;
        Ok(HashKv {
            hash,
            compact_revision: compacted,
            hash_revision: revision,
        })
    }

    /// A CRC-32C over everything the store holds, durable or not. Comparable only between two reads
    /// of one member's unchanged state.
    pub fn hash(&self) -> Result<u32, CheckpointError> {
        let view: ReadView = self.read();
        let shared = Arc::clone(view.store());
        let mut hash = 0;
        shared.each_record(view.revision(), |pending| {
            let (name, len) = etcd_key(pending.rev, pending.tombstone);
            hash = crc32c::crc32c_append(hash, &name[..len]);
            hash = crc32c::crc32c_append(hash, &pending.record);
            Ok(())
        })?;
        for member in self.members() {
            hash = crc32c::crc32c_append(hash, &schema::encode_member(&member));
        }
        for id in &shared.published.read().removed {
            hash = crc32c::crc32c_append(hash, &id.to_le_bytes());
        }
        for lease in self.leases() {
            hash = crc32c::crc32c_append(hash, &schema::lease_row(&lease));
        }
        for alarm in self.alarms() {
            let key = (alarm.alarm, alarm.member_id);
            let row = schema::alarm_row(key, alarm.clears_itself);
            hash = crc32c::crc32c_append(hash, &row);
        }
        let version = self.cluster_version().unwrap_or_default();
        hash = crc32c::crc32c_append(hash, version.as_bytes());
        let compacted = shared.published.read().compacted;
        Ok(crc32c::crc32c_append(hash, &compacted.to_le_bytes()))
    }
}
