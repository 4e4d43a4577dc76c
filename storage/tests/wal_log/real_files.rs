//! The WAL on real files, with the thread that prepares segments.

use super::{all_entries, append, entry, id, settings, vote};
use althing_storage::error::OpenError;
use althing_storage::wal::{Wal, look};
use std::path::Path;
use std::time::{Duration, Instant};

const SEGMENT_BYTES: u64 = 1 << 20;

fn open(dir: &Path) -> Wal {
    Wal::open(dir, settings(SEGMENT_BYTES, 64 * 1024))
        .expect("it opens")
        .0
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it can be listed");
    let mut names: Vec<_> = entries
        .map(|e| {
            e.expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[expect(
    clippy::disallowed_methods,
    reason = "a deadline of the test, not of the log"
)]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        std::thread::yield_now();
    }
}

#[test]
fn a_log_of_many_segments_is_read_while_written_purged_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path());
    wal.save_vote(vote(1));
    let reader = {
        let tail = wal.tail();
        std::thread::spawn(move || {
            let mut next = 0;
            while next < 600 {
                let (purged, _) = tail.state();
                next = next.max(purged.map_or(0, |id| id.index + 1));
                for read in tail.read(next..next + 50, 100_000).expect("it can be read") {
                    assert!(read.id.index >= next, "never backwards");
                    assert_eq!(read, entry(1, read.id.index, 10_000));
                    next = read.id.index + 1;
                }
            }
        })
    };
    for index in 0..600 {
        append(&mut wal, &[entry(1, index, 10_000)]);
        assert_eq!(wal.flush().expect("it is written"), Some(id(1, index)));
        if index % 100 == 99 {
            wal.tail().purge(id(1, index - 60));
            wal.purge(id(1, index - 60));
        }
    }
    wal.flush().expect("it is written");
    reader.join().expect("the reader saw a whole log");
    assert_eq!(all_entries(&wal).len(), 60);
    wait_until("recycling", || names(dir.path()).len() <= 6);
    drop(wal);
    let wal = open(dir.path());
    assert_eq!(wal.tail().state(), (Some(id(1, 539)), Some(id(1, 599))));
    assert_eq!(all_entries(&wal)[59], entry(1, 599, 10_000));
}

#[test]
fn the_next_segment_is_prepared_without_being_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path());
    assert_eq!(
        names(dir.path()).len(),
        1,
        "a small log takes one segment's space"
    );
    append(&mut wal, &[entry(0, 0, 300_000)]);
    wal.flush().expect("it is written");
    wait_until("preparing", || {
        wal.space().now().certain_bytes(0) > SEGMENT_BYTES
    });
    assert!(!wal.space().now().exhausted);
    assert!(
        names(dir.path())
            .iter()
            .any(|name| name.starts_with("free-"))
    );
}

#[test]
fn a_segment_size_that_cannot_work_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in [0, SEGMENT_BYTES - 1, 1 << 40] {
        let error = Wal::open(dir.path(), settings(bytes, 0)).expect_err("not a useful size");
        assert!(matches!(error, OpenError::WalSettings { .. }), "{error}");
    }
}

#[test]
fn another_segment_size_is_taken_up_by_an_old_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path());
    wal.save_vote(vote(1));
    append(&mut wal, &[entry(1, 0, 900_000)]);
    wal.flush().expect("it is written");
    drop(wal);
    for (index, bytes) in [
        (1, 2 * SEGMENT_BYTES),
        (2, SEGMENT_BYTES),
        (3, 3 * SEGMENT_BYTES),
    ] {
        let opened = Wal::open(dir.path(), settings(bytes, 0));
        let (mut wal, _) = opened.expect("the size may change");
        append(&mut wal, &[entry(1, index, 900_000)]);
        wal.flush().expect("it is written");
        assert_eq!(all_entries(&wal).len() as u64, index + 1);
    }
}

#[test]
fn looking_at_a_log_finds_what_opening_it_repairs_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path());
    wal.save_vote(vote(1));
    for index in 0..20 {
        append(&mut wal, &[entry(1, index, 100)]);
        wal.flush().expect("it is written");
    }
    drop(wal);
    let looked = look(dir.path()).expect("it can be read");
    assert_eq!(looked.last, Some(id(1, 19)));
    assert!(looked.repaired.is_none());
    // The last byte of the last batch never reached the disk.
    let newest = names(dir.path())
        .into_iter()
        .rfind(|name| name.ends_with(".wal"));
    let segment = dir.path().join(newest.unwrap());
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let before = names(dir.path());
    let looked = look(dir.path()).expect("a torn tail is no damage");
    assert_eq!(looked.last, Some(id(1, 18)));
    let torn = looked.repaired.expect("it is torn");
    assert_eq!(torn.file, segment);
    assert!(std::fs::read(&segment).unwrap() == bytes);
    assert_eq!(names(dir.path()), before);
    let (_, recovery) = Wal::open(dir.path(), settings(SEGMENT_BYTES, 1024)).unwrap();
    assert_eq!(recovery.repaired.unwrap().offset, torn.offset);
    assert_eq!(recovery.last, looked.last);
    assert!(look(dir.path()).unwrap().repaired.is_none());
}
