//! Clients that put, read, replace and delete, and record what they asked for and the outcome.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::KeyValue;
use bytes::Bytes;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tonic::Status;

use crate::grpc::{Grpc, path};
use crate::linear::history::{Action, Answer, Operation, Outcome, Record, Seen};

/// The number of keys in use at the same time; after a while others are used.
const KEYS: u64 = 4;
const KEYS_LAST: Duration = Duration::from_secs(4);
/// Pause between two attempts to reach a member, and between two requests of one client.
const RETRY: Duration = Duration::from_millis(20);
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// What a member says when it certainly did nothing.
const REFUSALS: [Error; 3] = [Error::NoLeader, Error::TooManyRequests, Error::NoSpace];

/// How the clients of a run behave.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// The number of clients.
    pub clients: usize,
    /// How long each waits for an answer; after that the outcome is unknown.
    pub patience: Duration,
    /// Pause between the end of one request and the next of the same client, on average.
    pub rest: Duration,
    /// What they do wrong, to show that it is found out.
    pub flaw: Option<Flaw>,
}

/// A way in which clients deceive themselves, each of which a real client library had once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They ask one member only, and take the answer for linearizable.
    StaleReads,
    /// They take a request without an answer for one that failed.
    UnknownIsFailed,
    /// They answer a read from an earlier read.
    CachedReads,
    /// They send a put again if the answer does not come, and do not say so.
    Retries,
}

/// What all clients of one run share.
#[derive(Debug)]
pub struct Board {
    /// The addresses where clients reach the members.
    addresses: Vec<SocketAddr>,
    began: Instant,
    values: AtomicU64,
    /// Whether the run is over.
    over: watch::Sender<bool>,
    /// How many requests were answered.
    answered: AtomicU64,
}

impl Board {
    /// The board of members at these addresses.
    pub fn new(addresses: Vec<SocketAddr>) -> Board {
        Board {
            addresses,
            began: Instant::now(),
            values: AtomicU64::new(0),
            over: watch::Sender::new(false),
            answered: AtomicU64::new(0),
        }
    }

    /// Ends the clients, each after its present request.
    pub fn end(&self) {
        self.over.send_replace(true);
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn stamp(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a run ends within centuries")
    }
}

/// One client.
#[derive(Debug)]
pub struct Client<'a> {
    number: usize,
    board: &'a Board,
    behaviour: &'a Behaviour,
    random: StdRng,
    member: usize,
    connection: Option<Grpc>,
    /// The last key that was read, and what it held.
    known: Option<(u32, Option<u64>)>,
    cached: Option<(u32, Answer)>,
    history: Vec<Operation>,
}

impl<'a> Client<'a> {
    /// A client whose choices follow from `seed`.
    pub fn new(number: usize, seed: u64, board: &'a Board, behaviour: &'a Behaviour) -> Self {
        Client {
            number,
            board,
            behaviour,
            random: StdRng::seed_from_u64(seed ^ (number as u64) << 32),
            member: number % board.addresses.len(),
            connection: None,
            known: None,
            cached: None,
            history: Vec::new(),
        }
    }

    /// Makes one request after the other until the run is over; returns what it recorded.
    pub async fn run(mut self) -> Vec<Operation> {
        let mut over = self.board.over.subscribe();
        while !*over.borrow() {
            if self.connection.is_none() && !self.connect().await {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    _ = over.wait_for(|over| *over) => {}
                }
                continue;
            }
            let action = self.choose();
            self.perform(action).await;
            let rest = self.behaviour.rest * self.random.random_range(0..200) / 100;
            tokio::time::sleep(rest).await;
        }
        self.history
    }

    /// Makes one request and records it.
    pub async fn perform(&mut self, action: Action) {
        let called = self.board.stamp();
        let mut outcome = self.ask(action).await;
        if outcome == Outcome::Unknown && self.behaviour.flaw == Some(Flaw::Retries) {
            outcome = self.ask_again(action).await;
        }
        let ended = self.board.stamp();
        outcome = self.deceived(action, outcome);
        if let Outcome::Done(answer) = outcome {
            self.board.answered.fetch_add(1, Ordering::Relaxed);
            self.learn(action, answer);
        }
        self.history.push(Operation {
            client: self.number,
            member: self.member,
            action,
            called,
            ended,
            outcome,
        });
    }

    /// Writes a key once; returns what it recorded.
    pub async fn write_once(mut self, key: u32) -> Vec<Operation> {
        let action = Action::Put(key, self.value());
        self.perform(action).await;
        self.history
    }

    async fn ask_again(&mut self, action: Action) -> Outcome {
        match (action, self.connect().await) {
            (Action::Put(..), true) => self.ask(action).await,
            _ => Outcome::Unknown,
        }
    }

    fn deceived(&mut self, action: Action, outcome: Outcome) -> Outcome {
        match (self.behaviour.flaw, outcome, action) {
            (Some(Flaw::UnknownIsFailed), Outcome::Unknown, _) => Outcome::Failed,
            (Some(Flaw::CachedReads), Outcome::Done(answer), Action::Get(key)) => {
                let before = self.cached.replace((key, answer));
                match before {
                    Some((same, before)) if same == key => Outcome::Done(before),
                    _ => outcome,
                }
            }
            _ => outcome,
        }
    }

    fn learn(&mut self, action: Action, answer: Answer) {
        let found = match (answer.changed, answer.seen) {
            (true, _) => action.value(),
            (false, seen) => seen.record().map(|record| record.value),
        };
        self.known = Some((action.key(), found));
    }

    /// Sends a request and waits as long as its patience lasts.
    async fn ask(&mut self, action: Action) -> Outcome {
        let Some(mut grpc) = self.connection.take() else {
            return Outcome::Failed;
        };
        let serializable = self.behaviour.flaw == Some(Flaw::StaleReads);
        let asked = send(&mut grpc, action, serializable);
        let answered = tokio::time::timeout(self.behaviour.patience, asked).await;
        let outcome = match answered {
            Ok(Ok(answer)) => Outcome::Done(answer),
            Ok(Err(status)) => judge(&status),
            Err(_) => Outcome::Unknown,
        };
        // After anything but an answer it tries another member.
        if matches!(outcome, Outcome::Done(_)) && !self.random.random_ratio(1, 200) {
            self.connection = Some(grpc);
        }
        outcome
    }

    /// Connects to the next member that accepts.
    pub async fn connect(&mut self) -> bool {
        if !self.history.is_empty() {
            self.member = (self.member + 1) % self.board.addresses.len();
        }
        let connecting = Grpc::connect_to(self.board.addresses[self.member]);
        let connected = tokio::time::timeout(CONNECT_MAX, connecting).await;
        self.connection = connected.ok().and_then(Result::ok);
        if self.connection.is_none() {
            self.member = (self.member + 1) % self.board.addresses.len();
        }
        self.connection.is_some()
    }

    fn choose(&mut self) -> Action {
        let set = self.board.began.elapsed().as_millis() / KEYS_LAST.as_millis();
        let first = KEYS * u64::try_from(set).expect("a run ends within centuries");
        let key = first + self.random.random_range(0..KEYS);
        let key = u32::try_from(key).expect("a run ends within years");
        match self.random.random_range(0..20) {
            0..8 => Action::Get(key),
            8..13 => Action::Put(key, self.value()),
            13..18 => match self.known {
                Some((key, expected)) => Action::Replace {
                    key,
                    expected,
                    value: self.value(),
                },
                None => Action::Get(key),
            },
            _ => Action::Delete(key),
        }
    }

    fn value(&self) -> u64 {
        self.board.values.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a missing answer means.
fn judge(status: &Status) -> Outcome {
    let refused = REFUSALS
        .iter()
        .any(|error| error.text() == status.message());
    if refused {
        Outcome::Failed
    } else {
        Outcome::Unknown
    }
}

/// The spelling of a key.
pub fn spell_key(key: u32) -> Bytes {
    format!("key-{key}").into()
}

/// The key and the value of a record or an event.
pub fn read_record(record: &KeyValue) -> (u32, Option<u64>) {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let key = text(&record.key);
    let key = key.strip_prefix("key-").and_then(|key| key.parse().ok());
    (
        key.expect("only these clients write"),
        text(&record.value).parse().ok(),
    )
}

async fn send(grpc: &mut Grpc, action: Action, serializable: bool) -> Result<Answer, Status> {
    let key = spell_key(action.key());
    match action {
        Action::Get(_) => {
            let request = range(key, serializable);
            let answer: pb::RangeResponse = grpc.unary(path::RANGE, &request).await?;
            let seen = seen(answer.kvs.first());
            Ok(told(answer.header, false, seen))
        }
        Action::Put(_, value) => {
            let request = put(key, value);
            let answer: pb::PutResponse = grpc.unary(path::PUT, &request).await?;
            let seen = seen(answer.prev_kv.as_ref());
            Ok(told(answer.header, true, seen))
        }
        Action::Delete(_) => {
            let request = pb::DeleteRangeRequest {
                key,
                prev_kv: true,
                ..Default::default()
            };
            let answer: pb::DeleteRangeResponse = grpc.unary(path::DELETE_RANGE, &request).await?;
            let seen = seen(answer.prev_kvs.first());
            Ok(told(answer.header, answer.deleted > 0, seen))
        }
        Action::Replace {
            expected, value, ..
        } => replace(grpc, key, expected, value).await,
    }
}

async fn replace(
    grpc: &mut Grpc,
    key: Bytes,
    expected: Option<u64>,
    value: u64,
) -> Result<Answer, Status> {
    let (target, union) = match expected {
        Some(expected) => (
            CompareTarget::Value,
            TargetUnion::Value(expected.to_string().into()),
        ),
        None => (CompareTarget::Version, TargetUnion::Version(0)),
    };
    let op = |request| {
        vec![pb::RequestOp {
            request: Some(request),
        }]
    };
    let request = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: key.clone(),
            target_union: Some(union),
            ..Default::default()
        }],
        success: op(Request::RequestPut(put(key.clone(), value))),
        failure: op(Request::RequestRange(range(key, false))),
    };
    let answer: pb::TxnResponse = grpc.unary(path::TXN, &request).await?;
    let first = answer.responses.into_iter().next();
    let seen = match first.and_then(|op| op.response) {
        Some(Response::ResponsePut(answer)) => seen(answer.prev_kv.as_ref()),
        Some(Response::ResponseRange(answer)) => seen(answer.kvs.first()),
        _ => Seen::Nothing,
    };
    Ok(told(answer.header, answer.succeeded, seen))
}

fn put(key: Bytes, value: u64) -> pb::PutRequest {
    pb::PutRequest {
        key,
        value: value.to_string().into(),
        prev_kv: true,
        ..Default::default()
    }
}

fn range(key: Bytes, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest {
        key,
        serializable,
        ..Default::default()
    }
}

fn seen(record: Option<&KeyValue>) -> Seen {
    record.map_or(Seen::Absent, |record| {
        let (_, value) = read_record(record);
        Seen::Record(Record {
            value: value.expect("only these clients write"),
            created: record.create_revision,
            modified: record.mod_revision,
            version: record.version,
        })
    })
}

fn told(header: Option<pb::ResponseHeader>, changed: bool, seen: Seen) -> Answer {
    Answer {
        revision: header.map_or(0, |header| header.revision),
        changed,
        seen,
    }
}
