//! The write-ahead log.
use crate::entry::{Entry, LogId, Vote};
use crate::error::OpenError;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Limits of a WAL.
#[derive(Clone, Debug)]
pub struct WalSettings {
    /// Size of a segment, in bytes; segments are zero-filled once and recycled. Default 64 MiB.
    pub segment_bytes: u64,
    /// Budget of the in-memory tail of flushed entries, in bytes. Default 64 MiB.
    pub tail_bytes: usize,
}

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The last vote saved.
    pub vote: Option<Vote>,
    /// The last commit mark saved.
    pub committed: Option<LogId>,
    /// Last entry purged.
    pub purged: Option<LogId>,
    /// Last entry (or `purged`).
    pub last: Option<LogId>,
    /// A torn tail that was cut off, for the log.
    pub repaired: Option<TornTail>,
}

/// A torn tail that recovery cut off: never acknowledged, so nothing is lost.
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
pub struct Wal {}

impl Wal {
    /// Opens or creates the log in `dir`, repairs a torn tail, refuses damage before the tail.
    pub fn open(_dir: &Path, _settings: WalSettings) -> Result<(Wal, Recovery), OpenError> {
        todo!()
    }
    /// The shared readable end of the log.
    pub fn tail(&self) -> LogTail {
        todo!()
    }
    /// Adds entries to the batch. They are consecutive and follow the last one.
    pub fn append(&mut self, _entries: &[Entry]) {
        todo!()
    }
    /// Adds a vote to the batch.
    pub fn save_vote(&mut self, _vote: Vote) {
        todo!()
    }
    /// Adds a commit mark to the batch; it needs no flush of its own.
    pub fn save_committed(&mut self, _committed: LogId) {
        todo!()
    }
    /// Adds "every entry behind `last` is void" to the batch; `None` voids all.
    pub fn truncate_after(&mut self, _last: Option<LogId>) {
        todo!()
    }
    /// Forgets entries up to and including `upto`; recycles segments that hold nothing else.
    pub fn purge(&mut self, _upto: LogId) {
        todo!()
    }
    /// One write and one fdatasync for the whole batch. Returns the last flushed entry. An error is
    /// final: the WAL refuses every later call; the process must end.
    pub fn flush(&mut self) -> io::Result<Option<LogId>> {
        todo!()
    }
    /// Bytes that can still be written without new disk space (current segment plus prepared ones).
    pub fn headroom_bytes(&self) -> u64 {
        todo!()
    }
}

/// The readable log, shared between the writer and every reader: entries not yet flushed and the
/// recent ones from memory, older ones from the segment files.
#[derive(Clone, Debug)]
pub struct LogTail {}

impl LogTail {
    /// Makes entries readable. Called by the log's owner *before* they reach `Wal::append`.
    pub fn push(&self, _entries: &[Entry]) {
        todo!()
    }
    /// Drops entries behind `last`.
    pub fn truncate_after(&self, _last: Option<LogId>) {
        todo!()
    }
    /// Drops entries up to `upto`.
    pub fn purge(&self, _upto: LogId) {
        todo!()
    }
    /// `(purged, last)`: the last purged entry, and the last entry (or `purged` when empty).
    pub fn state(&self) -> (Option<LogId>, Option<LogId>) {
        todo!()
    }
    /// Entries of `range` that exist, from its start, at least one and at most about `max_bytes`.
    /// May read a file.
    pub fn read(&self, _range: Range<u64>, _max_bytes: usize) -> io::Result<Vec<Entry>> {
        todo!()
    }
    /// The last entry known flushed.
    pub fn flushed(&self) -> Option<LogId> {
        todo!()
    }
}
