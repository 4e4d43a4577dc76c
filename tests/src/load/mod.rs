//! Load for the bench: closed-loop clients that cost so little that the server is what is measured.
//! Requests are encoded before the clock starts; a connection is one task that writes them from
//! memory and reads no more of an answer than where it ends and whether it succeeded.
//!
//! Watch streams and keep-alive streams work the same way, see `fan_out`, `json_watch`,
//! `keep_alive`.
//!
//! ```text
//! Workload (requests, ready to send) --> connection task x N --> Sample (latencies, counts)
//!                                             ^
//!                                        Phase: warming -> measuring -> ending
//! ```

pub mod fan_out;
pub mod frames;
pub mod http1;
pub mod http2;
pub mod idle;
pub mod json_watch;
pub mod keep_alive;
pub mod outage;
pub mod proc_stat;
pub mod workload;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;

use proc_stat::ProcStat;
use workload::Workload;

use crate::member::Member;

/// Latencies are counted in tenths of a microsecond.
const TICKS_PER_MICROSECOND: f64 = 10.0;
/// The longest latency that is told apart from longer ones: a minute.
const TICKS_MAX: u64 = 600_000_000;

/// How the clients reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC: HTTP/2 connections, each with a number of requests in flight.
    Grpc {
        /// Requests in flight on each connection.
        streams: usize,
    },
    /// The JSON gateway: HTTP/1.1 connections, each with one request in flight.
    Json,
}

/// One measurement to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How the clients reach the server.
    pub protocol: Protocol,
    /// Connections; the number of clients is this times the streams of each.
    pub connections: usize,
    /// Time before the clock starts.
    pub warm_up: Duration,
    /// Time while the clock runs.
    pub measured: Duration,
}

/// The result of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Answers per second.
    pub throughput: f64,
    /// Half of the answers took longer than this, in microseconds.
    pub p50_us: f64,
    /// One answer of a hundred took longer than this, in microseconds.
    pub p99_us: f64,
    /// The server's processor time, user and system, per answer, in microseconds.
    pub cpu_us: f64,
    /// Answers that were refusals; a bench that has any measures something else.
    pub refused: u64,
}

/// What the connections have to do, shared by all of them.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

const MEASURING: u8 = 1;
const ENDING: u8 = 2;

impl Phase {
    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }

    /// Whether answers are counted.
    pub fn is_measuring(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MEASURING
    }

    /// Whether no further request may be sent.
    pub fn is_ending(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ENDING
    }
}

/// What one connection saw.
#[derive(Debug)]
pub struct Tally {
    latencies: Histogram<u64>,
    refused: u64,
}

impl Tally {
    fn new() -> Tally {
        let latencies = Histogram::new_with_bounds(1, TICKS_MAX, 2);
        Tally {
            latencies: latencies.expect("the bounds are fixed and valid"),
            refused: 0,
        }
    }

    /// Counts an answer to a request that was sent at `sent`.
    pub fn count(&mut self, sent: Instant, succeeded: bool) {
        self.record(sent.elapsed(), succeeded);
    }

    /// Counts an answer that took this long.
    pub fn record(&mut self, latency: Duration, succeeded: bool) {
        let tenths = u64::try_from(latency.as_nanos() / 100).unwrap_or(TICKS_MAX);
        self.latencies.saturating_record(tenths.max(1));
        self.refused += u64::from(!succeeded);
    }

    fn add(&mut self, other: &Tally) -> io::Result<()> {
        self.refused += other.refused;
        let added = self.latencies.add(&other.latencies);
        added.map_err(io::Error::other)
    }

    /// The figures of `answers` that came while the clock ran, with this much of the server's time.
    fn sample(&self, answers: f64, took: Duration, cpu: Duration) -> Sample {
        let quantile = |q| self.latencies.value_at_quantile(q) as f64 / TICKS_PER_MICROSECOND;
        Sample {
            throughput: answers / took.as_secs_f64(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            cpu_us: cpu.as_secs_f64() * 1e6 / answers,
            refused: self.refused,
        }
    }
}

/// A process under load, or one that works for it.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The port where it serves clients.
    pub port: u16,
    /// The id of its process.
    pub process: u32,
}

impl Server {
    /// The process of a running member.
    pub fn of(member: &Member) -> Server {
        Server {
            port: member.client_port(),
            process: member.process_id(),
        }
    }
}

/// Puts load on the server with process id `process` that listens on `port`.
///
/// # Errors
/// When a connection breaks.
pub async fn measure(
    port: u16,
    process: u32,
    workload: &Arc<Workload>,
    shape: Shape,
) -> io::Result<Sample> {
    measure_all(&[Server { port, process }], 1, workload, shape).await
}

/// Puts load on the first `used` of `servers`, spread evenly, and counts the time of all.
///
/// # Errors
/// When a connection breaks.
pub async fn measure_all(
    servers: &[Server],
    used: usize,
    workload: &Arc<Workload>,
    shape: Shape,
) -> io::Result<Sample> {
    let cpu = || -> io::Result<Duration> {
        let each = servers.iter().map(|server| ProcStat::read(server.process));
        each.map(|stat| stat.map(|stat| stat.cpu)).sum()
    };
    let phase = Arc::new(Phase::default());
    let mut connections = Vec::new();
    for number in 0..shape.connections {
        let (workload, phase) = (Arc::clone(workload), Arc::clone(&phase));
        let seed = number as u64;
        let port = servers[number % used].port;
        connections.push(tokio::spawn(async move {
            match shape.protocol {
                Protocol::Grpc { streams } => {
                    http2::drive(port, streams, seed, &workload, &phase).await
                }
                Protocol::Json => http1::drive(port, seed, &workload, &phase).await,
            }
        }));
    }
    tokio::time::sleep(shape.warm_up).await;
    let cpu_before = cpu()?;
    let began = Instant::now();
    phase.set(MEASURING);
    tokio::time::sleep(shape.measured).await;
    phase.set(ENDING);
    let took = began.elapsed();
    let cpu = cpu()? - cpu_before;

    let mut all = Tally::new();
    for tally in try_join_all(connections).await? {
        all.add(&tally?)?;
    }
    Ok(all.sample(all.latencies.len() as f64, took, cpu))
}
