//! Transactions.

use althing_api::error::Error;
use althing_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::response_op::Response as Answer;
use althing_api::etcdserverpb::*;

use super::world::{assert_refused, delete, get, put, shown, with_member};

fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// Holds when the key exists.
fn exists(key: &'static str) -> Compare {
    Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Create as i32,
        key: key.into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Default::default()
    }
}

fn txn(compare: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>) -> TxnRequest {
    TxnRequest {
        compare,
        success: success.into_iter().map(op).collect(),
        failure: failure.into_iter().map(op).collect(),
    }
}

#[test]
fn the_compares_choose_the_branch_and_all_of_it_is_one_revision() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        let create = txn(
            vec![exists("a")],
            vec![],
            vec![
                Op::RequestPut(put("a", "1")),
                Op::RequestPut(put("b", "1")),
                Op::RequestRange(get("a")),
            ],
        );
        let made = kv.txn(create.clone()).await.unwrap().into_inner();
        assert!(!made.succeeded);
        assert_eq!(made.header.unwrap().revision, 2);
        let Some(Answer::ResponseRange(seen)) = &made.responses[2].response else {
            panic!("{made:?}");
        };
        assert_eq!(shown(&seen.kvs), "a=1", "a later op sees the earlier ones");
        let header = seen.header.unwrap();
        assert_eq!((header.cluster_id, header.revision), (0, 2));
        let again = kv.txn(create).await.unwrap().into_inner();
        assert!(again.succeeded && again.responses.is_empty());
        assert_eq!(again.header.unwrap().revision, 2);
    });
}

#[test]
fn a_nested_txn_judges_the_state_before_the_whole_txn() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        let inner = txn(
            vec![exists("a")],
            vec![Op::RequestPut(put("b", "seen"))],
            vec![Op::RequestPut(put("b", "not seen"))],
        );
        let ops = vec![Op::RequestPut(put("a", "1")), Op::RequestTxn(inner)];
        let done = kv.txn(txn(vec![], ops, vec![])).await.unwrap().into_inner();
        assert!(done.succeeded);
        let found = kv.range(get("b")).await.unwrap().into_inner();
        assert_eq!(shown(&found.kvs), "b=not seen");
    });
}

#[test]
fn a_txn_that_only_reads_makes_no_revision_and_no_log_entry() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        kv.put(put("a", "1")).await.unwrap();
        let before = member.running().handles().status().applied_index;
        let local = RangeRequest {
            serializable: true,
            ..get("a")
        };
        let ops = vec![Op::RequestRange(get("a")), Op::RequestRange(local)];
        let request = txn(vec![exists("a")], ops, vec![]);
        let read = kv.txn(request).await.unwrap().into_inner();
        let header = read.header.unwrap();
        assert_eq!(
            (header.revision, header.member_id),
            (2, 0x8e9e_05c5_2164_694d)
        );
        assert_eq!((read.succeeded, read.responses.len()), (true, 2));
        let after = member.running().handles().status().applied_index;
        assert_eq!(before, after);
    });
}

#[test]
fn a_txn_is_refused_whole() {
    with_member(&["--max-txn-ops=2"], async |member| {
        let mut kv = member.kv().await;
        let a = || Op::RequestPut(put("a", "1"));
        let range_at = |revision| RangeRequest {
            revision,
            ..get("a")
        };
        let table = [
            (vec![a(), a()], Error::DuplicateKey),
            (
                vec![a(), Op::RequestDeleteRange(delete("a", ""))],
                Error::DuplicateKey,
            ),
            (vec![a(), a(), a()], Error::TooManyOps),
            (vec![a(), Op::RequestPut(put("", "1"))], Error::EmptyKey),
            (
                vec![a(), Op::RequestRange(range_at(9))],
                Error::FutureRevision,
            ),
        ];
        for (ops, error) in table {
            assert_refused(kv.txn(txn(vec![], ops, vec![])).await, error);
        }
        let empty = TxnRequest {
            success: vec![RequestOp::default()],
            ..Default::default()
        };
        assert_refused(kv.txn(empty).await, Error::KeyNotFound);
        let found = kv.range(get("a")).await.unwrap().into_inner();
        assert_eq!((found.count, found.header.unwrap().revision), (0, 1));
    });
}
