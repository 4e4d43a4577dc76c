//! Leases as a client sees them, over gRPC and over JSON.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use althing_api::range::prefix_end;
use althing_tests::binaries::althingd;
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::wait::until;
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

/// The time to live of a lease whose end a test waits for, in seconds: longer than a busy machine
/// delays the requests that go before.
const SHORT_S: i64 = 6;

/// A fresh member and a connection to it.
async fn fresh() -> (Member, Grpc) {
    let member = Member::start(&althingd(), &[]);
    let client = member.grpc().await;
    (member, client)
}

async fn grant(client: &mut Grpc, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Status> {
    let request = pb::LeaseGrantRequest { id, ttl };
    client.unary(path::LEASE_GRANT, &request).await
}

async fn revoke(client: &mut Grpc, id: i64) -> Result<pb::LeaseRevokeResponse, Status> {
    let request = pb::LeaseRevokeRequest { id };
    client.unary(path::LEASE_REVOKE, &request).await
}

async fn time_to_live(client: &mut Grpc, id: i64) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    let answer = client.unary(path::LEASE_TIME_TO_LIVE, &request).await;
    answer.unwrap()
}

async fn leases(client: &mut Grpc) -> Vec<i64> {
    let request = pb::LeaseLeasesRequest {};
    let answer = client.unary::<pb::LeaseLeasesResponse>(path::LEASE_LEASES, &request);
    let leases = answer.await.unwrap().leases.into_iter();
    leases.map(|lease| lease.id).collect()
}

fn put_of(key: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: "v".into(),
        lease,
        ..pb::PutRequest::default()
    }
}

async fn put(client: &mut Grpc, key: &str, lease: i64) -> Result<pb::PutResponse, Status> {
    client.unary(path::PUT, &put_of(key, lease)).await
}

/// All keys that begin with `prefix`, and the revision.
async fn found(client: &mut Grpc, prefix: &str) -> (Vec<Bytes>, i64) {
    // The smallest key stands for an empty one, which is refused.
    let first = if prefix.is_empty() { "\0" } else { prefix };
    let request = pb::RangeRequest {
        key: first.to_owned().into(),
        range_end: prefix_end(prefix.as_bytes()),
        ..pb::RangeRequest::default()
    };
    let answer = client.unary::<pb::RangeResponse>(path::RANGE, &request);
    let answer = answer.await.unwrap();
    let keys = answer.kvs.into_iter().map(|kv| kv.key).collect();
    (keys, answer.header.unwrap().revision)
}

async fn until_gone(client: &mut Grpc, key: &str) {
    until(
        async || found(client, key).await.0.is_empty(),
        "the key goes",
    )
    .await;
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, error: Error) {
    let status = answer.unwrap_err();
    assert_eq!(status.message(), error.text());
    assert_eq!(status.code() as i32, error.code() as i32);
}

#[tokio::test]
async fn a_lease_is_granted_listed_and_revoked_with_its_keys_in_one_revision() {
    let (_member, mut client) = fresh().await;
    let granted = grant(&mut client, 5, 1).await.unwrap();
    assert_eq!((granted.id, granted.ttl), (5, 2), "the least time to live");
    assert_eq!(granted.header.unwrap().revision, 1);
    // The lease may have ended by itself.
    let _ = revoke(&mut client, 5).await;
    let granted = grant(&mut client, 7, 1_000).await.unwrap();
    assert_eq!((granted.id, granted.ttl), (7, 1_000));
    assert_eq!(granted.header.unwrap().revision, 1);
    let assigned = grant(&mut client, 0, 100).await.unwrap();
    assert!(assigned.id > 0);
    let by_end = [assigned.id, 7];
    assert_eq!(leases(&mut client).await, by_end);
    assert_refused(grant(&mut client, 7, 100).await, Error::LeaseExists);
    let too_large = grant(&mut client, 8, 9_000_000_001).await;
    assert_refused(too_large, Error::LeaseTtlTooLarge);

    for key in ["k/c", "k/a", "k/b"] {
        put(&mut client, key, assigned.id).await.unwrap();
    }
    let time = time_to_live(&mut client, assigned.id).await;
    assert_eq!(time.keys, ["k/a", "k/b", "k/c"]);
    assert_eq!(time.granted_ttl, 100);
    assert!((90..=100).contains(&time.ttl), "{time:?}");
    // Put again without a lease, and deleted: both detach the key from the lease.
    put(&mut client, "k/a", 0).await.unwrap();
    let (_, before) = found(&mut client, "k/").await;
    let revoked = revoke(&mut client, assigned.id).await.unwrap();
    assert_eq!(revoked.header.unwrap().revision, before + 1);
    assert_eq!(
        found(&mut client, "k/").await,
        (vec!["k/a".into()], before + 1)
    );
    assert_refused(revoke(&mut client, assigned.id).await, Error::LeaseNotFound);
    let gone = time_to_live(&mut client, assigned.id).await;
    assert_eq!((gone.ttl, gone.granted_ttl), (-1, 0));
    assert_eq!(gone.id, assigned.id);
}

#[tokio::test]
async fn a_txn_with_an_unknown_lease_changes_nothing_and_a_known_one_can_be_compared() {
    let (_member, mut client) = fresh().await;
    grant(&mut client, 7, 100).await.unwrap();
    let puts = |first, second| {
        let op = |put| pb::RequestOp {
            request: Some(Op::RequestPut(put)),
        };
        vec![op(put_of("a", first)), op(put_of("b", second))]
    };
    let unknown = pb::TxnRequest {
        success: puts(7, 8),
        ..pb::TxnRequest::default()
    };
    let answer = client.unary::<pb::TxnResponse>(path::TXN, &unknown).await;
    assert_refused(answer, Error::LeaseNotFound);
    assert_eq!(found(&mut client, "").await, (Vec::new(), 1));
    put(&mut client, "a", 7).await.unwrap();
    let compared = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Lease.into(),
            key: "a".into(),
            target_union: Some(TargetUnion::Lease(7)),
            ..pb::Compare::default()
        }],
        success: puts(0, 7),
        ..pb::TxnRequest::default()
    };
    let answer = client.unary::<pb::TxnResponse>(path::TXN, &compared).await;
    assert!(answer.unwrap().succeeded);
    assert_eq!(time_to_live(&mut client, 7).await.keys, ["b"]);
}

#[tokio::test]
async fn a_stream_of_renewals_is_answered_in_order_and_unknown_leases_with_zero() {
    let (_member, mut client) = fresh().await;
    grant(&mut client, 7, 100).await.unwrap();
    grant(&mut client, 8, 50).await.unwrap();
    let ids = [7, 9, 8, 7, 9];
    let requests = ids.map(|id| Bytes::from(pb::LeaseKeepAliveRequest { id }.encode_to_vec()));
    let mut request = Request::new(stream::iter(requests));
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().unwrap());
    let mut answers = client
        .both_streams(path::LEASE_KEEP_ALIVE, request)
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let answer = pb::LeaseKeepAliveResponse::decode(answer).unwrap();
        assert_eq!(answer.header.unwrap().revision, 1);
        seen.push((answer.id, answer.ttl));
    }
    assert_eq!(seen, [(7, 100), (9, 0), (8, 50), (7, 100), (9, 0)]);
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends_with_its_keys_and_not_before_its_time() {
    let (_member, mut client) = fresh().await;
    let began = Instant::now();
    grant(&mut client, 7, SHORT_S).await.unwrap();
    let (_, before) = found(&mut client, "").await;
    put(&mut client, "k/1", 7).await.unwrap();
    put(&mut client, "k/2", 7).await.unwrap();
    until_gone(&mut client, "k/1").await;
    assert!(began.elapsed().as_secs() >= SHORT_S as u64);
    assert_eq!(found(&mut client, "k/").await, (Vec::new(), before + 3));
    assert_refused(put(&mut client, "k/1", 7).await, Error::LeaseNotFound);
    assert!(leases(&mut client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_their_keys_survive_a_kill() {
    let (mut member, mut client) = fresh().await;
    grant(&mut client, 7, 1000).await.unwrap();
    for key in ["k/1", "k/2"] {
        put(&mut client, key, 7).await.unwrap();
    }
    grant(&mut client, 8, SHORT_S).await.unwrap();
    put(&mut client, "short", 8).await.unwrap();
    for _ in 0..2 {
        tokio::task::block_in_place(|| {
            member.kill();
            member.restart();
        });
    }
    let mut client = member.grpc().await;
    let time = time_to_live(&mut client, 7).await;
    assert_eq!(time.keys, ["k/1", "k/2"]);
    assert_eq!(time.granted_ttl, 1000);
    until_gone(&mut client, "short").await;
    revoke(&mut client, 7).await.unwrap();
    assert!(found(&mut client, "k/").await.0.is_empty());
}

#[tokio::test]
async fn every_json_route_and_its_alias_serves_leases() {
    let member = Member::start(&althingd(), &[]);
    let mut client = member.json();
    let mut post = async |path: &str, body: Value| -> (u16, Value) {
        let answer = client.post(path, body.to_string()).await.unwrap();
        (answer.status.as_u16(), answer.json())
    };
    for (id, prefix) in [("7", "/v3/lease"), ("8", "/v3/kv/lease")] {
        let granted = post("/v3/lease/grant", json!({"TTL": 100, "ID": id}))
            .await
            .1;
        assert_eq!(
            (&granted["ID"], &granted["TTL"]),
            (&json!(id), &json!("100"))
        );
        let put = json!({"key": "aw==", "value": "dg==", "lease": id});
        assert_eq!(post("/v3/kv/put", put).await.0, 200);
        let renewed = post("/v3/lease/keepalive", json!({"ID": id})).await.1;
        assert_eq!(renewed["result"]["TTL"], "100", "{renewed}");
        let asked = json!({"ID": id, "keys": true});
        let time = post(&format!("{prefix}/timetolive"), asked).await.1;
        assert_eq!(time["grantedTTL"], "100", "{time}");
        assert_eq!(time["keys"], json!(["aw=="]));
        let listed = post(&format!("{prefix}/leases"), json!({})).await.1;
        assert_eq!(listed["leases"], json!([{"ID": id}]));
        let revoked = post(&format!("{prefix}/revoke"), json!({"ID": id})).await;
        assert_eq!(revoked.0, 200, "{revoked:?}");
        let (status, refused) = post(&format!("{prefix}/revoke"), json!({"ID": id})).await;
        assert_eq!(status, 404);
        assert_eq!(refused["message"], Error::LeaseNotFound.text());
    }
}

/// Puts with a time to live; returns the lease that the answer names.
async fn put_with_ttl(client: &mut Grpc, put: &pb::PutRequest, ttl: &str) -> Result<i64, Status> {
    let mut request = Request::new(Bytes::from(put.encode_to_vec()));
    request
        .metadata_mut()
        .insert("althing-ttl", ttl.parse().unwrap());
    let answer = client.call(path::PUT, request).await?;
    let lease = answer.metadata().get("althing-lease").unwrap();
    Ok(lease.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_put_with_a_time_to_live_brings_a_lease_that_ends_with_its_key() {
    let (_member, mut client) = fresh().await;
    let began = Instant::now();
    put_with_ttl(&mut client, &put_of("short", 0), "2s")
        .await
        .unwrap();
    let long = put_with_ttl(&mut client, &put_of("long", 0), "1h")
        .await
        .unwrap();
    let time = time_to_live(&mut client, long).await;
    assert_eq!(
        (time.granted_ttl, &*time.keys),
        (3600, &["long".into()][..])
    );
    let again = put_with_ttl(&mut client, &put_of("long", 0), "7200")
        .await
        .unwrap();
    assert_eq!(time_to_live(&mut client, long).await.ttl, -1, "replaced");
    put(&mut client, "long", 0).await.unwrap();
    assert_eq!(time_to_live(&mut client, again).await.ttl, -1, "not needed");
    until_gone(&mut client, "short").await;
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(found(&mut client, "").await.0, ["long"]);

    grant(&mut client, 7, 100).await.unwrap();
    for (put, ttl) in [
        (put_of("k", 7), "2s"),
        (put_of("k", 0), "soon"),
        (put_of("k", 0), "0"),
    ] {
        let refused = put_with_ttl(&mut client, &put, ttl).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("althing-ttl"), "{refused}");
    }
    assert_eq!(found(&mut client, "").await.0, ["long"]);
}

#[tokio::test]
async fn a_json_put_takes_the_time_to_live_from_its_header() {
    let member = Member::start(&althingd(), &[]);
    let mut client = member.json();
    let body = json!({"key": "aw==", "value": "dg=="}).to_string();
    let headers = [("Althing-TTL", "1h")];
    let answer = client.send_with(Method::POST, "/v3/kv/put", body.into(), &headers);
    let answer = answer.await.unwrap();
    let lease = answer.headers["althing-lease"].to_str().unwrap();
    let asked = json!({"ID": lease, "keys": true}).to_string();
    let time = client
        .post("/v3/lease/timetolive", asked)
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&time["grantedTTL"], &time["keys"]),
        (&json!("3600"), &json!(["aw=="]))
    );
    let plain = json!({"key": "aw=="}).to_string();
    let plain = client.post("/v3/kv/put", plain).await.unwrap();
    assert!(!plain.headers.contains_key("althing-lease"));
}
