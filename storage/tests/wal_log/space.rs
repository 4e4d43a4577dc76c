//! Without space nothing acknowledged is lost and all goes on when space returns; any other error
//! of the disk is final.

use super::{all_entries, append, entry, id, open, vote};
use althing_storage::wal::Wal;
use althing_storage::wal::faulty_disk::{FaultyDisk, Operation};
use std::io::ErrorKind;

const SEGMENT_BYTES: u64 = 2048;

/// Writes entries one by one until a flush fails; returns the index that failed.
fn fill(wal: &mut Wal) -> u64 {
    for index in 0..1000 {
        append(wal, &[entry(1, index, 100)]);
        match wal.flush() {
            Ok(last) => assert_eq!(last, Some(id(1, index))),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                return index;
            }
        }
    }
    panic!("space never ran out");
}

#[test]
fn a_full_disk_keeps_the_batch_and_writes_it_when_space_returns() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    wal.save_vote(vote(1));
    disk.set_free_bytes(Some(3 * SEGMENT_BYTES));
    let failed = fill(&mut wal);
    assert!(wal.space().now().exhausted);
    assert_eq!(
        wal.tail().flushed(),
        Some(id(1, failed - 1)),
        "as acknowledged"
    );
    assert_eq!(
        all_entries(&wal).len() as u64,
        failed + 1,
        "all can still be read"
    );
    assert_eq!(
        wal.flush().expect_err("still no space").kind(),
        ErrorKind::StorageFull
    );

    disk.set_free_bytes(Some(10 * SEGMENT_BYTES));
    append(&mut wal, &[entry(1, failed + 1, 100)]);
    assert_eq!(
        wal.flush().expect("there is space"),
        Some(id(1, failed + 1))
    );
    assert!(!wal.space().now().exhausted);
    drop(wal);
    let (wal, recovery) = open(&disk, SEGMENT_BYTES).expect("it was closed in order");
    assert_eq!(recovery.last, Some(id(1, failed + 1)));
    assert_eq!(all_entries(&wal).len() as u64, failed + 2);
}

#[test]
fn a_process_killed_on_a_full_disk_opens_again_without_space() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    wal.save_vote(vote(1));
    disk.set_free_bytes(Some(2 * SEGMENT_BYTES));
    let failed = fill(&mut wal);
    drop(wal);
    let (wal, recovery) = open(&disk, SEGMENT_BYTES).expect("opening needs no space");
    assert_eq!(recovery.last, Some(id(1, failed - 1)));
    assert_eq!(all_entries(&wal).len() as u64, failed);
}

#[test]
fn headroom_is_what_can_be_written_before_the_disk_is_full() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    wal.save_vote(vote(1));
    wal.flush().expect("nothing fails here");
    disk.set_free_bytes(Some(SEGMENT_BYTES));
    let mut index = 0;
    // One batch of one entry of 100 bytes, and as much again for the unused end of a segment.
    while !wal.space().now().exhausted
        || wal.space().now().certain_bytes(0) >= 2 * (26 + 8 + 26 + 100)
    {
        append(&mut wal, &[entry(1, index, 100)]);
        wal.flush().expect("there is headroom");
        index += 1;
    }
    assert!(index > 15, "{index}: the prepared segment was used");
    append(&mut wal, &[entry(1, index, 900)]);
    assert_eq!(
        wal.flush().expect_err("too large for the rest").kind(),
        ErrorKind::StorageFull
    );
}

#[test]
fn the_last_free_bytes_of_the_disk_are_left_to_the_store() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    wal.save_vote(vote(1));
    disk.set_reported_free_bytes(Some(SEGMENT_BYTES + SEGMENT_BYTES / 4 - 1));
    let files = disk.contents().len();
    let failed = fill(&mut wal);
    assert_eq!(disk.contents().len(), files, "no file was begun");
    disk.set_reported_free_bytes(Some(SEGMENT_BYTES + SEGMENT_BYTES / 4));
    assert_eq!(wal.flush().expect("there is space"), Some(id(1, failed)));
}

#[test]
fn a_purge_makes_space_on_a_full_disk() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    wal.save_vote(vote(1));
    disk.set_free_bytes(Some(4 * SEGMENT_BYTES));
    let mut index = 0;
    while !wal.space().now().exhausted || wal.space().now().certain_bytes(0) > 500 {
        append(&mut wal, &[entry(1, index, 100)]);
        wal.flush().expect("there is headroom");
        index += 1;
    }
    wal.tail().purge(id(1, index - 1));
    wal.purge(id(1, index - 1));
    wal.flush().expect("a purge mark fits into the headroom");
    assert!(!wal.space().now().exhausted);
    assert!(
        wal.space().now().certain_bytes(0) > SEGMENT_BYTES,
        "old segments serve again"
    );
}

#[test]
fn an_error_of_a_write_or_a_sync_is_final() {
    for operation in [Operation::Write, Operation::Sync] {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            let disk = FaultyDisk::default();
            let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
            wal.save_vote(vote(1));
            append(&mut wal, &[entry(1, 0, 100)]);
            wal.flush().expect("nothing fails yet");
            disk.set_failing(Some((operation, kind)));
            append(&mut wal, &[entry(1, 1, 100)]);
            let error = wal.flush().expect_err("the disk fails");
            assert_ne!(
                error.kind(),
                ErrorKind::StorageFull,
                "that kind promises a retry"
            );
            disk.set_failing(None);
            wal.flush().expect_err("nobody knows what was written");
            assert_eq!(wal.tail().flushed(), Some(id(1, 0)));
        }
    }
}

#[test]
fn a_disk_that_fails_while_a_segment_is_prepared_is_final_too() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    wal.save_vote(vote(1));
    disk.set_failing(Some((Operation::Rename, ErrorKind::Other)));
    let mut index = 0;
    let error = loop {
        append(&mut wal, &[entry(1, index, 300)]);
        if let Err(error) = wal.flush() {
            break error;
        }
        index += 1;
        assert!(index < 100, "the failure is never seen");
    };
    assert_eq!(error.kind(), ErrorKind::Other);
    disk.set_failing(None);
    wal.flush().expect_err("it is final");
}

#[test]
fn an_entry_larger_than_a_segment_is_refused_for_good() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    let largest = super::settings(SEGMENT_BYTES, 0).payload_bytes_max();
    let largest = usize::try_from(largest).expect("small");
    append(&mut wal, &[entry(0, 0, largest), entry(0, 1, largest)]);
    assert_eq!(wal.flush().expect("the largest ones fit"), Some(id(0, 1)));
    append(&mut wal, &[entry(0, 2, largest + 1)]);
    assert_eq!(
        wal.flush().expect_err("too large").kind(),
        ErrorKind::InvalidInput
    );
    wal.flush().expect_err("it is final");
}
