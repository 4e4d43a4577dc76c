//! Random commands over few keys, so that they collide.

use althing_api::commandpb::command::Request;
use althing_api::commandpb::{
    Command, LeaseCheckpoint, LeaseGrant, LeaseRemaining, LeaseRevoke, PutWithTtl,
};
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::*;
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

/// A key from `a0` to `a9`, `b0` and so on.
pub fn key(rng: &mut StdRng) -> Bytes {
    let letter = rng.random_range(b'a'..b'd');
    let digit = rng.random_range(b'0'..=b'9');
    vec![letter, digit].into()
}

fn range_end(rng: &mut StdRng) -> Bytes {
    match rng.random_range(0..6) {
        0..3 => Bytes::new(),
        3 => Bytes::from_static(b"\0"),
        _ => key(rng),
    }
}

fn value(rng: &mut StdRng) -> Bytes {
    let len = match rng.random_range(0..40) {
        0 => rng.random_range(64 * 1024..70 * 1024),
        1..6 => rng.random_range(900..3000),
        6..8 => 0,
        _ => rng.random_range(1..60),
    };
    let seed: u8 = rng.random();
    (0..len)
        .map(|i| seed.wrapping_add(i as u8))
        .collect::<Vec<_>>()
        .into()
}

fn revision(rng: &mut StdRng, current: i64) -> i64 {
    match rng.random_range(0..10) {
        0 => rng.random_range(-3..0),
        1 => current + rng.random_range(0..3),
        _ => rng.random_range(0..=current),
    }
}

/// A lease from few ids, so that grants, puts and ends collide.
fn lease(rng: &mut StdRng) -> i64 {
    rng.random_range(1..=4)
}

fn generation(rng: &mut StdRng) -> u64 {
    rng.random_range(1..=3)
}

fn grant(rng: &mut StdRng) -> LeaseGrant {
    let too_large = rng.random_ratio(1, 20);
    LeaseGrant {
        id: if rng.random_ratio(1, 20) {
            0
        } else {
            lease(rng)
        },
        ttl: if too_large {
            9_000_000_001
        } else {
            rng.random_range(2..1000)
        },
        generation: generation(rng),
    }
}

/// A command that concerns leases.
fn about_leases(rng: &mut StdRng) -> Request {
    match rng.random_range(0..10) {
        0..4 => Request::LeaseGrant(grant(rng)),
        4..6 => Request::LeaseRevoke(LeaseRevoke {
            id: lease(rng),
            generation: if rng.random() { 0 } else { generation(rng) },
            counted_in_term: 0,
        }),
        6..8 => Request::LeaseCheckpoint(LeaseCheckpoint {
            leases: (1..=3)
                .map(|id| LeaseRemaining {
                    id,
                    remaining_ttl: rng.random_range(0..3),
                    generation: generation(rng),
                })
                .collect(),
            counted_in_term: 0,
        }),
        _ => Request::PutWithTtl(PutWithTtl {
            put: Some(put(rng)),
            lease: Some(grant(rng)),
        }),
    }
}

fn put(rng: &mut StdRng) -> PutRequest {
    let ignore_value = rng.random_ratio(1, 10);
    PutRequest {
        key: key(rng),
        value: if ignore_value {
            Bytes::new()
        } else {
            value(rng)
        },
        lease: if rng.random_ratio(1, 3) {
            lease(rng)
        } else {
            0
        },
        prev_kv: rng.random_ratio(1, 3),
        ignore_value,
        ignore_lease: rng.random_ratio(1, 12),
    }
}

/// A put that is never refused, of a value of 500 to 3000 bytes.
pub fn plain_put(rng: &mut StdRng) -> Command {
    let len = rng.random_range(500..3000);
    let value: Vec<u8> = (0..len).map(|_| rng.random()).collect();
    let put = PutRequest {
        key: key(rng),
        value: value.into(),
        ..Default::default()
    };
    Command {
        request: Some(Request::Put(put)),
    }
}

fn delete(rng: &mut StdRng) -> DeleteRangeRequest {
    let wide = rng.random_ratio(1, 6);
    DeleteRangeRequest {
        key: key(rng),
        range_end: if wide { range_end(rng) } else { Bytes::new() },
        prev_kv: rng.random(),
    }
}

/// A range with any option.
pub fn range(rng: &mut StdRng, current: i64) -> RangeRequest {
    let bound = |rng: &mut StdRng| match rng.random_range(0..6) {
        0 => rng.random_range(1..current + 2),
        _ => 0,
    };
    RangeRequest {
        min_mod_revision: bound(rng),
        max_mod_revision: bound(rng),
        min_create_revision: bound(rng),
        max_create_revision: bound(rng),
        key: if rng.random_ratio(1, 4) {
            Bytes::from_static(b"\0")
        } else {
            key(rng)
        },
        range_end: range_end(rng),
        limit: if rng.random() {
            0
        } else {
            rng.random_range(-1..8)
        },
        revision: if rng.random() {
            0
        } else {
            revision(rng, current)
        },
        sort_order: rng.random_range(0..3),
        sort_target: rng.random_range(0..5),
        serializable: rng.random(),
        keys_only: rng.random_ratio(1, 5),
        count_only: rng.random_ratio(1, 8),
    }
}

fn compare(rng: &mut StdRng, current: i64) -> Compare {
    use compare::{CompareTarget, TargetUnion};
    let number = if rng.random() {
        0
    } else {
        rng.random_range(0..=current)
    };
    let (target, union) = match rng.random_range(0..5) {
        0 => (CompareTarget::Version, TargetUnion::Version(number % 4)),
        1 => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
        2 => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
        3 => (CompareTarget::Value, TargetUnion::Value(value(rng))),
        _ => (CompareTarget::Lease, TargetUnion::Lease(number % 2)),
    };
    Compare {
        result: rng.random_range(0..4),
        target: target.into(),
        key: key(rng),
        range_end: range_end(rng),
        target_union: Some(union),
    }
}

fn ops(rng: &mut StdRng, current: i64, depth: u32, reads_only: bool) -> Vec<RequestOp> {
    let count = rng.random_range(0..4);
    let mut op = |_| {
        let request = match rng.random_range(0..10) {
            _ if reads_only => Op::RequestRange(range(rng, current)),
            0..4 => Op::RequestPut(put(rng)),
            4..6 => Op::RequestDeleteRange(delete(rng)),
            6..8 if depth > 0 => Op::RequestTxn(txn(rng, current, depth - 1, false)),
            _ => Op::RequestRange(range(rng, current)),
        };
        RequestOp {
            request: Some(request),
        }
    };
    (0..count).map(&mut op).collect()
}

/// A txn. Duplicate keys are not avoided: the store must cope.
pub fn txn(rng: &mut StdRng, current: i64, depth: u32, reads_only: bool) -> TxnRequest {
    let compares = rng.random_range(0..3);
    TxnRequest {
        compare: (0..compares).map(|_| compare(rng, current)).collect(),
        success: ops(rng, current, depth, reads_only),
        failure: ops(rng, current, depth, reads_only),
    }
}

/// Any command.
pub fn command(rng: &mut StdRng, current: i64) -> Command {
    let request = match rng.random_range(0..100) {
        0..15 => about_leases(rng),
        15..55 => Request::Put(put(rng)),
        55..70 => Request::DeleteRange(delete(rng)),
        70..95 => Request::Txn(txn(rng, current, 2, false)),
        _ => Request::Compaction(CompactionRequest {
            revision: revision(rng, current),
            physical: rng.random(),
        }),
    };
    Command {
        request: Some(request),
    }
}
