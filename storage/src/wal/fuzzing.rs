//! The decoders of bytes from a disk, for fuzzers: they must refuse, and never panic.

use super::record::{self, Decoded, Record};
use super::scan;

/// Decodes one record; if it decodes, it must encode to the same bytes.
///
/// # Panics
/// If it does not.
pub fn decode_record(bytes: &[u8], seq: u64) -> bool {
    let seed = record::seed(seq);
    let Ok(Decoded {
        record,
        bytes: taken,
        crc,
    }) = record::decode(bytes, seed)
    else {
        return false;
    };
    // The encoder drops unused bits of a flag, and an id that its flag says is absent.
    if matches!(record, Record::Entry { .. } | Record::Purged(_)) {
        let mut again = Vec::new();
        assert_eq!(record::encode(&mut again, seed, &record), crc);
        assert_eq!(again.len(), taken);
    }
    true
}

/// Reads a whole segment and returns how many records it has.
pub fn scan_segment(bytes: &[u8], seq: u64) -> usize {
    let mut records = 0;
    let scanned = scan::scan::<()>(bytes, seq, &mut |_, _| {
        records += 1;
        Ok(())
    });
    assert!(scanned.is_ok(), "nothing was refused");
    records
}
