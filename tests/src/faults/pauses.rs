//! How long a cluster stands still when its leader is killed under load: from the SIGKILL to the
//! first answer to a write that began after it, on whichever member that is left.

use std::time::{Duration, Instant};

use althing_api::etcdserverpb as pb;
use bytes::Bytes;
use futures_util::future::select_all;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::grpc::{Grpc, path};

/// A write that takes longer is given up, and sent again to the next member.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(2);
/// The longest pause that is told apart, in microseconds.
const PAUSE_MAX: u64 = 60_000_000;

/// The pauses of a number of kills, in microseconds.
#[derive(Debug)]
pub struct Pauses(pub Histogram<u64>);

impl Pauses {
    /// The pause that this share of the kills stayed below.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }
}

/// Kills the leader `kills` times while `writers` write through every member, and starts it again
/// each time. Every kill meets a leader on which all agree, and members that answer.
///
/// # Panics
/// When the members do not agree on a leader in time, or do not come to serve.
pub async fn of_leader_kills(cluster: &mut Cluster, kills: usize, writers: usize) -> Pauses {
    let mut pauses = Histogram::new_with_bounds(1, PAUSE_MAX, 3).expect("sensible bounds");
    let all = cluster.positions_without(&[]);
    // They end with this value.
    let mut load = JoinSet::new();
    for writer in 0..writers {
        load.spawn(write(cluster.client_port(all[writer % all.len()]), writer));
    }
    for kill in 0..kills {
        let leader = cluster.leader_of(&all).await;
        let rest = cluster.positions_without(&[leader]);
        let ports: Vec<u16> = rest.iter().map(|at| cluster.client_port(*at)).collect();
        for port in &ports {
            acknowledged(*port, format!("before-{kill}")).await;
        }
        tokio::task::block_in_place(|| cluster.member(leader).kill());
        let killed = Instant::now();
        let probes = ports.iter();
        let probes = probes.map(|port| Box::pin(acknowledged(*port, format!("after-{kill}"))));
        select_all(probes).await;
        let pause = u64::try_from(killed.elapsed().as_micros()).unwrap_or(PAUSE_MAX);
        pauses.saturating_record(pause);
        tokio::task::block_in_place(|| cluster.restart(&[leader]));
    }
    Pauses(pauses)
}

/// Writes to one member for ever.
async fn write(port: u16, writer: usize) {
    for number in 0_u64.. {
        acknowledged(port, format!("load-{writer}-{}", number % 1_000)).await;
    }
}

/// Writes to one member until that is acknowledged.
async fn acknowledged(port: u16, key: String) {
    let request = pb::PutRequest {
        key: key.into(),
        value: Bytes::from_static(b"v"),
        ..Default::default()
    };
    loop {
        // A connection of its own, as a client has that lost the former one.
        if let Ok(mut grpc) = Grpc::connect(port).await {
            let asked = grpc.unary::<pb::PutResponse>(path::PUT, &request);
            if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, asked).await {
                return;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
