//! How long no write is acknowledged: puts are begun at short intervals through several members,
//! whether earlier ones are answered or not, and the times of their answers are kept. A client that
//! waited for each answer would measure how long a request takes that was caught in the outage.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use althing_api::etcdserverpb as pb;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::grpc::{Grpc, path};

/// Pause between two puts through one member.
pub const PUT_INTERVAL: Duration = Duration::from_millis(5);
/// After this time without an answer the outage counts as endless.
const OUTAGE_MAX: Duration = Duration::from_secs(30);
/// Writes go on for this long before the outage, and afterwards, so that a gap has both its ends.
const MARGIN: Duration = Duration::from_millis(300);

/// Puts under way, and the times when acknowledged ones were begun and answered.
#[derive(Debug)]
pub struct Outage {
    acknowledged: Arc<Mutex<Vec<Write>>>,
    began: Instant,
    writers: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    sent: Instant,
    answered: Instant,
}

impl Outage {
    /// Begins to put through the members that serve on `ports`, and returns when writes flow.
    ///
    /// # Errors
    /// When a member cannot be reached or no write is acknowledged.
    pub async fn watch(ports: &[u16]) -> io::Result<Outage> {
        let mut outage = Outage {
            acknowledged: Arc::default(),
            began: Instant::now(),
            writers: Vec::new(),
        };
        for port in ports {
            let client = Grpc::connect(*port).await.map_err(io::Error::other)?;
            let acknowledged = Arc::clone(&outage.acknowledged);
            outage
                .writers
                .push(tokio::spawn(write(client, acknowledged)));
        }
        tokio::time::sleep(MARGIN).await;
        outage.answered_after(outage.began).await?;
        outage.began = Instant::now();
        Ok(outage)
    }

    /// How long from now until a put that is begun after now is acknowledged.
    ///
    /// # Errors
    /// When none is acknowledged.
    pub async fn until_the_next_write(self) -> io::Result<Duration> {
        let now = Instant::now();
        let write = self.answered_after(now).await?;
        Ok(write.answered - now)
    }

    /// The longest time without an answer since writes flowed.
    ///
    /// # Errors
    /// When no more writes are acknowledged.
    pub async fn longest_gap(self) -> io::Result<Duration> {
        self.answered_after(Instant::now()).await?;
        tokio::time::sleep(MARGIN).await;
        let mut times: Vec<Instant> = {
            let acknowledged = self.acknowledged.lock();
            acknowledged.iter().map(|write| write.answered).collect()
        };
        times.retain(|answered| *answered >= self.began);
        times.sort_unstable();
        let gaps = times.windows(2).map(|two| two[1] - two[0]);
        gaps.max()
            .ok_or_else(|| io::Error::other("no write was acknowledged"))
    }

    /// The first answer to a put that was sent after `moment`.
    async fn answered_after(&self, moment: Instant) -> io::Result<Write> {
        while moment.elapsed() < OUTAGE_MAX {
            let found = {
                let acknowledged = self.acknowledged.lock();
                let later = acknowledged.iter().filter(|write| write.sent >= moment);
                later.min_by_key(|write| write.answered).copied()
            };
            if let Some(write) = found {
                return Ok(write);
            }
            tokio::time::sleep(PUT_INTERVAL / 5).await;
        }
        Err(io::Error::other("no write is acknowledged any more"))
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        self.writers.iter().for_each(JoinHandle::abort);
    }
}

async fn write(client: Grpc, acknowledged: Arc<Mutex<Vec<Write>>>) {
    let mut turns = tokio::time::interval(PUT_INTERVAL);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let sent = turns.tick().await.into_std();
        let (mut client, acknowledged) = (client.clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let request = pb::PutRequest {
                key: Bytes::from_static(b"outage"),
                value: Bytes::from_static(b"v"),
                ..pb::PutRequest::default()
            };
            let answer = client.unary::<pb::PutResponse>(path::PUT, &request).await;
            if answer.is_ok() {
                let answered = Instant::now();
                acknowledged.lock().push(Write { sent, answered });
            }
        });
    }
}
