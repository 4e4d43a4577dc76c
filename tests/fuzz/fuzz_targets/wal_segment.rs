//! A whole WAL segment from any bytes.
#![no_main]

use althing_storage::wal::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = fuzzing::scan_segment(bytes, 1);
});
