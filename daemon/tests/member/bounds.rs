//! What protects the member from its clients: the read budget, the quota, the depth of a txn.

use althing_api::error::Error;
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::*;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Status};

use super::world::{Member, assert_refused, between, delete, get, put, shown, with_member};

const VALUE_BYTES: usize = 100_000;

fn txn_of(ops: Vec<Op>) -> TxnRequest {
    let wrap = |op| RequestOp { request: Some(op) };
    TxnRequest {
        success: ops.into_iter().map(wrap).collect(),
        ..Default::default()
    }
}

/// Puts 12 MB, more than all buffers of a connection take from a client that does not read.
async fn fill(member: &Member) {
    let mut kv = member.kv().await;
    let value = "v".repeat(VALUE_BYTES);
    for ten in 0..12 {
        let puts = (0..10).map(|one| Op::RequestPut(put(&format!("k{ten:02}{one}"), &value)));
        kv.txn(txn_of(puts.collect())).await.unwrap();
    }
}

async fn read_all(member: &Member) -> Result<usize, Status> {
    let answer = member.kv().await.range(between("\0", "\0")).await?;
    Ok(answer.into_inner().kvs.len())
}

/// Reads until the budget has room; the test's own deadline ends what never succeeds.
async fn read_when_there_is_room(member: &Member) -> usize {
    loop {
        match read_all(member).await {
            Ok(keys) => return keys,
            Err(refusal) => assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}"),
        }
    }
}

async fn assert_no_room(member: &Member) {
    let refusal = read_all(member).await.expect_err("the budget is taken");
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(refusal.message().contains("try again"), "{refusal}");
}

#[test]
fn a_grpc_client_that_does_not_read_its_answer_keeps_the_budget_taken_until_it_leaves() {
    with_member(&["--max-read-bytes=16MiB"], async |member| {
        fill(member).await;
        let request = between("\0", "\0").encode_to_vec();
        let unread = member.open("/etcdserverpb.KV/Range", &request).await;
        assert_eq!(unread.status(), 200);
        for _ in 0..3 {
            assert_no_room(member).await;
        }
        let page = RangeRequest {
            limit: 10,
            ..between("\0", "\0")
        };
        let page = member.kv().await.range(page).await.unwrap().into_inner();
        assert_eq!(page.kvs.len(), 10, "there is still room for small reads");
        drop(unread);
        assert_eq!(read_when_there_is_room(member).await, 120);
        assert_eq!(read_when_there_is_room(member).await, 120);
    });
}

#[test]
fn large_ranges_and_former_records_in_a_write_are_refused_before_anything_is_written() {
    with_member(&["--max-read-bytes=16MiB"], async |member| {
        fill(member).await;
        let mut kv = member.kv().await;
        let all = || Op::RequestRange(between("\0", "\0"));
        let note = |key: &str| Op::RequestPut(put(key, "1"));
        let answer = kv.txn(txn_of(vec![note("a"), all()])).await.unwrap();
        assert_eq!(answer.into_inner().responses.len(), 2, "12 MB fit");

        let twice = kv.txn(txn_of(vec![note("b"), all(), all()])).await;
        let refusal = twice.expect_err("24 MB do not fit");
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(refusal.message().contains("more than"), "{refusal}");
        let written = kv.range(get("b")).await.unwrap().into_inner();
        assert_eq!(written.count, 0);

        let page = RangeRequest {
            limit: 10,
            ..between("\0", "\0")
        };
        let pages = (0..10).map(|_| Op::RequestRange(page.clone()));
        let ops = [note("c")].into_iter().chain(pages).collect();
        kv.txn(txn_of(ops)).await.expect("ten pages of 1 MB fit");
        let both = DeleteRangeRequest {
            prev_kv: true,
            ..delete("k", "l")
        };
        let deletion = || Op::RequestDeleteRange(both.clone());
        let deleted = kv.txn(txn_of(vec![all(), deletion()])).await;
        assert_eq!(deleted.unwrap_err().code(), Code::ResourceExhausted);
        let deleted = kv.delete_range(both).await.unwrap().into_inner();
        assert_eq!(deleted.prev_kvs.len(), 120);
    });
}

#[test]
fn a_txn_that_only_reads_is_bounded_by_what_it_holds_and_not_by_what_it_compares() {
    with_member(&["--max-read-bytes=16MiB"], async |member| {
        fill(member).await;
        let mut kv = member.kv().await;
        let all = || Op::RequestRange(between("\0", "\0"));
        let compare = Compare {
            key: "k".into(),
            range_end: "l".into(),
            target: compare::CompareTarget::Value.into(),
            result: compare::CompareResult::Greater.into(),
            target_union: Some(compare::TargetUnion::Value("u".into())),
        };
        let once = TxnRequest {
            compare: vec![compare; 3],
            ..txn_of(vec![all()])
        };
        for _ in 0..2 {
            let answer = kv.txn(once.clone()).await.unwrap().into_inner();
            assert!(answer.succeeded);
        }
        for many in [2, 128] {
            let refusal = kv.txn(txn_of(vec![all(); many])).await;
            let refusal = refusal.expect_err("it does not fit");
            assert_eq!(refusal.code(), Code::ResourceExhausted);
            assert!(refusal.message().contains("more than"), "{refusal}");
        }
        assert_eq!(read_when_there_is_room(member).await, 120);
    });
}

#[test]
fn what_was_written_again_and_again_does_not_count_in_what_a_write_may_answer() {
    with_member(&["--max-read-bytes=1MiB"], async |member| {
        let mut kv = member.kv().await;
        let value = "v".repeat(VALUE_BYTES);
        for _ in 0..20 {
            kv.put(put("a", &value)).await.unwrap();
        }
        let ops = || vec![Op::RequestPut(put("b", "1")), Op::RequestRange(get("a"))];
        let answer = kv.txn(txn_of(ops())).await.unwrap().into_inner();
        assert_eq!(answer.responses.len(), 2);
        // Nor while a compaction still has to delete it.
        let revision = answer.header.unwrap().revision;
        let physical = false;
        let compaction = CompactionRequest { revision, physical };
        kv.compact(compaction).await.unwrap();
        let answer = kv.txn(txn_of(ops())).await.unwrap().into_inner();
        assert_eq!(answer.responses.len(), 2);
    });
}

#[test]
fn a_json_client_that_does_not_read_its_answer_keeps_the_budget_taken_until_it_leaves() {
    with_member(&["--max-read-bytes=16MiB"], async |member| {
        fill(member).await;
        let body = r#"{"key":"AA==","range_end":"AA=="}"#;
        let request = member.json_request("/v3/kv/range", body);
        let mut unread = member.narrow_connection().await;
        unread.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        unread.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        for _ in 0..3 {
            assert_no_room(member).await;
        }
        drop(unread);
        assert_eq!(read_when_there_is_room(member).await, 120);
        let (status, whole) = member.json("/v3/kv/range", body).await;
        assert_eq!(status, 200);
        assert!(whole.ends_with(r#""count":"120"}"#), "all slices arrive");
        assert_eq!(read_when_there_is_room(member).await, 120);
    });
}

#[test]
fn above_the_quota_puts_are_refused_until_deletion_and_compaction_made_room() {
    with_member(&["--quota-backend-bytes=1MiB"], async |member| {
        let mut kv = member.kv().await;
        let value = "v".repeat(VALUE_BYTES);
        let refusal = loop {
            if let Err(refusal) = kv.put(put("a", &value)).await {
                break refusal;
            }
        };
        let no_space: Result<(), Status> = Err(refusal);
        assert_refused(no_space, Error::NoSpace);
        let txn = txn_of(vec![Op::RequestTxn(txn_of(vec![Op::RequestPut(put(
            "b", "1",
        ))]))]);
        assert_refused(kv.txn(txn).await, Error::NoSpace);
        let read = kv.range(get("a")).await.unwrap().into_inner();
        assert_eq!(read.count, 1);

        let deletion = txn_of(vec![Op::RequestDeleteRange(delete("a", ""))]);
        let deleted = kv.txn(deletion).await.unwrap().into_inner();
        let revision = deleted.header.unwrap().revision;
        kv.compact(CompactionRequest {
            revision,
            physical: true,
        })
        .await
        .unwrap();
        while let Err(refusal) = kv.put(put("b", "1")).await {
            assert_eq!(refusal.message(), Error::NoSpace.text());
        }
        let read = kv.range(get("b")).await.unwrap().into_inner();
        assert_eq!(shown(&read.kvs), "b=1");
    });
}

/// `depth` txns inside each other; the innermost one puts `key`.
fn nested(depth: usize, key: &str) -> TxnRequest {
    let mut txn = txn_of(vec![Op::RequestPut(put(key, "1"))]);
    for _ in 1..depth {
        txn = txn_of(vec![Op::RequestTxn(txn)]);
    }
    txn
}

/// As `nested`, but deeper than a program without great care can encode.
fn nested_bytes(depth: usize) -> Vec<u8> {
    const SUCCESS: u32 = 2;
    const REQUEST_TXN: u32 = 4;
    let mut bytes = nested(1, "a").encode_to_vec();
    for _ in 1..depth {
        for tag in [REQUEST_TXN, SUCCESS] {
            let mut outer = Vec::with_capacity(bytes.len() + 8);
            encode_key(tag, WireType::LengthDelimited, &mut outer);
            encode_varint(bytes.len() as u64, &mut outer);
            outer.extend(bytes);
            bytes = outer;
        }
    }
    bytes
}

fn nested_json(depth: usize) -> String {
    let open = r#"{"success":[{"request_txn":"#.repeat(depth - 1);
    let put = r#"{"success":[{"request_put":{"key":"YQ==","value":"MQ=="}}]}"#;
    format!("{open}{put}{}", "}]}".repeat(depth - 1))
}

#[test]
fn a_txn_that_nests_too_deep_is_refused_at_every_depth_and_the_member_lives_on() {
    with_member(&["--max-txn-ops=1000"], async |member| {
        let mut kv = member.kv().await;
        for depth in [43, 50, 51, 99, 100, 101, 200] {
            assert_refused(kv.txn(nested(depth, "a")).await, Error::TooManyOps);
        }
        let bytes = nested_bytes(20_000);
        let answer = member.open("/etcdserverpb.KV/Txn", &bytes).await;
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_refused(Err::<(), _>(status), Error::TooManyOps);
        for depth in [43, 48, 49, 100, 200, 20_000] {
            let (status, body) = member.json("/v3/kv/txn", &nested_json(depth)).await;
            assert_eq!(status, 400, "{depth}: {body}");
            let text = Error::TooManyOps.text();
            assert!(body.contains(text), "{depth}: {body}");
        }
        let read = kv.range(get("a")).await.unwrap().into_inner();
        assert_eq!((read.count, read.header.unwrap().revision), (0, 1));
    });
}

#[test]
fn the_deepest_txn_is_applied_and_applied_again_after_a_start() {
    with_member(&[], async |member| {
        let done = member.kv().await.txn(nested(42, "deep")).await.unwrap();
        assert_eq!(done.into_inner().header.unwrap().revision, 2);
        let (status, body) = member.json("/v3/kv/txn", &nested_json(42)).await;
        assert_eq!(status, 200, "{body}");
        member.stop().await;
        member.start().await;
        let mut kv = member.kv().await;
        for key in ["deep", "a"] {
            let read = kv.range(get(key)).await.unwrap().into_inner();
            assert_eq!(shown(&read.kvs), format!("{key}=1"));
        }
    });
}
