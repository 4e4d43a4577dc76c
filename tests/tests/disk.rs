//! What the member does with the disk it has: the log stays bounded under endless writes, and a
//! full disk refuses writes, keeps what was acknowledged, serves reads, and is recovered from.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use althing_tests::binaries::althingd;
use althing_tests::cluster::{Cluster, STEADY};
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::process::DEADLINE;
use althing_tests::small_disk::SmallDisk;
use althing_tests::wait::until;
use bytes::Bytes;
use tonic::Status;

const MIB: u64 = 1 << 20;
/// How many clients fill the disk at once, and how often each is refused before it stops.
const WRITERS: usize = 32;
const REFUSALS: usize = 20;
const SMALL: [&str; 10] = [
    "--max-request-bytes",
    "131072",
    "--wal-segment-bytes",
    "1MiB",
    "--snapshot-count",
    "50",
    "--max-pending-bytes",
    "2MiB",
    "--disk-reserve-bytes",
    "4MiB",
];

/// A disk that is also slow must not count as a dead leader or as a request that took too long.
fn flags() -> Vec<&'static str> {
    [&STEADY[..], &SMALL].concat()
}

async fn put(client: &mut Grpc, key: &str, value: &Bytes) -> Result<(), Status> {
    let put = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.clone(),
        ..pb::PutRequest::default()
    };
    client
        .unary::<pb::PutResponse>(path::PUT, &put)
        .await
        .map(|_| ())
}

async fn has(client: &mut Grpc, key: &str, value: &Bytes) -> bool {
    let range = pb::RangeRequest {
        key: key.to_owned().into(),
        ..pb::RangeRequest::default()
    };
    let answer: pb::RangeResponse = client.unary(path::RANGE, &range).await.unwrap();
    answer
        .kvs
        .first()
        .is_some_and(|record| record.value == value)
}

fn bytes_in(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).unwrap();
    // A file may be renamed between listing and asking.
    files
        .filter_map(|file| Some(file.unwrap().metadata().ok()?.len()))
        .sum()
}

fn log_of(member: &Member) -> PathBuf {
    member.data_dir().join("member/wal")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_writes_keep_the_log_bounded() {
    let member = Member::start(&althingd(), &SMALL);
    let mut client = member.grpc().await;
    // The last 5,000 entries are kept for members that are a little behind: 15 MB of these.
    let value = Bytes::from(vec![b'v'; 3_000]);
    let mut largest = 0;
    for number in 0..20_000 {
        put(&mut client, &format!("key {}", number % 50), &value)
            .await
            .unwrap();
        if number % 50 == 0 {
            largest = largest.max(bytes_in(&log_of(&member)));
        }
    }
    assert!(
        largest < 32 * MIB,
        "60 MB of writes left {largest} bytes of log"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_is_recovered_from() {
    let Some(disk) = SmallDisk::mount(64 * MIB) else {
        return;
    };
    let filler = disk.path().join("filler");
    let mut member = Member::prepare(&althingd(), &flags());
    member.keep_data_in(&disk.path().join("data"));
    tokio::task::block_in_place(|| member.restart());
    fs::write(&filler, vec![0; 24 << 20]).unwrap();

    let mut client = member.grpc().await;
    let value = Bytes::from(vec![b'v'; 50_000]);
    let mut acknowledged = Vec::new();
    let refused = loop {
        let key = format!("key {}", acknowledged.len());
        match put(&mut client, &key, &value).await {
            Ok(()) => acknowledged.push(key),
            Err(status) => break status,
        }
        assert!(
            acknowledged.len() < 3_000,
            "150 MB fit onto a disk of 64 MiB"
        );
    };
    let printed = member.process().printed();
    assert_eq!(refused.message(), Error::NoSpace.text(), "{printed}");
    assert_eq!(i32::from(refused.code()), Error::NoSpace.code() as i32);
    for key in &acknowledged {
        assert!(
            has(&mut client, key, &value).await,
            "{key} is gone on a full disk"
        );
    }

    // There is no room for a copy of the store's file: the refusal comes at once, and changes
    // nothing.
    let defragment = pb::DefragmentRequest::default();
    let answer: Result<pb::DefragmentResponse, _> =
        client.unary(path::DEFRAGMENT, &defragment).await;
    let refused = answer.unwrap_err();
    assert!(refused.message().contains("bytes free"), "{refused}");

    // Killed while the disk is full, the member comes back and still serves what it acknowledged.
    let mut client = killed_and_restarted(&mut member).await;
    for key in &acknowledged {
        assert!(
            has(&mut client, key, &value).await,
            "{key} is gone after a restart"
        );
    }

    fs::remove_file(&filler).unwrap();
    writes_return(&mut client, &mut member, &value).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_full_disk_holds_nobody_up_and_replays_when_it_has_space() {
    let Some(disk) = SmallDisk::mount(64 * MIB) else {
        return;
    };
    let mut members: Vec<_> = (0..3)
        .map(|_| Member::prepare(&althingd(), &flags()))
        .collect();
    members[2].keep_data_in(&disk.path().join("data"));
    let cluster = tokio::task::block_in_place(|| Cluster::assemble(members));
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    if leader == 2 {
        let to = cluster.ids().await[0];
        let request = pb::MoveLeaderRequest { target_id: to };
        let mut client = cluster.grpc(2).await;
        let moved = client.unary::<pb::MoveLeaderResponse>(path::MOVE_LEADER, &request);
        moved.await.unwrap();
    }
    disk.fill();
    let value = Bytes::from(vec![b'v'; 50_000]);
    let mut client = cluster.grpc(0).await;
    // Twice as much as its log has room for.
    for number in 0..100 {
        let key = format!("key {}", number % 10);
        put(&mut client, &key, &value).await.unwrap();
    }
    let revision = |status: pb::StatusResponse| status.header.unwrap().revision;
    let written = revision(cluster.status(0).await);
    // It may be behind the others: until it meets its full disk, it passes on what it is asked.
    let mut follower = cluster.grpc(2).await;
    let is_refused = async || {
        let refused = put(&mut follower, "key", &value).await;
        refused.is_err_and(|status| status.message() == Error::NoSpace.text())
    };
    until(is_refused, "the follower tells that its disk is full").await;
    let full = cluster.status(2).await;
    assert_ne!(full.leader, 0, "it hears its leader: {:?}", full.errors);
    assert!(revision(full) < written, "its disk is not full");

    disk.free();
    let caught_up = async || revision(cluster.status(2).await) >= written;
    until(caught_up, "the follower replays what it missed").await;
}

async fn killed_and_restarted(member: &mut Member) -> Grpc {
    tokio::task::block_in_place(|| {
        member.kill();
        member.restart();
    });
    member.grpc().await
}

/// Waits until a write is admitted; until then each must be refused for lack of space.
async fn writes_return(client: &mut Grpc, member: &mut Member, value: &Bytes) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(status) = put(client, "after", value).await {
        assert_eq!(status.message(), Error::NoSpace.text());
        let printed = member.process().printed();
        assert!(
            Instant::now() < deadline,
            "space returned, and writes did not:\n{printed}"
        );
        tokio::task::yield_now().await;
    }
    assert!(has(client, "after", value).await);
}

/// Writes until it was refused `REFUSALS` times, so that all push against the full disk together.
/// Returns the acknowledged keys and the texts of the refusals.
async fn write_until_refused(
    mut client: Grpc,
    writer: usize,
    value: Bytes,
) -> (Vec<String>, Vec<String>) {
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    while refused.len() < REFUSALS {
        let key = format!("{writer}/{}", acknowledged.len());
        match put(&mut client, &key, &value).await {
            Ok(()) => acknowledged.push(key),
            Err(status) => refused.push(status.message().to_owned()),
        }
    }
    (acknowledged, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_writers_on_a_full_disk_are_all_told_no_space_and_lose_nothing() {
    let Some(disk) = SmallDisk::mount(64 * MIB) else {
        return;
    };
    let filler = disk.path().join("filler");
    let mut member = Member::prepare(&althingd(), &flags());
    member.keep_data_in(&disk.path().join("data"));
    tokio::task::block_in_place(|| member.restart());
    fs::write(&filler, vec![0; 24 << 20]).unwrap();

    let value = Bytes::from(vec![b'v'; 100_000]);
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = member.grpc().await;
        writers.push(tokio::spawn(write_until_refused(
            client,
            writer,
            value.clone(),
        )));
    }
    let mut acknowledged = Vec::new();
    for writer in writers {
        let (written, refused) = writer.await.unwrap();
        acknowledged.extend(written);
        for text in refused {
            let printed = member.process().printed();
            assert_eq!(text, Error::NoSpace.text(), "{printed}");
        }
    }
    assert!(!acknowledged.is_empty(), "the disk was full from the start");
    let mut client = member.grpc().await;
    for key in &acknowledged {
        assert!(
            has(&mut client, key, &value).await,
            "{key} is gone on a full disk"
        );
    }

    let deleted = acknowledged.pop().unwrap();
    let delete = pb::DeleteRangeRequest {
        key: deleted.clone().into(),
        ..pb::DeleteRangeRequest::default()
    };
    let answer: pb::DeleteRangeResponse = client.unary(path::DELETE_RANGE, &delete).await.unwrap();
    assert_eq!(answer.deleted, 1, "deletions pass on a full disk");

    let mut client = killed_and_restarted(&mut member).await;
    for key in &acknowledged {
        assert!(
            has(&mut client, key, &value).await,
            "{key} is gone after a restart"
        );
    }
    assert!(!has(&mut client, &deleted, &value).await);
    fs::remove_file(&filler).unwrap();
    writes_return(&mut client, &mut member, &value).await;
}
