//! Records survive encoding, and nothing else passes for a record.

use super::*;
use proptest::prelude::*;

fn ids() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| LogId { term, index })
}

fn encoded(seq: u64, record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, seed(seq), record);
    bytes
}

fn check(seq: u64, record: Record<'_>) -> Result<(), TestCaseError> {
    let bytes = encoded(seq, &record);
    let decoded = decode(&bytes, seed(seq));
    prop_assert_eq!(
        decoded.map(|d| (d.record, d.bytes)),
        Ok((record, bytes.len()))
    );
    prop_assert_eq!(
        decode(&bytes, seed(seq ^ 1)),
        Err(NoRecord),
        "of another life"
    );
    prop_assert_eq!(
        decode(&bytes[..bytes.len() - 1], seed(seq)),
        Err(NoRecord),
        "cut"
    );
    Ok(())
}

proptest! {
    #[test]
    fn every_record_decodes_to_itself_and_only_in_its_own_segment(
        seq in any::<u64>(),
        id in ids(),
        maybe in prop::option::of(ids()),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0..3u8,
        candidate in prop::option::of(any::<u64>()),
        flag in any::<bool>(),
        number in any::<u32>(),
    ) {
        let kind = [EntryKind::Blank, EntryKind::Command, EntryKind::Membership][kind as usize];
        check(seq, Record::Entry { id, kind, payload: &payload })?;
        check(seq, Record::Vote(Vote { term: id.term, voted_for: candidate, committed: flag }))?;
        check(seq, Record::Truncate(maybe))?;
        check(seq, Record::Purged(id))?;
        check(seq, Record::Committed(id))?;
        check(seq, Record::Batch(BatchHeader { offset: id.index, bytes: number, sum: !number }))?;
        check(seq, Record::Segment(SegmentHeader {
            format: FORMAT,
            seq,
            previous_end: id.term,
            previous_sum: number,
            last: maybe,
            recycled: flag,
        }))?;
    }

    #[test]
    fn a_flipped_bit_is_always_noticed(
        seq in any::<u64>(),
        id in ids(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        bit in any::<prop::sample::Index>(),
    ) {
        let kind = EntryKind::Command;
        let mut bytes = encoded(seq, &Record::Entry { id, kind, payload: &payload });
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(decode(&bytes, seed(seq)), Err(NoRecord));
    }

    #[test]
    fn any_bytes_are_refused_or_read_without_panic(
        seq in 0..3u64,
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        honest in any::<bool>(),
    ) {
        // With a correct length and checksum the decoder gets past its first two checks.
        if honest && bytes.len() >= HEAD_BYTES {
            let len = u32::try_from(bytes.len() - HEAD_BYTES).unwrap();
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            bytes[TYPE_AT] %= 9;
            let crc = checksum(seed(seq), &bytes[..HEAD_BYTES], &bytes[HEAD_BYTES..]);
            bytes[CRC_AT..TYPE_AT].copy_from_slice(&crc.to_le_bytes());
        }
        super::super::fuzzing::decode_record(&bytes, seq);
        super::super::fuzzing::scan_segment(&bytes, seq);
    }
}

#[test]
fn a_batch_header_is_believed_only_where_it_says_it_is() {
    let header = BatchHeader {
        offset: 50,
        bytes: 7,
        sum: 9,
    };
    let mut segment = vec![0; 50];
    encode(&mut segment, seed(3), &Record::Batch(header));
    assert_eq!(batch_at(&segment, 50, seed(3)), Some(header));
    assert_eq!(
        batch_at(&segment[1..], 49, seed(3)),
        None,
        "copied elsewhere"
    );
    assert_eq!(batch_at(&segment, 50, seed(2)), None, "of another life");
    assert_eq!(batch_at(&segment, 51, seed(3)), None, "too few bytes");
}

#[test]
fn the_format_on_disk_is_this_and_changes_only_with_its_number() {
    let entry = Record::Entry {
        id: LogId { term: 2, index: 3 },
        kind: EntryKind::Command,
        payload: b"payload",
    };
    // Another program computed the checksum, bit by bit.
    assert_eq!(FORMAT, 1);
    assert_eq!(
        encoded(1, &entry),
        [
            7, 0, 0, 0, 0xd7, 0x73, 0x2a, 0x97, 3, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0,
            0, b'p', b'a', b'y', b'l', b'o', b'a', b'd'
        ]
    );
}
