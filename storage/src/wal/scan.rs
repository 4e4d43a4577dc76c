//! Reads the bytes of one segment: how far whole batches go, and what the bytes behind them mean.

use super::record::{
    self, BATCH_BYTES, BatchHeader, Decoded, HEAD_BYTES, Record, SEGMENT_BYTES, SegmentHeader,
};
use std::ops::Range;

/// Zeros are skipped in blocks of this size, since most of a young segment is zeros.
const BLOCK_BYTES: usize = 4096;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The segment's header, if intact.
    pub header: Option<SegmentHeader>,
    /// Where the last whole batch ends.
    pub end: usize,
    /// The sum of the last whole batch.
    pub sum: u32,
    /// The last whole batch.
    pub last_batch: Option<Range<usize>>,
    /// The first bad record at or behind `end`.
    pub bad_at: usize,
    /// Whether some current batch starts behind `end`: then what lies at `end` was once durable.
    pub goes_on: bool,
    /// Current bytes that never became a whole batch.
    pub torn: Option<Range<usize>>,
}

/// Reads segment `seq` and hands every record of every whole batch to `take`, with its offset.
///
/// # Errors
/// The first error of `take`, and the offset of the record that it refused.
pub(super) fn scan<E>(
    bytes: &[u8],
    seq: u64,
    take: &mut dyn FnMut(&Decoded<'_>, usize) -> Result<(), E>,
) -> Result<Scan, (usize, E)> {
    let seed = record::seed(seq);
    let header = match record::decode(bytes, seed) {
        Ok(Decoded {
            record: Record::Segment(header),
            ..
        }) if header.seq == seq => Some(header),
        _ => None,
    };
    if let (Some(_), Ok(first)) = (header, record::decode(bytes, seed)) {
        take(&first, 0).map_err(|error| (0, error))?;
    }
    let mut scan = Scan {
        header,
        end: if header.is_some() { SEGMENT_BYTES } else { 0 },
        sum: 0,
        last_batch: None,
        bad_at: 0,
        goes_on: false,
        torn: None,
    };
    while let Some(batch) = header.and_then(|_| record::batch_at(bytes, scan.end, seed)) {
        let whole = scan.end..scan.end + BATCH_BYTES + batch.bytes as usize;
        if let Err(bad_at) = check_batch(bytes, whole.clone(), &batch, seed) {
            scan.bad_at = bad_at;
            scan.torn = Some(whole.start..whole.end.min(bytes.len()));
            break;
        }
        each_record(bytes, whole.clone(), seed, |record, at| {
            take(record, at).map_err(|error| (at, error))
        })?;
        scan.sum = batch.sum;
        scan.end = whole.end;
        scan.last_batch = Some(whole);
    }
    if scan.torn.is_none() {
        scan.bad_at = scan.end;
    }
    // A file that was never used before is zero behind its records.
    if header.is_some_and(|header| !header.recycled)
        && let Some(last) = last_set(bytes, scan.end)
    {
        let torn = scan.torn.get_or_insert(scan.end..scan.end);
        torn.end = torn.end.max(last + 1);
    }
    scan.goes_on = has_batch(bytes, scan.end + 1, seed);
    Ok(scan)
}

/// Whether every record of the batch is intact, and they are the ones that its header means. If
/// not, returns where the first bad record is.
fn check_batch(
    bytes: &[u8],
    whole: Range<usize>,
    header: &BatchHeader,
    seed: u32,
) -> Result<(), usize> {
    let mut at = whole.start + BATCH_BYTES;
    let mut sum = 0;
    while at < whole.end {
        let rest = bytes.get(at..whole.end.min(bytes.len())).ok_or(at)?;
        let decoded = record::decode(rest, seed).map_err(|_| at)?;
        sum = crc32c::crc32c_append(sum, &decoded.crc.to_le_bytes());
        at += decoded.bytes;
    }
    if at == whole.end && sum == header.sum {
        Ok(())
    } else {
        Err(whole.start)
    }
}

fn each_record<E>(
    bytes: &[u8],
    whole: Range<usize>,
    seed: u32,
    mut take: impl FnMut(&Decoded<'_>, usize) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = whole.start + BATCH_BYTES;
    while at < whole.end {
        let Ok(decoded) = record::decode(&bytes[at..whole.end], seed) else {
            unreachable!("the batch was checked");
        };
        take(&decoded, at)?;
        at += decoded.bytes;
    }
    Ok(())
}

/// Whether a header of a current batch stands anywhere from `from` on.
fn has_batch(bytes: &[u8], from: usize, seed: u32) -> bool {
    let mut at = from;
    while at + HEAD_BYTES <= bytes.len() {
        if bytes[at..].starts_with(&ZEROS) {
            at += BLOCK_BYTES;
            continue;
        }
        let stop = (at + BLOCK_BYTES).min(bytes.len());
        // A header's first byte is its payload's length, so only such bytes are examined.
        let first = record::BATCH_FIRST_BYTE;
        while let Some(skip) = bytes[at..stop].iter().position(|byte| *byte == first) {
            at += skip;
            if record::batch_at(bytes, at, seed).is_some() {
                return true;
            }
            at += 1;
        }
        at = stop;
    }
    false
}

/// The last byte at or behind `from` that is not zero.
fn last_set(bytes: &[u8], from: usize) -> Option<usize> {
    let mut end = bytes.len();
    while end >= from + BLOCK_BYTES && bytes[..end].ends_with(&ZEROS) {
        end -= BLOCK_BYTES;
    }
    bytes
        .get(from..end)?
        .iter()
        .rposition(|byte| *byte != 0)
        .map(|at| from + at)
}

#[cfg(test)]
#[path = "scan_test.rs"]
mod scan_test;
