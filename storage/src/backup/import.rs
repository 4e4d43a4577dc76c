//! Reading a backup into a store's file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use althing_api::etcdserverpb::AlarmType;
use althing_api::mvccpb::KeyValue;
use bytes::Bytes;
use prost::Message;

use super::rows::{self, LeaseRow, read_revision};
use super::{BackupError, BackupFile};
use crate::apply::TTL_MAX;
use crate::entry::LogId;
use crate::store::{AlarmRecord, CheckpointError, DiskError, FileBuilder, SideChanges};

/// Changes handed over at once.
const BATCH_RECORDS: usize = 1_000;
/// Bytes of records handed over at once, roughly.
const BATCH_BYTES: usize = 1 << 20;
/// The largest revision that a restored store may begin at, so that it never runs out of revisions:
/// at a million a second the rest lasts 146,000 years.
const REVISION_MAX: i64 = i64::MAX / 2;

/// What the state becomes besides what the file says.
#[derive(Clone, Debug)]
pub(super) struct Destiny {
    /// The place of the state in the new log, and the membership there.
    pub at: LogId,
    pub membership: Bytes,
    /// Added to the revision, which then counts as compacted; 0 changes nothing.
    pub bump: u64,
}

/// What was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Imported {
    pub revision: i64,
    pub records: u64,
    pub leases: u64,
    pub alarms: Vec<AlarmRecord>,
}

/// Keys whose newest record so far names a lease that does not exist, with that record's place.
/// etcd has such keys where a lease was lost; it would attach them once a lease of that id is
/// granted, but only in a process that started since, so members would differ.
#[derive(Debug, Default)]
struct Dangling {
    leases: BTreeSet<i64>,
    keys: BTreeMap<Bytes, (i64, u32)>,
}

impl Dangling {
    /// Notes a change, in the order of revisions.
    fn note(&mut self, kv: &KeyValue, main: i64, sub: u32) {
        if kv.lease != 0 && !self.leases.contains(&kv.lease) {
            // A copy, so that the key does not keep its whole record in memory.
            let key = Bytes::copy_from_slice(&kv.key);
            self.keys.insert(key, (main, sub));
        } else if !self.keys.is_empty() {
            self.keys.remove(&kv.key);
        }
    }
}

impl BackupFile {
    /// Builds the store's file `dest` from the snapshot's keys and leases. Blocks until it is
    /// durable. `report` is told how many changes were read.
    pub(super) fn import(
        &self,
        dest: &Path,
        destiny: &Destiny,
        report: &mut dyn FnMut(u64),
    ) -> Result<Imported, BackupError> {
        let mut builder = FileBuilder::create(dest).map_err(failed)?;
        let copied = self.copy(&mut builder, report)?;
        let (imported, compacted) = self.placed(copied, destiny.bump)?;
        let raised = imported.alarms.iter();
        let raised = raised.map(|alarm| ((alarm.alarm, alarm.member_id), Some(false)));
        let side = SideChanges {
            alarms: raised.collect(),
            membership: Some((destiny.at, destiny.membership.clone())),
            compact: compacted,
            ..SideChanges::default()
        };
        let finished = builder.finish(Some(destiny.at), imported.revision, side);
        finished.map_err(failed)?;
        Ok(imported)
    }

    /// The alarms that outlive a restore, as with etcd's. An alarm that ends by itself does not:
    /// the member that would end it is not in the new cluster, whose own members raise it if there
    /// is cause.
    fn alarms(&self) -> Result<Vec<AlarmRecord>, BackupError> {
        let mut kept = Vec::new();
        let bucket = self.bucket(rows::ALARM)?;
        for entry in self.entries(bucket.as_ref()) {
            let (key, value) = entry?;
            let alarm = rows::read_alarm(&key, &value);
            let alarm = alarm.ok_or_else(|| self.damaged("an alarm"))?;
            if alarm.alarm != AlarmType::None && !alarm.clears_itself {
                kept.push(alarm);
            }
        }
        Ok(kept)
    }

    /// Settles the revision of the state and up to where it is compacted, and finds what is wrong.
    fn placed(
        &self,
        mut imported: Imported,
        bump: u64,
    ) -> Result<(Imported, Option<i64>), BackupError> {
        let (scheduled, finished) = self.compactions()?;
        let mut compacted = scheduled.max(finished);
        imported.revision = imported.revision.max(compacted.unwrap_or(0));
        if imported.revision > REVISION_MAX {
            return Err(self.damaged("a revision that no store comes to"));
        }
        if bump > 0 {
            let bumped = imported.revision.checked_add_unsigned(bump);
            let bumped = bumped.filter(|revision| *revision <= REVISION_MAX);
            imported.revision = bumped.ok_or(BackupError::Revision(
                "--bump-revision would exceed the largest revision; choose a smaller one",
            ))?;
            compacted = Some(imported.revision);
        }
        imported.alarms = self.alarms()?;
        Ok((imported, compacted))
    }

    fn copy(
        &self,
        builder: &mut FileBuilder,
        report: &mut dyn FnMut(u64),
    ) -> Result<Imported, BackupError> {
        let mut imported = Imported {
            revision: 1,
            ..Imported::default()
        };
        let mut dangling = Dangling::default();
        let leases = self.bucket(rows::LEASE)?;
        for entry in self.entries(leases.as_ref()) {
            let (_, value) = entry?;
            let row = LeaseRow::decode(value.as_slice());
            let row = row.map_err(|_| self.damaged("a lease"))?;
            if row.id == 0 {
                return Err(self.damaged("a lease without an id"));
            }
            if row.ttl.max(row.remaining) > TTL_MAX {
                return Err(self.damaged("a lease that lives longer than any"));
            }
            imported.leases += 1;
            dangling.leases.insert(row.id);
            builder.append_leases(vec![row.record()]).map_err(failed)?;
        }
        let keys = self.bucket(rows::KEY)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for entry in self.entries(keys.as_ref()) {
            let (key, value) = entry?;
            let revision = read_revision(&key);
            let revision = revision.ok_or_else(|| self.damaged("a revision's key"))?;
            let (main, sub, tombstone) = revision;
            imported.revision = imported.revision.max(main);
            let Some(kv) = self.record(main, tombstone, value)? else {
                continue;
            };
            dangling.note(&kv, main, sub);
            // Encoded again, so that equal records are equal bytes.
            let record = Bytes::from(kv.encode_to_vec());
            imported.records += 1;
            bytes += record.len();
            batch.push((main, sub, tombstone, record));
            if batch.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
                builder.append(std::mem::take(&mut batch)).map_err(failed)?;
                bytes = 0;
                report(imported.records);
            }
        }
        builder.append(batch).map_err(failed)?;
        report(imported.records);
        self.detach(builder, &dangling)?;
        Ok(imported)
    }

    /// Detaches the missing lease from the keys that name it. Their former records stay as they
    /// are: nothing follows from those.
    fn detach(&self, builder: &mut FileBuilder, dangling: &Dangling) -> Result<(), BackupError> {
        if dangling.keys.is_empty() {
            return Ok(());
        }
        let places: BTreeSet<_> = dangling.keys.values().copied().collect();
        let keys = self.bucket(rows::KEY)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for entry in self.entries(keys.as_ref()) {
            let (key, value) = entry?;
            let revision =
                read_revision(&key).filter(|(main, sub, _)| places.contains(&(*main, *sub)));
            let Some((main, sub, tombstone)) = revision else {
                continue;
            };
            let Some(kv) = self.record(main, tombstone, value)? else {
                continue;
            };
            let record = Bytes::from(KeyValue { lease: 0, ..kv }.encode_to_vec());
            bytes += record.len();
            batch.push((main, sub, record));
            if batch.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
                builder.amend(std::mem::take(&mut batch)).map_err(failed)?;
                bytes = 0;
            }
        }
        builder.amend(batch).map_err(failed)
    }

    /// A record as our store keeps it, to be encoded; `None` for the placeholder that etcd's
    /// restore writes when it raises the revision.
    fn record(
        &self,
        main: i64,
        tombstone: bool,
        value: Vec<u8>,
    ) -> Result<Option<KeyValue>, BackupError> {
        let value = Bytes::from(value);
        let kv = KeyValue::decode(value.clone());
        let mut kv = kv.map_err(|_| self.damaged(format!("the record of revision {main}")))?;
        if kv.key.is_empty() {
            return Ok(None);
        }
        if tombstone {
            kv = KeyValue {
                key: kv.key,
                ..KeyValue::default()
            };
        } else if kv.mod_revision != main {
            let found = kv.mod_revision;
            return Err(self.damaged(format!("revision {main} holds a record of {found}")));
        }
        Ok(Some(kv))
    }
}

fn failed(error: DiskError) -> BackupError {
    CheckpointError::from(error).into()
}

#[cfg(test)]
mod tests {
    use althing_api::commandpb::command::Request;
    use althing_api::commandpb::{Command, LeaseGrant};
    use althing_api::etcdserverpb::RangeRequest;

    use super::super::Backup;
    use super::*;
    use crate::apply::apply;
    use crate::store::{LeaseRecord, Store, StoreSettings};

    const SETTINGS: StoreSettings = StoreSettings {
        record_cache_bytes: 1 << 20,
        page_cache_bytes: 1 << 20,
        pending_bytes_max: 1 << 20,
    };

    fn written(main: i64, key: &'static str, lease: i64, len: usize) -> (i64, u32, bool, Bytes) {
        let kv = KeyValue {
            key: key.into(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: vec![1; len].into(),
            lease,
        };
        (main, 0, false, kv.encode_to_vec().into())
    }

    /// A snapshot with lease 7, and with keys that name lease 9 too.
    fn snapshot(dir: &Path) -> BackupFile {
        let path = dir.join("from.redb");
        let mut builder = FileBuilder::create(&path).unwrap();
        let records = vec![
            written(2, "lost", 9, 10),
            written(3, "kept", 7, 10),
            written(4, "once", 9, 10),
            written(5, "once", 0, 10),
            written(6, "large", 9, 5_000),
        ];
        builder.append(records).unwrap();
        let lease = LeaseRecord {
            id: 7,
            ttl: 60,
            remaining: 0,
            generation: 1,
            bound: false,
        };
        builder.append_leases(vec![lease]).unwrap();
        let at = Some(LogId { term: 1, index: 1 });
        builder.finish(at, 6, SideChanges::default()).unwrap();
        let backup = Backup::open(&Store::open(&path, SETTINGS).unwrap()).unwrap();
        let mut bytes = Vec::new();
        backup.stream(&mut bytes).unwrap();
        let file = dir.join("snapshot.db");
        std::fs::write(&file, bytes).unwrap();
        BackupFile::open(&file).unwrap()
    }

    #[test]
    fn a_key_of_a_lease_that_the_file_does_not_have_is_of_none_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let destiny = Destiny {
            at: LogId { term: 1, index: 1 },
            membership: Bytes::new(),
            bump: 0,
        };
        let dest = dir.path().join("to.redb");
        let imported = snapshot(dir.path()).import(&dest, &destiny, &mut |_| {});
        assert_eq!(imported.unwrap().records, 5);
        let store = Store::open(&dest, SETTINGS).unwrap();
        let found = |key: &'static str, revision| {
            let range = RangeRequest {
                key: key.into(),
                revision,
                ..RangeRequest::default()
            };
            let kv = store.read().range(&range).unwrap().kvs.remove(0);
            (kv.lease, kv.value.len())
        };
        assert_eq!(found("lost", 0), (0, 10));
        assert_eq!(found("kept", 0), (7, 10));
        assert_eq!(found("once", 0), (0, 10));
        assert_eq!(found("once", 4), (9, 10), "history");
        assert_eq!(found("large", 0), (0, 5_000));

        let grant = LeaseGrant {
            id: 9,
            ttl: 60,
            ..LeaseGrant::default()
        };
        let mut txn = store.begin();
        let request = Some(Request::LeaseGrant(grant));
        apply(&mut txn, Command { request }).unwrap();
        txn.commit(LogId { term: 1, index: 2 });
        store.checkpoint(LogId::MAX, 10).unwrap();
        assert!(store.lease_keys(9).is_empty());
        drop(store);
        // A start must derive what a running member knows.
        let again = Store::open(&dest, SETTINGS).unwrap();
        assert!(again.lease(9).is_some());
        assert!(again.lease_keys(9).is_empty());
        assert_eq!(again.lease_keys(7), ["kept"]);
    }
}
