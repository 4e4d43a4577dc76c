//! Watching as a client sees it, over gRPC and over JSON.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::event::EventType;
use althing_tests::binaries::althingd;
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::wait::until;
use bytes::Bytes;
use futures_util::stream;
use pb::request_op::Request as Op;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

/// The longest time that a test waits for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A fresh member and a connection to it.
async fn fresh(flags: &[&str]) -> (Member, Grpc) {
    let member = Member::start(&althingd(), flags);
    let client = member.grpc().await;
    (member, client)
}

async fn put(client: &mut Grpc, key: &str, value: impl Into<Bytes>) -> i64 {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..pb::PutRequest::default()
    };
    let answer: pb::PutResponse = client.unary(path::PUT, &request).await.unwrap();
    answer.header.unwrap().revision
}

async fn delete(client: &mut Grpc, key: &str) -> i64 {
    let request = pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        ..pb::DeleteRangeRequest::default()
    };
    let answer = client.unary::<pb::DeleteRangeResponse>(path::DELETE_RANGE, &request);
    answer.await.unwrap().header.unwrap().revision
}

async fn compact(client: &mut Grpc, revision: i64) {
    let request = pb::CompactionRequest {
        revision,
        physical: true,
    };
    let answer = client.unary::<pb::CompactionResponse>(path::COMPACT, &request);
    answer.await.unwrap();
}

/// An open watch stream.
struct Watching {
    requests: mpsc::UnboundedSender<Bytes>,
    replies: Streaming<Bytes>,
}

impl Watching {
    async fn open(client: &mut Grpc) -> Watching {
        let (requests, receiver) = mpsc::unbounded_channel();
        let bodies = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|body| (body, receiver))
        });
        let replies = client.both_streams(path::WATCH, Request::new(bodies));
        Watching {
            requests,
            replies: replies.await.unwrap(),
        }
    }

    fn send(&self, request: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        self.requests.send(request.encode_to_vec().into()).unwrap();
    }

    fn create(&self, request: pb::WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request));
    }

    fn cancel(&self, watch_id: i64) {
        let request = pb::WatchCancelRequest { watch_id };
        self.send(RequestUnion::CancelRequest(request));
    }

    fn request_progress(&self) {
        let request = pb::WatchProgressRequest {};
        self.send(RequestUnion::ProgressRequest(request));
    }

    async fn try_next(&mut self) -> Result<pb::WatchResponse, Status> {
        let reply = tokio::time::timeout(PATIENCE, self.replies.message()).await;
        let reply = reply.expect("a reply comes")?;
        Ok(pb::WatchResponse::decode(reply.expect("the stream goes on")).unwrap())
    }

    async fn next(&mut self) -> pb::WatchResponse {
        self.try_next().await.unwrap()
    }

    async fn created(&mut self, request: pb::WatchCreateRequest) -> i64 {
        self.create(request);
        let reply = self.next().await;
        assert!(reply.created && !reply.canceled, "{reply:?}");
        reply.watch_id
    }

    /// The revisions of the next `count` events, of any watcher.
    async fn revisions(&mut self, count: usize) -> Vec<i64> {
        let mut revisions = Vec::new();
        while revisions.len() < count {
            revisions.extend(revisions_of(&self.next().await));
        }
        revisions
    }
}

fn revisions_of(reply: &pb::WatchResponse) -> Vec<i64> {
    let kvs = reply.events.iter().map(|event| event.kv.as_ref().unwrap());
    kvs.map(|kv| kv.mod_revision).collect()
}

fn revision(reply: &pb::WatchResponse) -> i64 {
    reply.header.as_ref().unwrap().revision
}

fn watch(key: &'static str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.into(),
        ..pb::WatchCreateRequest::default()
    }
}

fn watch_from(key: &'static str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        start_revision,
        ..watch(key)
    }
}

#[tokio::test]
async fn a_watcher_sees_history_and_then_what_happens() {
    let (_member, mut client) = fresh(&[]).await;
    put(&mut client, "k", "1").await;
    put(&mut client, "other", "1").await;
    put(&mut client, "k", "2").await;
    let mut watching = Watching::open(&mut client).await;
    let request = pb::WatchCreateRequest {
        prev_kv: true,
        ..watch_from("k", 2)
    };
    watching.created(request).await;
    let history = watching.next().await;
    assert_eq!(
        (revisions_of(&history), revision(&history)),
        (vec![2, 4], 4)
    );
    assert_eq!(history.events[0].prev_kv, None);
    assert_eq!(history.events[1].prev_kv, history.events[0].kv);
    delete(&mut client, "k").await;
    let deleted = watching.next().await;
    assert_eq!(revision(&deleted), 5);
    let event = &deleted.events[0];
    assert_eq!(event.r#type(), EventType::Delete);
    let kv = event.kv.as_ref().unwrap();
    assert_eq!((kv.mod_revision, kv.create_revision, kv.version), (5, 0, 0));
    assert_eq!(event.prev_kv, history.events[1].kv);
}

#[tokio::test]
async fn events_of_one_txn_come_in_one_message_in_their_order() {
    let (_member, mut client) = fresh(&[]).await;
    put(&mut client, "c", "1").await;
    let mut watching = Watching::open(&mut client).await;
    let everything = pb::WatchCreateRequest {
        range_end: Bytes::from_static(&[0]),
        ..watch("")
    };
    watching.created(everything).await;
    let put = |key: &'static str| {
        Op::RequestPut(pb::PutRequest {
            key: key.into(),
            ..pb::PutRequest::default()
        })
    };
    let delete = Op::RequestDeleteRange(pb::DeleteRangeRequest {
        key: "c".into(),
        ..pb::DeleteRangeRequest::default()
    });
    let ops = [put("b"), delete, put("a")].map(|op| pb::RequestOp { request: Some(op) });
    let txn = pb::TxnRequest {
        success: ops.to_vec(),
        ..pb::TxnRequest::default()
    };
    let answer = client.unary::<pb::TxnResponse>(path::TXN, &txn).await;
    assert_eq!(answer.unwrap().header.unwrap().revision, 3);
    let reply = watching.next().await;
    let keys = reply.events.iter().map(|event| event.kv.as_ref().unwrap());
    let keys: Vec<Bytes> = keys.map(|kv| kv.key.clone()).collect();
    assert_eq!(keys, ["b", "c", "a"]);
    assert_eq!(revisions_of(&reply), [3, 3, 3]);
}

#[tokio::test]
async fn filters_drop_a_kind_of_event() {
    let (_member, mut client) = fresh(&[]).await;
    let mut watching = Watching::open(&mut client).await;
    for filter in [FilterType::Noput, FilterType::Nodelete] {
        let request = pb::WatchCreateRequest {
            filters: vec![filter.into()],
            ..watch("k")
        };
        watching.created(request).await;
    }
    put(&mut client, "k", "1").await;
    let reply = watching.next().await;
    assert_eq!((reply.watch_id, revision(&reply)), (1, 2));
    delete(&mut client, "k").await;
    let reply = watching.next().await;
    assert_eq!((reply.watch_id, revision(&reply)), (0, 3));
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_in_etcds_words_and_the_stream_goes_on() {
    let (_member, mut client) = fresh(&[]).await;
    let mut watching = Watching::open(&mut client).await;
    let with_id = |watch_id| pb::WatchCreateRequest {
        watch_id,
        ..watch("k")
    };
    assert_eq!(watching.created(with_id(5)).await, 5);
    let empty = pb::WatchCreateRequest {
        range_end: "j".into(),
        ..watch("k")
    };
    for (request, reason) in [
        (
            with_id(5),
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
        (empty, "mvcc: watcher range is empty"),
        (watch_from("k", -1), Error::Compacted.text()),
    ] {
        watching.create(request);
        let reply = watching.next().await;
        assert!(reply.created && reply.canceled);
        assert_eq!(reply.cancel_reason, reason);
        assert_eq!((reply.watch_id, revision(&reply)), (-1, 1));
    }
    assert_eq!(watching.created(with_id(-3)).await, -3);
    assert_eq!(watching.created(watch("k")).await, 0);
}

#[tokio::test]
async fn a_cancelled_watcher_is_told_nothing_more_and_its_id_is_free() {
    let (_member, mut client) = fresh(&[]).await;
    let mut watching = Watching::open(&mut client).await;
    let request = || pb::WatchCreateRequest {
        watch_id: 7,
        ..watch("k")
    };
    watching.created(request()).await;
    watching.cancel(99);
    watching.cancel(7);
    watching.create(request());
    let cancelled = watching.next().await;
    assert!(cancelled.canceled && !cancelled.created);
    assert_eq!((cancelled.watch_id, revision(&cancelled)), (7, 1));
    assert_eq!(watching.next().await.watch_id, 7);
    watching.cancel(7);
    assert!(watching.next().await.canceled);
    watching.created(watch("other")).await;
    put(&mut client, "k", "1").await;
    put(&mut client, "other", "1").await;
    assert_eq!(watching.revisions(1).await, [3]);
}

#[tokio::test]
async fn a_start_below_the_compacted_revision_is_ended_and_one_at_it_is_not() {
    let (_member, mut client) = fresh(&[]).await;
    for n in 0..4 {
        put(&mut client, "k", format!("{n}")).await;
    }
    delete(&mut client, "k").await;
    put(&mut client, "other", "1").await;
    compact(&mut client, 6).await;
    let mut watching = Watching::open(&mut client).await;
    watching.created(watch_from("k", 5)).await;
    let ended = watching.next().await;
    assert!(ended.canceled && !ended.created);
    assert_eq!((ended.compact_revision, revision(&ended)), (6, 0));
    assert_eq!((ended.watch_id, ended.cancel_reason.as_str()), (0, ""));
    let request = pb::WatchCreateRequest {
        prev_kv: true,
        ..watch_from("k", 6)
    };
    watching.created(request).await;
    let reply = watching.next().await;
    assert_eq!(revisions_of(&reply), [6]);
    assert_eq!(reply.events[0].prev_kv, None, "it was compacted");
}

#[tokio::test]
async fn progress_is_told_on_request_when_all_watchers_know_everything() {
    let (_member, mut client) = fresh(&[]).await;
    put(&mut client, "k", "1").await;
    let mut watching = Watching::open(&mut client).await;
    // Nobody watches yet: no answer.
    watching.request_progress();
    watching.created(watch("k")).await;
    (0..3).for_each(|_| watching.request_progress());
    for _ in 0..3 {
        let progress = watching.next().await;
        assert_eq!((progress.watch_id, revision(&progress)), (-1, 2));
        assert!(progress.events.is_empty() && !progress.created && !progress.canceled);
    }
    // While a start is still to come there is no answer.
    let ahead = watching.created(watch_from("k", 4)).await;
    watching.request_progress();
    put(&mut client, "k", "2").await;
    put(&mut client, "k", "3").await;
    let mut seen = watching.revisions(3).await;
    seen.sort_unstable();
    assert_eq!(seen, [3, 4, 4]);
    watching.request_progress();
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (-1, 4));
    assert_eq!(ahead, 1);
}

#[tokio::test]
async fn a_silent_watcher_is_told_how_far_it_is() {
    let (_member, mut client) = fresh(&["--watch-progress-notify-interval=100ms"]).await;
    let mut watching = Watching::open(&mut client).await;
    watching.created(watch("other")).await;
    let request = pb::WatchCreateRequest {
        progress_notify: true,
        ..watch("k")
    };
    let asked = watching.created(request).await;
    put(&mut client, "elsewhere", "1").await;
    loop {
        let reply = watching.next().await;
        assert_eq!(reply.watch_id, asked);
        assert!(reply.events.is_empty() && !reply.created && !reply.canceled);
        if revision(&reply) == 2 {
            break;
        }
    }
}

#[tokio::test]
async fn large_messages_are_cut_for_those_that_ask() {
    let (_member, mut client) = fresh(&["--max-request-bytes=200000"]).await;
    for _ in 0..6 {
        put(&mut client, "k", vec![b'v'; 180_000]).await;
    }
    for fragment in [false, true] {
        let mut watching = Watching::open(&mut client).await;
        let request = pb::WatchCreateRequest {
            fragment,
            ..watch_from("k", 2)
        };
        watching.created(request).await;
        let mut seen = Vec::new();
        let mut pieces = 0;
        while seen.len() < 6 {
            let reply = watching.next().await;
            pieces += usize::from(reply.fragment);
            if fragment {
                assert!(reply.encoded_len() < 200_000 + 512 * 1024);
            }
            seen.extend(revisions_of(&reply));
        }
        assert_eq!(seen, [2, 3, 4, 5, 6, 7]);
        assert_eq!(pieces > 0, fragment, "{pieces} pieces");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody_and_misses_nothing() {
    const WRITES: usize = 600;
    let (member, mut client) = fresh(&[]).await;
    let mut idle_client = member.grpc().await;
    let mut idle = Watching::open(&mut idle_client).await;
    let mut keen = Watching::open(&mut client).await;
    idle.created(watch("k")).await;
    keen.created(watch("k")).await;
    let expected: Vec<i64> = (2..2 + WRITES as i64).collect();
    let mut writer = member.grpc().await;
    let writes = async {
        for _ in 0..WRITES {
            put(&mut writer, "k", vec![b'v'; 10_000]).await;
        }
    };
    let (_, seen) = tokio::join!(writes, keen.revisions(WRITES));
    assert_eq!(seen, expected);
    assert_eq!(idle.revisions(WRITES).await, expected);
}

#[tokio::test]
async fn a_watch_ends_with_the_member_and_goes_on_from_the_last_revision() {
    let (mut member, mut client) = fresh(&[]).await;
    let mut watching = Watching::open(&mut client).await;
    watching.created(watch("k")).await;
    put(&mut client, "k", "1").await;
    assert_eq!(watching.revisions(1).await, [2]);
    put(&mut client, "k", "2").await;
    let (status, _) = member.stop();
    assert!(status.success());
    let end = loop {
        match watching.try_next().await {
            Ok(reply) => assert_eq!(revisions_of(&reply), [3]),
            Err(end) => break end,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    member.restart();
    let mut client = member.grpc().await;
    put(&mut client, "k", "3").await;
    let mut watching = Watching::open(&mut client).await;
    watching.created(watch_from("k", 3)).await;
    assert_eq!(watching.revisions(2).await, [3, 4]);
}

#[tokio::test]
async fn a_watch_over_json_streams_results_line_by_line() {
    let (member, mut client) = fresh(&[]).await;
    let body = concat!(
        r#"{"create_request":{"key":"aw==","watch_id":"3"}}"#,
        r#"{"create_request":{"key":"aw==","watch_id":3}}"#,
    );
    let mut socket = TcpStream::connect(("127.0.0.1", member.client_port()))
        .await
        .unwrap();
    let head = "POST /v3/watch HTTP/1.1\r\nhost: a\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(socket).lines();
    let mut next = async || -> Value {
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
            let line = line.expect("a line comes").unwrap().unwrap();
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    };
    let created = next().await;
    assert_eq!(created["result"]["created"], json!(true));
    assert_eq!(created["result"]["watch_id"], json!("3"));
    let refused = next().await;
    assert_eq!(refused["result"]["watch_id"], json!("-1"));
    assert_eq!(refused["result"]["canceled"], json!(true));
    put(&mut client, "k", "v").await;
    let events = next().await;
    let event = &events["result"]["events"][0];
    assert_eq!(event["kv"]["key"], json!("aw=="));
    assert_eq!(event["kv"]["mod_revision"], json!("2"));
    assert_eq!(event.get("type"), None, "a put is the default");
}

#[tokio::test]
async fn the_metrics_count_streams_watchers_and_events() {
    let (member, mut client) = fresh(&[]).await;
    let mut watching = Watching::open(&mut client).await;
    watching.created(watch("k")).await;
    watching.created(watch("k")).await;
    put(&mut client, "k", "1").await;
    watching.revisions(2).await;
    for line in [
        "etcd_debugging_mvcc_watch_stream_total 1",
        "etcd_debugging_mvcc_watcher_total 2",
        "etcd_debugging_mvcc_slow_watcher_total 0",
        "etcd_debugging_mvcc_events_total 2",
        "etcd_debugging_mvcc_pending_events_total 0",
    ] {
        let is_told = async || {
            let metrics = member.json().get("/metrics").await.unwrap();
            let text = String::from_utf8(metrics.body.to_vec()).unwrap();
            text.lines().any(|other| other == line)
        };
        until(is_told, line).await;
    }
}
