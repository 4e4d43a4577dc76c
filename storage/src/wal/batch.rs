//! The batch being filled: records encoded once, straight into the bytes that flush writes.
//!
//! A batch that outgrows its segment goes on in the next one: it then has one *part* per segment,
//! each with a header and sum of its own. A part that opens a segment starts with room for the
//! segment's header, which is filled in when the file is known.

use super::record::{self, BATCH_BYTES, BatchHeader, FORMAT, Record, SEGMENT_BYTES, SegmentHeader};
use super::tail::Location;
use crate::entry::{LogId, Vote};

/// A buffer larger than this is given back after its flush.
const KEPT_BYTES: usize = 4 << 20;

/// What a new segment repeats from earlier ones, so that those may go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub committed: Option<LogId>,
}

impl Marks {
    /// Nothing behind the log's last entry counts as committed, as far as this log knows.
    pub(super) fn lower_committed(&mut self, last: Option<LogId>) {
        if let Some(committed) = self.committed
            && last.is_none_or(|last| last.index < committed.index)
        {
            self.committed = last;
        }
    }

    fn records(&self) -> impl Iterator<Item = Record<'static>> {
        let vote = self.vote.map(Record::Vote);
        let purged = self.purged.map(Record::Purged);
        vote.into_iter()
            .chain(purged)
            .chain(self.committed.map(Record::Committed))
    }
}

/// Bytes that every segment spends on its header, the first batch's header and the marks.
pub(super) const OVERHEAD_BYTES: u64 =
    (SEGMENT_BYTES + BATCH_BYTES + 3 * record::HEAD_BYTES) as u64;

/// What goes into one segment.
#[derive(Debug)]
pub(super) struct Part {
    /// The segment's number.
    pub seq: u64,
    /// The part's place in the segment.
    pub offset: u64,
    /// Set when the part opens its segment.
    pub opens: Option<SegmentHeader>,
    /// The highest index among its entries that are not void.
    pub highest: Option<u64>,
    start: usize,
    end: usize,
    sum: u32,
}

/// Encoded records that are not yet written.
#[derive(Debug)]
pub(super) struct Batch {
    /// The size of the segments that the batch opens, and of the one that the next record goes to.
    segment_bytes: u64,
    capacity: u64,
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// The segment that the next record goes to, the place in it, and the sum of its last whole
    /// batch.
    seq: u64,
    offset: u64,
    sum: u32,
    seed: u32,
}

impl Batch {
    /// An empty batch that goes on at `offset` of segment `seq`, whose last batch has this `sum`.
    pub(super) fn new(segment_bytes: u64, seq: u64, offset: u64, sum: u32) -> Batch {
        let (bytes, parts, capacity) = (Vec::new(), Vec::new(), segment_bytes);
        Batch {
            segment_bytes,
            capacity,
            bytes,
            parts,
            seq,
            offset,
            sum,
            seed: record::seed(seq),
        }
    }

    /// Sets the file size of the segment that the batch ends in.
    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many segments the batch opens.
    pub(super) fn opened(&self) -> usize {
        self.parts
            .iter()
            .filter(|part| part.opens.is_some())
            .count()
    }

    /// Bytes left in the segment that the batch ends in.
    pub(super) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.offset)
    }

    /// Whether one `part`th of the segment that the batch ends in is used.
    pub(super) fn has_used(&self, part: u64) -> bool {
        self.offset >= self.capacity / part
    }

    /// Whether a record with this payload still fits into the segment.
    pub(super) fn fits(&self, payload: usize) -> bool {
        let header = if self.parts.is_empty() {
            BATCH_BYTES
        } else {
            0
        };
        (header + record::encoded_bytes(payload)) as u64 <= self.room()
    }

    /// Adds a record, which must fit, and says where it will be.
    pub(super) fn push(&mut self, record: &Record<'_>) -> Location {
        if self.parts.is_empty() {
            self.open_part(None);
        }
        let part = self.parts.last_mut().expect("a part was opened above");
        if let Record::Entry { id, .. } = record {
            part.highest = Some(id.index);
        }
        let crc = record::encode(&mut self.bytes, self.seed, record);
        part.sum = crc32c::crc32c_append(part.sum, &crc.to_le_bytes());
        let written = self.bytes.len() - part.end;
        part.end = self.bytes.len();
        let location = Location::new(self.seq, self.offset, written);
        self.offset += written as u64;
        assert!(
            self.offset <= self.capacity,
            "the caller asked whether the record fits"
        );
        location
    }

    /// Goes on in the next segment, which repeats `marks`; `last` is the log's last entry so far.
    pub(super) fn next_segment(&mut self, marks: &Marks, last: Option<LogId>) {
        if let Some(part) = self.parts.last() {
            self.sum = part.sum;
        }
        let header = SegmentHeader {
            format: FORMAT,
            seq: self.seq + 1,
            previous_end: self.offset,
            previous_sum: self.sum,
            last,
            recycled: false,
        };
        self.seq += 1;
        self.seed = record::seed(self.seq);
        self.offset = 0;
        self.capacity = self.segment_bytes;
        self.open_part(Some(header));
        for record in marks.records() {
            self.push(&record);
        }
    }

    fn open_part(&mut self, opens: Option<SegmentHeader>) {
        let start = self.bytes.len();
        let header = BATCH_BYTES + if opens.is_some() { SEGMENT_BYTES } else { 0 };
        self.bytes.resize(start + header, 0);
        let (seq, offset, end) = (self.seq, self.offset, self.bytes.len());
        self.parts.push(Part {
            seq,
            offset,
            opens,
            highest: None,
            start,
            end,
            sum: 0,
        });
        self.offset += header as u64;
    }

    /// Voids the entries behind `last`, also those in this batch.
    pub(super) fn lower_highest(&mut self, last: Option<u64>) {
        for part in &mut self.parts {
            part.highest = part.highest.min(last);
        }
    }

    /// How many parts there are to write.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The part at this position.
    pub(super) fn part(&self, position: usize) -> &Part {
        &self.parts[position]
    }

    /// Fills in the part's headers, after which the bytes are ready to be written.
    pub(super) fn seal(&mut self, position: usize, recycled: bool) -> &[u8] {
        let part = &self.parts[position];
        let seed = record::seed(part.seq);
        let mut headers = Vec::with_capacity(SEGMENT_BYTES + BATCH_BYTES);
        if let Some(header) = part.opens {
            let header = SegmentHeader { recycled, ..header };
            record::encode(&mut headers, seed, &Record::Segment(header));
        }
        let head = headers.len() + BATCH_BYTES;
        let bytes = part.end - part.start - head;
        let header = BatchHeader {
            offset: part.offset + headers.len() as u64,
            bytes: u32::try_from(bytes).expect("a segment is smaller than 4 GiB"),
            sum: part.sum,
        };
        record::encode(&mut headers, seed, &Record::Batch(header));
        self.bytes[part.start..part.start + head].copy_from_slice(&headers);
        &self.bytes[part.start..part.end]
    }

    /// Forgets the batch, which has been flushed.
    pub(super) fn clear(&mut self) {
        if let Some(part) = self.parts.last() {
            self.sum = part.sum;
        }
        self.parts.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }
}
