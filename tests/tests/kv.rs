//! The key-value service as a client sees it, over gRPC and over JSON.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use althing_api::range::prefix_end;
use althing_tests::binaries::althingd;
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use bytes::Bytes;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use pb::response_op::Response;
use serde_json::{Value, json};
use tonic::Status;

/// A fresh member and a connection to it.
async fn fresh() -> (Member, Grpc) {
    let member = Member::start(&althingd(), &[]);
    let client = member.grpc().await;
    (member, client)
}

fn put_of(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..pb::PutRequest::default()
    }
}

async fn put(client: &mut Grpc, key: &str, value: &str) -> i64 {
    let answer: pb::PutResponse = client.unary(path::PUT, &put_of(key, value)).await.unwrap();
    answer.header.unwrap().revision
}

fn prefix(prefix: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix.as_bytes()),
        ..pb::RangeRequest::default()
    }
}

async fn range(client: &mut Grpc, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
    client.unary(path::RANGE, request).await
}

fn keys(answer: &pb::RangeResponse) -> Vec<&str> {
    answer
        .kvs
        .iter()
        .map(|record| std::str::from_utf8(&record.key).unwrap())
        .collect()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, error: Error) {
    let status = answer.expect_err("a refusal was expected");
    assert_eq!(status.message(), error.text());
    assert_eq!(i32::from(status.code()), error.code() as i32);
}

#[tokio::test]
async fn an_empty_store_is_at_revision_1_and_each_write_makes_one_revision() {
    let (_member, mut client) = fresh().await;
    let empty = range(&mut client, &prefix("")).await;
    assert_refused(empty, Error::EmptyKey);
    let empty = range(&mut client, &prefix("a")).await.unwrap();
    let header = empty.header.unwrap();
    assert_eq!((header.revision, empty.count), (1, 0));
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
    assert_eq!(put(&mut client, "a", "1").await, 2);
    assert_eq!(put(&mut client, "a", "1").await, 3);
}

#[tokio::test]
async fn a_key_counts_its_versions_and_starts_anew_after_its_deletion() {
    let (_member, mut client) = fresh().await;
    put(&mut client, "a", "1").await;
    put(&mut client, "a", "2").await;
    let found = range(&mut client, &prefix("a"))
        .await
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!(
        (found.create_revision, found.mod_revision, found.version),
        (2, 3, 2)
    );

    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        prev_kv: true,
        ..pb::DeleteRangeRequest::default()
    };
    let deleted: pb::DeleteRangeResponse = client.unary(path::DELETE_RANGE, &delete).await.unwrap();
    assert_eq!(deleted.deleted, 1);
    assert_eq!(deleted.prev_kvs[0].value, "2");
    let again: pb::DeleteRangeResponse = client.unary(path::DELETE_RANGE, &delete).await.unwrap();
    assert_eq!((again.deleted, again.header.unwrap().revision), (0, 4));

    put(&mut client, "a", "3").await;
    let found = range(&mut client, &prefix("a"))
        .await
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!(
        (found.create_revision, found.mod_revision, found.version),
        (5, 5, 1)
    );
}

#[tokio::test]
async fn the_past_is_read_until_it_is_compacted() {
    let (_member, mut client) = fresh().await;
    for value in ["1", "2", "3"] {
        put(&mut client, "a", value).await;
    }
    let mut request = prefix("a");
    request.revision = 3;
    assert_eq!(
        range(&mut client, &request).await.unwrap().kvs[0].value,
        "2"
    );

    let compact = pb::CompactionRequest {
        revision: 3,
        physical: true,
    };
    let _: pb::CompactionResponse = client.unary(path::COMPACT, &compact).await.unwrap();
    assert_eq!(
        range(&mut client, &request).await.unwrap().kvs[0].value,
        "2"
    );
    request.revision = 2;
    assert_refused(range(&mut client, &request).await, Error::Compacted);
    request.revision = 5;
    assert_refused(range(&mut client, &request).await, Error::FutureRevision);
    let again = client
        .unary::<pb::CompactionResponse>(path::COMPACT, &compact)
        .await;
    assert_refused(again, Error::Compacted);
}

#[tokio::test]
async fn a_range_is_cut_sorted_and_counted() {
    let (_member, mut client) = fresh().await;
    for (key, value) in [("k1", "c"), ("k2", "a"), ("k3", "b"), ("l", "")] {
        put(&mut client, key, value).await;
    }
    let mut request = prefix("k");
    request.limit = 2;
    let page = range(&mut client, &request).await.unwrap();
    assert_eq!(
        (keys(&page), page.more, page.count),
        (vec!["k1", "k2"], true, 3)
    );

    request.sort_order = SortOrder::Descend as i32;
    request.sort_target = SortTarget::Value as i32;
    let page = range(&mut client, &request).await.unwrap();
    assert_eq!(keys(&page), ["k1", "k3"]);

    let mut request = prefix("k");
    request.min_mod_revision = 3;
    request.max_mod_revision = 3;
    let filtered = range(&mut client, &request).await.unwrap();
    assert_eq!((keys(&filtered), filtered.count), (vec!["k2"], 3));

    let mut request = prefix("k");
    request.keys_only = true;
    let found = range(&mut client, &request).await.unwrap();
    assert!(
        found
            .kvs
            .iter()
            .all(|record| record.value.is_empty() && record.version == 1)
    );
    request.count_only = true;
    let found = range(&mut client, &request).await.unwrap();
    assert_eq!((found.kvs.len(), found.count, found.more), (0, 3, false));
}

#[tokio::test]
async fn a_stream_of_a_range_holds_what_the_range_holds() {
    let (_member, mut client) = fresh().await;
    for number in 0..100 {
        put(&mut client, &format!("k{number:03}"), "v").await;
    }
    let request = prefix("k");
    let whole = range(&mut client, &request).await.unwrap();
    let encoded = Bytes::from(prost::Message::encode_to_vec(&request));
    let chunks = client.stream(path::RANGE_STREAM, encoded).await.unwrap();
    assert!(chunks.len() > 1, "a hundred keys came in one chunk");
    let mut merged = pb::RangeResponse::default();
    for chunk in chunks {
        let chunk: pb::RangeStreamResponse = prost::Message::decode(chunk).unwrap();
        let part = chunk.range_response.unwrap();
        merged.kvs.extend(part.kvs);
        merged.header = part.header;
        merged.count = part.count;
        merged.more = part.more;
    }
    assert_eq!(merged, whole);
}

fn compare_version(key: &str, version: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::Version(version)),
        ..pb::Compare::default()
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

#[tokio::test]
async fn a_transaction_takes_one_branch_and_makes_one_revision() {
    let (_member, mut client) = fresh().await;
    let create = pb::TxnRequest {
        compare: vec![compare_version("a", 0)],
        success: vec![
            op(Request::RequestPut(put_of("a", "1"))),
            op(Request::RequestPut(put_of("b", "1"))),
            op(Request::RequestRange(prefix("a"))),
        ],
        failure: vec![op(Request::RequestRange(prefix("b")))],
    };
    let done: pb::TxnResponse = client.unary(path::TXN, &create).await.unwrap();
    assert!(done.succeeded);
    assert_eq!(done.header.unwrap().revision, 2);
    let Some(Response::ResponseRange(seen)) = &done.responses[2].response else {
        panic!("{done:?}");
    };
    assert_eq!(seen.kvs[0].value, "1", "a range sees the puts before it");

    let done: pb::TxnResponse = client.unary(path::TXN, &create).await.unwrap();
    assert!(!done.succeeded);
    assert_eq!(
        (done.header.unwrap().revision, done.responses.len()),
        (2, 1)
    );
}

#[tokio::test]
async fn a_transaction_that_is_refused_changes_nothing() {
    let (_member, mut client) = fresh().await;
    let twice = pb::TxnRequest {
        success: vec![
            op(Request::RequestPut(put_of("a", "1"))),
            op(Request::RequestPut(put_of("a", "2"))),
        ],
        ..pb::TxnRequest::default()
    };
    let mut keeping = put_of("b", "");
    keeping.ignore_value = true;
    let absent = pb::TxnRequest {
        success: vec![
            op(Request::RequestPut(put_of("a", "1"))),
            op(Request::RequestPut(keeping)),
        ],
        ..pb::TxnRequest::default()
    };
    let crowd = pb::TxnRequest {
        success: vec![op(Request::RequestRange(prefix("a"))); 129],
        ..pb::TxnRequest::default()
    };
    let cases = [
        (twice, Error::DuplicateKey),
        (absent, Error::KeyNotFound),
        (crowd, Error::TooManyOps),
    ];
    for (request, error) in cases {
        let answer = client.unary::<pb::TxnResponse>(path::TXN, &request).await;
        assert_refused(answer, error);
    }
    let found = range(&mut client, &prefix("a")).await.unwrap();
    assert_eq!((found.count, found.header.unwrap().revision), (0, 1));
}

#[tokio::test]
async fn requests_without_sense_are_refused_in_etcds_words() {
    let (_member, mut client) = fresh().await;
    let lease = pb::PutRequest {
        lease: 7,
        ..put_of("a", "1")
    };
    let valued = pb::PutRequest {
        ignore_value: true,
        ..put_of("a", "1")
    };
    let leased = pb::PutRequest {
        ignore_lease: true,
        lease: 7,
        ..put_of("a", "")
    };
    let large = pb::PutRequest {
        value: vec![0; 1_600_000].into(),
        ..put_of("a", "")
    };
    for (request, error) in [
        (put_of("", "1"), Error::EmptyKey),
        (lease, Error::LeaseNotFound),
        (valued, Error::ValueProvided),
        (leased, Error::LeaseProvided),
        (large, Error::RequestTooLarge),
    ] {
        assert_refused(
            client.unary::<pb::PutResponse>(path::PUT, &request).await,
            error,
        );
    }
    let mut request = prefix("a");
    request.sort_order = 9;
    assert_refused(range(&mut client, &request).await, Error::InvalidSortOption);
}

async fn post(member: &Member, path: &str, body: Value) -> (u16, Value) {
    let answer = member.json().post(path, body.to_string()).await.unwrap();
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn json_and_grpc_see_the_same_store() {
    let (member, mut client) = fresh().await;
    let (status, put) = post(
        &member,
        "/v3/kv/put",
        json!({"key": "Zm9v", "value": "YmFy"}),
    )
    .await;
    assert_eq!((status, &put["header"]["revision"]), (200, &json!("2")));
    assert_eq!(
        range(&mut client, &prefix("foo")).await.unwrap().kvs[0].value,
        "bar"
    );

    let (status, found) = post(&member, "/v3/kv/range", json!({"key": "Zm9v"})).await;
    assert_eq!(status, 200);
    assert_eq!(
        found["kvs"],
        json!([{
            "key": "Zm9v", "create_revision": "2", "mod_revision": "2",
            "version": "1", "value": "YmFy"
        }])
    );
    assert_eq!(found["count"], "1");

    let txn = json!({
        "compare": [{"target": "CREATE", "key": "Zm9v", "createRevision": "2"}],
        "success": [{"requestDeleteRange": {"key": "Zm9v"}}]
    });
    let (_, done) = post(&member, "/v3/kv/txn", txn).await;
    assert_eq!(done["succeeded"], true);
    assert_eq!(range(&mut client, &prefix("foo")).await.unwrap().count, 0);
}

#[tokio::test]
async fn json_refusals_tell_code_and_text_in_the_old_and_the_new_form() {
    let member = Member::start(&althingd(), &[]);
    let (status, body) = post(&member, "/v3/kv/put", json!({"value": "YmFy"})).await;
    let text = Error::EmptyKey.text();
    assert_eq!(status, 400);
    assert_eq!(body, json!({"error": text, "code": 3, "message": text}));

    let (status, body) = post(&member, "/v3/kv/put", json!({"key": 5})).await;
    assert_eq!((status, &body["code"]), (400, &json!(3)));
}
