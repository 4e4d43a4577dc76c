//! The write-ahead log: entries, votes, truncations, purges and commit marks in one order.
//!
//! ```text
//!  append, save_vote, ...     flush                     purge, flush
//!  --------------------> batch ----> current segment --> older segments --> free-N --> next one
//!                        written     flushed                          (off this thread)
//! ```
//! - Owns the files of the WAL directory, and one thread that prepares the next segment
//!   ([`Background`]). Readers share a [`LogTail`].
//! - A segment is filled with zeros once and then recycled. Records carry a checksum seeded with
//!   the segment's number, so what a former use left behind is never taken for a record.
//! - Each segment repeats the vote, the purge mark and the commit mark, so older ones may go.
//! - A flush is one batch: a header and records, one write, one `fdatasync`; recovery takes whole
//!   batches only. A bad batch with another one behind it was durable once: opening refuses.
//! - Fails: without space, before anything is written, with kind `StorageFull`, and may be called
//!   again; with any other error for good: the process must end. A broken order of calls panics.

mod batch;
mod disk;
#[cfg(any(test, feature = "testing"))]
pub mod faulty_disk;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod look;
mod prepare;
mod record;
mod recovery;
mod scan;
mod segment;
mod space;
mod span;
mod tail;

use crate::entry::{Entry, LogId, Vote};
use crate::error::OpenError;
use batch::{Batch, Marks, OVERHEAD_BYTES};
use disk::is_full;
pub use disk::{Disk, DiskFile, RealDisk};
pub use look::{look, look_on};
pub use prepare::Background;
use prepare::{Left, Prepared, Preparer};
use record::{HEAD_BYTES, Record};
use segment::Segment;
pub use space::{LogSpace, Space};
use span::Span;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use tail::LogTail;
use tail::{Flushed, Readable};

/// The next segment is prepared once this fraction of the current one is used.
const AHEAD_PART: u64 = 8;
/// The very first segment is not larger than this, so that a new member starts without delay.
const FIRST_BYTES_MAX: u64 = 8 << 20;

/// Limits of a WAL.
#[derive(Clone, Debug)]
pub struct WalSettings {
    /// Size of a segment, in bytes; segments are zero-filled once and recycled. Default 64 MiB.
    pub segment_bytes: u64,
    /// Budget of the in-memory tail of flushed entries, in bytes. Default 16 MiB.
    pub tail_bytes: usize,
}

impl Default for WalSettings {
    fn default() -> WalSettings {
        WalSettings {
            segment_bytes: 64 << 20,
            tail_bytes: 16 << 20,
        }
    }
}

impl WalSettings {
    /// The largest payload that an entry may have, in bytes: an entry never spans segments. The
    /// code that admits entries must refuse larger ones; [`Wal::append`] fails for good on one.
    pub fn payload_bytes_max(&self) -> u64 {
        self.segment_bytes
            .saturating_sub(OVERHEAD_BYTES + HEAD_BYTES as u64)
    }
}

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The last vote saved.
    pub vote: Option<Vote>,
    /// The last commit mark saved, never behind `last`.
    pub committed: Option<LogId>,
    /// The last entry purged.
    pub purged: Option<LogId>,
    /// The last entry (or `purged`).
    pub last: Option<LogId>,
    /// The torn tail that was cut off, to be reported.
    pub repaired: Option<TornTail>,
}

impl Recovery {
    /// Whether a store that ends at `durable` belongs to this log. The store holds a prefix of the
    /// log: it reaches at least to what was purged, and not beyond the log's end, unless it was
    /// just replaced by a snapshot (`replacing`): then raft lets the log begin behind it.
    ///
    /// # Errors
    /// Both ends, as a sentence.
    pub fn fits(&self, durable: Option<LogId>, replacing: Option<LogId>) -> Result<(), String> {
        let Recovery { purged, last, .. } = self;
        if *purged > durable {
            return Err(format!(
                "entries up to {purged:?} are purged, the store ends at {durable:?}"
            ));
        }
        if durable > *last && durable != replacing {
            return Err(format!(
                "the store ends at {durable:?}, the log at {last:?}"
            ));
        }
        Ok(())
    }
}

/// A torn tail that recovery cut off. It was never acknowledged, so nothing is lost.
#[derive(Clone, Debug)]
pub struct TornTail {
    /// The segment file.
    pub file: PathBuf,
    /// Where the intact records end.
    pub offset: u64,
}

/// The WAL, owned by the one thread that writes it. Calls other than `flush` only fill the batch
/// (*written*); `flush` makes it survive power loss (*flushed*).
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    settings: WalSettings,
    /// The chain, oldest first; the last one is being written.
    segments: VecDeque<Segment>,
    batch: Batch,
    /// The log's state including the batch.
    span: Span,
    marks: Marks,
    /// Whether a commit mark is not in the batch yet; only the newest one matters.
    unsaved_committed: bool,
    /// Entries of the batch that are still to be reported to the tail.
    unreported: Vec<Flushed>,
    truncations: u64,
    flushed: Option<LogId>,
    tail: LogTail,
    preparer: Preparer,
    /// Whether the preparer was told to make the next segment ready.
    prepares_ahead: bool,
    failure: Option<(io::ErrorKind, String)>,
}

impl Wal {
    /// Opens or creates the log in `dir`, repairs a torn tail, and refuses damage before the tail.
    ///
    /// # Errors
    /// [`OpenError::WalDamaged`], [`OpenError::WalIncomplete`], [`OpenError::WalSettings`], or any
    /// error of the operating system.
    pub fn open(dir: &Path, settings: WalSettings) -> Result<(Wal, Recovery), OpenError> {
        let segment_bytes = settings.segment_bytes;
        if !(segment::MIN_BYTES..=segment::MAX_BYTES).contains(&segment_bytes) {
            return Err(OpenError::WalSettings { segment_bytes });
        }
        Wal::open_on(Arc::new(RealDisk), dir, settings, Background::Thread)
    }

    /// Like [`Wal::open`], on any disk and with segments of any size from 1 KiB.
    ///
    /// # Errors
    /// Same as [`Wal::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: WalSettings,
        background: Background,
    ) -> Result<(Wal, Recovery), OpenError> {
        let segment_bytes = settings.segment_bytes;
        if !(1024..=segment::MAX_BYTES).contains(&segment_bytes) {
            return Err(OpenError::WalSettings { segment_bytes });
        }
        let io_error = |source| OpenError::Io {
            path: dir.to_path_buf(),
            source,
        };
        let mut found = recovery::recover(disk.as_ref(), dir, segment_bytes)?;
        let new = found.segments.is_empty();
        if new && found.left.free.is_empty() {
            let first = first_segment(disk.as_ref(), dir, segment_bytes, &mut found.left);
            found.capacity = Some(first.map_err(io_error)?);
        }
        let left = std::mem::take(&mut found.left);
        let (for_preparer, owned) = (Arc::clone(&disk), dir.to_path_buf());
        let preparer = Preparer::start(for_preparer, owned, segment_bytes, background, left)
            .map_err(io_error)?;
        let tail = recovered_tail(&mut found, settings.tail_bytes);
        let seq = found.segments.back().map_or(0, |segment| segment.seq);
        let mut wal = Wal {
            disk,
            dir: dir.to_path_buf(),
            batch: Batch::new(segment_bytes, seq, found.end, found.sum),
            settings,
            segments: found.segments,
            span: found.span,
            marks: found.marks,
            unsaved_committed: false,
            unreported: Vec::new(),
            truncations: 0,
            flushed: found.span.last,
            tail,
            preparer,
            prepares_ahead: false,
            failure: None,
        };
        if new {
            wal.batch.next_segment(&wal.marks, None);
        }
        if let Some(capacity) = found.capacity {
            wal.batch.set_capacity(capacity);
        }
        wal.flush().map_err(io_error)?;
        wal.after_flush();
        Ok((wal, found.recovery))
    }

    /// The shared readable end of the log.
    pub fn tail(&self) -> LogTail {
        self.tail.clone()
    }

    /// Adds entries to the batch. They must be consecutive and follow the last one. An entry whose
    /// payload exceeds [`WalSettings::payload_bytes_max`] makes this and every later flush fail.
    ///
    /// # Panics
    /// If an entry does not follow the last one.
    pub fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            let payload = entry.payload.as_ref();
            if payload.len() as u64 > self.settings.payload_bytes_max() {
                let what = format!("entry {} is larger than a WAL segment", entry.id.index);
                self.fail(&io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            if self.failure.is_some() {
                return;
            }
            let last = self.span.last;
            let record = Record::Entry {
                id: entry.id,
                kind: entry.kind,
                payload,
            };
            let location = self.put(&record, payload.len());
            assert!(
                self.span.push(entry.id),
                "entry {:?} does not follow {last:?}",
                entry.id
            );
            let (index, truncations) = (entry.id.index, self.truncations);
            self.unreported.push(Flushed {
                index,
                truncations,
                location,
            });
        }
    }

    /// Adds a vote to the batch.
    pub fn save_vote(&mut self, vote: Vote) {
        self.put(&Record::Vote(vote), 0);
        self.marks.vote = Some(vote);
    }

    /// Adds a commit mark to the batch; it needs no flush of its own.
    pub fn save_committed(&mut self, committed: LogId) {
        if self.marks.committed != Some(committed) {
            self.marks.committed = Some(committed);
            self.unsaved_committed = true;
        }
    }

    /// Adds a record that voids every entry behind `last` to the batch; `None` voids all.
    pub fn truncate_after(&mut self, last: Option<LogId>) {
        self.put(&Record::Truncate(last), 0);
        self.truncations += 1;
        self.span.truncate_after(last);
        self.marks.lower_committed(self.span.last);
        let last = self.span.last.map(|id| id.index);
        self.batch.lower_highest(last);
        self.segments
            .iter_mut()
            .for_each(|s| s.highest = s.highest.min(last));
    }

    /// Forgets entries up to and including `upto`, which may lie behind the last one. Segments that
    /// hold nothing else are recycled once the mark is flushed.
    pub fn purge(&mut self, upto: LogId) {
        self.put(&Record::Purged(upto), 0);
        self.span.purge(upto);
        self.marks.purged = self.span.purged;
    }

    fn put(&mut self, record: &Record<'_>, payload: usize) -> tail::Location {
        if !self.batch.fits(payload) {
            self.batch.next_segment(&self.marks, self.span.last);
        }
        self.batch.push(record)
    }

    /// Writes and syncs the whole batch: one write and one fdatasync per segment it touches.
    /// Returns the last flushed entry, or the purge mark if there is no entry behind it.
    ///
    /// # Errors
    /// Kind `StorageFull` if the batch needs a further segment and there is no space for one:
    /// nothing was written, the batch is kept, and a later flush may succeed. Any other error is
    /// final: the WAL refuses every later flush, and the process must end.
    pub fn flush(&mut self) -> io::Result<Option<LogId>> {
        if let Some((kind, text)) = &self.failure {
            return Err(io::Error::new(*kind, text.clone()));
        }
        if self.unsaved_committed
            && let Some(committed) = self.marks.committed
        {
            self.put(&Record::Committed(committed), 0);
            self.unsaved_committed = false;
        }
        if self.batch.is_empty() {
            return Ok(self.flushed);
        }
        let fresh = match self.preparer.acquire(self.batch.opened()) {
            Ok(fresh) => fresh,
            Err(error) if is_full(&error) => return Err(error),
            Err(error) => return Err(self.fail(&error)),
        };
        if let Err(error) = self.write_out(fresh) {
            return Err(self.fail(&error));
        }
        self.flushed = self.span.last;
        self.tail
            .report(&self.unreported, self.flushed, self.truncations);
        self.unreported.clear();
        self.batch.clear();
        self.after_flush();
        Ok(self.flushed)
    }

    /// Makes an error final. `StorageFull` is reserved for the one that is not.
    fn fail(&mut self, error: &io::Error) -> io::Error {
        let kind = if is_full(error) {
            io::ErrorKind::Other
        } else {
            error.kind()
        };
        let text = format!("WAL {}: {error}", self.dir.display());
        let (kind, text) = self.failure.get_or_insert((kind, text));
        io::Error::new(*kind, text.clone())
    }

    fn write_out(&mut self, fresh: Vec<Prepared>) -> io::Result<()> {
        let mut fresh = fresh.into_iter();
        for position in 0..self.batch.parts() {
            let part = self.batch.part(position);
            let (offset, highest) = (part.offset, part.highest);
            let mut recycled = false;
            if let Some(header) = part.opens {
                let prepared = fresh.next().expect("one was acquired for each");
                recycled = prepared.recycled;
                let first_index = header.last.map_or(0, |last| last.index + 1);
                self.begin(header.seq, first_index, prepared)?;
            }
            let bytes = self.batch.seal(position, recycled);
            let segment = self.segments.back_mut().expect("a WAL has a segment");
            segment.file.write_at(offset, bytes)?;
            // Each segment is durable before the next one's name is.
            segment.file.sync()?;
            segment.highest = segment.highest.max(highest);
        }
        Ok(())
    }

    /// Gives a ready file its place in the chain. The name is durable before the first record, so
    /// that records of this segment are never found under another name.
    fn begin(&mut self, seq: u64, first_index: u64, prepared: Prepared) -> io::Result<()> {
        let path = self.dir.join(segment::name(seq, first_index));
        self.disk.rename(&prepared.path, &path)?;
        self.disk.sync_dir(&self.dir)?;
        let file = prepared.file;
        self.tail.add_segment(
            seq,
            Readable {
                path: path.clone(),
                file: Arc::clone(&file),
            },
        );
        self.segments.push_back(Segment {
            seq,
            path,
            file,
            highest: None,
        });
        self.prepares_ahead = false;
        Ok(())
    }

    /// Recycles what a purge freed, and prepares the next segment once part of this one is used:
    /// not before, so that a small log takes one segment's space and a start is not disturbed.
    fn after_flush(&mut self) {
        self.preparer.set_room(self.batch.room());
        self.recycle();
        if !self.prepares_ahead && self.batch.has_used(AHEAD_PART) {
            self.prepares_ahead = true;
            self.preparer.prepare_ahead();
        }
        self.preparer.work_inline();
    }

    /// Gives back segments whose entries are all purged, oldest first, never the one being written.
    fn recycle(&mut self) {
        let purged = self.span.purged.map(|id| id.index);
        while self.segments.len() > 1 && self.segments.front().is_some_and(|s| s.highest <= purged)
        {
            let segment = self.segments.pop_front().expect("there was a first one");
            self.tail.remove_segment(segment.seq);
            self.preparer.give_back(segment.path, segment.file);
        }
    }

    /// A handle that shows what can still be written without new disk space.
    pub fn space(&self) -> LogSpace {
        LogSpace::new(self.preparer.shared())
    }
}

/// Creates the file for the first segment of a new log, and returns its size.
fn first_segment(
    disk: &dyn Disk,
    dir: &Path,
    segment_bytes: u64,
    left: &mut Left,
) -> io::Result<u64> {
    let bytes = segment_bytes.min(FIRST_BYTES_MAX);
    let name = segment::free_name(left.next_number);
    left.next_number += 1;
    // This fill uses the file of an interrupted one.
    left.unwanted
        .retain(|path| *path != dir.join(segment::UNFINISHED));
    let (path, file) = segment::create_filled(disk, dir, &name, bytes, &|_| Ok(()))?;
    left.free.push(Prepared {
        path,
        file,
        recycled: false,
    });
    Ok(bytes)
}

fn recovered_tail(found: &mut recovery::Recovered, tail_bytes: usize) -> LogTail {
    let readable = |s: &Segment| Readable {
        path: s.path.clone(),
        file: Arc::clone(&s.file),
    };
    let recovered = tail::Recovered {
        span: found.span,
        located: std::mem::take(&mut found.located),
        located_first: found.located_first,
        segments: found
            .segments
            .iter()
            .map(|s| (s.seq, readable(s)))
            .collect(),
    };
    LogTail::new(tail_bytes, recovered)
}
