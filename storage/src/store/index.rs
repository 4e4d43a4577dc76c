//! The key index: every key with its revisions, and as many of the newest records as a byte budget
//! allows. Readers share it; the Applier alone changes keys, the StoreWriter trims histories.
//!
//! A lock is held for at most [`KEYS_PER_HOLD`] keys, and for part of the history to trim a key
//! that was written often. Consistency comes from revisions, not from the lock: a reader ignores
//! what is newer than its view, and seeks again for the next piece.

use std::ops::Bound;

use bytes::Bytes;
use parking_lot::RwLock;

use super::history::{KeyHistory, Rev, Stamp, Trim};
use super::ordered::{OrderedKeys, within};

/// Keys visited per lock.
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
    /// The total cost of the inline records.
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

/// Where to go on with a walk that is done in pieces.
pub(super) type Resume = Option<Box<[u8]>>;

/// How far a trimming walk came.
#[derive(Debug)]
pub(super) struct Trimmed {
    key: Box<[u8]>,
    /// Set if this key has more to report, behind this place.
    known: Option<Rev>,
}

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

    /// Takes the newest change of `key` back.
    pub fn pop(&self, key: &[u8]) {
        let mut keys = self.keys.write();
        keys.drop_record(key);
        if keys.ordered.change(key, KeyHistory::pop) == Some(false) {
            keys.ordered.remove(key);
        }
    }

    /// The state of one key at `revision`.
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
    /// returns whether to go on. Returns the key to go on behind, or `None` at the end or when
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

    /// Trims the histories of the next keys behind `after` for a compaction at `revision`, until
    /// `dead` has `dead_max` places that are now unreadable, or one more. The places of one key are
    /// added oldest first, also across calls. `None` means that the last key was reached.
    pub fn trim(
        &self,
        after: Option<Trimmed>,
        revision: i64,
        dead_max: usize,
        dead: &mut Vec<Rev>,
    ) -> Option<Trimmed> {
        let from = match &after {
            None => Bound::Unbounded,
            Some(Trimmed { key, known: None }) => Bound::Excluded(&**key),
            Some(Trimmed { key, .. }) => Bound::Included(&**key),
        };
        let mut keys = self.keys.write();
        let mut at = keys.ordered.seek(from);
        let mut window = Vec::with_capacity(KEYS_PER_HOLD);
        while window.len() < KEYS_PER_HOLD
            && let Some(entry) = keys.ordered.next(&mut at)
        {
            window.push((entry.key.clone(), entry.needs_trim(revision)));
        }
        let full = window.len() == KEYS_PER_HOLD;
        let mut last = None;
        for (key, needs_trim) in window {
            let max = dead_max.saturating_sub(dead.len());
            if max == 0 {
                return last.or(after);
            }
            let mut known = None;
            if needs_trim {
                let told = after.as_ref().filter(|after| after.key == key);
                let told = told.and_then(|after| after.known);
                let trim = |entry: &mut KeyHistory| entry.trim(revision, told, max, dead);
                match keys.ordered.change(&key, trim) {
                    Some(Trim::More(place)) => known = Some(place),
                    Some(Trim::Gone) => drop(keys.ordered.remove(&key)),
                    Some(Trim::Done) | None => {}
                }
            }
            last = Some(Trimmed { key, known });
            if known.is_some() {
                return last;
            }
        }
        last.filter(|_| full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_trims_as_much_as_it_is_told_however_often_a_key_was_written() {
        let index = Index::new(0);
        let mut expected = Vec::new();
        for main in 2..1_002 {
            let keys: &[&[u8]] = match main % 300 {
                0 => &[b"a", b"hot", b"z"],
                _ => &[b"hot"],
            };
            for (sub, key) in (0..).zip(keys) {
                let rev = Rev { main, sub };
                let stamp = Stamp {
                    rev,
                    tombstone: false,
                    create: 2,
                    version: main - 1,
                };
                index.push(key, stamp, None);
                if main < if *key == b"hot" { 1_001 } else { 900 } {
                    expected.push(rev);
                }
            }
        }
        let (mut after, mut calls, mut dead) = (None, 0, Vec::new());
        loop {
            let mut now_dead = Vec::new();
            after = index.trim(after, 1_001, 100, &mut now_dead);
            assert!(now_dead.len() <= 100, "{}", now_dead.len());
            dead.append(&mut now_dead);
            calls += 1;
            if after.is_none() {
                break;
            }
        }
        assert!(calls >= 10, "{calls}");
        let behind = dead
            .iter()
            .filter(|rev| rev.sub == 0 && rev.main % 300 != 0);
        assert!(behind.is_sorted(), "the oldest of a key come first");
        dead.sort_unstable();
        assert_eq!(dead, expected);
        for key in [&b"a"[..], b"hot", b"z"] {
            assert!(index.get(key, 1_001).is_some());
        }
    }
}
