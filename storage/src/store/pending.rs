//! What is applied but not yet in redb: the StoreWriter commits it next, and readers of records
//! that are not inline look here before they look into redb.

use std::collections::VecDeque;

use bytes::Bytes;

use super::MemberRecord;
use super::alarm::AlarmChanges;
use super::history::Rev;
use super::lease::LeaseChanges;
use crate::entry::LogId;

/// What a record costs beyond its bytes.
const RECORD_OVERHEAD_BYTES: usize = 96;
/// What a change of a lease costs, roughly.
const LEASE_CHANGE_BYTES: usize = 128;

/// One change of one key, as it goes to redb.
#[derive(Clone, Debug)]
pub(crate) struct PendingRecord {
    pub rev: Rev,
    pub tombstone: bool,
    /// The encoded KeyValue.
    pub record: Bytes,
}

/// What an entry changes besides keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct SideChanges {
    /// A membership entry's payload.
    pub membership: Option<(LogId, Bytes)>,
    /// The revision at which compaction was asked for.
    pub compact: Option<i64>,
    /// Members that published themselves, in order.
    pub members: Vec<MemberRecord>,
    /// Members that the membership no longer has. Nothing that they publish afterwards counts.
    pub removed: Vec<u64>,
    /// The cluster version that was set.
    pub cluster_version: Option<String>,
    /// The level of a downgrade that began; empty if it was given up.
    pub downgrade: Option<String>,
    /// Alarms raised and ended.
    pub alarms: AlarmChanges,
    /// Leases granted, checkpointed and ended.
    pub leases: LeaseChanges,
}

impl SideChanges {
    pub fn is_empty(&self) -> bool {
        self.membership.is_none()
            && self.compact.is_none()
            && self.members.is_empty()
            && self.removed.is_empty()
            && self.cluster_version.is_none()
            && self.downgrade.is_none()
            && self.alarms.is_empty()
            && self.leases.is_empty()
    }

    /// Adds what a later entry changed.
    pub fn absorb(&mut self, later: SideChanges) {
        self.membership = later.membership.or_else(|| self.membership.take());
        self.compact = later.compact.or(self.compact);
        self.members.extend(later.members);
        self.removed.extend(later.removed);
        self.cluster_version = later
            .cluster_version
            .or_else(|| self.cluster_version.take());
        self.downgrade = later.downgrade.or_else(|| self.downgrade.take());
        self.alarms.extend(later.alarms);
        self.leases.extend(later.leases);
    }
}

/// The end of one applied entry inside the list of records.
#[derive(Debug)]
struct Mark {
    id: LogId,
    /// The number of this entry's records.
    records: usize,
    /// The store's revision after it.
    revision: i64,
    side: Option<Box<SideChanges>>,
}

/// Whole entries, ready for one redb transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    pub applied: Option<LogId>,
    pub revision: i64,
    pub records: Vec<PendingRecord>,
    pub side: SideChanges,
    entries: usize,
}

impl Batch {
    /// A batch that does not come from a pending list.
    pub fn of(
        applied: Option<LogId>,
        revision: i64,
        records: Vec<PendingRecord>,
        side: SideChanges,
    ) -> Batch {
        Batch {
            applied,
            revision,
            records,
            side,
            entries: 0,
        }
    }
}

/// The list. Records are sorted by revision, marks by log index; both only grow at the back and
/// shrink at the front.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    records: VecDeque<PendingRecord>,
    marks: VecDeque<Mark>,
    bytes: usize,
}

fn cost(record: &PendingRecord) -> usize {
    record.record.len() + RECORD_OVERHEAD_BYTES
}

impl Mark {
    /// The number of leases that this entry changed.
    fn leases(&self) -> usize {
        self.side.as_ref().map_or(0, |side| side.leases.len())
    }
}

impl Pending {
    /// Appends one entry.
    pub fn push(
        &mut self,
        id: LogId,
        revision: i64,
        records: Vec<PendingRecord>,
        side: SideChanges,
    ) {
        self.bytes += records.iter().map(cost).sum::<usize>();
        self.bytes += side.leases.len() * LEASE_CHANGE_BYTES;
        self.marks.push_back(Mark {
            id,
            records: records.len(),
            revision,
            side: (!side.is_empty()).then(|| Box::new(side)),
        });
        self.records.extend(records);
    }

    /// The record of `rev`, if it is still here.
    pub fn get(&self, rev: Rev) -> Option<Bytes> {
        let position = self.records.partition_point(|pending| pending.rev < rev);
        let found = self.records.get(position)?;
        (found.rev == rev).then(|| found.record.clone())
    }

    /// The records of the revisions from `from` to `until`, whole revisions until there are
    /// `changes_max`, and whether older ones must be looked for in redb.
    pub fn between(&self, from: i64, until: i64, changes_max: usize) -> (Vec<PendingRecord>, bool) {
        let start = self
            .records
            .partition_point(|pending| pending.rev.main < from);
        let first = self.records.get(start).map(|pending| pending.rev.main);
        // Entries come and go whole, so a revision that is here is here completely.
        let on_disk = start == 0 && first != Some(from);
        let mut chosen: Vec<PendingRecord> = Vec::new();
        for pending in self.records.range(start..) {
            let last = chosen.last().map(|last| last.rev.main);
            let is_full = chosen.len() >= changes_max && last != Some(pending.rev.main);
            if pending.rev.main > until || is_full {
                break;
            }
            chosen.push(pending.clone());
        }
        (chosen, on_disk)
    }

    /// All records up to `revision`.
    pub fn up_to(&self, revision: i64) -> Vec<PendingRecord> {
        let records = self.records.iter();
        records
            .take_while(|pending| pending.rev.main <= revision)
            .cloned()
            .collect()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The oldest whole entries up to `flushed`: about `records_max` records and leases, and at
    /// least one entry. They stay here until [`Pending::drop_front`].
    pub fn front(&self, flushed: LogId, records_max: usize) -> Option<Batch> {
        let mut entries: usize = 0;
        let mut records = 0;
        let mut leases = 0;
        let mut side = SideChanges::default();
        for mark in &self.marks {
            if mark.id > flushed || (records + leases >= records_max && entries > 0) {
                break;
            }
            entries += 1;
            records += mark.records;
            leases += mark.leases();
            if let Some(changes) = &mark.side {
                side.absorb(SideChanges::clone(changes));
            }
        }
        let last = &self.marks[entries.checked_sub(1)?];
        Some(Batch {
            applied: Some(last.id),
            revision: last.revision,
            records: self.records.range(..records).cloned().collect(),
            side,
            entries,
        })
    }

    /// Forgets what redb now holds.
    pub fn drop_front(&mut self, batch: &Batch) {
        let marks = self.marks.drain(..batch.entries);
        let leases: usize = marks.map(|mark| mark.leases()).sum();
        self.bytes -= leases * LEASE_CHANGE_BYTES;
        let dropped = self.records.drain(..batch.records.len());
        self.bytes -= dropped.map(|record| cost(&record)).sum::<usize>();
    }
}
