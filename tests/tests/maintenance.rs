//! A member looks after its space: the quota's alarm comes and goes, files shrink while clients
//! write, and history is compacted without being asked.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use althing_api::etcdserverpb as pb;
use althing_api::etcdserverpb::alarm_request::AlarmAction;
use althing_tests::binaries::althingd;
use althing_tests::cluster::{Cluster, STEADY};
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::small_disk::SmallDisk;
use althing_tests::wait::until;
use bytes::Bytes;
use tempfile::TempDir;
use tonic::{Code, Status};

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// The slowest put that a waiting client may see, whatever else the member does.
const PUT_MAX: Duration = Duration::from_millis(200);

/// Memory for the data of a member whose clients' waiting is measured.
const MEMORY_BYTES: u64 = 1 << 30;

async fn put(grpc: &mut Grpc, key: &str, bytes: usize) -> Result<pb::PutResponse, Status> {
    let request = pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    };
    grpc.unary(path::PUT, &request).await
}

async fn delete_all(grpc: &mut Grpc) -> pb::DeleteRangeResponse {
    let request = pb::DeleteRangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    };
    grpc.unary(path::DELETE_RANGE, &request).await.unwrap()
}

async fn compact(grpc: &mut Grpc, revision: i64) {
    let request = pb::CompactionRequest {
        revision,
        physical: true,
    };
    let done: Result<pb::CompactionResponse, _> = grpc.unary(path::COMPACT, &request).await;
    done.unwrap();
}

async fn alarms(grpc: &mut Grpc, action: AlarmAction) -> Vec<pb::AlarmMember> {
    let request = pb::AlarmRequest {
        action: action as i32,
        ..Default::default()
    };
    let answer: pb::AlarmResponse = grpc.unary(path::ALARM, &request).await.unwrap();
    answer.alarms
}

/// Puts until the quota refuses one.
async fn fill(grpc: &mut Grpc) -> Status {
    for n in 0..100 {
        if let Err(status) = put(grpc, &format!("fill{n}"), 200_000).await {
            return status;
        }
    }
    panic!("the quota refuses nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quota_is_told_to_all_members_and_its_alarm_ends_when_space_is_back() {
    let flags = [&STEADY[..], &["--quota-backend-bytes=2MiB"]].concat();
    let cluster = Cluster::start(&althingd(), 3, &flags);
    let mut grpc = cluster.grpc(1).await;
    let status = fill(&mut grpc).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, NO_SPACE)
    );
    let full = cluster.status(1).await;
    let id = full.header.unwrap().member_id;
    let expected = pb::AlarmMember {
        member_id: id,
        alarm: pb::AlarmType::Nospace as i32,
    };
    assert_eq!(alarms(&mut grpc, AlarmAction::Get).await, [expected]);
    assert_eq!(full.errors, [format!("memberID:{id} alarm:NOSPACE ")]);
    // Even a small put is refused, at every member.
    let mut other = cluster.grpc(2).await;
    assert_eq!(
        put(&mut other, "k", 1).await.unwrap_err().message(),
        NO_SPACE
    );
    // What makes room is accepted.
    let deleted = delete_all(&mut other).await;
    assert!(deleted.deleted > 5);
    compact(&mut other, deleted.header.unwrap().revision).await;
    let cleared = async || alarms(&mut grpc, AlarmAction::Get).await.is_empty();
    until(cleared, "the end of the alarm").await;
    // Each member judges its own store, and another may have compacted later.
    let admitted = async || match put(&mut other, "k", 1).await {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused.message(), NO_SPACE);
            false
        }
    };
    until(admitted, "space on the other member").await;
    let well = async || cluster.status(1).await.errors.is_empty();
    until(well, "the end of every alarm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_smaller_quota_raises_its_alarm_for_what_the_others_let_in() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    cluster.member(0).kill();
    let small = cluster.member(0);
    small.add_flags(&["--quota-backend-bytes=1MiB"]);
    cluster.restart(&[0]);
    let mut grpc = cluster.grpc(1).await;
    let refused = async || match put(&mut grpc, "k", 200_000).await {
        Ok(_) => false,
        Err(status) => status.message() == NO_SPACE,
    };
    until(refused, "the alarm").await;
    let member_id = cluster.status(0).await.header.unwrap().member_id;
    let alarm = pb::AlarmType::Nospace as i32;
    let expected = pb::AlarmMember { member_id, alarm };
    assert_eq!(alarms(&mut grpc, AlarmAction::Get).await, [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_too_large_for_what_is_left_is_refused_and_the_others_go_on() {
    let member = Member::start(&althingd(), &["--quota-backend-bytes=2MiB"]);
    let mut grpc = member.grpc().await;
    put(&mut grpc, "half", 800_000).await.unwrap();
    for _ in 0..3 {
        let refused = put(&mut grpc, "large", 1_400_000).await.unwrap_err();
        assert_eq!(refused.message(), NO_SPACE);
        assert_eq!(alarms(&mut grpc, AlarmAction::Get).await, []);
        put(&mut grpc, "small", 1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_raised_by_hand_stays_until_it_is_cleared_by_hand() {
    let member = Member::start(&althingd(), &[]);
    let mut grpc = member.grpc().await;
    let raised = pb::AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 0x77,
        alarm: pb::AlarmType::Corrupt as i32,
    };
    let answer: pb::AlarmResponse = grpc.unary(path::ALARM, &raised).await.unwrap();
    assert_eq!(answer.alarms.len(), 1);
    let refused = put(&mut grpc, "k", 1).await.unwrap_err();
    let expected = (Code::DataLoss, "etcdserver: corrupt cluster");
    assert_eq!((refused.code(), refused.message()), expected);
    let health = member.json().get("/health").await.unwrap();
    let body = String::from_utf8_lossy(&health.body);
    let expected = (503, r#"{"health":"false","reason":"ALARM CORRUPT"}"#);
    assert_eq!((health.status.as_u16(), body.trim()), expected);
    let metrics = member.json().get("/metrics").await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body);
    let gauge = r#"etcd_debugging_server_alarms{alarm_type="CORRUPT",server_id="77"} 1"#;
    assert!(metrics.lines().any(|line| line == gauge), "{metrics}");
    let cleared = pb::AlarmRequest {
        action: AlarmAction::Deactivate as i32,
        ..raised
    };
    let answer: pb::AlarmResponse = grpc.unary(path::ALARM, &cleared).await.unwrap();
    assert_eq!(answer.alarms.len(), 1);
    put(&mut grpc, "k", 1).await.unwrap();
}

/// A directory in memory that everybody may write to, if it has the space.
fn shared_memory() -> Option<TempDir> {
    let shared = Path::new("/dev/shm");
    let space = rustix::fs::statvfs(shared).ok()?;
    if space.f_bavail * space.f_frsize >= MEMORY_BYTES {
        TempDir::new_in(shared).ok()
    } else {
        None
    }
}

fn disk_bytes(member: &Member) -> u64 {
    let file = member.data_dir().join("member/store.redb");
    std::fs::metadata(file).unwrap().blocks() * 512
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defragmented_file_is_smaller_and_nobody_who_writes_meanwhile_waits_for_it() {
    // In memory, so that a slow disk, which is not the member's fault, delays nobody.
    let disk = SmallDisk::mount(MEMORY_BYTES);
    let shared = if disk.is_none() {
        shared_memory()
    } else {
        None
    };
    let memory = disk.as_ref().map(SmallDisk::path);
    let memory = memory.or(shared.as_ref().map(TempDir::path));
    let mut member = Member::prepare(&althingd(), &[]);
    if let Some(memory) = memory {
        member.keep_data_in(&memory.join("data"));
    }
    tokio::task::block_in_place(|| member.restart());
    let mut grpc = member.grpc().await;
    for n in 0..160 {
        put(&mut grpc, &format!("k{}", n % 40), 500_000)
            .await
            .unwrap();
    }
    let deleted = put(&mut grpc, "last", 1).await.unwrap();
    // Less than what makes a member shrink its file by itself.
    compact(&mut grpc, deleted.header.unwrap().revision).await;
    let before = disk_bytes(&member);
    let mut other = member.grpc().await;
    let defragment = tokio::spawn(async move {
        let (request, began) = (pb::DefragmentRequest::default(), Instant::now());
        let done: Result<pb::DefragmentResponse, _> = other.unary(path::DEFRAGMENT, &request).await;
        done.unwrap();
        began.elapsed()
    });
    let mut slowest = Duration::ZERO;
    let mut puts = 0;
    while !defragment.is_finished() || puts < 20 {
        let start = Instant::now();
        put(&mut grpc, &format!("k{}", puts % 40), 1_000)
            .await
            .unwrap();
        slowest = slowest.max(start.elapsed());
        puts += 1;
    }
    let defragmented = defragment.await.unwrap();
    let after = disk_bytes(&member);
    println!(
        "{before} bytes before, {after} after {defragmented:?}; {puts} puts, the slowest took \
         {slowest:?}"
    );
    assert!(after < before * 3 / 4, "{before} {after}");
    // On a machine that is busy with other tests everything waits.
    assert!(slowest < 10 * PUT_MAX, "{slowest:?}");
    let status: pb::StatusResponse = grpc
        .unary(path::STATUS, &pb::StatusRequest::default())
        .await
        .unwrap();
    assert!(status.errors.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_older_than_the_retention_is_compacted_and_newer_is_kept() {
    let periodic = [
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1s",
    ];
    let flags = [&STEADY[..], &periodic].concat();
    let cluster = Cluster::start(&althingd(), 3, &flags);
    let mut grpc = cluster.grpc(0).await;
    for n in 0..5 {
        put(&mut grpc, "k", n).await.unwrap();
    }
    let at_first = pb::RangeRequest {
        key: "k".into(),
        revision: 2,
        ..Default::default()
    };
    for position in 0..3 {
        let mut grpc = cluster.grpc(position).await;
        let compacted = async || {
            let answer: Result<pb::RangeResponse, _> = grpc.unary(path::RANGE, &at_first).await;
            answer.is_err_and(|status| status.code() == Code::OutOfRange)
        };
        until(compacted, "compaction on every member").await;
    }
    let now: pb::RangeResponse = grpc
        .unary(
            path::RANGE,
            &pb::RangeRequest {
                key: "k".into(),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(now.kvs[0].version, 5);
}
