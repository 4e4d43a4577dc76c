//! A WAL record from any bytes.
#![no_main]

use althing_storage::wal::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = fuzzing::decode_record(bytes, 1);
});
