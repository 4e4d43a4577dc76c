//! Leases that are kept alive: every lease of a stream in one burst, three times within its time to
//! live, like etcd's clients do; the streams take turns. Leases are renewed from their first turn
//! on, while others are still granted; the clock runs once all are.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use althing_api::etcdserverpb as pb;
use futures_util::future::try_join_all;
use prost::Message;
use tokio::sync::Semaphore;
use tokio::time::interval;

use super::frames::{Heard, Link, Messages, frame};
use super::proc_stat::ProcStat;
use super::{Phase, Sample, Tally};
use crate::grpc::Grpc;

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
/// Grants in flight on a connection.
const GRANTING: usize = 32;
/// Renewals of a lease within its time to live.
const RENEWALS: u32 = 3;
/// An answer that takes longer is late.
const LATE: Duration = Duration::from_secs(1);

/// One measurement to make.
#[derive(Clone, Copy, Debug)]
pub struct Renewals {
    /// The number of connections.
    pub connections: usize,
    /// Streams on each connection.
    pub streams: usize,
    /// Leases on each stream.
    pub leases: usize,
    /// The leases' time to live.
    pub ttl: Duration,
    /// How long they are kept alive and measured.
    pub measured: Duration,
}

/// The result.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Answers; the refused ones said that the lease is gone.
    pub sample: Sample,
    /// Answers that took more than a second.
    pub late: u64,
    /// Leases that should exist at the end and do not.
    pub gone: u64,
    /// The server's processor time for each second.
    pub cpu_share: f64,
}

/// What one connection does and saw.
struct Keeper {
    plan: Renewals,
    phase: Arc<Phase>,
    link: Link,
    ids: Vec<i64>,
    /// The number of granted leases, which are the first ones.
    granted: usize,
    /// Grants that were sent after them, and how many of these are not answered.
    sent: usize,
    granting: usize,
    streams: Vec<Stream>,
    tally: Tally,
    late: u64,
}

/// A keep-alive stream.
struct Stream {
    number: u32,
    messages: Messages,
    /// When each burst was sent, and how many of its answers are still to come.
    bursts: VecDeque<(Instant, usize)>,
}

/// Grants leases on the server with process id `server` and keeps them alive.
///
/// # Errors
/// When a connection breaks or a lease is refused.
pub async fn measure(port: u16, server: u32, plan: Renewals) -> io::Result<Kept> {
    let granted = Arc::new(Semaphore::new(0));
    let phase = Arc::new(Phase::default());
    let keeping = (0..plan.connections).map(|number| {
        let (granted, phase) = (Arc::clone(&granted), Arc::clone(&phase));
        let task = tokio::spawn(async move {
            let keeper = Keeper::open(port, plan, number, phase).await?;
            keeper.keep(&granted).await
        });
        async move { task.await? }
    });
    let clocked = async {
        let all = u32::try_from(plan.connections).map_err(io::Error::other)?;
        let all_granted = granted.acquire_many(all).await;
        all_granted.map_err(io::Error::other)?.forget();
        let cpu_before = ProcStat::read(server)?.cpu;
        let began = Instant::now();
        phase.set(super::MEASURING);
        tokio::time::sleep(plan.measured).await;
        let took = began.elapsed();
        let cpu = ProcStat::read(server)?.cpu - cpu_before;
        let there = count(port).await?;
        phase.set(super::ENDING);
        Ok((took, cpu, there))
    };
    let (keepers, (took, cpu, there)) = tokio::try_join!(try_join_all(keeping), clocked)?;
    let (mut tally, mut late) = (Tally::new(), 0);
    for (of_one, late_of_one) in &keepers {
        tally.add(of_one)?;
        late += late_of_one;
    }
    let all = (plan.connections * plan.streams * plan.leases) as u64;
    Ok(Kept {
        sample: tally.sample(tally.latencies.len() as f64, took, cpu),
        late,
        gone: all.saturating_sub(there),
        cpu_share: cpu.as_secs_f64() / took.as_secs_f64(),
    })
}

/// The number of leases that the server knows.
async fn count(port: u16) -> io::Result<u64> {
    let mut client = Grpc::connect(port).await.map_err(io::Error::other)?;
    let answer = client.unary(LEASES, &pb::LeaseLeasesRequest {}).await;
    let answer: pb::LeaseLeasesResponse = answer.map_err(io::Error::other)?;
    Ok(answer.leases.len() as u64)
}

impl Keeper {
    async fn open(
        port: u16,
        plan: Renewals,
        number: usize,
        phase: Arc<Phase>,
    ) -> io::Result<Keeper> {
        let of_connection = plan.streams * plan.leases;
        let first = (number * of_connection) as i64 + 1;
        let mut link = Link::connect(port).await?;
        let stream = |_| Stream {
            number: link.open(KEEP_ALIVE),
            messages: Messages::default(),
            bursts: VecDeque::new(),
        };
        let streams = (0..plan.streams).map(stream).collect();
        Ok(Keeper {
            plan,
            phase,
            link,
            ids: (first..first + of_connection as i64).collect(),
            granted: 0,
            sent: 0,
            granting: 0,
            streams,
            tally: Tally::new(),
            late: 0,
        })
    }

    /// Grants and renews until the phase ends; `granted` is told when all leases exist.
    async fn keep(mut self, granted: &Semaphore) -> io::Result<(Tally, u64)> {
        let mut turns = interval(self.plan.ttl / RENEWALS / self.plan.streams as u32);
        let mut turn = 0;
        let mut is_granting = true;
        while !self.phase.is_ending() {
            if is_granting && self.granting == 0 {
                self.granted += std::mem::take(&mut self.sent);
                is_granting = self.granted < self.ids.len();
                if is_granting {
                    self.grant()?;
                } else {
                    granted.add_permits(1);
                }
            }
            self.link.flush().await?;
            tokio::select! {
                _ = turns.tick() => {
                    self.renew(turn % self.plan.streams);
                    turn += 1;
                }
                received = self.link.receive() => received?,
            }
            self.hear()?;
        }
        Ok((self.tally, self.late))
    }

    /// Sends the next few grants; more follow when all of them are answered.
    fn grant(&mut self) -> io::Result<()> {
        for id in self.ids[self.granted..].iter().take(GRANTING) {
            let request = pb::LeaseGrantRequest {
                ttl: i64::try_from(self.plan.ttl.as_secs()).map_err(io::Error::other)?,
                id: *id,
            };
            let sent = self.link.request(&frame(GRANT, &request.encode_to_vec()));
            sent.ok_or_else(|| io::Error::other("the server takes no grants"))?;
            self.sent += 1;
        }
        self.granting = self.sent;
        Ok(())
    }

    /// Renews every lease of a stream that has been granted.
    fn renew(&mut self, at: usize) {
        let granted = &self.ids[..self.granted];
        let Some(of_stream) = granted.chunks(self.plan.leases).nth(at) else {
            return;
        };
        let stream = &mut self.streams[at];
        stream.bursts.push_back((Instant::now(), of_stream.len()));
        for id in of_stream {
            let renewal = pb::LeaseKeepAliveRequest { id: *id }.encode_to_vec();
            self.link.message(stream.number, &renewal);
        }
    }

    fn hear(&mut self) -> io::Result<()> {
        let Keeper {
            phase,
            link,
            granting,
            streams,
            tally,
            late,
            ..
        } = self;
        let is_measuring = phase.is_measuring();
        link.hear(|heard: Heard<'_>| {
            // The keep-alive streams were opened first: 1, 3, 5 ...
            let Some(stream) = streams.get_mut((heard.stream as usize - 1) / 2) else {
                *granting -= usize::from(heard.is_end);
                return Ok(());
            };
            if heard.is_end {
                return Err(io::Error::other("the server ended a keep-alive stream"));
            }
            let Stream {
                messages, bursts, ..
            } = stream;
            messages.take(heard.data, |message| {
                let answer = pb::LeaseKeepAliveResponse::decode(message);
                let is_alive = answer.map_err(io::Error::other)?.ttl > 0;
                let (sent, left) = bursts
                    .front_mut()
                    .ok_or_else(|| io::Error::other("an answer too many"))?;
                let latency = sent.elapsed();
                *left -= 1;
                if *left == 0 {
                    bursts.pop_front();
                }
                if is_measuring {
                    tally.record(latency, is_alive);
                    *late += u64::from(latency > LATE);
                }
                Ok(())
            })
        })
    }
}
