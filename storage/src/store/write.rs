//! Writing: the changes of one entry, made in the index at once and visible at `commit`.

use std::cell::Cell;
use std::sync::Arc;

use althing_api::error::Error;
use althing_api::etcdserverpb::AlarmType;
use althing_api::mvccpb::{Event, KeyValue};
use althing_api::range::KeyRange;
use bytes::Bytes;

use super::alarm::AlarmRecord;
use super::error::DiskError;
use super::events::event;
use super::history::{Rev, Stamp};
use super::lease::{LeaseFact, LeaseRecord, Touch};
use super::pending::{PendingRecord, SideChanges};
use super::read::Keyspace;
use super::{MemberRecord, Shared, record};
use crate::entry::LogId;

/// The changes of one entry: all visible at once at `commit`, under one new revision if any key
/// changed. If it is dropped instead, its changes are taken back.
#[derive(Debug)]
pub struct WriteTxn {
    shared: Arc<Shared>,
    /// The revision that the transaction began at; its changes get the next one.
    base: i64,
    changes: Vec<Change>,
    side: SideChanges,
    /// Whether a full disk kept it from reading what it had to.
    is_starved: Cell<bool>,
}

#[derive(Debug)]
struct Change {
    pending: PendingRecord,
    /// Decoded from the record, whose bytes it shares.
    kv: KeyValue,
}

/// What one applied entry changed.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// The store's revision after the entry.
    pub revision: i64,
    /// The entry's events, in order. `prev_kv` is not set.
    pub events: Vec<Event>,
    /// What happened to leases, by their ids.
    pub leases: Vec<(i64, LeaseFact)>,
}

impl Keyspace for WriteTxn {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn revision(&self) -> i64 {
        self.base + i64::from(self.is_changed())
    }

    fn unreadable(&self, error: DiskError) -> Error {
        let error = self.shared.remember(error);
        if error == Error::NoSpace {
            self.is_starved.set(true);
        }
        error
    }

    fn own_record(&self, rev: Rev) -> Option<Bytes> {
        if rev.main <= self.base {
            return None;
        }
        let change = self.changes.get(rev.sub as usize)?;
        Some(change.pending.record.clone())
    }
}

impl WriteTxn {
    pub(super) fn begin(shared: Arc<Shared>) -> WriteTxn {
        let base = shared.published.read().current;
        WriteTxn {
            shared,
            base,
            changes: Vec::new(),
            side: SideChanges::default(),
            is_starved: Cell::new(false),
        }
    }

    /// Whether a read failed because a full disk keeps the store's file closed. The transaction is
    /// then incomplete: drop it, and begin again after a while.
    pub fn is_starved(&self) -> bool {
        self.is_starved.get()
    }

    fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    fn next_rev(&self) -> Rev {
        let sub = u32::try_from(self.changes.len());
        Rev {
            main: self.base + 1,
            sub: sub.expect("an entry is far smaller than 4 G changes"),
        }
    }

    fn push(&mut self, stamp: Stamp, kv: &KeyValue) {
        let record = record::encode(kv);
        let kv = record::decode(&record).expect("it was encoded just now");
        let inline = (!stamp.tombstone).then(|| record.clone());
        self.shared.index.push(&kv.key, stamp, inline);
        let pending = PendingRecord {
            rev: stamp.rev,
            tombstone: stamp.tombstone,
            record,
        };
        self.changes.push(Change { pending, kv });
    }

    /// Writes a key. Returns the new revision.
    pub(crate) fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> i64 {
        let rev = self.next_rev();
        let former = self.shared.index.stamp_at(&key, rev.main);
        let former = former.filter(|stamp| !stamp.tombstone);
        let stamp = Stamp {
            rev,
            tombstone: false,
            create: former.map_or(rev.main, |former| former.create),
            version: former.map_or(0, |former| former.version) + 1,
        };
        let kv = KeyValue {
            key,
            create_revision: stamp.create,
            mod_revision: rev.main,
            version: stamp.version,
            value,
            lease,
        };
        self.push(stamp, &kv);
        rev.main
    }

    /// Deletes the keys of `range`. Returns how many they were.
    pub(crate) fn delete_range(&mut self, range: &KeyRange) -> i64 {
        let keys = super::read::keys(self, range);
        let deleted = keys.len() as i64;
        keys.into_iter().for_each(|key| self.delete(key));
        deleted
    }

    /// Deletes one key, which exists.
    fn delete(&mut self, key: Bytes) {
        let stamp = Stamp {
            rev: self.next_rev(),
            tombstone: true,
            create: 0,
            version: 0,
        };
        let kv = KeyValue {
            key,
            ..KeyValue::default()
        };
        self.push(stamp, &kv);
    }

    /// Makes everything below `revision` unreadable. Errors: `Compacted`, `FutureRevision`.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted() {
            return Err(Error::Compacted);
        }
        if revision > self.base {
            return Err(Error::FutureRevision);
        }
        self.side.compact = Some(revision);
        Ok(())
    }

    /// A lease as it was before this entry.
    pub(crate) fn lease(&self, id: i64) -> Option<LeaseRecord> {
        self.shared.leases.read().get(id)
    }

    /// Grants or changes a lease.
    pub(crate) fn set_lease(&mut self, lease: LeaseRecord) {
        self.side.leases.insert(lease.id, Some(lease));
    }

    /// Ends a lease and deletes its keys, in order.
    pub(crate) fn end_lease(&mut self, id: i64) {
        let keys = self.shared.leases.read().keys(id);
        keys.into_iter().for_each(|key| self.delete(key));
        self.side.leases.insert(id, None);
    }

    /// Whether any member had raised an alarm of this kind before this entry.
    pub(crate) fn has_alarm(&self, alarm: AlarmType) -> bool {
        self.shared.published.read().alarms.has(alarm)
    }

    /// An alarm as it was before this entry.
    pub(crate) fn alarm(&self, alarm: AlarmType, member_id: u64) -> Option<AlarmRecord> {
        self.shared.published.read().alarms.get((alarm, member_id))
    }

    /// Whether this member was removed before this entry.
    pub(crate) fn is_removed(&self, member_id: u64) -> bool {
        self.shared.published.read().removed.contains(&member_id)
    }

    /// Raises an alarm that is not active.
    pub(crate) fn raise_alarm(&mut self, record: AlarmRecord) {
        let key = (record.alarm, record.member_id);
        self.side.alarms.insert(key, Some(record.clears_itself));
    }

    /// Ends an alarm.
    pub(crate) fn end_alarm(&mut self, alarm: AlarmType, member_id: u64) {
        self.side.alarms.insert((alarm, member_id), None);
    }

    /// Notes the level that the cluster is being taken down to; empty if it no longer is.
    pub(crate) fn set_downgrade(&mut self, target: String) {
        self.side.downgrade = Some(target);
    }

    /// Records what a member told about itself, unless it was removed before.
    pub(crate) fn publish_member(&mut self, member: MemberRecord) {
        if !self.is_removed(member.id) {
            self.side.members.push(member);
        }
    }

    /// Sets the cluster version.
    pub(crate) fn set_cluster_version(&mut self, version: String) {
        self.side.cluster_version = Some(version);
    }

    /// Publishes the changes under the entry's id. Returns the events made, in order (none if there
    /// is no new revision), and the revision after the entry.
    ///
    /// # Panics
    /// If the transaction is starved.
    pub fn commit(mut self, id: LogId) -> Committed {
        assert!(!self.is_starved(), "half an entry must not become visible");
        let changes = std::mem::take(&mut self.changes);
        let mut side = std::mem::take(&mut self.side);
        let leases = self.commit_leases(&changes, &mut side);
        let mut records = Vec::with_capacity(changes.len());
        let mut events = Vec::with_capacity(changes.len());
        for Change { pending, kv } in changes {
            events.push(event(pending.rev, pending.tombstone, kv));
            records.push(pending);
        }
        let revision = self.shared.publish(id, records, side);
        Committed {
            revision,
            events,
            leases,
        }
    }

    /// Most entries touch no lease, and must not pay for those that do.
    fn commit_leases(&self, changes: &[Change], side: &mut SideChanges) -> Vec<(i64, LeaseFact)> {
        let attaches = changes.iter().any(|change| change.kv.lease != 0);
        if !attaches && side.leases.is_empty() {
            let detaches = !changes.is_empty() && !self.shared.leases.read().is_detached();
            if !detaches {
                return Vec::new();
            }
        }
        let touches = changes.iter().map(|change| Touch {
            key: &change.kv.key,
            lease: change.kv.lease,
        });
        let mut leases = self.shared.leases.write();
        leases.commit(&mut side.leases, touches)
    }
}

impl Drop for WriteTxn {
    fn drop(&mut self) {
        for change in self.changes.drain(..).rev() {
            self.shared.index.pop(&change.kv.key);
        }
    }
}

impl Shared {
    /// Makes an entry visible as a whole. Returns the revision after it.
    pub(super) fn publish(&self, id: LogId, records: Vec<PendingRecord>, side: SideChanges) -> i64 {
        let before = self.published.read().current;
        let revision = before + i64::from(!records.is_empty());
        // Pending first: a reader of the new revision must find its records.
        self.pending
            .write()
            .push(id, revision, records, side.clone());
        let mut published = self.published.write();
        published.current = revision;
        published.applied.log_id = Some(id);
        published.applied.membership = side.membership.or(published.applied.membership.take());
        if let Some(revision) = side.compact {
            published.compact(revision);
        }
        for member in side.members {
            let members = &mut published.members;
            match members.binary_search_by_key(&member.id, |known| known.id) {
                Ok(position) => members[position] = member,
                Err(position) => members.insert(position, member),
            }
        }
        published.alarms.commit(side.alarms);
        if let Some(target) = side.downgrade {
            published.downgrade_target = Some(target).filter(|target| !target.is_empty());
        }
        for id in side.removed {
            published.members.retain(|member| member.id != id);
            published.removed.insert(id);
        }
        if let Some(version) = side.cluster_version {
            published.cluster_version = Some(version);
        }
        revision
    }
}
