//! The member's identity file from any bytes.
#![no_main]

use althing_storage::data_dir::decode_identity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_identity(bytes);
});
