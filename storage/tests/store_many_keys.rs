//! Many keys: ranges that cross chunks and locks, counts, and readers beside a writer.
//!
//! `SEED` replays one seed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use althing_api::commandpb::Command;
use althing_api::commandpb::command::Request;
use althing_api::error::Error;
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::*;
use althing_storage::apply::{apply, read_txn};
use althing_storage::entry::LogId;
use althing_storage::store::{CompactStep, ReadMeter, Store, held_bytes};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use store_support::TINY;
use store_support::seed::seed;

fn put(key: String, value: String) -> Op {
    Op::RequestPut(PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    })
}

fn id(index: u64) -> LogId {
    LogId { term: 1, index }
}

fn commit(store: &Store, index: u64, ops: Vec<Op>) {
    let op = |request| RequestOp {
        request: Some(request),
    };
    let request = TxnRequest {
        success: ops.into_iter().map(op).collect(),
        ..Default::default()
    };
    let mut txn = store.begin();
    let request = Some(Request::Txn(request));
    apply(&mut txn, Command { request }).unwrap();
    txn.commit(id(index));
}

fn span(from: &str, until: &str, limit: i64, revision: i64) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(from.as_bytes()),
        range_end: Bytes::copy_from_slice(until.as_bytes()),
        limit,
        revision,
        ..Default::default()
    }
}

fn name(number: u32) -> String {
    format!("key {number:05}")
}

type State = BTreeMap<String, String>;

fn check_span(store: &Store, state: &State, revision: i64, rng: &mut StdRng) {
    let from = name(rng.random_range(0..5000));
    let until = name(rng.random_range(0..5000));
    let limit = rng.random_range(0..1500);
    let expected: Vec<_> = if from < until {
        state.range(from.clone()..until.clone()).collect()
    } else {
        Vec::new()
    };
    let request = span(&from, &until, limit as i64, revision);
    let got = store.read().range(&request).unwrap();
    assert_eq!(got.count, expected.len() as i64, "{request:?}");
    assert_eq!(got.more, limit > 0 && expected.len() > limit);
    let shown = if limit == 0 {
        expected.len()
    } else {
        limit.min(expected.len())
    };
    assert_eq!(got.kvs.len(), shown);
    for (kv, (key, value)) in got.kvs.iter().zip(expected) {
        assert_eq!(
            (&kv.key, &kv.value),
            (&Bytes::from(key.clone()), &Bytes::from(value.clone()))
        );
    }
}

#[test]
fn ranges_and_counts_cross_chunks_at_every_revision() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, TINY).unwrap();
    let mut states: Vec<State> = vec![State::new(), State::new()];
    let mut index = 0;
    for round in 0..30 {
        let mut state = states.last().unwrap().clone();
        let mut ops = Vec::new();
        if round % 5 == 4 {
            let start = rng.random_range(0..4000);
            let (from, until) = (name(start), name(start + 700));
            state.retain(|key, _| !(from.clone()..until.clone()).contains(key));
            ops.push(Op::RequestDeleteRange(DeleteRangeRequest {
                key: name(start).into(),
                range_end: until.into(),
                prev_kv: false,
            }));
        } else {
            // Every second round writes in order, to fill chunks from the end.
            let first = rng.random_range(0..4000);
            for step in 0..300 {
                let number = if round % 2 == 0 {
                    first + step
                } else {
                    rng.random_range(0..5000)
                };
                let value = format!("{round}");
                state.insert(name(number), value.clone());
                ops.push(put(name(number), value));
            }
        }
        let changed = state != *states.last().unwrap();
        commit(&store, index, ops);
        index += 1;
        if changed {
            states.push(state);
        }
        assert_eq!(store.revisions().current, states.len() as i64 - 1);
        let checkpoint = rng.random_range(0..index);
        store.checkpoint(id(checkpoint), 500).unwrap();
        for _ in 0..10 {
            let revision = rng.random_range(1..states.len());
            check_span(&store, &states[revision], revision as i64, &mut rng);
        }
        assert_eq!(store.key_count(), states.last().unwrap().len() as u64);
    }
    let compacted = states.len() as i64 - 3;
    let request = Some(Request::Compaction(CompactionRequest {
        revision: compacted,
        physical: true,
    }));
    let mut txn = store.begin();
    apply(&mut txn, Command { request }).unwrap();
    txn.commit(id(index));
    let in_use = {
        while store.checkpoint(LogId::MAX, 1000).unwrap().remaining > 0 {}
        store.checkpoint(LogId::MAX, 1000).unwrap();
        store.sizes().in_use
    };
    while let CompactStep::More = store.compact_step(100).unwrap() {}
    assert!(store.sizes().in_use < in_use);
    drop(store);
    let store = Store::open(&path, TINY).unwrap();
    for _ in 0..100 {
        let revision = rng.random_range(compacted..states.len() as i64);
        check_span(&store, &states[revision as usize], revision, &mut rng);
    }
}

#[test]
fn a_reader_beside_the_writer_sees_whole_entries_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb"), TINY).unwrap();
    let keys = 600;
    let done = AtomicBool::new(false);
    let reads: [AtomicUsize; 2] = Default::default();
    std::thread::scope(|scope| {
        let reader = |reads: &AtomicUsize| {
            while !done.load(Ordering::Acquire) {
                let view = store.read();
                let range = view.range(&span("key", "kez", 0, 0)).unwrap();
                // Every entry writes all keys with a value of its own.
                let first = range.kvs.first().map(|kv| kv.value.clone());
                assert!(range.kvs.iter().all(|kv| Some(&kv.value) == first.as_ref()));
                let expected = if view.revision() == 1 { 0 } else { keys };
                assert_eq!(range.kvs.len(), expected as usize);
                let page = view.range(&span("key", "kez", 7, 0)).unwrap();
                assert_eq!(page.count, i64::from(expected));
                reads.fetch_add(1, Ordering::Relaxed);
            }
        };
        let [one, other] = &reads;
        let readers = [
            scope.spawn(move || reader(one)),
            scope.spawn(move || reader(other)),
        ];
        // On a busy machine one of them may begin late; one that failed is not waited for.
        let is_one_idle = || {
            let is_idle = |reads: &AtomicUsize| reads.load(Ordering::Relaxed) == 0;
            reads.iter().any(is_idle) && !readers.iter().any(ScopedJoinHandle::is_finished)
        };
        let mut index = 0;
        while index < 60 || is_one_idle() {
            let ops = (0..keys).map(|number| put(name(number), format!("entry {index}")));
            commit(&store, index, ops.collect());
            store.checkpoint(id(index / 2), 1000).unwrap();
            if index % 10 == 9 {
                let revision = store.revisions().current - 2;
                let request = Some(Request::Compaction(CompactionRequest {
                    revision,
                    physical: false,
                }));
                let mut txn = store.begin();
                apply(&mut txn, Command { request }).unwrap();
                txn.commit(id(index));
            }
            store.compact_step(500).unwrap();
            index += 1;
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_scan_that_compaction_overtakes_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb"), TINY).unwrap();
    for index in 0..4 {
        let ops = (0..50).map(|number| put(name(number), format!("{index}")));
        commit(&store, index, ops.collect());
    }
    let mut scan = store.read().scan(&span("key", "kez", 0, 3)).unwrap();
    assert_eq!(scan.next_chunk(20, usize::MAX).unwrap().len(), 20);
    let request = Some(Request::Compaction(CompactionRequest {
        revision: 4,
        physical: false,
    }));
    let mut txn = store.begin();
    apply(&mut txn, Command { request }).unwrap();
    txn.commit(LogId { term: 1, index: 4 });
    assert_eq!(scan.next_chunk(20, usize::MAX), Err(Error::Compacted));
}

/// Writes values above what the index keeps, some of them between small ones.
fn fill_with_large_values(store: &Store) {
    for number in 0..20 {
        let value = "v".repeat(if number % 3 == 0 { 10 } else { 100_000 });
        commit(store, u64::from(number), vec![put(name(number), value)]);
    }
}

#[test]
fn a_scan_ends_a_chunk_where_its_bytes_are_enough_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb"), TINY).unwrap();
    fill_with_large_values(&store);
    let all = span("key", "kez", 0, 0);
    let mut scan = store.read().scan(&all).unwrap();
    let mut kvs = Vec::new();
    while !scan.is_done() {
        let chunk = scan.next_chunk(1_000, 250_000).unwrap();
        let bytes: usize = chunk.iter().map(held_bytes).sum();
        assert!((1..350_000).contains(&bytes), "{bytes}");
        kvs.extend(chunk);
    }
    assert!(scan.next_chunk(1, 1).unwrap().is_empty());
    assert_eq!(kvs, store.read().range(&all).unwrap().kvs);
}

/// Ends reads that hold more than `max`.
#[derive(Debug)]
struct Meter {
    taken: AtomicUsize,
    max: usize,
}

impl ReadMeter for Meter {
    fn took(&self, bytes: usize) -> Result<(), Error> {
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if taken > self.max {
            Err(Error::TooManyRequests)
        } else {
            Ok(())
        }
    }
}

#[test]
fn a_metered_read_ends_when_it_holds_more_than_it_may_and_compares_hold_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb"), TINY).unwrap();
    fill_with_large_values(&store);
    let metered = |max, ranges: usize| {
        let taken = AtomicUsize::new(0);
        let meter = Arc::new(Meter { taken, max });
        let view = store.read().metered(meter.clone());
        let range = RequestOp {
            request: Some(Op::RequestRange(span("key", "kez", 0, 0))),
        };
        let compare = Compare {
            key: "key".into(),
            range_end: "kez".into(),
            target: compare::CompareTarget::Value.into(),
            result: compare::CompareResult::Greater.into(),
            target_union: Some(compare::TargetUnion::Value("u".into())),
        };
        let request = TxnRequest {
            compare: vec![compare; 5],
            success: vec![range; ranges],
            ..Default::default()
        };
        let answer = read_txn(&view, &request);
        (answer, meter.taken.load(Ordering::Relaxed))
    };
    let (answer, taken) = metered(usize::MAX, 1);
    let answer = answer.unwrap();
    assert!(answer.succeeded);
    let Some(response_op::Response::ResponseRange(range)) = &answer.responses[0].response else {
        panic!("a range answers a range");
    };
    assert_eq!(range.kvs.iter().map(held_bytes).sum::<usize>(), taken);
    let (answer, taken) = metered(500_000, 3);
    assert_eq!(answer, Err(Error::TooManyRequests));
    assert!(taken < 700_000, "it ends at once: {taken}");
}

#[test]
fn physical_compaction_waits_for_older_views_and_for_its_own_entry() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb"), TINY).unwrap();
    for index in 0..3 {
        commit(&store, index, vec![put(name(0), format!("{index}"))]);
    }
    let view = store.read();
    let request = Some(Request::Compaction(CompactionRequest {
        revision: 4,
        physical: false,
    }));
    let mut txn = store.begin();
    apply(&mut txn, Command { request }).unwrap();
    txn.commit(LogId { term: 1, index: 3 });
    store.checkpoint(id(2), 100).unwrap();
    assert_eq!(store.compact_step(10).unwrap(), CompactStep::Waits);
    store.checkpoint(id(3), 100).unwrap();
    assert_eq!(store.compact_step(10).unwrap(), CompactStep::Waits);
    drop(view);
    assert_eq!(store.compact_step(10).unwrap(), CompactStep::Finished(4));
}
