//! Writers that change keys which they all share, and remember what they were told.

use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::Event;
use bytes::Bytes;
use pb::request_op::Request;
use pb::response_op::Response;
use rand::Rng;
use rand::rngs::StdRng;
use tonic::Status;

use super::Board;
use super::history::History;
use crate::grpc::{Grpc, path};

/// Groups of keys, each with a letter.
pub const GROUPS: u8 = 6;
/// Keys in each group.
pub const GROUP_KEYS: u8 = 16;
/// The first of all keys, and what is behind the last.
pub const KEYS_START: &[u8] = b"a";
/// See [`KEYS_START`].
pub const KEYS_END: &[u8] = b"z";
/// Operations in the longest transaction of a writer.
const TXN_OPS_MAX: usize = 16;
/// Size of the last value of every key, and the number of keys that are then put at once: together
/// less than the smallest limit of a request that a run sets, while all keys are more than a
/// response holds.
const LAST_VALUE_BYTES: usize = 7_000;
/// See [`LAST_VALUE_BYTES`].
const LAST_OPS: usize = 8;
/// How far writers may be ahead of what is known, in revisions, so that readers see the present.
const AHEAD_MAX: i64 = 200;

/// One writer.
#[derive(Debug)]
pub struct Writer {
    number: usize,
    random: StdRng,
    count: u64,
    told: Vec<Told>,
}

/// What an answer said that a revision did: each key with its value, or `None` if it is deleted.
#[derive(Debug)]
struct Told {
    revision: i64,
    changed: Vec<(Bytes, Option<Bytes>)>,
}

/// A key by its number in a group.
pub fn key(group: u8, number: u8) -> Bytes {
    format!("{}/{number:02}", char::from(b'a' + group)).into()
}

/// What a writer asks for.
enum Change {
    Put(Bytes, Bytes),
    /// Operations in falling order of keys; some deletions, and at least one put.
    Txn(Vec<(Bytes, Option<Bytes>)>),
    /// A deletion from one key to another.
    Delete(Bytes, Bytes),
}

impl Writer {
    /// A writer with a number of its own.
    pub fn new(number: usize, random: StdRng) -> Writer {
        Writer {
            number,
            random,
            count: 0,
            told: Vec::new(),
        }
    }

    /// Writes until some writer was told `enough`; goes on when the member is back.
    ///
    /// # Errors
    /// A refusal.
    pub async fn write(&mut self, board: &Board, enough: i64) -> Result<(), String> {
        while *board.acknowledged.borrow() < enough {
            board.served().await;
            let Ok(mut client) = Grpc::connect(board.port).await else {
                continue;
            };
            while *board.acknowledged.borrow() < enough {
                let revision = *board.acknowledged.borrow();
                board.history.wait_for(revision - AHEAD_MAX).await;
                let change = self.next_change();
                match send(&mut client, change).await {
                    Ok(Some(told)) => {
                        board.acknowledge(told.revision);
                        self.told.push(told);
                    }
                    Ok(None) => (),
                    Err(status) if std::error::Error::source(&status).is_some() => break,
                    Err(status) => return Err(format!("writer {}: {status}", self.number)),
                }
            }
        }
        Ok(())
    }

    /// Checks that what was told is what happened; returns the number of answers.
    ///
    /// # Errors
    /// An answer that differs.
    pub fn check(&self, history: &History) -> Result<usize, String> {
        for Told { revision, changed } in &self.told {
            let value = |event: &Event| {
                let record = event.kv.clone().unwrap_or_default();
                let is_put = event.r#type() == althing_api::mvccpb::event::EventType::Put;
                (record.key, is_put.then_some(record.value))
            };
            let events = history.events(*revision);
            if !events.iter().map(value).eq(changed.iter().cloned()) {
                return Err(format!(
                    "writer {} was told that {revision} did {changed:?}, not {events:?}",
                    self.number
                ));
            }
        }
        Ok(self.told.len())
    }

    fn next_change(&mut self) -> Change {
        self.count += 1;
        match self.random.random_range(0..20) {
            0..8 => Change::Put(self.key(), self.value()),
            8..16 => {
                let count = self.random.random_range(2..=TXN_OPS_MAX);
                let mut keys: Vec<_> = (0..count).map(|_| self.key()).collect();
                keys.sort_by(|one, other| other.cmp(one));
                keys.dedup();
                let put_at = self.random.random_range(0..keys.len());
                let op = |(at, key)| {
                    let is_put = at == put_at || self.random.random_ratio(3, 4);
                    (key, is_put.then(|| self.value()))
                };
                Change::Txn(keys.into_iter().enumerate().map(op).collect())
            }
            16..18 => {
                let one = self.key();
                let end = [&one[..], b"\0"].concat();
                Change::Delete(one, end.into())
            }
            _ => {
                let group = self.random.random_range(0..GROUPS);
                let from = self.random.random_range(0..GROUP_KEYS);
                let to = self.random.random_range(from + 1..=GROUP_KEYS);
                Change::Delete(key(group, from), key(group, to))
            }
        }
    }

    fn key(&mut self) -> Bytes {
        let group = self.random.random_range(0..GROUPS);
        key(group, self.random.random_range(0..GROUP_KEYS))
    }

    /// A value that is used once.
    fn value(&mut self) -> Bytes {
        // Few are long, but enough that a late watcher catches up in pieces.
        let is_long = self.random.random_ratio(1, 50);
        let bytes = self
            .random
            .random_range(0..if is_long { 8_000 } else { 100 });
        let name = format!(
            "{} {} {:x} ",
            self.number,
            self.count,
            self.random.random::<u32>()
        );
        (name + &"v".repeat(bytes)).into()
    }
}

/// Sends a change; returns what it did, if anything.
async fn send(client: &mut Grpc, change: Change) -> Result<Option<Told>, Status> {
    let revision = |header: Option<pb::ResponseHeader>| header.unwrap_or_default().revision;
    let (revision, changed) = match change {
        Change::Put(key, value) => {
            let answer: pb::PutResponse = client.unary(path::PUT, &put(&key, &value)).await?;
            (revision(answer.header), vec![(key, Some(value))])
        }
        Change::Txn(ops) => {
            let request = transaction(&ops);
            let answer: pb::TxnResponse = client.unary(path::TXN, &request).await?;
            let did = |response: &pb::ResponseOp| match &response.response {
                Some(Response::ResponseDeleteRange(deletion)) => deletion.deleted > 0,
                _ => true,
            };
            let done = ops.into_iter().zip(&answer.responses);
            let done = done.filter(|(_, response)| did(response));
            (revision(answer.header), done.map(|(op, _)| op).collect())
        }
        Change::Delete(key, range_end) => {
            let request = delete(key, range_end);
            let answer: pb::DeleteRangeResponse =
                client.unary(path::DELETE_RANGE, &request).await?;
            let gone = answer.prev_kvs.into_iter().map(|record| (record.key, None));
            (revision(answer.header), gone.collect())
        }
    };
    Ok((!changed.is_empty()).then_some(Told { revision, changed }))
}

/// Puts every key, and then deletes all keys in one revision, the last of the run. With the former
/// records its events are so long that they may come in pieces.
///
/// # Errors
/// A refusal.
pub async fn finish(board: &Board) -> Result<i64, String> {
    let client = Grpc::connect(board.port).await;
    let mut client = client.map_err(|error| error.to_string())?;
    let keys = (0..GROUPS).flat_map(|group| (0..GROUP_KEYS).map(move |n| key(group, n)));
    let value = Bytes::from(vec![b'v'; LAST_VALUE_BYTES]);
    let puts: Vec<_> = keys.rev().map(|key| (key, Some(value.clone()))).collect();
    let mut changes: Vec<_> = puts
        .chunks(LAST_OPS)
        .map(|some| Change::Txn(some.to_vec()))
        .collect();
    changes.push(Change::Delete(KEYS_START.into(), KEYS_END.into()));
    for change in changes {
        let told = send(&mut client, change).await;
        if let Some(told) = told.map_err(|status| status.to_string())? {
            board.acknowledge(told.revision);
        }
    }
    let last = *board.acknowledged.borrow();
    Ok(last)
}

fn transaction(ops: &[(Bytes, Option<Bytes>)]) -> pb::TxnRequest {
    let op = |(key, value): &(Bytes, Option<Bytes>)| {
        let request = match value {
            Some(value) => Request::RequestPut(put(key, value)),
            None => Request::RequestDeleteRange(delete(key.clone(), Bytes::new())),
        };
        pb::RequestOp {
            request: Some(request),
        }
    };
    pb::TxnRequest {
        success: ops.iter().map(op).collect(),
        ..pb::TxnRequest::default()
    }
}

fn put(key: &Bytes, value: &Bytes) -> pb::PutRequest {
    pb::PutRequest {
        key: key.clone(),
        value: value.clone(),
        ..pb::PutRequest::default()
    }
}

fn delete(key: Bytes, range_end: Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv: true,
    }
}
