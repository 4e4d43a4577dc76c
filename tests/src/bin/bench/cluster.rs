//! Clusters of three: writes through all members, reads on a follower, the time without writes when
//! the leader is killed, stops or hands over, and what a member that catches up costs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use althing_api::etcdserverpb as pb;
use althing_tests::cluster::Cluster;
use althing_tests::grpc::path;
use althing_tests::load::outage::{self, Outage};
use althing_tests::load::proc_stat::bytes_on_disk;
use althing_tests::load::workload::{KEYS, Kind, VALUE_BYTES, Workload};
use althing_tests::load::{Protocol, Sample, Server, Shape, measure_all};

use crate::scenario::{Bound, Figure};
use crate::table::{Table, Target};
use crate::{Effort, load, turns};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const SIZE: usize = 3;
const PUTS: &[(Figure, Bound)] = &[
    (Figure::Throughput, Bound::AtLeast(2.0)),
    (Figure::P99, Bound::AtMost(0.5)),
];
const FOLLOWER_GETS: &[(Figure, Bound)] = &[(Figure::Throughput, Bound::AtLeast(2.0))];
const FOLLOWER_GET: Kind = Kind::Get {
    serializable: false,
};
/// Few enough entries between snapshots that a member that was away needs one.
const SHORT_LOG: [&str; 2] = ["--snapshot-count", "1000"];
/// The usual size of stored objects, such as those of Kubernetes.
const OBJECT_BYTES: usize = 4_096;
const MIB: f64 = 1_048_576.0;
/// How long a call to move the lead may take.
const MOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One row of load.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    kind: Kind,
    connections: usize,
    /// Requests in flight on each connection.
    streams: usize,
    /// Whether clients use one follower only, or all members.
    on_a_follower: bool,
    targets: &'static [(Figure, Bound)],
}

const PUT: Row = Row {
    name: "cluster put 64",
    kind: Kind::Put,
    connections: 64,
    streams: 1,
    on_a_follower: false,
    targets: PUTS,
};
const ROWS: [Row; 3] = [
    PUT,
    Row {
        name: "cluster put 256",
        streams: 4,
        ..PUT
    },
    Row {
        name: "cluster follower-get 64",
        kind: FOLLOWER_GET,
        on_a_follower: true,
        targets: FOLLOWER_GETS,
        ..PUT
    },
];

/// Measures what `only` names.
///
/// # Errors
/// When a member does not do what is measured.
pub async fn compare(
    programs: &[PathBuf; 2],
    only: &str,
    effort: Effort,
    table: &mut Table,
) -> Outcome {
    let rows: Vec<_> = (ROWS.iter().filter(|row| row.name.contains(only))).collect();
    if !rows.is_empty() {
        println!();
        table.head();
        let clusters = programs
            .each_ref()
            .map(|program| Cluster::start(program, SIZE, &[]));
        for cluster in &clusters {
            load(&cluster.members()[0], KEYS, VALUE_BYTES).await?;
        }
        for row in rows {
            loaded(&clusters, *row, effort, table).await?;
        }
    }
    if "cluster kill".contains(only) {
        let name = "cluster, leader killed: until the next acknowledged write, ms";
        outages(programs, name, End::Kill, effort, table).await?;
    }
    if "cluster stop".contains(only) {
        let name = "cluster, leader stopped: longest time without an acknowledged write, ms";
        outages(programs, name, End::Stop, effort, table).await?;
    }
    if "cluster move".contains(only) {
        let name = "cluster, lead moved: longest time without an acknowledged write, ms";
        outages(programs, name, End::Move, effort, table).await?;
        let name = "cluster, lead left alone: longest time without an acknowledged write, ms";
        outages(programs, name, End::Never, effort, table).await?;
    }
    if "cluster catch-up".contains(only) {
        for value_bytes in [VALUE_BYTES, OBJECT_BYTES] {
            catch_up(programs, effort, value_bytes, table).await?;
        }
    }
    Ok(())
}

async fn loaded(clusters: &[Cluster; 2], row: Row, effort: Effort, table: &mut Table) -> Outcome {
    let name = row.name;
    let workload = Arc::new(Workload::new(row.kind));
    let shape = Shape {
        protocol: Protocol::Grpc {
            streams: row.streams,
        },
        connections: row.connections,
        warm_up: effort.measured / 5,
        measured: effort.measured,
    };
    let mut samples: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    for round in 0..effort.rounds {
        for at in turns(round) {
            let (cluster, samples) = (&clusters[at], &mut samples[at]);
            let mut servers: Vec<Server> = cluster.members().iter().map(Server::of).collect();
            if row.on_a_follower {
                let leader = cluster.leader_of(&[0, 1, 2]).await;
                let follower = cluster.positions_without(&[leader])[0];
                // The other members' processor time is part of the price.
                servers.swap(0, follower);
            }
            let used = if row.on_a_follower { 1 } else { SIZE };
            let sample = measure_all(&servers, used, &workload, shape).await?;
            if sample.refused > 0 {
                return Err(format!("{name}: {} refusals", sample.refused).into());
            }
            samples.push(sample);
        }
    }
    table.row(name, row.connections * row.streams, row.targets, &samples)?;
    Ok(())
}

/// How a lead ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    Stop,
    Move,
    /// It does not: what the disk and other programs of this machine do to writes.
    Never,
}

async fn outages(
    programs: &[PathBuf; 2],
    name: &str,
    end: End,
    effort: Effort,
    table: &mut Table,
) -> Outcome {
    let mut seen: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    let mut clusters = programs
        .each_ref()
        .map(|program| Cluster::start(program, SIZE, &[]));
    for _ in 0..effort.ends {
        for (cluster, seen) in clusters.iter_mut().zip(&mut seen) {
            match end_a_lead(cluster, end).await {
                Ok(gap) => seen.push(gap),
                // etcd's call may wait for ever for a lead that went elsewhere.
                Err(error) if end == End::Move => println!("  a lead was not moved: {error}"),
                Err(error) => return Err(error),
            }
        }
    }
    for seen in &mut seen {
        seen.sort_by(f64::total_cmp);
        println!("  {seen:.0?}");
    }
    let row = |at: usize, target| {
        let name = ["p50", "p99", "longest"][at];
        let of = |values: &[f64]| match at {
            0 => values[values.len() / 2],
            1 => values[(values.len() * 99).div_ceil(100) - 1],
            _ => values[values.len() - 1],
        };
        (name, of(&seen[0]), of(&seen[1]), target)
    };
    let bound = match end {
        End::Kill => Some(700.0),
        End::Stop | End::Move => Some(50.0),
        End::Never => None,
    };
    let target = bound.map(|ms| Target::Ours(Bound::AtMost(ms)));
    table.figures(name, &[row(0, None), row(1, target), row(2, None)])?;
    Ok(())
}

/// Milliseconds without an acknowledged write around the end of one lead.
async fn end_a_lead(cluster: &mut Cluster, end: End) -> Outcome<f64> {
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let others = cluster.positions_without(&[leader]);
    let ports: Vec<u16> = (others.iter())
        .map(|position| cluster.members()[*position].client_port())
        .collect();
    let outage = Outage::watch(&ports).await?;
    let gap = match end {
        End::Kill => {
            cluster.member(leader).kill();
            outage.until_the_next_write().await?
        }
        End::Stop => {
            let (status, printed) = cluster.member(leader).stop();
            if !status.success() && !printed.contains("received signal") {
                return Err(format!("a member did not stop in order: {printed}").into());
            }
            outage.longest_gap().await?
        }
        End::Move => {
            // It may have moved by itself meanwhile.
            let leader = cluster.leader_of(&[0, 1, 2]).await;
            let target = cluster.positions_without(&[leader])[0];
            let target = cluster.status(target).await.header.unwrap_or_default();
            let request = pb::MoveLeaderRequest {
                target_id: target.member_id,
            };
            let mut grpc = cluster.grpc(leader).await;
            let moved = grpc.unary::<pb::MoveLeaderResponse>(path::MOVE_LEADER, &request);
            tokio::time::timeout(MOVE_TIMEOUT, moved).await??;
            outage.longest_gap().await?
        }
        End::Never => outage.longest_gap().await?,
    };
    if matches!(end, End::Kill | End::Stop) {
        cluster.restart(&[leader]);
    }
    Ok(gap.as_secs_f64() * 1e3)
}

/// What a member that catches up by snapshot costs.
#[derive(Debug)]
struct CatchUp {
    mib_per_s: f64,
    p99_before_us: f64,
    p99_meanwhile_us: f64,
}

async fn catch_up(
    programs: &[PathBuf; 2],
    effort: Effort,
    value_bytes: usize,
    table: &mut Table,
) -> Outcome {
    let ours = catch_up_once(&programs[0], effort, value_bytes).await?;
    let theirs = catch_up_once(&programs[1], effort, value_bytes).await?;
    let slower = |one: &CatchUp| one.p99_meanwhile_us / one.p99_before_us;
    let rows = [
        (
            "MiB/s",
            ours.mib_per_s,
            theirs.mib_per_s,
            Some(Target::Ours(Bound::AtLeast(100.0))),
        ),
        (
            "p99 of puts before, us",
            ours.p99_before_us,
            theirs.p99_before_us,
            None,
        ),
        (
            "p99 of puts meanwhile, us",
            ours.p99_meanwhile_us,
            theirs.p99_meanwhile_us,
            None,
        ),
        (
            "p99 meanwhile / before",
            slower(&ours),
            slower(&theirs),
            Some(Target::Ours(Bound::AtMost(3.0))),
        ),
    ];
    let mib = effort.caught_up as f64 / MIB;
    table.figures(
        &format!("cluster, a member catches up, {mib:.0} MiB in values of {value_bytes} bytes"),
        &rows,
    )?;
    Ok(())
}

async fn catch_up_once(program: &Path, effort: Effort, value_bytes: usize) -> Outcome<CatchUp> {
    let mut cluster = Cluster::start(program, SIZE, &SHORT_LOG);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let late = cluster.positions_without(&[leader])[0];
    cluster.member(late).kill();
    let keys = effort.caught_up / value_bytes as u64;
    load(&cluster.members()[leader], keys, value_bytes).await?;
    let servers = [Server::of(&cluster.members()[leader])];
    let workload = Arc::new(Workload::new(Kind::Put));
    let shape = |measured| Shape {
        protocol: Protocol::Grpc { streams: 1 },
        connections: 8,
        warm_up: measured / 5,
        measured,
    };
    let before = measure_all(&servers, 1, &workload, shape(effort.measured)).await?;
    let goal = cluster.status(leader).await.header.unwrap_or_default();
    let data_dir = cluster.members()[late].data_dir().to_owned();
    let held = bytes_on_disk(&data_dir)?;
    let began = Instant::now();
    cluster.member(late).launch();
    let load = tokio::spawn({
        let (workload, shape) = (Arc::clone(&workload), shape(effort.measured));
        async move { measure_all(&servers, 1, &workload, shape).await }
    });
    cluster.member(late).wait_until_it_serves();
    until_it_has(&cluster, late, goal.revision).await?;
    let took = began.elapsed();
    let meanwhile = load.await??;
    println!(
        "  {held} bytes on its disk before, {} after",
        bytes_on_disk(&data_dir)?
    );
    let bytes = effort.caught_up as f64;
    Ok(CatchUp {
        mib_per_s: bytes / MIB / took.as_secs_f64(),
        p99_before_us: before.p99_us,
        p99_meanwhile_us: meanwhile.p99_us,
    })
}

/// The longest time that a member may take to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

async fn until_it_has(cluster: &Cluster, position: usize, revision: i64) -> Outcome {
    let deadline = Instant::now() + CATCH_UP_MAX;
    while Instant::now() < deadline {
        let status = cluster.status(position).await;
        if status.header.unwrap_or_default().revision >= revision {
            return Ok(());
        }
        tokio::time::sleep(outage::PUT_INTERVAL).await;
    }
    Err("a member did not catch up".into())
}
