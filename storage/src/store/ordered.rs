//! An ordered set of keys that counts: sorted chunks of sorted keys, with the number of live keys
//! of each chunk beside them, so that the size of a range is a sum over counters and not a walk.
//!
//! A chunk's counter describes the newest state. A reader at an older revision may use it when
//! nothing in the chunk changed since (`newest`), and walks the chunk otherwise.

use std::ops::Bound;

use super::history::KeyHistory;

/// Keys per chunk at most. Small enough that an insert moves little, large enough that a million
/// keys need only some thousand counters.
const CHUNK_KEYS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Chunk {
    keys: Vec<KeyHistory>,
}

/// Where a key is, or would be. Valid until the next change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    chunk: usize,
    slot: usize,
}

/// The ordered set. The three vectors run in parallel; no chunk is empty.
#[derive(Debug, Default)]
pub(super) struct OrderedKeys {
    chunks: Vec<Chunk>,
    /// Keys of the chunk that exist in the newest state.
    live: Vec<u32>,
    /// At least the newest revision of any key of the chunk.
    newest: Vec<i64>,
}

impl OrderedKeys {
    fn find(&self, key: &[u8]) -> Result<Position, Position> {
        let after = self
            .chunks
            .partition_point(|chunk| *chunk.keys[0].key <= *key);
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

    /// The key at `at`, which moves on.
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

    /// Changes the history of a key that is here; `None` when it is not.
    pub fn change<R>(&mut self, key: &[u8], f: impl FnOnce(&mut KeyHistory) -> R) -> Option<R> {
        let at = self.find(key).ok()?;
        let entry = &mut self.chunks[at.chunk].keys[at.slot];
        let was_live = entry.is_live();
        let result = f(entry);
        let is_live = entry.is_live();
        let newest = &mut self.newest[at.chunk];
        *newest = entry.latest().rev.main.max(*newest);
        let live = &mut self.live[at.chunk];
        *live = *live - u32::from(was_live) + u32::from(is_live);
        Some(result)
    }

    /// Adds a key that is not here yet.
    pub fn insert(&mut self, entry: KeyHistory) {
        let at = self.find(&entry.key).expect_err("the key is new");
        if self.chunks.is_empty() {
            self.push_chunk(0);
        }
        let at = if self.chunks[at.chunk].keys.len() < CHUNK_KEYS_MAX {
            at
        } else {
            self.make_room(at)
        };
        self.live[at.chunk] += u32::from(entry.is_live());
        let newest = &mut self.newest[at.chunk];
        *newest = entry.latest().rev.main.max(*newest);
        self.chunks[at.chunk].keys.insert(at.slot, entry);
    }

    fn push_chunk(&mut self, position: usize) {
        self.chunks.insert(position, Chunk::default());
        self.live.insert(position, 0);
        self.newest.insert(position, 0);
    }

    /// Splits a full chunk in halves; behind the last key a new chunk is opened instead, so that
    /// keys written in order fill their chunks.
    fn make_room(&mut self, at: Position) -> Position {
        let next = at.chunk + 1;
        self.push_chunk(next);
        if next + 1 == self.chunks.len() && at.slot == CHUNK_KEYS_MAX {
            return Position {
                chunk: next,
                slot: 0,
            };
        }
        let half = CHUNK_KEYS_MAX / 2;
        let mut moved = Vec::with_capacity(CHUNK_KEYS_MAX);
        moved.extend(self.chunks[at.chunk].keys.drain(half..));
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
    /// steps (a chunk's counter or a key looked at is one). Returns the count, and the key to go
    /// on behind if the budget ended first.
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
