//! The duplicate check against a table and against one that compares every pair of ops.

use althing_api::etcdserverpb::{PutRequest, RangeRequest, TxnRequest};
use proptest::prelude::*;

use super::*;

fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put(key: &str) -> RequestOp {
    op(Op::RequestPut(PutRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }))
}

fn del(key: &str, range_end: &str) -> RequestOp {
    op(Op::RequestDeleteRange(DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }))
}

fn get(key: &str) -> RequestOp {
    op(Op::RequestRange(RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }))
}

fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Op::RequestTxn(TxnRequest {
        compare: vec![],
        success,
        failure,
    }))
}

#[test]
fn what_collides_and_what_does_not() {
    let table = [
        ("two puts", vec![put("a"), put("a")], false),
        ("two keys", vec![put("a"), put("b")], true),
        ("put and get", vec![put("a"), get("a"), get("a")], true),
        (
            "put in a deleted range",
            vec![put("b"), del("a", "c")],
            false,
        ),
        ("put of a deleted key", vec![del("b", ""), put("b")], false),
        ("put at the open end", vec![put("c"), del("a", "c")], true),
        ("from this key on", vec![put("c"), del("a", "\0")], true),
        ("a range upside down", vec![put("b"), del("c", "a")], true),
        ("two deletions", vec![del("a", "c"), del("b", "d")], true),
        (
            "both branches of one txn",
            vec![txn(vec![put("a")], vec![put("a"), del("b", "")])],
            true,
        ),
        (
            "a put and a deletion in exclusive branches",
            vec![txn(vec![put("a")], vec![del("a", "")])],
            true,
        ),
        (
            "a nested put and its neighbour",
            vec![txn(vec![], vec![put("a")]), put("a")],
            false,
        ),
        (
            "a nested put and a deletion beside it",
            vec![del("a", "c"), txn(vec![put("b")], vec![])],
            false,
        ),
        (
            "a nested deletion and a put beside it",
            vec![put("b"), txn(vec![], vec![del("a", "c")])],
            false,
        ),
        (
            "puts of two nested txns",
            vec![txn(vec![put("a")], vec![]), txn(vec![], vec![put("a")])],
            false,
        ),
        (
            "a nested deletion before a nested put",
            vec![txn(vec![del("a", "")], vec![]), txn(vec![put("a")], vec![])],
            false,
        ),
        (
            "a nested put before a nested deletion",
            vec![txn(vec![put("a")], vec![]), txn(vec![del("a", "")], vec![])],
            true,
        ),
    ];
    for (name, ops, allowed) in table {
        assert_eq!(check(&ops).is_ok(), allowed, "{name}");
    }
}

/// One put or deletion, and the way to it: op index, branch, op index, ...
struct Leaf<'a> {
    way: Vec<usize>,
    op: &'a Op,
}

fn leaves<'a>(ops: &'a [RequestOp], way: &[usize], found: &mut Vec<Leaf<'a>>) {
    for (index, op) in ops.iter().enumerate() {
        let step = |more: &[usize]| [way, &[index], more].concat();
        match &op.request {
            Some(Op::RequestTxn(request)) => {
                leaves(&request.success, &step(&[0]), found);
                leaves(&request.failure, &step(&[1]), found);
            }
            Some(op) => found.push(Leaf { way: step(&[]), op }),
            None => {}
        }
    }
}

/// Whether a put and another write may not stand in one txn.
fn collide(put: &Leaf<'_>, other: &Leaf<'_>) -> bool {
    let fork = put.way.iter().zip(&other.way).position(|(a, b)| a != b);
    let (Op::RequestPut(request), Some(fork)) = (put.op, fork) else {
        return false;
    };
    // At an odd step they part into the two branches of one txn: only one of them runs.
    if fork % 2 == 1 {
        return false;
    }
    let is_nested = |leaf: &Leaf<'_>| leaf.way.len() > fork + 1;
    let unseen = is_nested(put) && is_nested(other) && put.way[fork] < other.way[fork];
    let key = &request.key[..];
    match other.op {
        Op::RequestPut(other) => other.key[..] == *key,
        Op::RequestDeleteRange(_) if unseen => false,
        Op::RequestDeleteRange(other) if other.range_end.is_empty() => other.key[..] == *key,
        Op::RequestDeleteRange(other) => other.key[..] <= *key && *key < other.range_end[..],
        _ => false,
    }
}

fn any_pair_collides(ops: &[RequestOp]) -> bool {
    let mut found = Vec::new();
    leaves(ops, &[], &mut found);
    found
        .iter()
        .any(|one| found.iter().any(|other| collide(one, other)))
}

fn any_key() -> impl Strategy<Value = String> {
    "[a-e]{1,2}"
}

fn any_ops() -> impl Strategy<Value = Vec<RequestOp>> {
    let leaf = prop_oneof![
        3 => any_key().prop_map(|key| put(&key)),
        1 => any_key().prop_map(|key| get(&key)),
        1 => any_key().prop_map(|key| del(&key, "")),
        1 => (any_key(), prop_oneof![any_key(), Just("\0".to_owned())])
            .prop_map(|(key, end)| del(&key, &end)),
    ];
    let op = leaf.prop_recursive(3, 12, 3, |inner| {
        let list = prop::collection::vec(inner, 0..3);
        (list.clone(), list).prop_map(|(success, failure)| txn(success, failure))
    });
    prop::collection::vec(op, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_sets_find_exactly_what_comparing_all_pairs_finds(ops in any_ops()) {
        prop_assert_eq!(check(&ops).is_err(), any_pair_collides(&ops));
    }

    #[test]
    fn merged_spans_hold_exactly_the_keys_of_their_parts(
        parts in prop::collection::vec((any_key(), any_key()), 0..8),
        key in any_key(),
    ) {
        let mut spans = Spans::default();
        for (start, end) in &parts {
            spans.insert(start.clone().into(), end.clone().into());
        }
        let expected = parts.iter().any(|(start, end)| *start <= key && key < *end);
        prop_assert_eq!(spans.contains(&Bytes::from(key)), expected);
        let ends: Vec<_> = spans.0.iter().flat_map(|(start, end)| [start, end]).collect();
        prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "disjoint and ordered");
    }
}
