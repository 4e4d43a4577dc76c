//! History: the changes between two revisions as events, in the order in which they happened, in
//! slices. Watchers read from here what they missed.
//!
//! The newest changes are in `pending`, all older ones in redb. `pending` is read first: what is
//! not there was committed to redb before, so a view of redb opened afterwards shows it, and no
//! change falls between the two.

use std::ops::RangeInclusive;

use althing_api::error::Error;
use althing_api::mvccpb::event::EventType;
use althing_api::mvccpb::{Event, KeyValue};
use bytes::Bytes;

use super::disk_view::{DiskView, StoredRecord};
use super::error::DiskError;
use super::history::Rev;
use super::pending::PendingRecord;
use super::read::{Keyspace, ReadView, get, resolve};
use super::{Shared, record};

/// How large one slice of history may be. Revisions are never cut, so the last one may exceed it.
#[derive(Clone, Copy, Debug)]
pub struct SliceLimits {
    /// Changes visited, whether wanted or not.
    pub changes_max: usize,
    /// Bytes of wanted records.
    pub bytes_max: usize,
}

/// A piece of history.
#[derive(Clone, Debug, Default)]
pub struct HistorySlice {
    /// All wanted events of the revisions below `next`, in order. `prev_kv` is not set.
    pub events: Vec<Event>,
    /// The revision where the next slice begins; beyond the view's revision if this was the last
    /// one.
    pub next: i64,
}

impl ReadView {
    /// The events of the revisions from `from` to the view's own, for keys that `wants` accepts.
    /// Errors: `Compacted` if `from` is below the compacted revision; otherwise as for
    /// [`ReadView::range`].
    pub fn history(
        &self,
        from: i64,
        limits: SliceLimits,
        mut wants: impl FnMut(&[u8]) -> bool,
    ) -> Result<HistorySlice, Error> {
        if from < self.compacted() {
            return Err(Error::Compacted);
        }
        read_history(self.shared(), from..=self.revision(), limits, &mut wants)
    }

    /// The record of `key` at `revision`, if the key existed then. Errors: `Compacted`,
    /// `FutureRevision`; otherwise as for [`ReadView::range`].
    pub fn key_at(&self, key: &Bytes, revision: i64) -> Result<Option<KeyValue>, Error> {
        let revision = resolve(self, revision)?;
        get(self, key, revision, false)
    }

    /// The compacted revision, below which nothing can be read; 0 if nothing was compacted.
    pub fn compacted_revision(&self) -> i64 {
        self.compacted().max(0)
    }
}

/// The events of `revisions`, none of which may be deleted meanwhile. See [`ReadView::history`].
pub(super) fn read_history(
    shared: &Shared,
    revisions: RangeInclusive<i64>,
    limits: SliceLimits,
    wants: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<HistorySlice, Error> {
    let (from, until) = revisions.into_inner();
    let mut slice = Slice {
        shared,
        limits,
        wants,
        events: Vec::new(),
        changes: 0,
        bytes: 0,
        last: from - 1,
    };
    if from > until {
        return Ok(slice.end(from));
    }
    let (pending, on_disk) = shared
        .pending
        .read()
        .between(from, until, limits.changes_max);
    if on_disk {
        let upto = pending.first().map_or(until, |first| first.rev.main - 1);
        let view = shared
            .disk()
            .view()
            .map_err(|error| shared.remember(error))?;
        if let Some(next) = slice.read_disk(&view, from, upto)? {
            return Ok(slice.end(next));
        }
    }
    if let Some(next) = slice.read_pending(pending) {
        return Ok(slice.end(next));
    }
    // If the slice is full, `pending` may have held more, since it gave no more than was asked for.
    let next = if slice.is_full() {
        slice.last + 1
    } else {
        until + 1
    };
    Ok(slice.end(next))
}

/// A slice under construction.
struct Slice<'a> {
    shared: &'a Shared,
    limits: SliceLimits,
    wants: &'a mut dyn FnMut(&[u8]) -> bool,
    events: Vec<Event>,
    changes: usize,
    bytes: usize,
    /// The last revision visited.
    last: i64,
}

impl Slice<'_> {
    fn end(self, next: i64) -> HistorySlice {
        HistorySlice {
            events: self.events,
            next,
        }
    }

    fn is_full(&self) -> bool {
        self.changes >= self.limits.changes_max || self.bytes >= self.limits.bytes_max
    }

    /// Whether a change of revision `main` belongs to the next slice.
    fn is_behind_the_end(&self, main: i64) -> bool {
        main > self.last && self.is_full()
    }

    /// Adds what redb has of the revisions from `from` to `until`. Returns where the next slice
    /// begins if this one is full.
    fn read_disk(&mut self, view: &DiskView, from: i64, until: i64) -> Result<Option<i64>, Error> {
        let shared = self.shared;
        let rows = view.revisions_between(from, until);
        for row in rows.map_err(|error| shared.remember(error))? {
            let row = row.map_err(|error| shared.remember(error))?;
            if self.is_behind_the_end(row.rev.main) {
                return Ok(Some(row.rev.main));
            }
            self.add_stored(view, row)
                .map_err(|error| shared.remember(error))?;
        }
        Ok(None)
    }

    fn add_stored(&mut self, view: &DiskView, row: StoredRecord) -> Result<(), DiskError> {
        self.note(row.rev);
        let damaged = || view.damaged("the record", row.rev);
        let mut kv = record::decode(&row.record).map_err(|_| damaged())?;
        if !(self.wants)(&kv.key) {
            return Ok(());
        }
        if let Some(bytes) = row.value_apart {
            let whole = view.join_value(row.rev, &row.record, bytes)?;
            kv = record::decode(&whole).map_err(|_| damaged())?;
        }
        self.add(row.rev, row.tombstone, kv);
        Ok(())
    }

    fn read_pending(&mut self, pending: Vec<PendingRecord>) -> Option<i64> {
        for change in pending {
            if self.is_behind_the_end(change.rev.main) {
                return Some(change.rev.main);
            }
            self.note(change.rev);
            let kv = record::decode(&change.record).expect("records are encoded by this store");
            if (self.wants)(&kv.key) {
                self.add(change.rev, change.tombstone, kv);
            }
        }
        None
    }

    fn note(&mut self, rev: Rev) {
        self.changes += 1;
        self.last = rev.main;
    }

    fn add(&mut self, rev: Rev, tombstone: bool, kv: KeyValue) {
        self.bytes += kv.key.len() + kv.value.len();
        self.events.push(event(rev, tombstone, kv));
    }
}

/// A change as a watcher sees it. A deletion's record holds only the key; its event also says when.
pub(super) fn event(rev: Rev, tombstone: bool, mut kv: KeyValue) -> Event {
    let kind = if tombstone {
        kv.mod_revision = rev.main;
        EventType::Delete
    } else {
        EventType::Put
    };
    Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}
