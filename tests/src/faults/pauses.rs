//! How long a cluster stands still when its leader is killed under load: from the SIGKILL to the
//! first answer to a write that began after it, on any member that is left.

use std::net::SocketAddr;
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
/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(2);
/// The longest pause that is recorded as such, in microseconds.
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
/// each time. Each time all members agree on the leader before it is killed, and answer.
///
/// # Panics
/// When the members do not agree on a leader in time, or do not come to serve.
pub async fn of_leader_kills(cluster: &mut Cluster, kills: usize, writers: usize) -> Pauses {
    let mut pauses = Histogram::new_with_bounds(1, PAUSE_MAX, 3).expect("sensible bounds");
    let all = cluster.positions_without(&[]);
    // The writers end with this value.
    let mut load = JoinSet::new();
    for writer in 0..writers {
        load.spawn(write(
            cluster.client_address(all[writer % all.len()]),
            writer,
        ));
    }
    for kill in 0..kills {
        let leader = cluster.leader_of(&all).await;
        let rest = cluster.positions_without(&[leader]);
        let addresses: Vec<SocketAddr> =
            rest.iter().map(|at| cluster.client_address(*at)).collect();
        for address in &addresses {
            acknowledged(*address, format!("before-{kill}")).await;
        }
        tokio::task::block_in_place(|| cluster.member(leader).kill());
        let killed = Instant::now();
        let probes = addresses.iter();
        let probes =
            probes.map(|address| Box::pin(acknowledged(*address, format!("after-{kill}"))));
        select_all(probes).await;
        let pause = u64::try_from(killed.elapsed().as_micros()).unwrap_or(PAUSE_MAX);
        pauses.saturating_record(pause);
        tokio::task::block_in_place(|| cluster.restart(&[leader]));
    }
    Pauses(pauses)
}

/// Writes to one member forever.
async fn write(address: SocketAddr, writer: usize) {
    for number in 0_u64.. {
        acknowledged(address, format!("load-{writer}-{}", number % 1_000)).await;
    }
}

/// Writes to one member until a write is acknowledged.
async fn acknowledged(address: SocketAddr, key: String) {
    let request = pb::PutRequest {
        key: key.into(),
        value: Bytes::from_static(b"v"),
        ..Default::default()
    };
    loop {
        // On a new connection, like a client that lost the former one.
        if let Ok(mut grpc) = Grpc::connect_to(address).await {
            let asked = grpc.unary::<pb::PutResponse>(path::PUT, &request);
            if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, asked).await {
                return;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
