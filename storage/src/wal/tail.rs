//! The readable log, shared by the thread that owns it, the WAL's writer and every reader.
//!
//! ```text
//!   purged |  on disk only (locations)  |  on disk and in memory  |  in memory only |
//!          first                        recent                    located           last
//! ```
//! The owner pushes, truncates and purges here first and then tells the WAL, in the same order. The
//! WAL reports after each flush where the entries are. A report may be about entries that the owner
//! has truncated meanwhile; both sides count truncations, so such a report is recognised.

use super::disk::DiskFile;
use super::record::{self, Decoded, Record};
use super::span::Span;
use crate::entry::{Entry, LogId};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// What an entry costs in memory besides its payload, roughly, in bytes.
const ENTRY_BYTES: usize = 96;

/// Where an entry's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub seq: u64,
    pub offset: u32,
    pub bytes: u32,
}

impl Location {
    pub(super) fn new(seq: u64, offset: u64, bytes: usize) -> Location {
        let why = "a segment is smaller than 4 GiB";
        Location {
            seq,
            offset: u32::try_from(offset).expect(why),
            bytes: u32::try_from(bytes).expect(why),
        }
    }

    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }
}

/// One flushed entry, as the WAL reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushed {
    pub index: u64,
    /// How many truncations the WAL had seen before this entry.
    pub truncations: u64,
    pub location: Location,
}

/// A segment that entries may be read from.
#[derive(Clone, Debug)]
pub(super) struct Readable {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
}

/// The readable log, shared between the writer and every reader: entries not yet flushed and the
/// recent ones from memory, older ones from the segment files.
///
/// Every `truncate_after` and `purge` here must be followed by the same call on the WAL, in the
/// same order; entries must be pushed before they are appended.
#[derive(Clone, Debug)]
pub struct LogTail {
    state: Arc<Mutex<State>>,
    tail_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    span: Span,
    flushed: Option<LogId>,
    /// The newest entries; the last one is `span.last`.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// Where entries are, from `located_first` on, without holes. An entry that has no location is
    /// in `recent`.
    located: VecDeque<Location>,
    located_first: u64,
    /// The number of truncations made here, and those that the WAL has not reported yet, each with
    /// its number and the last entry kept.
    truncations: u64,
    unreported: VecDeque<(u64, Option<LogId>)>,
    segments: BTreeMap<u64, Readable>,
}

/// What recovery hands over.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub span: Span,
    pub located: VecDeque<Location>,
    pub located_first: u64,
    pub segments: BTreeMap<u64, Readable>,
}

impl LogTail {
    pub(super) fn new(tail_bytes: usize, recovered: Recovered) -> LogTail {
        let Recovered {
            span,
            located,
            located_first,
            segments,
        } = recovered;
        let flushed = span.last;
        let state = State {
            span,
            flushed,
            located,
            located_first,
            segments,
            ..State::default()
        };
        LogTail {
            state: Arc::new(Mutex::new(state)),
            tail_bytes,
        }
    }

    /// Makes entries readable. Called by the log's owner *before* they reach `Wal::append`.
    ///
    /// # Panics
    /// If they do not follow the last entry: the log must never get a hole.
    pub fn push(&self, entries: &[Entry]) {
        let mut state = self.state.lock();
        for entry in entries {
            let last = state.span.last;
            assert!(
                state.span.push(entry.id),
                "entry {:?} does not follow {last:?}",
                entry.id
            );
            state.recent_bytes += entry_bytes(entry);
            state.recent.push_back(entry.clone());
        }
        state.evict(self.tail_bytes);
    }

    /// Drops entries behind `last`.
    pub fn truncate_after(&self, last: Option<LogId>) {
        let mut state = self.state.lock();
        state.truncations += 1;
        state.span.truncate_after(last);
        let (number, span) = (state.truncations, state.span);
        state.unreported.push_back((number, span.last));
        while state
            .recent
            .back()
            .is_some_and(|entry| entry.id.index >= span.next_index())
        {
            let entry = state.recent.pop_back().expect("there was a last one");
            state.recent_bytes -= entry_bytes(&entry);
        }
        let keep = span.next_index().saturating_sub(state.located_first);
        state
            .located
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        state.flushed = lower(state.flushed, span.last);
    }

    /// Drops entries up to `upto`.
    pub fn purge(&self, upto: LogId) {
        let mut state = self.state.lock();
        state.span.purge(upto);
        let first = state.span.first_index();
        while state
            .recent
            .front()
            .is_some_and(|entry| entry.id.index < first)
        {
            let entry = state.recent.pop_front().expect("there was a first one");
            state.recent_bytes -= entry_bytes(&entry);
        }
        let gone = first.saturating_sub(state.located_first);
        let gone = state
            .located
            .len()
            .min(usize::try_from(gone).unwrap_or(usize::MAX));
        state.located.drain(..gone);
        state.located_first += gone as u64;
    }

    /// Returns `(purged, last)`: the last purged entry, and the last entry (or `purged` if empty).
    pub fn state(&self) -> (Option<LogId>, Option<LogId>) {
        let span = self.state.lock().span;
        (span.purged, span.last)
    }

    /// The last entry known flushed.
    pub fn flushed(&self) -> Option<LogId> {
        self.state.lock().flushed
    }

    /// Whether the entry at `index`, and with it all later ones, is in memory, so that reading them
    /// touches no file.
    pub fn holds(&self, index: u64) -> bool {
        let state = self.state.lock();
        let recent = state.recent.front().map(|entry| entry.id.index);
        recent.unwrap_or(state.span.next_index()) <= index
    }

    /// Reads the entries of `range` that exist, from its start: at least one, and at most about
    /// `max_bytes`. May read a file.
    ///
    /// # Errors
    /// Errors of the disk; `InvalidData` if a record is damaged. Both must end the process.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut left = max_bytes;
        let mut range = range;
        loop {
            let found = self.state.lock().find(&range, left, entries.is_empty());
            let found = match found {
                Found::Nothing => return Ok(entries),
                Found::Memory(mut more) => {
                    entries.append(&mut more);
                    return Ok(entries);
                }
                Found::Disk(run) => run,
            };
            let more = match found.read() {
                Ok(more) => more,
                // The segment may have gone while it was read, by a purge or a truncation.
                Err(_) if !self.state.lock().still_has(&found) => continue,
                Err(error) => return Err(error),
            };
            range.start = found.first + more.len() as u64;
            left = left.saturating_sub(more.iter().map(|entry| entry.payload.len()).sum());
            entries.extend(more);
            if left == 0 {
                return Ok(entries);
            }
        }
    }

    /// Takes the report of a flush: where entries are, and what the log's last entry was then.
    pub(super) fn report(&self, flushed: &[Flushed], last: Option<LogId>, truncations: u64) {
        let mut state = self.state.lock();
        for entry in flushed {
            state.locate(entry);
        }
        while state
            .unreported
            .front()
            .is_some_and(|(number, _)| *number <= truncations)
        {
            state.unreported.pop_front();
        }
        // What was flushed may be void by now.
        state.flushed = state
            .unreported
            .iter()
            .fold(last, |id, (_, kept)| lower(id, *kept));
        state.evict(self.tail_bytes);
    }

    pub(super) fn add_segment(&self, seq: u64, readable: Readable) {
        self.state.lock().segments.insert(seq, readable);
    }

    pub(super) fn remove_segment(&self, seq: u64) {
        self.state.lock().segments.remove(&seq);
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.payload.len() + ENTRY_BYTES
}

fn lower(a: Option<LogId>, b: Option<LogId>) -> Option<LogId> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.index <= b.index { a } else { b }),
        _ => None,
    }
}

enum Found {
    Nothing,
    Memory(Vec<Entry>),
    Disk(Run),
}

/// Consecutive entries of one segment, to be read in one go.
struct Run {
    first: u64,
    locations: Vec<Location>,
    readable: Readable,
}

impl State {
    fn locate(&mut self, flushed: &Flushed) {
        let void = self.unreported.iter().any(|(number, kept)| {
            *number > flushed.truncations && kept.is_none_or(|kept| kept.index < flushed.index)
        });
        if void || flushed.index < self.span.first_index() {
            return;
        }
        if self.located.is_empty() {
            self.located_first = flushed.index;
        }
        let next = self.located_first + self.located.len() as u64;
        assert_eq!(
            flushed.index, next,
            "the WAL reports entries in the log's order"
        );
        self.located.push_back(flushed.location);
    }

    fn evict(&mut self, tail_bytes: usize) {
        let located = self.located_first + self.located.len() as u64;
        while self.recent_bytes > tail_bytes
            && self
                .recent
                .front()
                .is_some_and(|entry| !self.located.is_empty() && entry.id.index < located)
        {
            let entry = self.recent.pop_front().expect("there was a first one");
            self.recent_bytes -= entry_bytes(&entry);
        }
    }

    fn find(&self, range: &Range<u64>, max_bytes: usize, at_least_one: bool) -> Found {
        let recent = self
            .recent
            .front()
            .map_or(self.span.next_index(), |entry| entry.id.index);
        let first = if self.located.is_empty() {
            recent
        } else {
            self.located_first.min(recent)
        };
        let start = range.start.max(first);
        let end = range.end.min(self.span.next_index());
        if start >= end {
            return Found::Nothing;
        }
        let mut bytes = 0;
        let mut more = |payload: usize| {
            let take = (bytes == 0 && at_least_one) || bytes + payload <= max_bytes;
            bytes += payload.max(1);
            take
        };
        if start >= recent {
            let skip = usize::try_from(start - recent).expect("entries in memory can be counted");
            let count = usize::try_from(end - start).unwrap_or(usize::MAX);
            let entries = self.recent.iter().skip(skip).take(count);
            return Found::Memory(
                entries
                    .take_while(|e| more(e.payload.len()))
                    .cloned()
                    .collect(),
            );
        }
        let skip = usize::try_from(start - first).expect("entries with a location can be counted");
        let seq = self.located[skip].seq;
        let count = usize::try_from(end.min(recent) - start).unwrap_or(usize::MAX);
        let locations: Vec<_> = self
            .located
            .range(skip..)
            .take(count)
            .take_while(|l| l.seq == seq && more(l.bytes as usize - record::HEAD_BYTES))
            .copied()
            .collect();
        if locations.is_empty() {
            return Found::Nothing;
        }
        let readable = self
            .segments
            .get(&seq)
            .expect("segments of live entries are kept")
            .clone();
        Found::Disk(Run {
            first: start,
            locations,
            readable,
        })
    }

    fn still_has(&self, run: &Run) -> bool {
        run.first
            .checked_sub(self.located_first)
            .is_some_and(|position| {
                usize::try_from(position)
                    .ok()
                    .and_then(|p| self.located.get(p))
                    == run.locations.first()
            })
    }
}

impl Run {
    fn read(&self) -> io::Result<Vec<Entry>> {
        let (head, tail) = match (self.locations.first(), self.locations.last()) {
            (Some(head), Some(tail)) => (head, tail),
            _ => return Ok(Vec::new()),
        };
        let start = u64::from(head.offset);
        let bytes = usize::try_from(tail.end() - start).expect("a segment fits in memory");
        let mut buffer = vec![0; bytes];
        self.readable.file.read_at(start, &mut buffer)?;
        let buffer = Bytes::from(buffer);
        let mut entries = Vec::with_capacity(self.locations.len());
        for (location, index) in self.locations.iter().zip(self.first..) {
            let from = (location.offset - head.offset) as usize;
            let entry = entry_at(&buffer, from, location, index).ok_or_else(|| {
                let path = self.readable.path.display();
                let what = format!(
                    "{path}: damaged record of entry {index} at {}",
                    location.offset
                );
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn entry_at(buffer: &Bytes, from: usize, location: &Location, index: u64) -> Option<Entry> {
    let to = from + location.bytes as usize;
    match record::decode(&buffer[from..to], record::seed(location.seq)) {
        Ok(Decoded {
            record: Record::Entry { id, kind, .. },
            bytes,
            ..
        }) if id.index == index && from + bytes == to => {
            let payload = buffer.slice(from + record::HEAD_BYTES..to);
            Some(Entry { id, kind, payload })
        }
        _ => None,
    }
}
