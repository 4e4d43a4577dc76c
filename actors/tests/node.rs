//! A one-member node from end to end: it proposes, reads, stops, dies and comes back.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use althing_actors::node::{Applied, Handles, Node, NodeSettings, WatchEnd};
use althing_actors::testing::{DEADLINE, one_member, start_alone};
use althing_api::commandpb::{Command, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use althing_api::mvccpb::Event;
use althing_api::range::KeyRange;
use althing_storage::apply::Response;
use althing_storage::data_dir::DataDir;
use bytes::Bytes;
use futures_util::future::join_all;

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Command {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    Command {
        request: Some(command::Request::Put(put)),
    }
}

async fn start_with(path: &Path, settings: NodeSettings) -> (Node, Handles) {
    let dir = DataDir::open(path).unwrap();
    let started = tokio::time::timeout(DEADLINE, start_alone(dir, settings));
    started
        .await
        .expect("a sole member starts at once")
        .unwrap()
}

async fn start(path: &Path) -> (Node, Handles) {
    start_with(path, one_member()).await
}

fn value_of(handles: &Handles, key: &str) -> Option<Bytes> {
    let request = RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..RangeRequest::default()
    };
    let found = handles.store().read().range(&request).unwrap();
    found.kvs.into_iter().next().map(|kv| kv.value)
}

/// Puts `count` keys at once and waits for all answers.
async fn put_many(handles: &Handles, prefix: &str, count: usize) -> Vec<Applied> {
    let puts = (0..count).map(|n| handles.propose(put(format!("{prefix}{n}"), format!("v{n}"))));
    join_all(puts)
        .await
        .into_iter()
        .map(|applied| applied.unwrap())
        .collect()
}

#[actix::test]
async fn a_sole_member_leads_publishes_itself_and_answers_puts() {
    let dir = tempfile::tempdir().unwrap();
    let (node, handles) = start(dir.path()).await;
    let status = handles.status();
    assert_eq!(status.leader, status.member_id);
    // On a slow disk an election may have to be repeated.
    assert!(status.term >= 1);
    assert_eq!(status.members.len(), 1);
    assert_eq!(status.members[0].name, "default");
    assert_eq!(status.members[0].peer_urls, ["http://localhost:2380"]);
    assert_eq!(status.members[0].client_urls, ["http://localhost:2379"]);
    assert_eq!(handles.store().cluster_version().as_deref(), Some("3.7.0"));

    let applied = handles.propose(put("k", "v")).await.unwrap();
    assert_eq!(applied.revision, 2);
    assert!(matches!(applied.response, Ok(Response::Put(_))));
    handles.read_index().await.unwrap();
    assert_eq!(value_of(&handles, "k").unwrap(), "v");
    assert!(handles.applied_index() >= applied.log_id.index);
    node.stop().await;
    assert_eq!(
        handles.propose(put("k", "w")).await.unwrap_err(),
        Error::Stopped
    );
    assert_eq!(handles.read_index().await, Err(Error::Stopped));
}

#[actix::test]
async fn everything_acknowledged_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: Vec<(String, Bytes)> = Vec::new();
    for life in 0..3 {
        let (node, handles) = start(dir.path()).await;
        for (key, value) in &expected {
            assert_eq!(
                value_of(&handles, key).as_ref(),
                Some(value),
                "life {life}: {key}"
            );
        }
        let prefix = format!("life{life}-");
        for (n, applied) in put_many(&handles, &prefix, 100)
            .await
            .into_iter()
            .enumerate()
        {
            assert!(applied.response.is_ok());
            expected.push((format!("{prefix}{n}"), Bytes::from(format!("v{n}"))));
        }
        let revision = handles.store().revisions().current;
        assert_eq!(revision, 1 + expected.len() as i64);
        drop(handles);
        // A crash: no checkpoint, no orderly stop.
        drop(node);
    }
}

#[actix::test]
async fn a_member_that_was_stopped_comes_back_with_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let (node, handles) = start(dir.path()).await;
    put_many(&handles, "k", 50).await;
    let before = handles.status();
    node.stop().await;
    drop(handles);
    let (_node, handles) = start(dir.path()).await;
    let after = handles.status();
    assert_eq!(handles.store().revisions().current, 51);
    assert!(after.term > before.term, "it was elected again");
    assert_eq!(after.members.len(), 1);
    // Only its own blank entry is new: the member was published and the version set before.
    assert_eq!(after.applied_index, before.applied_index + 1);
}

#[actix::test]
async fn one_proposal_more_than_admitted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let settings = NodeSettings {
        proposals_max: 2,
        ..one_member()
    };
    let (_node, handles) = start_with(dir.path(), settings).await;
    let puts = (0..3).map(|n| handles.propose(put(format!("k{n}"), "v")));
    let outcomes = join_all(puts).await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok());
    assert_eq!(outcomes[2].as_ref().unwrap_err(), &Error::TooManyRequests);
    handles.propose(put("again", "v")).await.unwrap();
}

#[actix::test]
async fn a_refusal_by_the_state_machine_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, handles) = start(dir.path()).await;
    let missing = PutRequest {
        key: "absent".into(),
        ignore_value: true,
        ..PutRequest::default()
    };
    let command = Command {
        request: Some(command::Request::Put(missing)),
    };
    let applied = handles.propose(command).await.unwrap();
    assert_eq!(applied.response.unwrap_err(), Error::KeyNotFound);
    assert_eq!(applied.revision, 1);
}

#[actix::test]
async fn a_full_disk_refuses_puts_and_takes_deletions() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = one_member();
    settings.disk_reserve_bytes = u64::MAX;
    // Deletions need the log's headroom, which the small segments of the other tests lack.
    settings.wal.segment_bytes = 16 << 20;
    let (_node, handles) = start_with(dir.path(), settings).await;
    let deadline = Instant::now() + DEADLINE;
    while handles.propose(put("k", "v")).await.is_ok() {
        assert!(
            Instant::now() < deadline,
            "the gate closes at the first look at the disk"
        );
    }
    assert_eq!(
        handles.propose(put("k", "v")).await.unwrap_err(),
        Error::NoSpace
    );
    let delete = DeleteRangeRequest {
        key: "k".into(),
        ..DeleteRangeRequest::default()
    };
    let delete = Command {
        request: Some(command::Request::DeleteRange(delete)),
    };
    handles.propose(delete).await.unwrap().response.unwrap();
    handles.read_index().await.unwrap();
}

#[actix::test]
async fn a_compaction_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, handles) = start(dir.path()).await;
    for n in 0..10 {
        handles.propose(put("k", format!("{n}"))).await.unwrap();
    }
    let compaction = CompactionRequest {
        revision: 5,
        ..CompactionRequest::default()
    };
    let compaction = Command {
        request: Some(command::Request::Compaction(compaction)),
    };
    handles.propose(compaction).await.unwrap().response.unwrap();
    let finished = tokio::time::timeout(DEADLINE, handles.compaction_finished(5));
    finished
        .await
        .expect("StoreWriter compacts when idle")
        .unwrap();
    assert_eq!(handles.store().revisions().compacted, 5);
}

#[actix::test]
async fn the_metrics_have_etcds_names_and_true_values() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, handles) = start(dir.path()).await;
    put_many(&handles, "k", 3).await;
    let families = handles.metrics().gather();
    let value = |name: &str| {
        let family = families.iter().find(|family| family.name() == name);
        let metric = &family
            .unwrap_or_else(|| panic!("{name} is missing"))
            .get_metric()[0];
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    };
    assert_eq!(value("etcd_server_has_leader"), 1.0);
    assert_eq!(value("etcd_server_is_leader"), 1.0);
    assert_eq!(value("etcd_server_leader_changes_seen_total"), 1.0);
    assert_eq!(value("etcd_mvcc_put_total"), 3.0);
    assert_eq!(value("etcd_server_proposals_pending"), 0.0);
    assert_eq!(
        value("etcd_server_proposals_applied_total"),
        handles.applied_index() as f64
    );
    assert!(value("etcd_disk_wal_write_bytes_total") > 0.0);
    let fsync = families
        .iter()
        .find(|family| family.name() == "etcd_disk_wal_fsync_duration_seconds")
        .expect("the histogram is registered");
    assert!(fsync.get_metric()[0].get_histogram().get_sample_count() > 0);
}

#[actix::test]
async fn a_watch_in_process_tells_what_was_and_waits_for_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (node, handles) = start(dir.path()).await;
    for n in 0..3 {
        handles.propose(put("k", format!("{n}"))).await.unwrap();
        handles.propose(put("other", "v")).await.unwrap();
    }
    let mut watch = handles.watch(KeyRange::One("k".into()), 4);
    let events = watch.next().await.unwrap();
    assert_eq!(revisions(&events), [4, 6]);
    let mut later = handles.watch(KeyRange::One("k".into()), 0);
    let (_, events) = tokio::join!(handles.propose(put("k", "new")), later.next());
    assert_eq!(revisions(&events.unwrap()), [8]);
    assert_eq!(revisions(&watch.next().await.unwrap()), [8]);
    assert_eq!(watch.next_revision(), 9);
    node.stop().await;
    assert_eq!(watch.next().await.unwrap_err(), WatchEnd::Stopped);
}

fn revisions(events: &[Event]) -> Vec<i64> {
    let kv = events.iter().map(|event| event.kv.as_ref().unwrap());
    kv.map(|kv| kv.mod_revision).collect()
}
