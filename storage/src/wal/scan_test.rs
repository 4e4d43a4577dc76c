//! Where a segment's records end, and what the bytes behind them mean.

use super::*;
use crate::entry::{EntryKind, LogId};
use crate::wal::batch::{Batch, Marks};
use proptest::prelude::*;

const SEQ: u64 = 1;
const BYTES: usize = 20_000;

/// A segment of batches with these many entries each, and where each batch starts.
fn segment(batches: &[usize], recycled: bool, filler: u8) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = vec![filler; BYTES];
    let mut starts = Vec::new();
    let mut batch = Batch::new(BYTES as u64, SEQ - 1, 0, 0);
    batch.next_segment(&Marks::default(), None);
    let mut index = 0;
    for count in batches {
        for _ in 0..*count {
            let id = LogId { term: 1, index };
            batch.push(&Record::Entry {
                id,
                kind: EntryKind::Command,
                payload: b"some payload",
            });
            index += 1;
        }
        let start = batch.part(0).offset as usize;
        let part = batch.seal(0, recycled);
        bytes[start..start + part.len()].copy_from_slice(part);
        starts.push(if start == 0 { SEGMENT_BYTES } else { start });
        batch.clear();
    }
    (bytes, starts)
}

fn scanned(bytes: &[u8]) -> (Scan, usize) {
    let mut entries = 0;
    let scan = scan::<()>(bytes, SEQ, &mut |decoded, _| {
        entries += usize::from(matches!(decoded.record, Record::Entry { .. }));
        Ok(())
    });
    (scan.expect("nothing was refused"), entries)
}

#[test]
fn zeros_end_a_young_segment_and_anything_ends_a_recycled_one() {
    for (recycled, filler) in [(false, 0), (true, 0), (true, 8), (true, 0xff)] {
        let (bytes, starts) = segment(&[1, 3, 2], recycled, filler);
        let (scan, entries) = scanned(&bytes);
        assert_eq!(entries, 6);
        assert!(!scan.goes_on);
        assert_eq!(scan.torn, None);
        assert_eq!(scan.last_batch.expect("there are three").start, starts[2]);
    }
}

#[test]
fn a_young_segment_that_is_not_zero_behind_its_records_is_torn() {
    let (mut bytes, _) = segment(&[1], false, 0);
    bytes[17_000] = 1;
    let (scan, _) = scanned(&bytes);
    assert_eq!(scan.torn, Some(scan.end..17_001));
}

#[test]
fn a_batch_of_mixed_old_and_new_sectors_is_not_whole() {
    // Two batches of the same shape that might have been written at the same place.
    let (one, starts) = segment(&[1, 2], false, 0);
    let mut other = one.clone();
    let at = starts[1] + BATCH_BYTES;
    let record = Record::Entry {
        id: LogId { term: 9, index: 1 },
        kind: EntryKind::Command,
        payload: b"SOME PAYLOAD",
    };
    let mut encoded = Vec::new();
    record::encode(&mut encoded, record::seed(SEQ), &record);
    other[at..at + encoded.len()].copy_from_slice(&encoded);
    let (scan, entries) = scanned(&other);
    assert_eq!(
        (entries, scan.end),
        (1, starts[1]),
        "every record is intact, the batch is not"
    );
    assert!(scan.torn.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_before_the_last_batch_is_seen_as_such(
        batches in prop::collection::vec(1usize..6, 2..20),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
        recycled in any::<bool>(),
    ) {
        let (mut bytes, starts) = segment(&batches, recycled, 0);
        let last = *starts.last().unwrap();
        let at = at.index(last);
        bytes[at] ^= 1 << bit;
        let (scan, _) = scanned(&bytes);
        prop_assert!(scan.goes_on, "flipped {at} before {last}");
        prop_assert!(scan.bad_at <= at && scan.end <= at);
    }
}
