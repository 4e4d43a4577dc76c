//! A member's snapshot as a file: saved while it serves, restored to one member and to three, and
//! copied by migration.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use althing_api::etcdserverpb as pb;
use althing_tests::binaries::{althingctl, althingd};
use althing_tests::cluster::STEADY;
use althing_tests::grpc::{Grpc, path};
use althing_tests::hasty_source::HastySource;
use althing_tests::member::Member;
use bytes::Bytes;
use tempfile::TempDir;

const KEYS: usize = 300;
/// Keys that are migrated while others are written.
const OWN_KEYS: usize = 20;

fn ctl(member: &Member, line: &[&str]) -> Output {
    ctl_at(&member.client_url(), line)
}

fn ctl_at(client_url: &str, line: &[&str]) -> Output {
    let endpoint = format!("--endpoints={client_url}");
    let mut command = Command::new(althingctl());
    // Allows for a busy machine.
    command.arg(endpoint).arg("--command-timeout=60s");
    let output = command.args(line).output();
    output.expect("althingctl can be run")
}

fn told(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

async fn put(grpc: &mut Grpc, key: &str, value: &str, lease: i64) -> i64 {
    let request = pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
        ..Default::default()
    };
    let answer: pb::PutResponse = grpc.unary(path::PUT, &request).await.unwrap();
    answer.header.unwrap().revision
}

async fn all(member: &Member, revision: i64) -> pb::RangeResponse {
    let request = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    };
    let mut grpc = member.grpc().await;
    grpc.unary(path::RANGE, &request).await.unwrap()
}

/// A member with history, a lease, and a large value that is stored apart.
async fn filled() -> (Member, i64) {
    let member = Member::start(&althingd(), &[]);
    let mut grpc = member.grpc().await;
    for number in 0..KEYS {
        put(&mut grpc, &format!("k{number}"), "first", 0).await;
    }
    let past = put(&mut grpc, "large", &"v".repeat(200_000), 0).await;
    for number in 0..KEYS / 2 {
        put(&mut grpc, &format!("k{number}"), "second", 0).await;
    }
    let lease = told(&ctl(&member, &["lease", "grant", "3000"]));
    let lease = lease.split_whitespace().nth(1).unwrap();
    let id = i64::from_str_radix(lease, 16).unwrap();
    put(&mut grpc, "leased", "v", id).await;
    (member, past)
}

fn saved(member: &Member, directory: &Path) -> String {
    let file = directory.join("saved.db").display().to_string();
    told(&ctl(member, &["snapshot", "save", &file]));
    file
}

fn restored(member: &Member, file: &str, flags: &[&str]) {
    let target = member.data_dir().display().to_string();
    let peer = member.peer_url();
    let line = [
        &["snapshot", "restore", file, "--data-dir", &target][..],
        &["--initial-advertise-peer-urls", &peer],
        flags,
    ];
    told(&ctl(member, &line.concat()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_member_has_the_keys_their_history_and_their_leases() {
    let (member, past) = filled().await;
    let directory = TempDir::new().unwrap();
    let file = saved(&member, directory.path());
    let mut other = Member::prepare(&althingd(), &[]);
    restored(&other, &file, &["--bump-revision", "0"]);
    for _ in 0..2 {
        other.restart();
        for revision in [0, past] {
            let (ours, theirs) = (all(&member, revision).await, all(&other, revision).await);
            assert_eq!(ours.kvs, theirs.kvs);
            let revision = |answer: &pb::RangeResponse| answer.header.unwrap().revision;
            assert_eq!(revision(&ours), revision(&theirs));
        }
        let leases = |member: &Member| told(&ctl(member, &["lease", "list"]));
        assert_eq!(leases(&member), leases(&other));
        assert_ne!(
            all(&member, 0).await.header.unwrap().cluster_id,
            all(&other, 0).await.header.unwrap().cluster_id
        );
        other.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_restored_from_one_file_are_one_cluster() {
    let (member, _) = filled().await;
    let directory = TempDir::new().unwrap();
    let file = saved(&member, directory.path());
    let mut members: Vec<Member> = (0..3)
        .map(|position| {
            let mut member = Member::prepare(&althingd(), &STEADY);
            member.call_it(&format!("m{position}"));
            member
        })
        .collect();
    let entries: Vec<String> = members.iter().map(Member::entry).collect();
    let list = entries.join(",");
    for (position, member) in members.iter_mut().enumerate() {
        let name = format!("m{position}");
        restored(
            member,
            &file,
            &["--name", &name, "--initial-cluster", &list],
        );
        member.begin_with(&entries);
        member.launch();
    }
    members.iter_mut().for_each(Member::wait_until_it_serves);
    let before = all(&member, 0).await;
    for restored in &members {
        let after = all(restored, 0).await;
        assert_eq!(before.kvs, after.kvs);
        let raised = before.header.unwrap().revision + 1_000_000_000;
        assert_eq!(after.header.unwrap().revision, raised);
    }
    put(&mut members[0].grpc().await, "new", "v", 0).await;
    for restored in &members {
        let found = all(restored, 0).await;
        assert_eq!(found.kvs.len(), before.kvs.len() + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_makes_the_destination_equal_and_is_not_done_twice_by_accident() {
    let (source, _) = filled().await;
    let destination = Member::start(&althingd(), &[]);
    let target = destination.client_url();
    let dry = told(&ctl(&source, &["migrate", &target, "--dry-run"]));
    assert!(
        dry.contains("would add 302 keys, change 0, delete 0"),
        "{dry}"
    );
    assert!(all(&destination, 0).await.kvs.is_empty());
    let done = told(&ctl(&source, &["migrate", &target, "--once"]));
    assert!(done.contains("302 keys are equal, 1 leases"), "{done}");
    let values = |answer: pb::RangeResponse| -> Vec<(Bytes, Bytes, i64)> {
        let kvs = answer.kvs.into_iter();
        kvs.map(|kv| (kv.key, kv.value, kv.lease)).collect()
    };
    let (ours, theirs) = (all(&source, 0).await, all(&destination, 0).await);
    assert_eq!(values(ours), values(theirs));
    let again = ctl(&source, &["migrate", &target, "--once"]);
    assert_eq!(again.status.code(), Some(1));
    let text = String::from_utf8(again.stderr).unwrap();
    assert!(text.contains("--overwrite"), "{text}");
    let itself = ctl(&source, &["migrate", &source.client_url()]);
    let text = String::from_utf8(itself.stderr).unwrap();
    assert!(text.contains("the same cluster"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_migration_of_a_prefix_is_verified_while_others_write_other_keys() {
    let source = Member::start(&althingd(), &[]);
    let destination = Member::start(&althingd(), &[]);
    let mut grpc = source.grpc().await;
    for number in 0..OWN_KEYS {
        put(&mut grpc, &format!("mine/{number}"), "v", 0).await;
    }
    let writing = tokio::spawn(async move {
        for number in 0u64.. {
            put(&mut grpc, &format!("others/{}", number % 100), "v", 0).await;
        }
    });
    let target = destination.client_url();
    let line = ["migrate", &target, "--prefix=mine/", "--once"];
    let done = tokio::task::block_in_place(|| told(&ctl(&source, &line)));
    assert!(!writing.is_finished());
    writing.abort();
    assert!(done.contains("20 keys are equal"), "{done}");
    assert_eq!(all(&destination, 0).await.kvs.len(), OWN_KEYS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_no_event_told_of_in_time_is_found_before_a_migration_ends() {
    let member = Member::start(&althingd(), &[]);
    let destination = Member::start(&althingd(), &[]);
    let mut grpc = member.grpc().await;
    for number in 0..OWN_KEYS {
        put(&mut grpc, &format!("mine/{number}"), "v", 0).await;
    }
    let source = HastySource::before(&member, false).await;
    // Written just after the comparison has found both equal.
    source.write_late(pb::PutRequest {
        key: "mine/7".into(),
        value: "late".into(),
        ..pb::PutRequest::default()
    });
    let target = destination.client_url();
    let line = ["migrate", &target, "--prefix=mine/", "--once"];
    let migrating = || told(&ctl_at(&source.client_url(), &line));
    let done = tokio::task::block_in_place(migrating);
    assert!(done.contains("20 keys are equal"), "{done}");
    let values = |answer: pb::RangeResponse| -> Vec<(Bytes, Bytes)> {
        answer
            .kvs
            .into_iter()
            .map(|kv| (kv.key, kv.value))
            .collect()
    };
    let (ours, theirs) = (all(&member, 0).await, all(&destination, 0).await);
    assert!(ours.kvs.iter().any(|kv| kv.value == "late"));
    assert_eq!(values(ours), values(theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_guarded_go_unguarded_only_if_that_is_said() {
    let member = Member::start(&althingd(), &[]);
    let destination = Member::start(&althingd(), &[]);
    put(&mut member.grpc().await, "k", "v", 0).await;
    let source = HastySource::before(&member, true).await;
    let target = destination.client_url();
    let migrate = |flags: &[&str]| {
        let line = [&["migrate", &target, "--once"], flags].concat();
        tokio::task::block_in_place(|| ctl_at(&source.client_url(), &line))
    };
    let refused = migrate(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("authentication enabled"), "{text}");
    assert!(text.contains("--without-auth"), "{text}");
    assert!(all(&destination, 0).await.kvs.is_empty());
    let dry = told(&migrate(&["--dry-run"]));
    assert!(
        dry.contains("Warning: the source has authentication"),
        "{dry}"
    );
    let done = told(&migrate(&["--without-auth"]));
    assert!(done.contains("1 keys are equal"), "{done}");
}
