//! Checks and repairs at opening: the files must form one chain and the chain one log without
//! holes, and only what was never acknowledged is cut off.

use super::batch::{Marks, OVERHEAD_BYTES};
use super::disk::{Disk, DiskFile};
use super::prepare::{Left, Prepared};
use super::record::{Decoded, FORMAT, Record, SegmentHeader};
use super::scan::{Scan, scan};
use super::segment::{self, FileKind, Segment};
use super::span::Span;
use super::tail::Location;
use super::{Recovery, TornTail};
use crate::error::OpenError;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the directory holds, after repairs.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub recovery: Recovery,
    pub marks: Marks,
    pub span: Span,
    pub located: VecDeque<Location>,
    pub located_first: u64,
    pub segments: VecDeque<Segment>,
    /// Where the last segment's records end, and the sum of its last batch.
    pub end: u64,
    pub sum: u32,
    /// The last segment's size, if there is one.
    pub capacity: Option<u64>,
    pub left: Left,
}

/// Reads the WAL directory `dir` and repairs a torn tail.
///
/// # Errors
/// Damage before the tail, missing files or entries, a newer format, or any error of the disk.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    segment_bytes: u64,
) -> Result<Recovered, OpenError> {
    let (chain, mut left) = list(disk, dir, segment_bytes)?;
    let mut replay = Replay::default();
    let mut read = read_chain(disk, &chain, &mut replay)?;
    if let Some(unbegun) = read.unbegun.take() {
        // The power went after the segment was named and before it was written. Its name must leave
        // the chain.
        let to = dir.join(segment::free_name(left.next_number));
        left.next_number += 1;
        disk.rename(&unbegun, &to)
            .map_err(|e| io_error(&unbegun, e))?;
        disk.sync_dir(dir).map_err(|e| io_error(dir, e))?;
        left.unwanted.push(to);
    }
    replay.check(dir)?;
    if let (Some(segment), Some(ending)) = (replay.segments.back(), &read.ending) {
        settle(segment, ending).map_err(|e| io_error(&segment.path, e))?;
        disk.sync_dir(dir).map_err(|e| io_error(dir, e))?;
    }
    let recovery = replay.found(&read);
    let Replay {
        marks,
        span,
        located,
        located_first,
        segments,
        ..
    } = replay;
    let capacity = read.ending.as_ref().map(|ending| ending.bytes as u64);
    let (end, sum) = read
        .ending
        .map_or((0, 0), |ending| (ending.end as u64, ending.sum));
    Ok(Recovered {
        recovery,
        marks,
        span,
        located,
        located_first,
        segments,
        end,
        capacity,
        sum,
        left,
    })
}

/// Reads the WAL directory `dir` and changes nothing: shows what a start would find and repair.
///
/// # Errors
/// Same as [`recover`].
pub(super) fn look(disk: &dyn Disk, dir: &Path) -> Result<Recovery, OpenError> {
    // Which files can be used again does not matter here, so their size does not either.
    let (chain, _) = list(disk, dir, 0)?;
    let mut replay = Replay::default();
    let read = read_chain(disk, &chain, &mut replay)?;
    replay.check(dir)?;
    Ok(replay.found(&read))
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_path_buf(),
        source,
    }
}

type Chain = BTreeMap<u64, PathBuf>;

fn list(disk: &dyn Disk, dir: &Path, segment_bytes: u64) -> Result<(Chain, Left), OpenError> {
    let mut chain = Chain::new();
    let mut left = Left::default();
    let mut names = disk.list(dir).map_err(|e| io_error(dir, e))?;
    names.sort();
    for name in names {
        let path = dir.join(&name);
        match segment::parse(&name) {
            Some(FileKind::Segment { seq }) => {
                if let Some(other) = chain.insert(seq, path) {
                    let why = format!("{name} and {} claim the same place", other.display());
                    return Err(OpenError::WalIncomplete {
                        dir: dir.to_path_buf(),
                        why,
                    });
                }
            }
            Some(FileKind::Free { number }) => {
                left.next_number = left.next_number.max(number.saturating_add(1));
                let file = disk.open(&path).map_err(|e| io_error(&path, e))?;
                if file.bytes().map_err(|e| io_error(&path, e))? == segment_bytes {
                    left.free.push(Prepared {
                        path,
                        file,
                        recycled: true,
                    });
                } else {
                    left.unwanted.push(path);
                }
            }
            Some(FileKind::Unfinished) => left.unwanted.push(path),
            None if name.ends_with(".wal") => {
                let why = "not a WAL segment of Althing; move it out of this directory".into();
                return Err(OpenError::Foreign { path, why });
            }
            None => {}
        }
    }
    let seqs: Vec<u64> = chain.keys().copied().collect();
    if let Some(gap) = seqs.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        let why = format!(
            "segments {:016x} to {:016x} are missing",
            gap[0] + 1,
            gap[1] - 1
        );
        return Err(OpenError::WalIncomplete {
            dir: dir.to_path_buf(),
            why,
        });
    }
    Ok((chain, left))
}

/// How the last segment that was begun ends.
#[derive(Debug)]
struct Ending {
    seq: u64,
    path: PathBuf,
    end: usize,
    sum: u32,
    bad_at: usize,
    last_batch: Option<Range<usize>>,
    torn: Option<Range<usize>>,
    /// The file's length.
    bytes: usize,
}

#[derive(Debug, Default)]
struct ReadChain {
    ending: Option<Ending>,
    unbegun: Option<PathBuf>,
    repaired: Option<TornTail>,
}

fn read_chain(disk: &dyn Disk, chain: &Chain, replay: &mut Replay) -> Result<ReadChain, OpenError> {
    let mut read = ReadChain::default();
    let mut bytes = Vec::new();
    let newest = chain.keys().next_back().copied();
    for (&seq, path) in chain {
        let file = disk.open(path).map_err(|e| io_error(path, e))?;
        read_all(file.as_ref(), &mut bytes).map_err(|e| io_error(path, e))?;
        let first = replay.segments.is_empty();
        replay.begin(seq, path, &file);
        let previous = read.ending.take();
        let scan = scan(&bytes, seq, &mut |decoded, at| {
            if let (Record::Segment(header), Some(previous)) = (decoded.record, &previous) {
                joins(&header, previous).map_err(Refused::Other)?;
            }
            replay.take(decoded, at, first).map_err(Refused::Here)
        });
        let scan = scan.map_err(|(at, refused)| match refused {
            Refused::Other(error) => error,
            Refused::Here(why) => damaged(path, at, why),
        })?;
        if scan.last_batch.is_none() {
            // The first batch of a segment is whole, or the segment was never acknowledged: it
            // repeats the marks, so a segment without it must not stay. Its predecessor is still
            // there, since nothing is recycled before the flush that begins a segment returns.
            let alone = previous.is_none() && seq != 1;
            let short = (bytes.len() as u64) < OVERHEAD_BYTES;
            if Some(seq) != newest || scan.goes_on || alone || short {
                return Err(damaged(path, scan.bad_at, "no intact first batch".into()));
            }
            replay.segments.pop_back();
            if bytes.iter().any(|byte| *byte != 0) && (previous.is_none() || scan.torn.is_some()) {
                read.repaired = Some(TornTail {
                    file: path.clone(),
                    offset: 0,
                });
            }
            read.unbegun = Some(path.clone());
            read.ending = previous;
            break;
        }
        if scan.goes_on {
            let why = "not an intact record, but intact ones follow".into();
            return Err(damaged(path, scan.bad_at, why));
        }
        read.ending = Some(ending(seq, path, scan, bytes.len()));
    }
    debug_assert_eq!(read.ending.is_some(), !replay.segments.is_empty());
    Ok(read)
}

enum Refused {
    Here(String),
    Other(OpenError),
}

fn ending(seq: u64, path: &Path, scan: Scan, bytes: usize) -> Ending {
    let Scan {
        end,
        sum,
        bad_at,
        last_batch,
        torn,
        ..
    } = scan;
    Ending {
        seq,
        path: path.to_path_buf(),
        end,
        sum,
        bad_at,
        last_batch,
        torn,
        bytes,
    }
}

fn damaged(path: &Path, offset: usize, why: String) -> OpenError {
    OpenError::WalDamaged {
        path: path.to_path_buf(),
        offset: offset as u64,
        why,
    }
}

/// Whether the segment before ends where this one's header says it does.
fn joins(header: &SegmentHeader, previous: &Ending) -> Result<(), OpenError> {
    if header.previous_end == previous.end as u64 && header.previous_sum == previous.sum {
        return Ok(());
    }
    let why = format!(
        "not an intact record, but segment {:016x} follows and records go on to offset {}",
        previous.seq + 1,
        header.previous_end
    );
    Err(damaged(&previous.path, previous.bad_at, why))
}

fn read_all(file: &dyn DiskFile, bytes: &mut Vec<u8>) -> io::Result<()> {
    let len = usize::try_from(file.bytes()?).map_err(io::Error::other)?;
    bytes.resize(len, 0);
    file.read_at(0, bytes)
}

/// Makes what was read durable, and zeroes what is behind it: the process may have died before its
/// last flush returned, or after one failed, so that only the page cache had the last batch.
fn settle(segment: &Segment, ending: &Ending) -> io::Result<()> {
    let file = segment.file.as_ref();
    if let Some(range) = &ending.last_batch {
        let mut batch = vec![0; range.len()];
        file.read_at(range.start as u64, &mut batch)?;
        file.write_at(range.start as u64, &batch)?;
    }
    if let Some(torn) = &ending.torn {
        segment::zero_fill(file, torn.start as u64, torn.end as u64, &|_| Ok(()))?;
    }
    file.sync()
}

/// The log's state as told by the records.
#[derive(Debug, Default)]
struct Replay {
    marks: Marks,
    span: Span,
    located: VecDeque<Location>,
    located_first: u64,
    segments: VecDeque<Segment>,
    /// Entries up to this index are in no remaining segment; a purge must cover them.
    absent: Option<u64>,
}

impl Replay {
    fn begin(&mut self, seq: u64, path: &Path, file: &Arc<dyn DiskFile>) {
        let (path, file) = (path.to_path_buf(), Arc::clone(file));
        self.segments.push_back(Segment {
            seq,
            path,
            file,
            highest: None,
        });
    }

    fn take(&mut self, decoded: &Decoded<'_>, at: usize, first: bool) -> Result<(), String> {
        match decoded.record {
            Record::Segment(header) => return self.header(&header, first),
            Record::Batch(_) => return Err("a batch inside a batch".into()),
            Record::Entry { id, .. } => {
                let last = self.span.last;
                if !self.span.push(id) {
                    return Err(format!("entry {id:?} does not follow {last:?}"));
                }
                if self.located.is_empty() {
                    self.located_first = id.index;
                }
                let segment = self.segments.back_mut().expect("a segment is being read");
                segment.highest = Some(id.index);
                self.located
                    .push_back(Location::new(segment.seq, at as u64, decoded.bytes));
            }
            Record::Vote(vote) => self.marks.vote = Some(vote),
            Record::Committed(id) => self.marks.committed = Some(id),
            Record::Truncate(last) => {
                self.span.truncate_after(last);
                self.marks.lower_committed(self.span.last);
                self.absent = self.absent.min(self.span.last.map(|id| id.index));
                let keep = self.span.next_index().saturating_sub(self.located_first);
                self.located
                    .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
                let last = self.span.last.map(|id| id.index);
                self.segments
                    .iter_mut()
                    .for_each(|s| s.highest = s.highest.min(last));
            }
            Record::Purged(id) => {
                self.span.purge(id);
                self.marks.purged = self.span.purged;
                let gone = self.span.first_index().saturating_sub(self.located_first);
                let gone = usize::try_from(gone)
                    .unwrap_or(usize::MAX)
                    .min(self.located.len());
                self.located.drain(..gone);
                self.located_first += gone as u64;
            }
        }
        Ok(())
    }

    fn header(&mut self, header: &SegmentHeader, first: bool) -> Result<(), String> {
        if header.format != FORMAT {
            return Err(format!("segment format {} is unknown", header.format));
        }
        if first {
            self.span.last = header.last;
            self.absent = header.last.map(|id| id.index);
        } else if header.last != self.span.last {
            let (says, is) = (header.last, self.span.last);
            return Err(format!(
                "the header continues a log that ends at {says:?}, not {is:?}"
            ));
        }
        Ok(())
    }

    /// The log's state, and the torn tail behind it.
    fn found(&mut self, read: &ReadChain) -> Recovery {
        self.marks.lower_committed(self.span.last);
        let torn = self.segments.back().zip(read.ending.as_ref());
        let torn = torn.filter(|(_, ending)| ending.torn.is_some());
        let torn = torn.map(|(segment, ending)| TornTail {
            file: segment.path.clone(),
            offset: ending.end as u64,
        });
        Recovery {
            vote: self.marks.vote,
            committed: self.marks.committed,
            purged: self.span.purged,
            last: self.span.last,
            repaired: torn.or_else(|| read.repaired.clone()),
        }
    }

    /// Checks what only the whole chain shows.
    fn check(&self, dir: &Path) -> Result<(), OpenError> {
        let incomplete = |why| {
            Err(OpenError::WalIncomplete {
                dir: dir.to_path_buf(),
                why,
            })
        };
        if let Some(absent) = self.absent
            && absent >= self.span.first_index()
        {
            let first = self.span.first_index();
            return incomplete(format!("entries {first} to {absent} are missing"));
        }
        match (self.marks.vote, self.span.last) {
            (None, Some(last)) if last.term > 0 => {
                incomplete(format!("entries up to term {} but no vote", last.term))
            }
            _ => Ok(()),
        }
    }
}
