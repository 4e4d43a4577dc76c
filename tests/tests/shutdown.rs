//! An orderly stop: on SIGTERM the member finishes what it began, and ends with success. A member
//! that does not serve yet ends at once, and goes on at the next start.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use althing_api::etcdserverpb as pb;
use althing_api::v3lockpb::{LockRequest, LockResponse};
use althing_tests::binaries::althingd;
use althing_tests::cluster::{Cluster, STEADY};
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::{Member, READY_LINE};
use althing_tests::process::DEADLINE;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::{Code, Status};

const WRITERS: usize = 8;
const ENOUGH: usize = 200;
/// Printed when a member has its data open, listens for the others, and waits for a leader.
const WAITS: &str = "serving peer traffic";

/// Puts numbered keys until the member is gone; an error is one that a stop does not explain.
async fn write(
    mut client: Grpc,
    writer: usize,
    acknowledged: mpsc::UnboundedSender<String>,
) -> Result<(), Status> {
    for number in 0.. {
        let key = format!("{writer}/{number}");
        let put = pb::PutRequest {
            key: key.clone().into(),
            value: "v".into(),
            ..pb::PutRequest::default()
        };
        match client.unary::<pb::PutResponse>(path::PUT, &put).await {
            Ok(_) => acknowledged
                .send(key)
                .expect("the test listens until all writers ended"),
            Err(status) if status.code() == Code::Unavailable => break,
            // The connection ended during the request.
            Err(status) if std::error::Error::source(&status).is_some() => break,
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_with_success_and_keeps_every_acknowledged_write() {
    let mut member = Member::start(&althingd(), &[]);
    let (sender, mut acknowledged) = mpsc::unbounded_channel();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = member.grpc().await;
        writers.push(tokio::spawn(write(client, writer, sender.clone())));
    }
    drop(sender);
    let mut keys = Vec::new();
    while keys.len() < ENOUGH {
        keys.push(acknowledged.recv().await.expect("the writers write"));
    }
    let (status, printed) = tokio::task::block_in_place(|| member.stop());
    assert!(status.success(), "{status}, having printed:\n{printed}");
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    while let Some(key) = acknowledged.recv().await {
        keys.push(key);
    }

    tokio::task::block_in_place(|| member.restart());
    let mut client = member.grpc().await;
    for key in keys {
        let range = pb::RangeRequest {
            key: key.clone().into(),
            ..pb::RangeRequest::default()
        };
        let answer: pb::RangeResponse = client.unary(path::RANGE, &range).await.unwrap();
        assert_eq!(answer.count, 1, "{key} was acknowledged and is gone");
    }
}

#[test]
fn sigterm_without_clients_ends_with_success_and_a_restart_serves_again() {
    let mut member = Member::start(&althingd(), &[]);
    for _ in 0..3 {
        let (status, printed) = member.stop();
        assert!(status.success(), "{status}, having printed:\n{printed}");
        member.restart();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_lock_is_told_of_the_stop_and_has_left_the_queue() {
    let mut member = Member::start(&althingd(), &[]);
    let mut holder = member.grpc().await;
    for id in [1, 2] {
        let grant = pb::LeaseGrantRequest { ttl: 3_600, id };
        let granted: pb::LeaseGrantResponse =
            holder.unary(path::LEASE_GRANT, &grant).await.unwrap();
        assert_eq!(granted.id, id);
    }
    let lock = |lease| LockRequest {
        name: "l".into(),
        lease,
    };
    let held: LockResponse = holder.unary(path::LOCK, &lock(1)).await.unwrap();
    let mut waiter = member.grpc().await;
    let waiting =
        tokio::spawn(async move { waiter.unary::<LockResponse>(path::LOCK, &lock(2)).await });
    let queue = pb::RangeRequest {
        key: "l/".into(),
        range_end: "l0".into(),
        keys_only: true,
        ..pb::RangeRequest::default()
    };
    let mut length = 0;
    while length < 2 {
        let answer: pb::RangeResponse = holder.unary(path::RANGE, &queue).await.unwrap();
        length = answer.count;
    }

    let (status, printed) = tokio::task::block_in_place(|| member.stop());
    assert!(status.success(), "{status}, having printed:\n{printed}");
    let refusal = waiting.await.unwrap().unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");

    tokio::task::block_in_place(|| member.restart());
    let mut client = member.grpc().await;
    let answer: pb::RangeResponse = client.unary(path::RANGE, &queue).await.unwrap();
    let keys: Vec<_> = answer.kvs.into_iter().map(|kv| kv.key).collect();
    assert_eq!(keys, [held.key]);
}

/// Asks a member that does not serve yet to end.
fn stopped_early(member: &mut Member) {
    let (status, printed) = member.stop();
    assert!(status.success(), "{status}, having printed:\n{printed}");
    assert!(!printed.contains(READY_LINE), "{printed}");
}

async fn put(client: &mut Grpc, key: &str) {
    let put = pb::PutRequest {
        key: key.to_owned().into(),
        ..pb::PutRequest::default()
    };
    let _: pb::PutResponse = client.unary(path::PUT, &put).await.unwrap();
}

async fn count(client: &mut Grpc, key: &str) -> i64 {
    let range = pb::RangeRequest {
        key: key.to_owned().into(),
        ..pb::RangeRequest::default()
    };
    let answer: pb::RangeResponse = client.unary(path::RANGE, &range).await.unwrap();
    answer.count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_a_member_that_waits_for_the_others_and_nothing_is_lost() {
    let mut members: Vec<Member> = (0..2)
        .map(|_| Member::prepare(&althingd(), &STEADY))
        .collect();
    // The names that `assemble` gives, so that it goes on with what this start has begun.
    members[0].call_it("m0");
    members[1].call_it("m1");
    let entries: Vec<String> = members.iter().map(Member::entry).collect();
    members[0].begin_with(&entries);
    members[0].launch().wait_for_line(WAITS).unwrap();
    stopped_early(&mut members[0]);

    let mut cluster = Cluster::assemble(members);
    put(&mut cluster.grpc(0).await, "k").await;
    for position in [1, 0] {
        cluster.member(position).kill();
    }
    for _ in 0..2 {
        let member = cluster.member(0);
        member.launch().wait_for_line(WAITS).unwrap();
        stopped_early(member);
    }
    cluster.restart(&[0, 1]);
    assert_eq!(count(&mut cluster.grpc(0).await, "k").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_a_member_that_asks_to_join_and_the_next_start_joins() {
    let mut first = Member::prepare(&althingd(), &STEADY);
    let mut second = Member::prepare(&althingd(), &STEADY);
    second.call_it("second");
    second.join_at(&first.client_url());
    let asks = "the cluster cannot take this member in yet";
    second.launch().wait_for_line(asks).unwrap();
    stopped_early(&mut second);

    first.restart();
    put(&mut first.grpc().await, "k").await;
    second.restart();
    assert_eq!(count(&mut second.grpc().await, "k").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_at_any_moment_of_a_start_ends_with_success_and_nothing_is_lost() {
    let mut member = Member::start(&althingd(), &[]);
    put(&mut member.grpc().await, "k").await;
    member.kill();
    // Each line comes a little later in a start; log and store are opened after the second.
    for line in ["starting a member", "restarting local member", WAITS] {
        member.launch().wait_for_line(line).unwrap();
        let (status, printed) = member.stop();
        assert!(status.success(), "{status}, having printed:\n{printed}");
    }
    member.restart();
    assert_eq!(count(&mut member.grpc().await, "k").await, 1);
}

#[test]
fn systemd_is_asked_for_the_time_that_a_stop_may_take() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let listening = std::thread::spawn(move || {
        let mut bytes = [0; 4_096];
        loop {
            let length = socket.recv(&mut bytes).unwrap();
            let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if told.contains("STOPPING=1") {
                return told;
            }
        }
    });
    let mut member = Member::prepare(&althingd(), &["--shutdown-timeout=100s"]);
    member.set("NOTIFY_SOCKET", path);
    member.restart();
    let (status, printed) = member.stop();
    assert!(status.success(), "{status}, having printed:\n{printed}");
    let told = listening.join().unwrap();
    let mut lines = told.lines();
    let time = lines.find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let time = Duration::from_micros(time.expect("it asks").parse().unwrap());
    // Once for the clients, and once for the other members.
    assert!(time > Duration::from_secs(200), "{time:?}");
}
