//! One segment file: its name, its zero fill, and its place in the chain.

use super::disk::{Disk, DiskFile};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Smallest and largest segment an operator may choose; offsets are kept in 32 bits.
pub(super) const MIN_BYTES: u64 = 1 << 20;
pub(super) const MAX_BYTES: u64 = 1 << 31;
/// Zeros written at a time; preparing a segment can pause or stop between two such writes.
const FILL_BYTES: usize = 2 << 20;

/// What to do between two writes of a zero fill: nothing, or sync, wait, or stop with an error.
pub(super) type Between<'a> = dyn Fn(&dyn DiskFile) -> io::Result<()> + 'a;

/// A segment that holds records.
#[derive(Debug)]
pub(super) struct Segment {
    /// Place in the chain.
    pub seq: u64,
    /// The file's path.
    pub path: PathBuf,
    /// Open for reading and writing.
    pub file: Arc<dyn DiskFile>,
    /// The highest index among its entries that are not void; the segment may be recycled when that
    /// index is purged.
    pub highest: Option<u64>,
}

/// What a name in the WAL directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A segment of the chain.
    Segment { seq: u64 },
    /// A whole segment file that waits to be used again.
    Free { number: u64 },
    /// A zero fill that was interrupted.
    Unfinished,
}

/// The name of a segment whose first entry has (at least) this index.
pub(super) fn name(seq: u64, first_index: u64) -> String {
    format!("{seq:016x}-{first_index:016x}.wal")
}

/// The name of a segment that waits to be used again.
pub(super) fn free_name(number: u64) -> String {
    format!("free-{number:016x}")
}

/// The name of a segment being zero-filled.
pub(super) const UNFINISHED: &str = "next.tmp";

/// Reads a name; `None` for a file that is not the WAL's.
pub(super) fn parse(name: &str) -> Option<FileKind> {
    if name == UNFINISHED {
        return Some(FileKind::Unfinished);
    }
    if let Some(number) = name.strip_prefix("free-") {
        return Some(FileKind::Free {
            number: hex(number)?,
        });
    }
    let (seq, first) = name.strip_suffix(".wal")?.split_once('-')?;
    hex(first)?;
    Some(FileKind::Segment { seq: hex(seq)? })
}

fn hex(text: &str) -> Option<u64> {
    let ours = text.len() == 16
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if ours {
        u64::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

/// Writes zeros from `from` to `to` and makes them durable. `between` is called between writes.
///
/// # Errors
/// Errors of the disk or of `between`.
pub(super) fn zero_fill(
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    between: &Between<'_>,
) -> io::Result<()> {
    let longest = to.saturating_sub(from).min(FILL_BYTES as u64);
    let zeros = vec![0; longest as usize];
    let mut at = from;
    while at < to {
        let bytes = (to - at).min(FILL_BYTES as u64);
        file.write_at(at, &zeros[..bytes as usize])?;
        at += bytes;
        if at < to {
            between(file)?;
        }
    }
    file.sync_all()
}

/// Creates a zero-filled file of `bytes` bytes named `name` in `dir`, all durable.
///
/// # Errors
/// Errors of the disk; then nothing is left but perhaps an unfinished file.
pub(super) fn create_filled(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    bytes: u64,
    between: &Between<'_>,
) -> io::Result<(PathBuf, Arc<dyn DiskFile>)> {
    let unfinished = dir.join(UNFINISHED);
    let path = dir.join(name);
    let file = disk.create(&unfinished)?;
    let filled = zero_fill(file.as_ref(), 0, bytes, between);
    if let Err(error) = filled {
        // The bytes it holds may be the last ones the store needs; and a failure to remove the
        // file is no worse than the failure being reported.
        let _ = disk.remove(&unfinished);
        return Err(error);
    }
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)?;
    Ok((path, file))
}
