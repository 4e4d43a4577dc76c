//! Concurrent writers, each with keys of its own, that go on until the member is gone; and the
//! check of everything they know once it is back.
//!
//! ```text
//! write() --> member killed --> writers stop, each with at most one unanswered change
//!    ^                                    |
//!    |                                    v
//!    \------- check() <----------- member started again
//! ```

use std::collections::BTreeMap;

use althing_api::etcdserverpb as pb;
use althing_api::range::prefix_end;
use bytes::Bytes;
use futures_util::future::join_all;
use pb::request_op::Request;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tonic::Status;

use crate::grpc::{Grpc, path};
use crate::ledger::{Change, Ledger, State};

/// The number of keys of one writer.
const KEYS: u32 = 12;
/// The number of revisions that a compaction leaves to look at.
const HISTORY: i64 = 150;

/// All writers, and what was compacted.
#[derive(Debug)]
pub struct Writers {
    random: StdRng,
    writers: Vec<Writer>,
    /// The revision that certainly was compacted, and one that may be, by a request without an
    /// answer.
    compacted: i64,
    compacted_perhaps: i64,
    revision: i64,
}

#[derive(Debug)]
struct Writer {
    name: String,
    random: StdRng,
    count: u64,
    ledger: Ledger,
}

/// Why a writer stopped.
enum Stop {
    /// The connection ended: the member was killed.
    Gone,
    /// Anything else, which is a failure of the test.
    Wrong(String),
}

impl Writers {
    /// Makes `count` writers whose choices follow from `seed`.
    pub fn new(seed: u64, count: usize) -> Writers {
        let mut random = StdRng::seed_from_u64(seed);
        let writer = |number| Writer {
            name: format!("writer-{number}/"),
            random: StdRng::from_rng(&mut random),
            count: 0,
            ledger: Ledger::default(),
        };
        Writers {
            writers: (0..count).map(writer).collect(),
            random,
            compacted: 0,
            compacted_perhaps: 0,
            revision: 1,
        }
    }

    /// Writes to the member on `port` until it is gone; `acknowledged` counts the answers.
    ///
    /// # Errors
    /// A refusal, or an impossible answer.
    pub async fn write(
        &mut self,
        port: u16,
        acknowledged: watch::Sender<u64>,
    ) -> Result<(), String> {
        let compact_after = self.random.random_range(0..60);
        let compact_at = (self.revision - HISTORY).max(self.compacted);
        let progress = acknowledged.subscribe();
        let writers = &mut self.writers;
        let writing = async move {
            let each = writers
                .iter_mut()
                .map(|writer| writer.write(port, &acknowledged));
            // When all have stopped, `acknowledged` is dropped, and nobody waits for more of it.
            join_all(each).await
        };
        let compacting = compact(port, progress, compact_after, compact_at);
        let (written, compacted) = tokio::join!(writing, compacting);
        self.compacted_perhaps = self.compacted_perhaps.max(compact_at);
        if compacted? {
            self.compacted = compact_at;
        }
        written.into_iter().collect()
    }

    /// Reads everything back and compares it with what is known.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(&mut self, port: u16) -> Result<(), String> {
        let mut client = connect(port).await?;
        let revision = revision(&mut client).await?;
        if revision < self.revision {
            return Err(format!(
                "the revision went back from {} to {revision}",
                self.revision
            ));
        }
        self.revision = revision;
        for writer in &mut self.writers {
            writer
                .settle(&mut client, revision, self.compacted_perhaps)
                .await?;
        }
        self.check_revisions()?;
        self.check_history(&mut client).await
    }

    /// Each revision since the first was made by exactly one change.
    fn check_revisions(&self) -> Result<(), String> {
        let mut made_by = BTreeMap::new();
        for writer in &self.writers {
            for revision in writer.ledger.revisions() {
                if let Some(other) = made_by.insert(revision, &writer.name) {
                    return Err(format!("{other} and {} both made {revision}", writer.name));
                }
            }
        }
        let strays: Vec<_> = (2..=self.revision)
            .filter(|revision| !made_by.contains_key(revision))
            .collect();
        let beyond = made_by
            .keys()
            .last()
            .is_some_and(|last| *last > self.revision);
        if strays.is_empty() && !beyond {
            Ok(())
        } else {
            Err(format!(
                "nobody made revisions {strays:?} of {}",
                self.revision
            ))
        }
    }

    async fn check_history(&mut self, client: &mut Grpc) -> Result<(), String> {
        let oldest = self.compacted_perhaps.max(1);
        for writer in &self.writers {
            for _ in 0..3 {
                let at = self.random.random_range(oldest..=self.revision);
                let found = read(client, &writer.name, at)
                    .await
                    .map_err(|e| e.to_string())?;
                if found != writer.ledger.state_at(at) {
                    let expected = writer.ledger.state_at(at);
                    return Err(format!(
                        "{} at revision {at}: expected {expected:?}, found {found:?}",
                        writer.name
                    ));
                }
            }
        }
        if self.compacted > 1 {
            match read(client, "writer", self.compacted - 1).await {
                Err(status) if status.message().ends_with("has been compacted") => (),
                other => return Err(format!("compacted history was answered with {other:?}")),
            }
        }
        Ok(())
    }
}

impl Writer {
    async fn write(&mut self, port: u16, acknowledged: &watch::Sender<u64>) -> Result<(), String> {
        let Ok(mut client) = Grpc::connect(port).await else {
            return Ok(());
        };
        loop {
            let change = self.next_change();
            self.ledger.unanswered = Some(change.clone());
            match self.send(&mut client, &change).await {
                Ok(revision) => {
                    self.ledger.unanswered = None;
                    if let Some(revision) = revision {
                        self.ledger.settle(change, revision)?;
                    }
                    acknowledged.send_modify(|count| *count += 1);
                }
                Err(Stop::Gone) => return Ok(()),
                Err(Stop::Wrong(what)) => return Err(format!("{}: {what}", self.name)),
            }
        }
    }

    /// Sends a change; returns its revision, or `None` if there was nothing to change.
    async fn send(&self, client: &mut Grpc, change: &Change) -> Result<Option<i64>, Stop> {
        let header = match change {
            Change::Put(key, value) => {
                let request = put(key, value);
                let answer = client.unary::<pb::PutResponse>(path::PUT, &request).await;
                answer.map_err(stop)?.header
            }
            Change::PutBoth([one, other], value) => {
                let ops = [op_put(one, value), op_put(other, value)];
                transact(client, ops).await?
            }
            Change::Replace(gone, key, value) => {
                transact(client, [op_delete(gone), op_put(key, value)]).await?
            }
            Change::Delete(key) => {
                let request = delete(key);
                let answer = client.unary(path::DELETE_RANGE, &request).await;
                let answer: pb::DeleteRangeResponse = answer.map_err(stop)?;
                let expected = i64::from(self.ledger.is_effective(change));
                if answer.deleted != expected {
                    return Err(Stop::Wrong(format!(
                        "{change:?} deleted {}",
                        answer.deleted
                    )));
                }
                if answer.deleted == 0 {
                    return Ok(None);
                }
                answer.header
            }
        };
        match header {
            Some(header) => Ok(Some(header.revision)),
            None => Err(Stop::Wrong("an answer without a header".to_owned())),
        }
    }

    fn next_change(&mut self) -> Change {
        self.count += 1;
        let key = self.key();
        match self.random.random_range(0..10) {
            0..4 => Change::Put(key, self.value()),
            4..7 => Change::PutBoth([self.pair("left"), self.pair("right")], self.value()),
            7..9 => {
                let gone = self.key();
                if gone == key {
                    Change::Delete(gone)
                } else {
                    Change::Replace(gone, key, self.value())
                }
            }
            _ => Change::Delete(key),
        }
    }

    fn key(&mut self) -> Bytes {
        let number = self.random.random_range(0..KEYS);
        format!("{}{number}", self.name).into()
    }

    fn pair(&self, half: &str) -> Bytes {
        format!("{}{half}", self.name).into()
    }

    /// A value that is used once, mostly short.
    fn value(&mut self) -> Bytes {
        let long = self.random.random_ratio(1, 20);
        let bytes = self.random.random_range(0..if long { 30_000 } else { 200 });
        format!("{}{} {}", self.name, self.count, "v".repeat(bytes)).into()
    }

    /// Finds out whether the unanswered change took place, and that nothing else happened.
    async fn settle(
        &mut self,
        client: &mut Grpc,
        revision: i64,
        compacted: i64,
    ) -> Result<(), String> {
        let found = read(client, &self.name, 0)
            .await
            .map_err(|e| e.to_string())?;
        let judged = self
            .ledger
            .judge(&found)
            .map_err(|e| format!("{}: {e}", self.name))?;
        self.ledger.unanswered = None;
        let Some((change, mut made_at)) = judged else {
            return Ok(());
        };
        if let Change::Delete(key) = &change {
            let first = self.ledger.revisions().last().unwrap_or(1).max(compacted) + 1;
            made_at = deleted_at(client, key, first, revision).await?;
        }
        self.ledger.settle(change, made_at)
    }
}

/// The first revision of `from..=to` at which `key`, which is gone at `to`, is gone.
async fn deleted_at(client: &mut Grpc, key: &Bytes, from: i64, to: i64) -> Result<i64, String> {
    let (mut from, mut to) = (from, to);
    while from < to {
        let middle = from + (to - from) / 2;
        let request = pb::RangeRequest {
            key: key.clone(),
            revision: middle,
            count_only: true,
            ..pb::RangeRequest::default()
        };
        let answer = client
            .unary::<pb::RangeResponse>(path::RANGE, &request)
            .await;
        if answer.map_err(|status| status.to_string())?.count == 0 {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    Ok(to)
}

/// Compacts once; returns whether that was acknowledged.
async fn compact(
    port: u16,
    mut progress: watch::Receiver<u64>,
    after: u64,
    revision: i64,
) -> Result<bool, String> {
    let reached = progress.wait_for(|count| *count >= after).await.is_ok();
    if !reached || revision < 2 {
        return Ok(false);
    }
    let Ok(mut client) = Grpc::connect(port).await else {
        return Ok(false);
    };
    let request = pb::CompactionRequest {
        revision,
        physical: revision % 2 == 0,
    };
    match client
        .unary::<pb::CompactionResponse>(path::COMPACT, &request)
        .await
        .map_err(stop)
    {
        Ok(_) => Ok(true),
        // Little was written since the last time, so the revision is the same.
        Err(Stop::Wrong(text)) if text.contains("has been compacted") => Ok(true),
        Err(Stop::Gone) => Ok(false),
        Err(Stop::Wrong(text)) => Err(text),
    }
}

/// Distinguishes the end of the connection from an answer of the member.
fn stop(status: Status) -> Stop {
    if std::error::Error::source(&status).is_some() {
        Stop::Gone
    } else {
        Stop::Wrong(status.to_string())
    }
}

async fn connect(port: u16) -> Result<Grpc, String> {
    Grpc::connect(port).await.map_err(|error| error.to_string())
}

async fn revision(client: &mut Grpc) -> Result<i64, String> {
    let answer = client.unary(path::RANGE, &range("none", 0)).await;
    let answer: pb::RangeResponse = answer.map_err(|status| status.to_string())?;
    Ok(answer.header.map_or(0, |header| header.revision))
}

/// Every key with `prefix` at `revision`.
async fn read(client: &mut Grpc, prefix: &str, revision: i64) -> Result<State, Status> {
    let answer: pb::RangeResponse = client.unary(path::RANGE, &range(prefix, revision)).await?;
    Ok(answer
        .kvs
        .into_iter()
        .map(|record| (record.key.clone(), record))
        .collect())
}

fn range(prefix: &str, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: prefix_end(prefix.as_bytes()),
        revision,
        ..pb::RangeRequest::default()
    }
}

async fn transact(
    client: &mut Grpc,
    ops: [Request; 2],
) -> Result<Option<pb::ResponseHeader>, Stop> {
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let request = pb::TxnRequest {
        success: ops.into_iter().map(op).collect(),
        ..pb::TxnRequest::default()
    };
    let answer: pb::TxnResponse = client.unary(path::TXN, &request).await.map_err(stop)?;
    Ok(answer.header)
}

fn put(key: &Bytes, value: &Bytes) -> pb::PutRequest {
    pb::PutRequest {
        key: key.clone(),
        value: value.clone(),
        ..pb::PutRequest::default()
    }
}

fn delete(key: &Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.clone(),
        ..pb::DeleteRangeRequest::default()
    }
}

fn op_put(key: &Bytes, value: &Bytes) -> Request {
    Request::RequestPut(put(key, value))
}

fn op_delete(key: &Bytes) -> Request {
    Request::RequestDeleteRange(delete(key))
}
