//! What the damage is decides: a torn tail is cut off, anything else is refused by name.

use super::{DIR, all_entries, append, entry, id, open, vote};
use althing_storage::error::OpenError;
use althing_storage::wal::Disk;
use althing_storage::wal::faulty_disk::FaultyDisk;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const SEGMENT_BYTES: u64 = 2048;
/// Bytes that a batch of one entry takes besides the payload: two heads and the batch's payload.
const BATCH_OVERHEAD: usize = 26 + 8 + 26;

/// A log of `flushes` batches of one entry; the payloads are 100 bytes.
fn written(flushes: u64) -> FaultyDisk {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    wal.save_vote(vote(1));
    wal.flush().expect("nothing fails here");
    for index in 0..flushes {
        append(&mut wal, &[entry(1, index, 100)]);
        wal.flush().expect("nothing fails here");
    }
    disk
}

fn segments(disk: &FaultyDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let is_segment = |path: &Path| path.extension().is_some_and(|end| end == "wal");
    disk.contents()
        .into_iter()
        .filter(|(path, _)| is_segment(path))
        .collect()
}

/// Where every record of a segment starts and ends, judged by the lengths alone.
fn records(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 26 <= bytes.len() && bytes[at + 8] != 0 {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        found.push(at..at + 26 + len);
        at += 26 + len;
    }
    found
}

fn with_byte_flipped(disk: &FaultyDisk, path: &Path, at: usize) -> FaultyDisk {
    let copy = FaultyDisk::default();
    for (name, mut bytes) in disk.contents() {
        if name == path {
            bytes[at] ^= 0x40;
        }
        copy.put(&name, bytes);
    }
    copy
}

#[test]
fn a_damaged_record_with_intact_ones_behind_it_is_refused_wherever_it_is() {
    let disk = written(30);
    let files = segments(&disk);
    assert!(files.len() > 2, "the log spans segments");
    let mut tried = 0;
    for (position, (path, bytes)) in files.iter().enumerate() {
        let mut found = records(bytes);
        if position + 1 == files.len() {
            // The last batch, a header and an entry, cannot be told from a torn one.
            found.truncate(found.len() - 2);
        }
        for record in found {
            for at in [
                record.start,
                record.start + 5,
                record.start + 8,
                record.end - 1,
            ] {
                let copy = with_byte_flipped(&disk, path, at);
                match open(&copy, SEGMENT_BYTES) {
                    Err(OpenError::WalDamaged {
                        path: named,
                        offset,
                        ..
                    }) => {
                        assert_eq!(&named, path, "flipped at {at} of {record:?}");
                        let distance = record.start.abs_diff(offset as usize);
                        assert!(distance <= 260, "{offset} named for {record:?}");
                    }
                    other => panic!("flipped {at} of {record:?} in {path:?}: {other:?}"),
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried} places");
}

#[test]
fn the_refusal_names_file_offset_and_remedy() {
    let disk = written(5);
    let (path, bytes) = segments(&disk).remove(0);
    let an_entry = records(&bytes)[7].clone();
    let copy = with_byte_flipped(&disk, &path, an_entry.end - 1);
    let text = open(&copy, SEGMENT_BYTES)
        .expect_err("it is damaged")
        .to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(
        text.contains(&format!("offset {}", an_entry.start)),
        "{text}"
    );
    assert!(
        text.contains("restore this member") && text.contains("do not delete"),
        "{text}"
    );
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_said_so() {
    let disk = written(3);
    let (path, bytes) = segments(&disk).remove(0);
    let end = records(&bytes).last().unwrap().end;
    let batch = end - 100 - BATCH_OVERHEAD;
    for torn_at in batch..end {
        let copy = FaultyDisk::default();
        let mut torn = bytes.clone();
        torn[torn_at..].fill(0);
        copy.put(&path, torn);
        let (wal, recovery) = open(&copy, SEGMENT_BYTES).expect("a torn tail is repaired");
        assert_eq!(recovery.last, Some(id(1, 1)), "torn at {torn_at}");
        assert_eq!(all_entries(&wal).len(), 2);
        if torn_at > batch {
            let repaired = recovery.repaired.expect("it is said");
            assert_eq!(
                (repaired.file, repaired.offset),
                (path.clone(), batch as u64)
            );
        } else {
            assert!(recovery.repaired.is_none(), "nothing was left of it");
        }
        drop(wal);
        let (_, recovery) = open(&copy, SEGMENT_BYTES).expect("it was repaired");
        assert!(recovery.repaired.is_none(), "once is enough");
    }
}

#[test]
fn a_file_cut_short_inside_the_last_record_is_repaired_and_written_on() {
    let disk = written(3);
    let (path, mut bytes) = segments(&disk).remove(0);
    bytes.truncate(records(&bytes).last().unwrap().end - 10);
    let copy = FaultyDisk::default();
    copy.put(&path, bytes);
    let (mut wal, recovery) = open(&copy, SEGMENT_BYTES).expect("a torn tail is repaired");
    assert!(recovery.repaired.is_some());
    append(&mut wal, &[entry(1, 2, 900), entry(1, 3, 900)]);
    wal.flush().expect("nothing fails here");
    assert_eq!(all_entries(&wal).len(), 4);
    drop(wal);
    let (wal, _) = open(&copy, SEGMENT_BYTES).expect("it was closed in order");
    assert_eq!(all_entries(&wal).len(), 4);
}

#[test]
fn a_missing_segment_with_later_ones_behind_it_is_refused() {
    let disk = written(40);
    let files = segments(&disk);
    for missing in 0..files.len() - 1 {
        let copy = FaultyDisk::default();
        for (position, (path, bytes)) in files.iter().enumerate() {
            if position != missing {
                copy.put(path, bytes.clone());
            }
        }
        let error = open(&copy, SEGMENT_BYTES).expect_err("a segment is missing");
        assert!(
            matches!(error, OpenError::WalIncomplete { .. }),
            "{missing}: {error}"
        );
        assert!(error.to_string().contains("missing"), "{error}");
    }
}

#[test]
fn an_emptied_segment_is_refused_and_so_is_a_strange_wal_file() {
    let disk = written(40);
    let files = segments(&disk);
    for (path, _) in &files {
        let copy = FaultyDisk::default();
        files
            .iter()
            .for_each(|(path, bytes)| copy.put(path, bytes.clone()));
        copy.put(path, Vec::new());
        let error = open(&copy, SEGMENT_BYTES).expect_err("a segment is empty");
        assert!(matches!(error, OpenError::WalDamaged { .. }), "{error}");
    }
    disk.put(
        &Path::new(DIR).join("0000000000000000-0000000000000000-x.wal"),
        vec![1; 100],
    );
    let error = open(&disk, SEGMENT_BYTES).expect_err("not ours");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn however_the_files_are_mangled_the_log_opens_as_one_log_or_is_refused(
        mangled in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<[u8; 3]>()),
            1..6,
        ),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let disk = written(25);
        let mut files = segments(&disk);
        for (file, at, bytes) in mangled {
            let file = file.get(&files).0.clone();
            let file = files.iter_mut().find(|(path, _)| *path == file).expect("one of them");
            let at = at.index(file.1.len() - 3);
            file.1[at..at + 3].copy_from_slice(&bytes);
        }
        if let (Some(cut), Some((_, last))) = (cut, files.last_mut()) {
            last.truncate(cut.index(last.len()));
        }
        let copy = FaultyDisk::default();
        files.iter().for_each(|(path, bytes)| copy.put(path, bytes.clone()));
        if let Ok((wal, recovery)) = open(&copy, SEGMENT_BYTES) {
            let entries = all_entries(&wal);
            let expected: Vec<_> = (0..entries.len() as u64).map(|i| entry(1, i, 100)).collect();
            prop_assert_eq!(&entries, &expected);
            prop_assert_eq!(entries.last().map(|entry| entry.id), recovery.last);
            drop(wal);
            let (wal, again) = open(&copy, SEGMENT_BYTES).expect("it opened before");
            prop_assert_eq!(all_entries(&wal), expected);
            prop_assert!(again.repaired.is_none());
        }
    }
}

#[test]
fn other_files_and_interrupted_fills_are_no_obstacle() {
    let disk = written(4);
    disk.put(&Path::new(DIR).join("lost+found"), Vec::new());
    disk.put(&Path::new(DIR).join("next.tmp"), vec![0; 10]);
    disk.put(&Path::new(DIR).join("free-00000000000000ff"), vec![7; 10]);
    let (wal, _) = open(&disk, SEGMENT_BYTES).expect("none of these matters");
    assert_eq!(all_entries(&wal).len(), 4);
    let names: Vec<_> = disk.contents().into_iter().map(|(path, _)| path).collect();
    assert!(
        names.contains(&Path::new(DIR).join("lost+found")),
        "not ours to remove"
    );
    assert!(
        !names.contains(&Path::new(DIR).join("free-00000000000000ff")),
        "of a useless size"
    );
}

#[test]
fn entries_of_a_term_without_any_vote_are_refused() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a new log opens");
    append(&mut wal, &[entry(0, 0, 10)]);
    wal.flush().expect("nothing fails here");
    drop(wal);
    let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("a first membership needs no vote");
    append(&mut wal, &[entry(3, 1, 10)]);
    wal.flush().expect("nothing fails here");
    drop(wal);
    let error = open(&disk, SEGMENT_BYTES).expect_err("no vote");
    assert!(error.to_string().contains("no vote"), "{error}");
}

#[test]
fn a_vote_outlives_the_segments_that_held_it() {
    let disk = written(60);
    {
        let (mut wal, _) = open(&disk, SEGMENT_BYTES).expect("it was closed in order");
        wal.save_committed(id(1, 55));
        wal.tail().purge(id(1, 50));
        wal.purge(id(1, 50));
        wal.flush().expect("nothing fails here");
    }
    let first = segments(&disk).remove(0).0;
    assert!(
        !first.ends_with("0000000000000001-0000000000000000.wal"),
        "{first:?}"
    );
    let (wal, recovery) = open(&disk, SEGMENT_BYTES).expect("it was closed in order");
    assert_eq!(recovery.vote, Some(vote(1)));
    assert_eq!(recovery.committed, Some(id(1, 55)));
    assert_eq!(
        (recovery.purged, recovery.last),
        (Some(id(1, 50)), Some(id(1, 59)))
    );
    assert_eq!(all_entries(&wal).len(), 9);
}

#[test]
fn a_damaged_record_is_an_error_of_the_read_that_meets_it() {
    let disk = written(20);
    let (wal, _) = open(&disk, SEGMENT_BYTES).expect("it was closed in order");
    let (path, bytes) = segments(&disk).remove(0);
    let first_entry = records(&bytes)[5].clone();
    let file = disk.open(&path).expect("it is there");
    file.write_at(first_entry.end as u64 - 1, &[0])
        .expect("nothing fails here");
    let error = wal.tail().read(0..1, 1000).expect_err("it is damaged");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    assert_eq!(
        wal.tail().read(1..2, 1000).expect("this one is not").len(),
        1
    );
}
