//! Clients: each makes one request after another, to any member, and gives up after a while.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use althing_actors::node::Handles;
use althing_actors::testing::pass;
use althing_api::commandpb::{Command, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, compare, request_op,
};
use althing_storage::apply::Response;
use bytes::Bytes;
use futures_util::future::join_all;

use crate::history::{Ask, Op, Told};
use crate::holders;
use crate::machine::Machine;
use crate::nemesis;
use crate::world::World;

const KEYS: u64 = 5;
/// Values of every tenth put are large enough to fill segments of the log.
const LARGE_BYTES: usize = 12_000;
/// A client's turn is a rush once in this many times.
const RUSH_OF: u64 = 60;
/// The number of writes in a rush.
const RUSH: u64 = 30;

/// Runs one client until the world says that it is enough.
pub async fn run(world: Rc<World>, client: u64) {
    let mut count = 0;
    let mut known: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    while world.is_busy() {
        let pause = world.roll(40);
        pass(Duration::from_millis(pause)).await;
        let Some(machine) = world.any_ready() else {
            continue;
        };
        count += 1;
        if world.roll(RUSH_OF - 1) == 0 {
            rush(&world, client, count).await;
            continue;
        }
        let ask = choose(&world, client, count, &known);
        let patience = Duration::from_millis(200 + world.roll(2_000));
        let told = perform(&world, client, &machine, ask, patience).await;
        if let Some(Told::State { state, .. }) = told {
            known = state;
        }
    }
}

/// Sends many writes to the leader at once, just as it is cut off: its log gets long, and in vain.
async fn rush(world: &Rc<World>, client: u64, count: u64) {
    let Some(leader) = world.leader() else {
        return;
    };
    nemesis::isolate(world, &leader);
    let patience = Duration::from_millis(300 + world.roll(1_000));
    let writes = (0..RUSH).map(|number| {
        let keys = vec![key(number % KEYS)];
        let value = format!("{client}-{count}-{number}").into();
        perform(world, client, &leader, Ask::Put { keys, value }, patience)
    });
    join_all(writes).await;
}

/// Asks and records. `None` if nothing was asked.
pub async fn perform(
    world: &Rc<World>,
    client: u64,
    machine: &Rc<Machine>,
    ask: Ask,
    patience: Duration,
) -> Option<Told> {
    let handles = machine.ready()?;
    let began = world.record.now();
    let asked = ask.clone();
    let (record, member) = (Rc::clone(&world.record), machine.number);
    let inside = machine.inside(async move {
        let told = answer(&handles, asked).await;
        if let Told::State { revision, .. } = told {
            record.showed(member, revision);
        }
        told
    });
    let told = match tokio::time::timeout(patience, inside).await {
        Ok(Some(told)) => told,
        Ok(None) | Err(_) => Told::Unknown,
    };
    world
        .network
        .note((client, machine.number, format!("{told:?}")));
    world.record.did(Op {
        ask,
        began,
        ended: world.record.now(),
        told: told.clone(),
    });
    Some(told)
}

fn key(number: u64) -> Bytes {
    format!("k{number}").into()
}

fn choose(world: &World, client: u64, count: u64, known: &BTreeMap<Bytes, Bytes>) -> Ask {
    let one = key(world.roll(KEYS - 1));
    let mut value = format!("{client}-{count}").into_bytes();
    if world.roll(9) == 0 {
        value.resize(LARGE_BYTES, b'.');
    }
    let value = Bytes::from(value);
    match world.roll(99) {
        0..30 => Ask::Put {
            keys: vec![one],
            value,
        },
        30..40 => {
            let first = world.roll(KEYS - 3);
            let keys = (first..first + 3).map(key).collect();
            Ask::Put { keys, value }
        }
        40..48 => Ask::Delete { key: one },
        48..65 => match known.get(&one) {
            Some(expected) => Ask::Swap {
                key: one,
                expected: expected.clone(),
                value,
            },
            None => Ask::Read { fresh: true },
        },
        65..88 => Ask::Read { fresh: true },
        _ => Ask::Read { fresh: false },
    }
}

async fn answer(handles: &Handles, ask: Ask) -> Told {
    match ask {
        Ask::Read { fresh } => {
            if fresh && handles.read_index().await.is_err() {
                return Told::Unknown;
            }
            read(handles)
        }
        ask => write(handles, request(ask)).await,
    }
}

/// Reads all keys from the local store.
pub fn read(handles: &Handles) -> Told {
    let view = handles.store().read();
    let range = RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..RangeRequest::default()
    };
    let found = view.range(&range).unwrap();
    Told::State {
        revision: view.revision(),
        state: found.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect(),
    }
}

/// The keys that end with a lease, and their leases, from the local store.
pub fn leased(handles: &Handles) -> Vec<(Bytes, i64)> {
    let range = RangeRequest {
        key: Bytes::from_static(holders::LEASED),
        range_end: Bytes::from_static(holders::LEASED_END),
        ..RangeRequest::default()
    };
    let found = handles.store().read().range(&range).unwrap();
    found.kvs.into_iter().map(|kv| (kv.key, kv.lease)).collect()
}

async fn write(handles: &Handles, request: command::Request) -> Told {
    let applied = match handles
        .propose(Command {
            request: Some(request),
        })
        .await
    {
        Ok(applied) => applied,
        Err(Error::TooManyRequests | Error::NoSpace) => return Told::Refused,
        Err(_) => return Told::Unknown,
    };
    let changed = match applied.response {
        Ok(Response::Put(_)) => true,
        Ok(Response::DeleteRange(deleted)) => deleted.deleted > 0,
        Ok(Response::Txn(txn)) => txn.succeeded,
        Ok(_) | Err(_) => return Told::Refused,
    };
    Told::Done {
        revision: applied.revision,
        changed,
    }
}

fn request(ask: Ask) -> command::Request {
    match ask {
        Ask::Put { keys, value } if keys.len() == 1 => {
            command::Request::Put(put(keys[0].clone(), value))
        }
        Ask::Put { keys, value } => {
            let puts = keys.into_iter().map(|key| put_op(key, value.clone()));
            command::Request::Txn(TxnRequest {
                success: puts.collect(),
                ..TxnRequest::default()
            })
        }
        Ask::Create { key, value, lease } => command::Request::Txn(TxnRequest {
            compare: vec![Compare {
                result: compare::CompareResult::Equal.into(),
                target: compare::CompareTarget::Version.into(),
                key: key.clone(),
                target_union: Some(compare::TargetUnion::Version(0)),
                ..Compare::default()
            }],
            success: vec![RequestOp {
                request: Some(request_op::Request::RequestPut(PutRequest {
                    lease,
                    ..put(key, value)
                })),
            }],
            ..TxnRequest::default()
        }),
        Ask::Delete { key } => command::Request::DeleteRange(DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        }),
        Ask::Swap {
            key,
            expected,
            value,
        } => command::Request::Txn(TxnRequest {
            compare: vec![Compare {
                result: compare::CompareResult::Equal.into(),
                target: compare::CompareTarget::Value.into(),
                key: key.clone(),
                target_union: Some(compare::TargetUnion::Value(expected)),
                ..Compare::default()
            }],
            success: vec![put_op(key, value)],
            ..TxnRequest::default()
        }),
        Ask::Read { .. } => unreachable!("a read is no command"),
    }
}

fn put(key: Bytes, value: Bytes) -> PutRequest {
    PutRequest {
        key,
        value,
        ..PutRequest::default()
    }
}

fn put_op(key: Bytes, value: Bytes) -> RequestOp {
    RequestOp {
        request: Some(request_op::Request::RequestPut(put(key, value))),
    }
}

/// Compacts a part of what some member has.
pub async fn compact(world: &Rc<World>) {
    let Some(machine) = world.any_ready() else {
        return;
    };
    let Some(handles) = machine.ready() else {
        return;
    };
    let current = handles.store().revisions().current;
    let revision = current - world.roll(30) as i64;
    if revision <= 1 {
        return;
    }
    world.record.compacts(revision);
    let request = command::Request::Compaction(CompactionRequest {
        revision,
        physical: false,
    });
    let command = Command {
        request: Some(request),
    };
    let asked = machine.inside(async move { handles.propose(command).await.is_ok() });
    // The watchers will show whether it was done.
    let _ = tokio::time::timeout(Duration::from_secs(2), asked).await;
}
