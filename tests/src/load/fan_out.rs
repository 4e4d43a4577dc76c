//! Watchers under load: some connections with some streams with some watchers each, shared like
//! etcd's clients share them, and one writer that keeps a number of puts under way. A put is under
//! way until each of its watchers has its event, so that nothing piles up and the rate is what the
//! server delivers. A value begins with the time at which it was sent.
//!
//! ```text
//! writer --put--> server --events--> connection tasks --delivered += n--> writer sends the next
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use althing_api::etcdserverpb as pb;
use bytes::Buf;
use futures_util::future::try_join_all;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, Semaphore};

use super::frames::{Framed, Link, Messages, frame};
use super::proc_stat::ProcStat;
use super::workload::VALUE_BYTES;
use super::{Phase, Sample, Tally};
use crate::grpc::path;

/// The path of the watch stream.
const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// Creations on a stream that may wait for their answers; the stream's window takes them.
const CREATING_MAX: usize = 100;
/// Stands where a value will begin with the time.
const STAMP: [u8; 8] = [0xa5; 8];
const STAMP_BYTES: usize = STAMP.len();
/// The longest wait for the first events, and for the last.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// One measurement to make.
#[derive(Clone, Copy, Debug)]
pub struct Fan {
    /// The number of connections.
    pub connections: usize,
    /// Streams on each connection.
    pub streams: usize,
    /// Watchers on each stream.
    pub watchers: usize,
    /// Whether all watch one key, rather than each a key of its own.
    pub is_one_key: bool,
    /// Requests under way.
    pub requests: u64,
    /// Keys that one request changes; more than one, in a transaction, if each watcher has a key of
    /// its own.
    pub keys_of_request: usize,
}

impl Fan {
    /// The total number of watchers.
    pub fn all(&self) -> usize {
        self.connections * self.streams * self.watchers
    }

    fn key(&self, number: usize) -> String {
        if self.is_one_key {
            "watched".to_owned()
        } else {
            format!("watched-{number:06}")
        }
    }

    /// The requests that the writer chooses from. The keys of one are far apart, so that their
    /// watchers share no stream.
    fn changes(&self) -> Vec<Framed> {
        let keys = if self.is_one_key { 1 } else { self.all() };
        let count = keys / self.keys_of_request;
        let change = |first| {
            let numbers = (first..keys).step_by(count).take(self.keys_of_request);
            let mut puts: Vec<_> = numbers.map(|number| put(&self.key(number))).collect();
            match puts.len() {
                1 => frame(path::PUT, &puts.remove(0).encode_to_vec()),
                _ => frame(path::TXN, &txn(puts).encode_to_vec()),
            }
        };
        (0..count).map(change).collect()
    }

    /// Events that one request makes.
    fn events_of_request(&self) -> u64 {
        if self.is_one_key {
            self.all() as u64
        } else {
            self.keys_of_request as u64
        }
    }
}

/// What connection tasks and the writer share.
#[derive(Debug)]
struct Board {
    phase: Phase,
    epoch: Instant,
    created: Semaphore,
    delivered: AtomicU64,
    heard: Notify,
    ended: Notify,
}

/// Puts load on the server with process id `server` that listens on `port`.
///
/// # Errors
/// When a connection breaks, a watcher ends, or nothing is delivered.
pub async fn measure(
    port: u16,
    server: u32,
    fan: Fan,
    [warm_up, measured]: [Duration; 2],
) -> io::Result<Sample> {
    let board = Arc::new(Board {
        phase: Phase::default(),
        epoch: Instant::now(),
        created: Semaphore::new(0),
        delivered: AtomicU64::new(0),
        heard: Notify::new(),
        ended: Notify::new(),
    });
    let watching = (0..fan.connections).map(|number| {
        let task = tokio::spawn(watch(port, fan, number, Arc::clone(&board)));
        async move { task.await? }
    });
    let clocked = clock(port, server, fan, [warm_up, measured], &board);
    let (tallies, (events, took, cpu, refused)) =
        tokio::try_join!(try_join_all(watching), clocked)?;
    let mut all = Tally::new();
    for tally in &tallies {
        all.add(tally)?;
    }
    all.refused += refused;
    if events == 0 {
        return Err(io::Error::other("no event was delivered"));
    }
    Ok(all.sample(events as f64, took, cpu))
}

/// Starts the writer once all watch, and takes the time. Returns the events while the clock ran,
/// how long that was, the server's processor time, and the refused puts.
async fn clock(
    port: u16,
    server: u32,
    fan: Fan,
    [warm_up, measured]: [Duration; 2],
    board: &Arc<Board>,
) -> io::Result<(u64, Duration, Duration, u64)> {
    let all = u32::try_from(fan.all()).map_err(io::Error::other)?;
    let created = tokio::time::timeout(SILENCE_MAX, board.created.acquire_many(all)).await;
    let created = created.map_err(|_| io::Error::other("not every watcher was created"))?;
    created.map_err(io::Error::other)?.forget();
    let writing = tokio::spawn(write(port, fan, Arc::clone(board)));

    tokio::time::sleep(warm_up).await;
    let cpu_before = ProcStat::read(server)?.cpu;
    let (began, before) = (Instant::now(), board.delivered.load(Ordering::Relaxed));
    board.phase.set(super::MEASURING);
    tokio::time::sleep(measured).await;
    let events = board.delivered.load(Ordering::Relaxed) - before;
    let took = began.elapsed();
    let cpu = ProcStat::read(server)?.cpu - cpu_before;
    board.phase.set(super::ENDING);
    board.heard.notify_one();
    let written = tokio::time::timeout(SILENCE_MAX, writing).await;
    let refused = written.map_err(|_| io::Error::other("puts were not delivered"))???;
    board.ended.notify_waiters();
    Ok((events, took, cpu, refused))
}

/// Runs one connection: creates its watchers, then counts what comes.
async fn watch(port: u16, fan: Fan, number: usize, board: Arc<Board>) -> io::Result<Tally> {
    let first = number * fan.streams * fan.watchers;
    let keys = (first..first + fan.streams * fan.watchers).map(|n| fan.key(n));
    let creations: Vec<_> = keys.map(|key| creation(&key)).collect();
    let mut connection = Watching::open(port, fan.streams, &creations).await?;
    board.created.add_permits(creations.len());
    let mut tally = Tally::new();
    let ended = board.ended.notified();
    tokio::pin!(ended);
    ended.as_mut().enable();
    loop {
        connection.link.flush().await?;
        tokio::select! {
            received = connection.link.receive() => received?,
            () = &mut ended => return Ok(tally),
        }
        let now = board.epoch.elapsed();
        let is_measuring = board.phase.is_measuring();
        let mut events = 0;
        connection.hear(|seen| {
            events += seen.events;
            if let Some(stamp) = seen.stamp.filter(|_| is_measuring) {
                let latency = now.saturating_sub(Duration::from_nanos(stamp));
                for _ in 0..seen.events {
                    tally.record(latency, true);
                }
            }
        })?;
        if events > 0 {
            board.delivered.fetch_add(events, Ordering::Relaxed);
            board.heard.notify_one();
        }
    }
}

/// The request that creates a watcher of one key; the server chooses its id.
pub fn creation(key: &str) -> Vec<u8> {
    let request = pb::WatchCreateRequest {
        key: key.to_owned().into(),
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(request)),
    };
    request.encode_to_vec()
}

/// A connection whose streams watch.
#[derive(Debug)]
pub struct Watching {
    /// The connection.
    pub link: Link,
    /// The streams in the order of their opening; their numbers are 1, 3, 5 ...
    messages: Vec<Messages>,
}

impl Watching {
    /// Opens the streams and creates the watchers, dealt out evenly.
    ///
    /// # Errors
    /// When the connection breaks or a watcher is refused.
    pub async fn open(port: u16, streams: usize, creations: &[Vec<u8>]) -> io::Result<Watching> {
        let mut watching = Watching {
            link: Link::connect(port).await?,
            messages: Vec::new(),
        };
        for of_stream in creations.chunks(creations.len().div_ceil(streams)) {
            let stream = watching.link.open(WATCH);
            watching.messages.push(Messages::default());
            for some in of_stream.chunks(CREATING_MAX) {
                for creation in some {
                    watching.link.message(stream, creation);
                }
                let mut created = 0;
                while created < some.len() {
                    watching.link.flush().await?;
                    watching.link.receive().await?;
                    watching.hear(|seen| created += usize::from(seen.is_created))?;
                }
            }
        }
        Ok(watching)
    }

    /// Passes every received response to `hear`.
    ///
    /// # Errors
    /// When a stream or a watcher ends.
    pub fn hear(&mut self, mut hear: impl FnMut(Seen)) -> io::Result<()> {
        let messages = &mut self.messages;
        self.link.hear(|heard| {
            if heard.is_end {
                return Err(io::Error::other("the server ended a watch stream"));
            }
            let at = (heard.stream as usize - 1) / 2;
            messages[at].take(heard.data, |message| {
                let seen = Seen::read(message)?;
                if seen.is_canceled {
                    return Err(io::Error::other("the server ended a watcher"));
                }
                hear(seen);
                Ok(())
            })
        })
    }
}

/// The parts of a response that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    is_created: bool,
    is_canceled: bool,
    events: u64,
    /// The time in the value of the first event, in nanoseconds.
    stamp: Option<u64>,
}

impl Seen {
    /// Reads what is needed of a WatchResponse.
    fn read(message: &[u8]) -> io::Result<Seen> {
        let mut seen = Seen::default();
        fields(message, |number, value, bytes| {
            match number {
                3 => seen.is_created = value != 0,
                4 => seen.is_canceled = value != 0,
                11 => {
                    seen.events += 1;
                    if seen.stamp.is_none() {
                        seen.stamp = stamp_of_event(bytes)?;
                    }
                }
                _ => (),
            }
            Ok(())
        })?;
        Ok(seen)
    }
}

/// The beginning of the value of an event's record.
fn stamp_of_event(event: &[u8]) -> io::Result<Option<u64>> {
    let mut stamp = None;
    fields(event, |number, _, record| match number {
        2 => fields(record, |number, _, value| {
            if number == 5 && value.len() >= STAMP_BYTES {
                stamp = Some((&value[..STAMP_BYTES]).get_u64());
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Ok(stamp)
}

/// Walks over the fields of a message: number, and the varint or the bytes.
fn fields(
    mut message: &[u8],
    mut hear: impl FnMut(u32, u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    while !message.is_empty() {
        let (number, kind) = decode_key(&mut message).map_err(io::Error::other)?;
        let value = decode_varint(&mut message).map_err(io::Error::other)?;
        match kind {
            WireType::Varint => hear(number, value, &[])?,
            WireType::LengthDelimited if value <= message.len() as u64 => {
                let (bytes, rest) = message.split_at(value as usize);
                hear(number, value, bytes)?;
                message = rest;
            }
            _ => return Err(io::Error::other("not a message of the watch service")),
        }
    }
    Ok(())
}

/// Keeps puts under way until the phase ends and all are delivered; returns how many were refused.
async fn write(port: u16, fan: Fan, board: Arc<Board>) -> io::Result<u64> {
    let mut changes = fan.changes();
    let stamps = stamps_of(&changes[0].bytes);
    let mut random = SmallRng::seed_from_u64(3);
    let mut link = Link::connect(port).await?;
    let (mut sent, mut answered, mut messages) = (0, 0, 0_u64);
    loop {
        let delivered = board.delivered.load(Ordering::Relaxed) / fan.events_of_request();
        if board.phase.is_ending() && delivered >= sent && answered >= sent {
            // An answer without a message is a refusal.
            return Ok(answered - messages.min(answered));
        }
        while !board.phase.is_ending() && sent < delivered + fan.requests {
            let chosen = random.random_range(0..changes.len());
            let change = &mut changes[chosen];
            let now = u64::try_from(board.epoch.elapsed().as_nanos()).map_err(io::Error::other)?;
            for stamp in &stamps {
                change.bytes[*stamp..*stamp + STAMP_BYTES].copy_from_slice(&now.to_be_bytes());
            }
            if link.request(change).is_none() {
                break;
            }
            sent += 1;
        }
        link.flush().await?;
        tokio::select! {
            received = link.receive() => received?,
            () = board.heard.notified() => (),
        }
        link.hear(|heard| {
            messages += u64::from(!heard.data.is_empty());
            answered += u64::from(heard.is_end);
            Ok(())
        })?;
    }
}

/// A put whose value has room for the time at its beginning.
fn put(key: &str) -> pb::PutRequest {
    let mut value = vec![b'v'; VALUE_BYTES];
    value[..STAMP_BYTES].copy_from_slice(&STAMP);
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..pb::PutRequest::default()
    }
}

fn txn(puts: Vec<pb::PutRequest>) -> pb::TxnRequest {
    let op = |put| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put)),
    };
    pb::TxnRequest {
        success: puts.into_iter().map(op).collect(),
        ..pb::TxnRequest::default()
    }
}

/// The places of the times in a request; the same for all of one kind, as all keys have one length.
fn stamps_of(request: &[u8]) -> Vec<usize> {
    let windows = request.windows(STAMP_BYTES).enumerate();
    windows
        .filter(|(_, window)| **window == STAMP)
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_api::mvccpb;

    #[test]
    fn the_requests_change_every_key_once_and_have_a_time_for_each() {
        let fan = Fan {
            connections: 2,
            streams: 3,
            watchers: 10,
            is_one_key: false,
            requests: 1,
            keys_of_request: 4,
        };
        let changes = fan.changes();
        assert_eq!(changes.len(), 60 / 4);
        for change in &changes {
            let stamps = stamps_of(&change.bytes);
            assert_eq!(stamps, stamps_of(&changes[0].bytes));
            assert_eq!(stamps.len(), 4);
        }
        let key = |number: usize| fan.key(number).into_bytes();
        for number in 0..60 {
            let of = |change: &&Framed| change.bytes.windows(14).any(|part| part == key(number));
            assert_eq!(changes.iter().filter(of).count(), 1, "{number}");
        }
    }

    #[test]
    fn a_response_is_read_as_far_as_it_is_looked_at() {
        let mut value = 77_u64.to_be_bytes().to_vec();
        value.extend([b'v'; 100]);
        let record = mvccpb::KeyValue {
            key: "k".into(),
            mod_revision: 1 << 40,
            value: value.into(),
            lease: 5,
            ..mvccpb::KeyValue::default()
        };
        let event = mvccpb::Event {
            kv: Some(record),
            ..mvccpb::Event::default()
        };
        let response = pb::WatchResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                ..pb::ResponseHeader::default()
            }),
            watch_id: -1,
            events: vec![event.clone(), event],
            ..pb::WatchResponse::default()
        };
        let seen = Seen::read(&response.encode_to_vec()).unwrap();
        let expected = Seen {
            events: 2,
            stamp: Some(77),
            ..Seen::default()
        };
        assert_eq!(seen, expected);
        let created = pb::WatchResponse {
            created: true,
            canceled: true,
            ..pb::WatchResponse::default()
        };
        let seen = Seen::read(&created.encode_to_vec()).unwrap();
        assert!(seen.is_created && seen.is_canceled);
        assert!(Seen::read(&[0xff, 0xff]).is_err());
    }
}
