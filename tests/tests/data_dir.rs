//! What a start does with the data directory that it finds: it repairs what a crash may leave, and
//! refuses everything else with a reason and a remedy.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use althing_api::etcdserverpb as pb;
use althing_tests::binaries::althingd;
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::{Member, READY_LINE};
use tempfile::TempDir;

/// A member that was killed after it acknowledged `keys`.
async fn killed_with(keys: &[&str]) -> Member {
    let mut member = Member::start(&althingd(), &[]);
    let mut client = member.grpc().await;
    for key in keys {
        let put = pb::PutRequest {
            key: (*key).to_owned().into(),
            value: format!("the value of {key}").into(),
            ..pb::PutRequest::default()
        };
        let _: pb::PutResponse = client.unary(path::PUT, &put).await.unwrap();
    }
    member.kill();
    member
}

async fn value_of(client: &mut Grpc, key: &str) -> Option<String> {
    let range = pb::RangeRequest {
        key: key.to_owned().into(),
        ..pb::RangeRequest::default()
    };
    let answer: pb::RangeResponse = client.unary(path::RANGE, &range).await.unwrap();
    let record = answer.kvs.first()?;
    Some(String::from_utf8(record.value.to_vec()).unwrap())
}

/// The exit code if no other start would help, so that no service manager tries.
const FINAL: i32 = 78;
/// The exit code for what may be over at the next start.
const PASSING: i32 = 1;

/// Starts a member that must end by itself with this exit code; returns what it printed.
fn refusal(member: &mut Member, code: i32) -> String {
    let process = member.launch();
    let status = process.wait();
    let printed = process.printed();
    assert_eq!(status.code(), Some(code), "{printed}");
    assert!(!printed.contains(READY_LINE), "it served:\n{printed}");
    printed
}

/// The segment of the log with the highest number.
fn newest_segment(data_dir: &Path) -> PathBuf {
    let files = fs::read_dir(data_dir.join("member/wal")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .max()
        .unwrap()
}

#[tokio::test]
async fn a_write_that_was_torn_by_a_crash_is_cut_off_and_said_so() {
    let mut member = killed_with(&["a", "b"]).await;
    let segment = newest_segment(member.data_dir());
    let bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[0xab; 100], end + 64).unwrap();

    member.restart();
    let mut client = member.grpc().await;
    for key in ["a", "b"] {
        assert_eq!(
            value_of(&mut client, key).await.unwrap(),
            format!("the value of {key}")
        );
    }
    let said = member.process().wait_for_line("torn").unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name), "{said} does not name {name}");

    // After the repair it is no longer torn. A kill could tear what it writes by itself.
    member.stop();
    member.restart();
    assert!(!member.process().printed().contains("torn"));
}

#[tokio::test]
async fn damage_in_the_middle_of_the_log_is_refused_with_file_offset_and_remedy() {
    let mut member = killed_with(&["needle", "behind it", "and more"]).await;
    let segment = newest_segment(member.data_dir());
    let bytes = fs::read(&segment).unwrap();
    let needle = b"the value of needle";
    let at = bytes
        .windows(needle.len())
        .position(|part| part == needle)
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(b"X", at as u64).unwrap();

    let said = refusal(&mut member, FINAL);
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name), "{said}\ndoes not name {name}");
    assert!(said.contains("offset "), "{said}\ntells no offset");
    assert!(said.contains("snapshot"), "{said}\nnames no remedy");

    // Undo the damage: the refused start has made nothing worse.
    file.write_all_at(b"t", at as u64).unwrap();
    member.restart();
    let mut client = member.grpc().await;
    assert_eq!(
        value_of(&mut client, "needle").await.unwrap(),
        "the value of needle"
    );
}

#[tokio::test]
async fn a_damaged_store_is_refused_with_file_and_remedy_and_not_tried_again() {
    let mut member = killed_with(&["needle", "and more"]).await;
    member.restart();
    member.stop();
    let store = member.data_dir().join("member/store.redb");
    let sound = fs::read(&store).unwrap();
    let needle = b"the value of needle";
    let mut record = sound.clone();
    let mut found = 0;
    for at in 0..sound.len() - needle.len() {
        if sound[at..].starts_with(needle) {
            record[at] = b'T';
            found += 1;
        }
    }
    assert!(found > 0, "the record is not in the file");
    let mut head = sound.clone();
    head[..8].fill(b'x');
    let cut = sound[..sound.len() / 2].to_vec();
    for (damaged, case) in [(record, "a record"), (head, "its head"), (cut, "its end")] {
        fs::write(&store, damaged).unwrap();
        let said = refusal(&mut member, FINAL);
        assert!(said.contains("store.redb"), "{case}: {said}");
        assert!(said.contains("snapshot"), "{case}: {said}\nno remedy");
    }

    // The refused starts have made nothing worse.
    fs::write(&store, sound).unwrap();
    member.restart();
    let mut client = member.grpc().await;
    assert!(value_of(&mut client, "needle").await.is_some());
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let first = Member::start(&althingd(), &[]);
    let mut second = Member::prepare(&althingd(), &[]);
    second.keep_data_in(first.data_dir());
    let said = refusal(&mut second, PASSING);
    assert!(
        said.contains(first.data_dir().to_str().unwrap()),
        "{said}\nnames no directory"
    );
    assert!(said.contains("uses this directory"), "{said}");
}

#[test]
fn a_directory_with_something_elses_files_is_refused_and_left_alone() {
    let foreign = TempDir::new().unwrap();
    fs::write(foreign.path().join("holiday.jpg"), "not ours").unwrap();
    let mut member = Member::prepare(&althingd(), &[]);
    member.keep_data_in(foreign.path());
    let said = refusal(&mut member, FINAL);
    assert!(
        said.contains("holiday.jpg"),
        "{said}\ndoes not say what it found"
    );
    assert!(!foreign.path().join("member").exists());
}

#[test]
fn the_data_of_a_later_version_is_refused() {
    let mut member = Member::start(&althingd(), &[]);
    member.stop();
    let version = member.data_dir().join("VERSION");
    let text = fs::read_to_string(&version).unwrap();
    let later = text.replace("format 1", "format 99");
    assert_ne!(text, later, "the file no longer tells its format this way");
    fs::write(&version, later).unwrap();
    let said = refusal(&mut member, FINAL);
    assert!(
        said.contains("99"),
        "{said}\ndoes not tell the format it found"
    );
    assert!(said.contains("later"), "{said}\nnames no remedy");
}
