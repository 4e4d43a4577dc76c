//! An ordered set of keys that counts: sorted chunks of sorted keys, with the number of live keys
//! beside each chunk, so that the size of a range is a sum over counters and not a walk.
//!
//! A chunk's counter describes the newest state. A reader at an older revision may use it if
//! nothing in the chunk changed since (`newest`), and walks the chunk otherwise.

use std::ops::Bound;

use bytes::Bytes;

use super::history::{KeyHistory, Stamp};

/// Keys per chunk at most. Small enough that an insert moves little, large enough that a million
/// keys need only some thousand counters.
const CHUNK_KEYS_MAX: usize = 256;

/// Room that is added to a full chunk. A vector would double itself; but splits leave chunks half
/// full for good if keys come nearly in order, and that unused room is half of the index.
const CHUNK_GROWTH_KEYS: usize = 32;

#[derive(Debug, Default)]
struct Chunk {
    keys: Vec<KeyHistory>,
}

/// The place of a key, or where it would be. Valid until the next change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    chunk: usize,
    slot: usize,
}

/// The ordered set. The vectors run in parallel; no chunk is empty.
#[derive(Debug, Default)]
pub(super) struct OrderedKeys {
    chunks: Vec<Chunk>,
    /// Keys of chunk `i` are at least `heads[i]` and below `heads[i + 1]`; the first head counts as
    /// the smallest key. Beside the chunks, so that a search touches few cache lines.
    heads: Vec<Box<[u8]>>,
    /// Keys of the chunk that exist in the newest state.
    live: Vec<u32>,
    /// At least the newest revision of any key of the chunk.
    newest: Vec<i64>,
}

impl OrderedKeys {
    fn find(&self, key: &[u8]) -> Result<Position, Position> {
        let after = self.heads.partition_point(|head| **head <= *key);
        let chunk = after.saturating_sub(1);
        let Some(found) = self.chunks.get(chunk) else {
            return Err(Position { chunk: 0, slot: 0 });
        };
        match found.keys.binary_search_by(|entry| (*entry.key).cmp(key)) {
            Ok(slot) => Ok(Position { chunk, slot }),
            Err(slot) => Err(Position { chunk, slot }),
        }
    }

    /// The history of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&KeyHistory> {
        let at = self.find(key).ok()?;
        Some(&self.chunks[at.chunk].keys[at.slot])
    }

    /// The first key inside the bound.
    pub fn seek(&self, from: Bound<&[u8]>) -> Position {
        match from {
            Bound::Unbounded => Position { chunk: 0, slot: 0 },
            Bound::Included(key) => self.find(key).unwrap_or_else(|at| at),
            Bound::Excluded(key) => match self.find(key) {
                Ok(at) => Position {
                    slot: at.slot + 1,
                    ..at
                },
                Err(at) => at,
            },
        }
    }

    /// The key at `at`, which is moved on.
    pub fn next(&self, at: &mut Position) -> Option<&KeyHistory> {
        loop {
            let chunk = self.chunks.get(at.chunk)?;
            if let Some(entry) = chunk.keys.get(at.slot) {
                at.slot += 1;
                return Some(entry);
            }
            *at = Position {
                chunk: at.chunk + 1,
                slot: 0,
            };
        }
    }

    /// Adds a change of `key`, with its record. Returns the record that was inline before.
    pub fn push(&mut self, key: &[u8], stamp: Stamp, record: Option<Bytes>) -> Option<Bytes> {
        match self.find(key) {
            Ok(at) => self.change_at(at, |entry| {
                entry.push(stamp);
                std::mem::replace(&mut entry.record, record)
            }),
            Err(at) => {
                let mut entry = KeyHistory::new(key, stamp);
                entry.record = record;
                self.insert_at(at, entry);
                None
            }
        }
    }

    /// Changes the history of a key; `None` if the key is not here.
    pub fn change<R>(&mut self, key: &[u8], f: impl FnOnce(&mut KeyHistory) -> R) -> Option<R> {
        let at = self.find(key).ok()?;
        Some(self.change_at(at, f))
    }

    fn change_at<R>(&mut self, at: Position, f: impl FnOnce(&mut KeyHistory) -> R) -> R {
        let entry = &mut self.chunks[at.chunk].keys[at.slot];
        let was_live = entry.is_live();
        let result = f(entry);
        let is_live = entry.is_live();
        let newest = &mut self.newest[at.chunk];
        *newest = entry.latest().rev.main.max(*newest);
        let live = &mut self.live[at.chunk];
        *live = *live - u32::from(was_live) + u32::from(is_live);
        result
    }

    fn insert_at(&mut self, at: Position, entry: KeyHistory) {
        if self.chunks.is_empty() {
            self.push_chunk(0, entry.key.clone());
        }
        let at = if self.chunks[at.chunk].keys.len() < CHUNK_KEYS_MAX {
            at
        } else {
            self.make_room(at, &entry.key)
        };
        self.live[at.chunk] += u32::from(entry.is_live());
        let newest = &mut self.newest[at.chunk];
        *newest = entry.latest().rev.main.max(*newest);
        let keys = &mut self.chunks[at.chunk].keys;
        if keys.len() == keys.capacity() {
            keys.reserve_exact(CHUNK_GROWTH_KEYS);
        }
        keys.insert(at.slot, entry);
    }

    fn push_chunk(&mut self, position: usize, head: Box<[u8]>) {
        self.heads.insert(position, head);
        self.chunks.insert(position, Chunk::default());
        self.live.insert(position, 0);
        self.newest.insert(position, 0);
    }

    /// Splits a full chunk into halves; behind the last key a new chunk is opened instead, so that
    /// keys written in order fill their chunks.
    fn make_room(&mut self, at: Position, key: &[u8]) -> Position {
        let next = at.chunk + 1;
        if next == self.chunks.len() && at.slot == CHUNK_KEYS_MAX {
            self.push_chunk(next, key.into());
            return Position {
                chunk: next,
                slot: 0,
            };
        }
        let half = CHUNK_KEYS_MAX / 2;
        self.push_chunk(next, self.chunks[at.chunk].keys[half].key.clone());
        let mut moved = Vec::with_capacity(half + CHUNK_GROWTH_KEYS);
        moved.extend(self.chunks[at.chunk].keys.drain(half..));
        self.chunks[at.chunk]
            .keys
            .shrink_to(half + CHUNK_GROWTH_KEYS);
        let live = moved.iter().filter(|entry| entry.is_live()).count() as u32;
        self.chunks[next].keys = moved;
        self.live[next] = live;
        self.live[at.chunk] -= live;
        self.newest[next] = self.newest[at.chunk];
        if at.slot > half {
            Position {
                chunk: next,
                slot: at.slot - half,
            }
        } else {
            at
        }
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) -> Option<KeyHistory> {
        let at = self.find(key).ok()?;
        let entry = self.chunks[at.chunk].keys.remove(at.slot);
        self.live[at.chunk] -= u32::from(entry.is_live());
        if self.chunks[at.chunk].keys.is_empty() {
            self.chunks.remove(at.chunk);
            self.heads.remove(at.chunk);
            self.live.remove(at.chunk);
            self.newest.remove(at.chunk);
        }
        Some(entry)
    }

    /// Number of keys in the newest state.
    pub fn live(&self) -> u64 {
        self.live.iter().map(|live| u64::from(*live)).sum()
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// The keys of one chunk. The caller changes records only, not revisions.
    pub fn chunk_mut(&mut self, chunk: usize) -> &mut [KeyHistory] {
        &mut self.chunks[chunk].keys
    }

    /// Counts keys that exist at `revision`, from `from` up to `until`, spending about `budget`
    /// steps (a chunk's counter or a visited key is one). Returns the count, and the key to go on
    /// behind if the budget ended first.
    pub fn count(
        &self,
        from: Bound<&[u8]>,
        until: Bound<&[u8]>,
        revision: i64,
        mut budget: usize,
    ) -> (i64, Option<Box<[u8]>>) {
        let mut at = self.seek(from);
        let mut count = 0;
        let mut last: Option<&KeyHistory> = None;
        while let Some(chunk) = self.chunks.get(at.chunk) {
            if at.slot >= chunk.keys.len() {
                // Behind the last key of a chunk this costs no step, or a spent budget would never
                // move on.
                at = Position {
                    chunk: at.chunk + 1,
                    slot: 0,
                };
                continue;
            }
            if budget == 0
                && let Some(last) = last
            {
                return (count, Some(last.key.clone()));
            }
            let end = match chunk.keys.last() {
                Some(entry) if within(&entry.key, until) => chunk.keys.len(),
                _ => chunk
                    .keys
                    .partition_point(|entry| within(&entry.key, until)),
            };
            if at.slot == 0 && end == chunk.keys.len() && self.newest[at.chunk] <= revision {
                count += i64::from(self.live[at.chunk]);
                budget = budget.saturating_sub(1);
            } else {
                let keys = chunk.keys.get(at.slot..end).unwrap_or_default();
                let live = keys
                    .iter()
                    .filter(|entry| entry.live_at(revision).is_some());
                count += live.count() as i64;
                budget = budget.saturating_sub(keys.len());
            }
            if end < chunk.keys.len() {
                break;
            }
            last = chunk.keys.last();
            at = Position {
                chunk: at.chunk + 1,
                slot: 0,
            };
        }
        (count, None)
    }
}

/// Whether `key` is not behind the upper bound.
pub(super) fn within(key: &[u8], until: Bound<&[u8]>) -> bool {
    match until {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::history::Rev;
    use super::*;

    fn stamp(main: i64, tombstone: bool) -> Stamp {
        Stamp {
            rev: Rev { main, sub: 0 },
            tombstone,
            create: 0,
            version: 0,
        }
    }

    fn walk(keys: &OrderedKeys, from: u16) -> Vec<Vec<u8>> {
        let mut at = keys.seek(Bound::Included(&from.to_be_bytes()));
        let next = || keys.next(&mut at).map(|entry| entry.key.to_vec());
        std::iter::from_fn(next).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_walks_and_counts_like_a_map(
            ops in prop::collection::vec((0u16..1500, 0u8..10), 1..3000),
            ranges in prop::collection::vec((0u16..1500, 0u16..1500, 0usize..40), 1..20),
        ) {
            let mut keys = OrderedKeys::default();
            let mut map = BTreeMap::new();
            let mut halfway = BTreeMap::new();
            let half = ops.len() as i64 / 2;
            for (position, (number, kind)) in ops.iter().enumerate() {
                let key = number.to_be_bytes();
                let main = position as i64 + 1;
                match kind {
                    0..7 => {
                        keys.push(&key, stamp(main, false), None);
                        map.insert(key.to_vec(), true);
                    }
                    7..9 if map.contains_key(key.as_slice()) => {
                        keys.push(&key, stamp(main, true), None);
                        map.insert(key.to_vec(), false);
                    }
                    // Only later keys vanish, so that the state halfway stays readable.
                    9 if main > half && !halfway.contains_key(key.as_slice()) => {
                        let removed = keys.remove(&key).is_some();
                        prop_assert_eq!(removed, map.remove(key.as_slice()).is_some());
                    }
                    _ => {}
                }
                if main == half {
                    halfway = map.clone();
                }
            }
            let live = map.values().filter(|live| **live).count();
            prop_assert_eq!(keys.live(), live as u64);
            for (from, until, budget) in ranges {
                let walked = walk(&keys, from);
                let from = from.to_be_bytes().to_vec();
                let behind = map.range(from.clone()..);
                let expected: Vec<_> = behind.map(|(key, _)| key.clone()).collect();
                prop_assert_eq!(walked, expected);
                let until = until.to_be_bytes();
                for (revision, state) in [(ops.len() as i64, &map), (half, &halfway)] {
                    let inside = |key: &[u8]| key >= &from[..] && key < &until[..];
                    let expected = state.iter().filter(|(key, live)| **live && inside(key)).count();
                    let end = Bound::Excluded(&until[..]);
                    let (mut count, mut resume) =
                        keys.count(Bound::Included(&from), end, revision, budget);
                    while let Some(last) = resume {
                        let from = Bound::Excluded(&*last);
                        let (more, next) = keys.count(from, end, revision, budget);
                        count += more;
                        resume = next;
                    }
                    prop_assert_eq!(count, expected as i64);
                }
            }
        }
    }
}
