//! The key index: every key with its revisions, and as many of the newest records as a byte budget
//! allows. Readers share it; the Applier alone changes keys, the StoreWriter trims histories.
//!
//! A lock is held for at most [`KEYS_PER_HOLD`] keys. Consistency comes from revisions, not from
//! the lock: a reader ignores what is newer than its view and seeks again for the next piece.

use std::ops::Bound;

use bytes::Bytes;
use parking_lot::RwLock;

use super::history::{KeyHistory, Rev, Stamp};
use super::ordered::{OrderedKeys, within};

/// Keys looked at per lock.
pub(super) const KEYS_PER_HOLD: usize = 256;
/// Steps of a count per lock; most steps are one addition.
const COUNT_STEPS_PER_HOLD: usize = 4096;
/// Records above this size are never kept inline.
const INLINE_RECORD_BYTES_MAX: usize = 64 * 1024;
/// What a record costs beyond its bytes: its two allocations' headers.
const RECORD_OVERHEAD_BYTES: usize = 64;

#[derive(Debug, Default)]
struct Keys {
    ordered: OrderedKeys,
    /// Cost of the inline records.
    cached_bytes: usize,
    /// The chunk from which the next records are evicted.
    hand: usize,
}

/// The index. See the module's head.
#[derive(Debug)]
pub(super) struct Index {
    keys: RwLock<Keys>,
    cache_bytes_max: usize,
}

/// A key's state at a revision, as the index knows it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub stamp: Stamp,
    /// The record, if it was inline.
    pub record: Option<Bytes>,
}

/// The pieces of a walk: where to go on.
pub(super) type Resume = Option<Box<[u8]>>;

fn cost(record: &Bytes) -> usize {
    record.len() + RECORD_OVERHEAD_BYTES
}

impl Keys {
    fn drop_record(&mut self, key: &[u8]) {
        let old = self.ordered.change(key, |entry| entry.record.take());
        self.cached_bytes -= old.flatten().as_ref().map_or(0, cost);
    }

    /// Second-chance eviction, a chunk at a time. Two rounds clear every mark, so it ends.
    fn evict(&mut self, bytes_max: usize) {
        let mut chunks_left = 2 * self.ordered.chunk_count();
        while self.cached_bytes > bytes_max && chunks_left > 0 {
            chunks_left -= 1;
            self.hand = (self.hand + 1) % self.ordered.chunk_count();
            for entry in self.ordered.chunk_mut(self.hand) {
                if !entry.cool()
                    && let Some(record) = entry.record.take()
                {
                    self.cached_bytes -= cost(&record);
                }
            }
        }
    }
}

impl Index {
    pub fn new(cache_bytes_max: usize) -> Index {
        Index {
            keys: RwLock::default(),
            cache_bytes_max,
        }
    }

    /// Adds a change to `key`. `record` is its record, absent for a tombstone or a large value.
    pub fn push(&self, key: &[u8], stamp: Stamp, record: Option<Bytes>) {
        let record = record.filter(|record| record.len() <= INLINE_RECORD_BYTES_MAX);
        let mut keys = self.keys.write();
        keys.cached_bytes += record.as_ref().map_or(0, cost);
        let former = keys.ordered.push(key, stamp, record);
        keys.cached_bytes -= former.as_ref().map_or(0, cost);
        if keys.cached_bytes > self.cache_bytes_max {
            keys.evict(self.cache_bytes_max);
        }
    }

    /// Takes back the newest change of `key`.
    pub fn pop(&self, key: &[u8]) {
        let mut keys = self.keys.write();
        keys.drop_record(key);
        if keys.ordered.change(key, KeyHistory::pop) == Some(false) {
            keys.ordered.remove(key);
        }
    }

    /// One key at `revision`.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<Found> {
        let keys = self.keys.read();
        let entry = keys.ordered.get(key)?;
        let stamp = entry.live_at(revision)?;
        let record = entry.record_of(stamp.rev).cloned();
        Some(Found { stamp, record })
    }

    /// The stamp of `key` at `revision`, tombstones included.
    pub fn stamp_at(&self, key: &[u8], revision: i64) -> Option<Stamp> {
        self.keys.read().ordered.get(key)?.at(revision)
    }

    /// Visits at most one lock's worth of keys that exist at `revision`, in key order; `visit`
    /// answers whether to go on. Returns the key behind which to go on, `None` at the end or when
    /// `visit` had enough.
    pub fn visit(
        &self,
        from: Bound<&[u8]>,
        until: Bound<&[u8]>,
        revision: i64,
        mut visit: impl FnMut(&[u8], Stamp, Option<&Bytes>) -> bool,
    ) -> Resume {
        let keys = self.keys.read();
        let mut at = keys.ordered.seek(from);
        let mut last = None;
        for _ in 0..KEYS_PER_HOLD {
            let entry = keys.ordered.next(&mut at)?;
            if !within(&entry.key, until) {
                return None;
            }
            if let Some(stamp) = entry.live_at(revision)
                && !visit(&entry.key, stamp, entry.record_of(stamp.rev))
            {
                return None;
            }
            last = Some(&entry.key);
        }
        last.cloned()
    }

    /// Number of keys that exist at `revision` inside the bounds.
    pub fn count(&self, from: Bound<&[u8]>, until: Bound<&[u8]>, revision: i64) -> i64 {
        let steps = COUNT_STEPS_PER_HOLD;
        let (mut count, mut resume) = self.keys.read().ordered.count(from, until, revision, steps);
        while let Some(last) = resume {
            let from = Bound::Excluded(&*last);
            let (more, next) = self.keys.read().ordered.count(from, until, revision, steps);
            count += more;
            resume = next;
        }
        count
    }

    /// Number of keys in the newest state.
    pub fn live(&self) -> u64 {
        self.keys.read().ordered.live()
    }

    /// Trims the histories of the next keys behind `after` for a compaction at `revision`; the
    /// places that are now unreadable go to `dead`. `None`: the last key was reached.
    pub fn trim(&self, after: Option<&[u8]>, revision: i64, dead: &mut Vec<Rev>) -> Resume {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = self.keys.write();
        let mut at = keys.ordered.seek(from);
        let mut window = Vec::with_capacity(KEYS_PER_HOLD);
        while window.len() < KEYS_PER_HOLD
            && let Some(entry) = keys.ordered.next(&mut at)
        {
            window.push((entry.key.clone(), entry.needs_trim(revision)));
        }
        for (key, needs_trim) in &window {
            if *needs_trim
                && keys.ordered.change(key, |entry| entry.trim(revision, dead)) == Some(false)
            {
                keys.ordered.remove(key);
            }
        }
        let full = window.len() == KEYS_PER_HOLD;
        window.pop().map(|(key, _)| key).filter(|_| full)
    }
}
