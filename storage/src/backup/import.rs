//! Reading a backup into a store's file.

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
/// Bytes of records handed over at once, about.
const BATCH_BYTES: usize = 1 << 20;
/// Where a restored store may begin at most, so that it never runs out of revisions: at a million a
/// second the rest lasts 146,000 years.
const REVISION_MAX: i64 = i64::MAX / 2;

/// What becomes of the state beyond what the file says.
#[derive(Clone, Debug)]
pub(super) struct Destiny {
    /// Where the state stands in the new log, and the membership there.
    pub at: LogId,
    pub membership: Bytes,
    /// Added to the revision, which then counts as compacted; 0: nothing is.
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

impl BackupFile {
    /// Makes the store's file `dest` of the snapshot's keys and leases. Blocks until it is durable.
    /// `report` is told how many changes were read.
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

    /// The alarms that outlive a restore, as with etcd's. One that ends by itself does not: the
    /// member that would end it is none of the new cluster's, whose own raise it if there is cause.
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

    /// Settles at which revision the state stands, up to which it is compacted, and what is amiss.
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
            let Some(record) = self.record(main, tombstone, value)? else {
                continue;
            };
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
        Ok(imported)
    }

    /// A record as our store has it; `None` for the place holder that etcd's restore writes when it
    /// raises the revision.
    fn record(
        &self,
        main: i64,
        tombstone: bool,
        value: Vec<u8>,
    ) -> Result<Option<Bytes>, BackupError> {
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
        // Encoded again, so that equal records are equal bytes.
        Ok(Some(Bytes::from(kv.encode_to_vec())))
    }
}

fn failed(error: DiskError) -> BackupError {
    CheckpointError::from(error).into()
}
