//! An orderly stop: SIGTERM lets the member finish what it began, and it ends with success.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use althing_api::etcdserverpb as pb;
use althing_api::v3lockpb::{LockRequest, LockResponse};
use althing_tests::binaries::althingd;
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::process::DEADLINE;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::{Code, Status};

const WRITERS: usize = 8;
const ENOUGH: usize = 200;

/// Puts numbered keys until the member is gone; an error is one that no stop explains.
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
            // The connection went away under the request.
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

#[test]
fn a_service_manager_is_asked_for_the_time_that_a_stop_may_take() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let listening = std::thread::spawn(move || {
        let mut bytes = [0; 4_096];
        loop {
            let length = manager.recv(&mut bytes).unwrap();
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
    // Once for the clients and once for the other members.
    assert!(time > Duration::from_secs(200), "{time:?}");
}
