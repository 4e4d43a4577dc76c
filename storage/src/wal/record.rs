//! One record: `len u32, crc32c u32, type u8, flag u8, term u64, index u64, payload`, all LE.
//!
//! The checksum covers everything but itself and is seeded with the segment's sequence number, so a
//! record left over from the former use of a recycled segment never passes for a current one.

use crate::entry::{EntryKind, LogId, Vote};

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 26;
const CRC_AT: usize = 4;
const TYPE_AT: usize = 8;
const FLAG_AT: usize = 9;
const TERM_AT: usize = 10;
const INDEX_AT: usize = 18;

/// Payload of a segment header: format, sequence number, end and sum of the segment before.
const SEGMENT_PAYLOAD: usize = 24;
/// Payload of a batch header: bytes behind it and the sum of their checksums.
const BATCH_PAYLOAD: usize = 8;
/// A whole segment header.
pub(super) const SEGMENT_BYTES: usize = HEAD_BYTES + SEGMENT_PAYLOAD;
/// A whole batch header.
pub(super) const BATCH_BYTES: usize = HEAD_BYTES + BATCH_PAYLOAD;
/// What a batch header starts with: the low byte of its payload's length.
pub(super) const BATCH_FIRST_BYTE: u8 = BATCH_PAYLOAD as u8;
/// The format that this code writes; it refuses any other.
pub(super) const FORMAT: u32 = 1;

const VOTE_HAS_CANDIDATE: u8 = 1;
const VOTE_COMMITTED: u8 = 2;
const HAS_ID: u8 = 1;
const RECYCLED: u8 = 2;

/// The checksum's start value for a segment.
pub(super) fn seed(seq: u64) -> u32 {
    crc32c::crc32c(&seq.to_le_bytes())
}

/// What a segment says about itself and about the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The layout of everything behind.
    pub format: u32,
    /// The place in the chain of segments; the file name has the same.
    pub seq: u64,
    /// Where the records of the segment before end; 0 for the first segment ever.
    pub previous_end: u64,
    /// Sum of the last batch of the segment before; 0 for the first segment ever.
    pub previous_sum: u32,
    /// The last entry of the log when this segment began.
    pub last: Option<LogId>,
    /// Whether the file was used before: then anything may lie behind the last record.
    pub recycled: bool,
}

/// What one flush puts into one segment; recovery takes all of it or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// The place of this header; a copy of it anywhere else is not believed.
    pub offset: u64,
    /// Bytes of the records behind the header.
    pub bytes: u32,
    /// Checksum over the checksums of those records: old and new sectors never mix unseen.
    pub sum: u32,
}

/// The content of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// First in every segment.
    Segment(SegmentHeader),
    /// First in every batch.
    Batch(BatchHeader),
    /// An entry of the log.
    Entry {
        id: LogId,
        kind: EntryKind,
        payload: &'a [u8],
    },
    /// The member's vote.
    Vote(Vote),
    /// Entries behind this one are void; `None` voids all.
    Truncate(Option<LogId>),
    /// Entries up to this one are no longer needed.
    Purged(LogId),
    /// Entries up to this one are held by a quorum.
    Committed(LogId),
}

/// The bytes are not a record of this segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRecord;

/// Bytes that a record with this payload takes.
pub(super) fn encoded_bytes(payload: usize) -> usize {
    HEAD_BYTES + payload
}

/// Appends `record` to `out` and returns its checksum.
pub(super) fn encode(out: &mut Vec<u8>, seed: u32, record: &Record<'_>) -> u32 {
    match *record {
        Record::Segment(h) => {
            let mut payload = [0; SEGMENT_PAYLOAD];
            payload[..4].copy_from_slice(&h.format.to_le_bytes());
            payload[4..12].copy_from_slice(&h.seq.to_le_bytes());
            payload[12..20].copy_from_slice(&h.previous_end.to_le_bytes());
            payload[20..].copy_from_slice(&h.previous_sum.to_le_bytes());
            let recycled = if h.recycled { RECYCLED } else { 0 };
            let (flag, id) = optional_id(h.last);
            put(out, seed, 1, flag | recycled, id, &payload)
        }
        Record::Batch(h) => {
            let mut payload = [0; BATCH_PAYLOAD];
            payload[..4].copy_from_slice(&h.bytes.to_le_bytes());
            payload[4..].copy_from_slice(&h.sum.to_le_bytes());
            put(
                out,
                seed,
                BATCH_TYPE,
                0,
                LogId {
                    term: 0,
                    index: h.offset,
                },
                &payload,
            )
        }
        Record::Entry { id, kind, payload } => put(out, seed, 3, kind as u8, id, payload),
        Record::Vote(vote) => {
            let mut flag = if vote.voted_for.is_some() {
                VOTE_HAS_CANDIDATE
            } else {
                0
            };
            if vote.committed {
                flag |= VOTE_COMMITTED;
            }
            let id = LogId {
                term: vote.term,
                index: vote.voted_for.unwrap_or(0),
            };
            put(out, seed, 4, flag, id, &[])
        }
        Record::Truncate(last) => {
            let (flag, id) = optional_id(last);
            put(out, seed, 5, flag, id, &[])
        }
        Record::Purged(id) => put(out, seed, 6, 0, id, &[]),
        Record::Committed(id) => put(out, seed, 7, 0, id, &[]),
    }
}

const BATCH_TYPE: u8 = 2;

fn optional_id(id: Option<LogId>) -> (u8, LogId) {
    (
        if id.is_some() { HAS_ID } else { 0 },
        id.unwrap_or_default(),
    )
}

fn put(out: &mut Vec<u8>, seed: u32, kind: u8, flag: u8, id: LogId, payload: &[u8]) -> u32 {
    let mut head = [0; HEAD_BYTES];
    let len = u32::try_from(payload.len()).expect("a record is smaller than its segment");
    head[..CRC_AT].copy_from_slice(&len.to_le_bytes());
    head[TYPE_AT] = kind;
    head[FLAG_AT] = flag;
    head[TERM_AT..INDEX_AT].copy_from_slice(&id.term.to_le_bytes());
    head[INDEX_AT..].copy_from_slice(&id.index.to_le_bytes());
    let crc = checksum(seed, &head, payload);
    head[CRC_AT..TYPE_AT].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    crc
}

fn checksum(seed: u32, head: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed, &head[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &head[TYPE_AT..HEAD_BYTES]);
    crc32c::crc32c_append(crc, payload)
}

/// A record that passed its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    /// Its content.
    pub record: Record<'a>,
    /// The bytes that it takes.
    pub bytes: usize,
    /// Its checksum.
    pub crc: u32,
}

/// Reads the record at the start of `bytes`.
///
/// # Errors
/// [`NoRecord`] when the bytes are too few, fail the checksum or make no sense.
pub(super) fn decode(bytes: &[u8], seed: u32) -> Result<Decoded<'_>, NoRecord> {
    let head = bytes.get(..HEAD_BYTES).ok_or(NoRecord)?;
    let len = usize::try_from(u32_at(head, 0)).map_err(|_| NoRecord)?;
    let end = HEAD_BYTES.checked_add(len).ok_or(NoRecord)?;
    let payload = bytes.get(HEAD_BYTES..end).ok_or(NoRecord)?;
    // A cheap check of the type first: zeros and most garbage end here.
    if !(1..=7).contains(&head[TYPE_AT]) {
        return Err(NoRecord);
    }
    let crc = u32_at(head, CRC_AT);
    if checksum(seed, head, payload) != crc {
        return Err(NoRecord);
    }
    let record = read(head, payload).ok_or(NoRecord)?;
    Ok(Decoded {
        record,
        bytes: end,
        crc,
    })
}

fn read<'a>(head: &[u8], payload: &'a [u8]) -> Option<Record<'a>> {
    let flag = head[FLAG_AT];
    let id = LogId {
        term: u64_at(head, TERM_AT),
        index: u64_at(head, INDEX_AT),
    };
    let maybe_id = (flag & HAS_ID != 0).then_some(id);
    let bare = |record| payload.is_empty().then_some(record);
    match head[TYPE_AT] {
        1 if payload.len() == SEGMENT_PAYLOAD => Some(Record::Segment(SegmentHeader {
            format: u32_at(payload, 0),
            seq: u64_at(payload, 4),
            previous_end: u64_at(payload, 12),
            previous_sum: u32_at(payload, 20),
            last: maybe_id,
            recycled: flag & RECYCLED != 0,
        })),
        BATCH_TYPE if payload.len() == BATCH_PAYLOAD => Some(Record::Batch(BatchHeader {
            offset: id.index,
            bytes: u32_at(payload, 0),
            sum: u32_at(payload, 4),
        })),
        3 => {
            let kind = match flag {
                0 => EntryKind::Blank,
                1 => EntryKind::Command,
                2 => EntryKind::Membership,
                _ => return None,
            };
            Some(Record::Entry { id, kind, payload })
        }
        4 => bare(Record::Vote(Vote {
            term: id.term,
            voted_for: (flag & VOTE_HAS_CANDIDATE != 0).then_some(id.index),
            committed: flag & VOTE_COMMITTED != 0,
        })),
        5 => bare(Record::Truncate(maybe_id)),
        6 => bare(Record::Purged(id)),
        7 => bare(Record::Committed(id)),
        _ => None,
    }
}

/// Whether a batch header of this segment starts at `offset` of `segment`.
pub(super) fn batch_at(segment: &[u8], offset: usize, seed: u32) -> Option<BatchHeader> {
    let bytes = segment.get(offset..offset.checked_add(BATCH_BYTES)?)?;
    // The fixed length, the type and the header's own place rarely match by chance, so a search for
    // headers in a whole segment seldom computes a checksum.
    if bytes[0] != BATCH_FIRST_BYTE
        || bytes[TYPE_AT] != BATCH_TYPE
        || u64_at(bytes, INDEX_AT) != offset as u64
    {
        return None;
    }
    match decode(bytes, seed) {
        Ok(Decoded {
            record: Record::Batch(header),
            ..
        }) => Some(header),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
#[path = "record_test.rs"]
mod record_test;
