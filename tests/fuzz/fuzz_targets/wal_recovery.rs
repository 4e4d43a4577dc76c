//! A log whose file holds any bytes: it opens or is refused, and opens the same way again.
#![no_main]

use althing_storage::wal::faulty_disk::FaultyDisk;
use althing_storage::wal::{Background, Wal, WalSettings};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let disk = FaultyDisk::default();
    let dir = Path::new("/wal");
    disk.put(
        &dir.join("0000000000000001-0000000000000000.wal"),
        bytes.to_vec(),
    );
    let settings = WalSettings {
        segment_bytes: 4096,
        tail_bytes: 0,
    };
    let open = || {
        let opened = Wal::open_on(
            Arc::new(disk.clone()),
            dir,
            settings.clone(),
            Background::Inline,
        );
        opened
            .ok()
            .map(|(wal, found)| (wal.tail().state(), found.vote, found.committed))
    };
    let first = open();
    assert_eq!(first, open());
});
