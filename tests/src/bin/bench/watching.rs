//! Watchers and leases: how fast events fan out, what watches over the gateway cost its reads, what
//! keep-alives cost, and the memory of idle watchers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use althing_api::etcdserverpb as pb;
use althing_tests::grpc::path;
use althing_tests::load::fan_out::{self, Fan};
use althing_tests::load::idle;
use althing_tests::load::json_watch::JsonWatches;
use althing_tests::load::keep_alive::{self, Kept, Renewals};
use althing_tests::load::workload::{KEYS, Kind, VALUE_BYTES, Workload};
use althing_tests::load::{Protocol, Sample, Shape, measure};
use althing_tests::member::Member;
use tokio::time::timeout;

use crate::scenario::{Bound, Figure};
use crate::table::{Table, Target};
use crate::{Effort, Outcome, load, median, turns};

const FANNED: &[(Figure, Bound)] = &[
    (Figure::Throughput, Bound::AtLeast(2.0)),
    (Figure::P99, Bound::AtMost(0.5)),
];
/// 10,000 watchers, sharing connections and streams like clients do.
const ON_ONE_KEY: Fan = Fan {
    connections: 10,
    streams: 10,
    watchers: 100,
    is_one_key: true,
    requests: 1,
    keys_of_request: 1,
};
/// What is measured, by the name that `--only` is compared with.
const FANS: [(&str, Fan); 4] = [
    ("watch one-key 10000", ON_ONE_KEY),
    (
        "watch one-key 10000 x4",
        Fan {
            requests: 4,
            ..ON_ONE_KEY
        },
    ),
    (
        "watch distinct 10000",
        Fan {
            is_one_key: false,
            requests: 64,
            ..ON_ONE_KEY
        },
    ),
    // The row above waits for its puts; this one is about many events.
    (
        "watch distinct 10000 txn",
        Fan {
            is_one_key: false,
            requests: 8,
            keys_of_request: 50,
            ..ON_ONE_KEY
        },
    ),
];

const JSON_WATCHES: usize = 1_000;
/// "watched" in base64.
const JSON_KEY: &str = "d2F0Y2hlZA==";
/// Reads count as unharmed by watches if they take at most this many times longer.
const KEPT: Option<Target> = Some(Target::Ours(Bound::AtMost(1.25)));
/// Pause between changes of the key that all JSON streams watch.
const JSON_PUT_EVERY: Duration = Duration::from_millis(500);
/// 50,000 leases.
const LEASES: Renewals = Renewals {
    connections: 10,
    streams: 10,
    leases: 500,
    ttl: Duration::from_secs(10),
    measured: Duration::ZERO,
};
/// What etcd documents for one watcher, and for one connection with a watcher, in bytes.
const WATCHER_BYTES: f64 = 350.0;
const CONNECTION_BYTES: f64 = 17.0 * 1_024.0;

/// Measures what `only` names.
///
/// # Errors
/// When the report cannot be written.
pub async fn compare(
    programs: &[PathBuf; 2],
    only: &str,
    effort: Effort,
    table: &mut Table,
) -> Outcome {
    let mut fans = FANS
        .iter()
        .filter(|(name, _)| name.contains(only))
        .peekable();
    if fans.peek().is_some() {
        println!();
        table.head();
    }
    for (name, fan) in fans {
        let time = table.time_for_a_row();
        let row = timeout(time, fanned(programs, name, *fan, effort, table)).await;
        table.settle(name, row)?;
    }
    if "json-watch".contains(only) {
        let time = table.time_for_a_row();
        let rows = timeout(time, json(programs, effort, table)).await;
        table.settle("json-watch", rows)?;
    }
    if "lease".contains(only) {
        let time = table.time_for_a_row();
        let rows = timeout(time, leases(programs, effort, table)).await;
        table.settle("lease", rows)?;
    }
    if "idle".contains(only) {
        let time = table.time_for_a_row();
        let rows = timeout(time, memory(programs, table)).await;
        table.settle("idle", rows)?;
    }
    Ok(())
}

async fn fanned(
    programs: &[PathBuf; 2],
    name: &str,
    fan: Fan,
    effort: Effort,
    table: &mut Table,
) -> Outcome {
    let members = programs
        .each_ref()
        .map(|program| Member::start(program, &[]));
    let mut samples: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    for round in 0..effort.rounds {
        for at in turns(round) {
            let (member, samples) = (&members[at], &mut samples[at]);
            let (port, pid) = (member.client_port(), member.process_id());
            let times = [effort.measured / 5, effort.measured];
            samples.push(fan_out::measure(port, pid, fan, times).await?);
        }
    }
    table.row(name, fan.all(), FANNED, &samples)?;
    Ok(())
}

/// Reads of single keys, alone and beside watches; a few puts run beside both.
async fn json(programs: &[PathBuf; 2], effort: Effort, table: &mut Table) -> Outcome {
    let workload = Arc::new(Workload::new(Kind::Get {
        serializable: false,
    }));
    let shape = Shape {
        protocol: Protocol::Json,
        connections: 64,
        warm_up: effort.measured / 5,
        measured: effort.measured,
    };
    let members = programs
        .each_ref()
        .map(|program| Member::start(program, &[]));
    let mut alone: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    let mut beside: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    for (at, member) in members.iter().enumerate() {
        load(member, KEYS, VALUE_BYTES).await?;
        let (port, pid) = (member.client_port(), member.process_id());
        for _ in 0..effort.rounds {
            let changing = change(member).await;
            alone[at].push(measure(port, pid, &workload, shape).await?);
            let mut watches = JsonWatches::open(port, JSON_WATCHES, JSON_KEY).await?;
            let before = watches.lines();
            beside[at].push(measure(port, pid, &workload, shape).await?);
            changing.abort();
            if !watches.are_open() || watches.lines() == before {
                return Err("a JSON watch ended, or none saw an event".into());
            }
        }
    }
    let name = format!("json get 64 beside {JSON_WATCHES} watches");
    table.row("json get 64 alone", shape.connections, &[], &alone)?;
    table.row(&name, shape.connections, &[], &beside)?;
    let of = |samples: &[Sample], figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
    let times = |at: usize, figure| of(&beside[at], figure) / of(&alone[at], figure);
    let p50: fn(&Sample) -> f64 = |sample| sample.p50_us;
    let p99: fn(&Sample) -> f64 = |sample| sample.p99_us;
    let row = |name, figure| (name, times(0, figure), times(1, figure), KEPT);
    let rows = [
        row("p50 beside watches / alone", p50),
        row("p99 beside watches / alone", p99),
    ];
    table.figures("json-watch", &rows)?;
    Ok(())
}

/// Changes the key that all JSON streams watch, until it is aborted.
async fn change(member: &Member) -> tokio::task::JoinHandle<()> {
    let mut client = member.grpc().await;
    tokio::spawn(async move {
        let mut turns = tokio::time::interval(JSON_PUT_EVERY);
        let request = pb::PutRequest {
            key: "watched".into(),
            value: "v".into(),
            ..pb::PutRequest::default()
        };
        loop {
            turns.tick().await;
            let answer = client.unary::<pb::PutResponse>(path::PUT, &request).await;
            if answer.is_err() {
                return;
            }
        }
    })
}

async fn leases(programs: &[PathBuf; 2], effort: Effort, table: &mut Table) -> Outcome {
    let plan = Renewals {
        measured: effort.leased,
        ..LEASES
    };
    let mut kept: Vec<Kept> = Vec::new();
    for program in programs {
        // A separate member: leases that expire later disturb nothing else.
        let member = Member::start(program, &[]);
        kept.push(keep_alive::measure(member.client_port(), member.process_id(), plan).await?);
    }
    let row =
        |name, figure: fn(&Kept) -> f64, target| (name, figure(&kept[0]), figure(&kept[1]), target);
    let none = Some(Target::Ours(Bound::AtMost(0.0)));
    let rows = [
        row("renewals/s", |kept| kept.sample.throughput, None),
        row("p50, us", |kept| kept.sample.p50_us, None),
        row("p99, us", |kept| kept.sample.p99_us, None),
        row("CPU per renewal, us", |kept| kept.sample.cpu_us, None),
        row("CPU, cores", |kept| kept.cpu_share, None),
        row("answers after more than 1 s", |kept| kept.late as f64, None),
        row("refused renewals", |kept| kept.sample.refused as f64, none),
        row("leases that were gone", |kept| kept.gone as f64, none),
    ];
    table.figures("50,000 leases with 10 s kept alive", &rows)?;
    Ok(())
}

/// Memory for 50,000 watchers on one stream and on a hundred, and of 1,000 connections.
async fn memory(programs: &[PathBuf; 2], table: &mut Table) -> Outcome {
    let shape = |connections, streams, watchers| idle::Shape {
        connections,
        streams,
        watchers,
    };
    let shapes = [
        (
            "each of 50000 watchers, 1 stream",
            shape(1, 1, 50_000),
            WATCHER_BYTES,
        ),
        (
            "each of 50000 watchers, 100 streams",
            shape(10, 10, 500),
            WATCHER_BYTES,
        ),
        (
            "each of 1000 connections, 1 watcher",
            shape(1_000, 1, 1),
            CONNECTION_BYTES,
        ),
    ];
    let mut rows = Vec::new();
    for (name, shape, bound) in shapes {
        let mut bytes = Vec::new();
        for program in programs {
            let member = Member::start(program, &[]);
            let taken = idle::measure(member.client_port(), member.process_id(), shape).await?;
            bytes.push(taken as f64 / shape.all() as f64);
        }
        let target = Some(Target::Ours(Bound::AtMost(bound)));
        rows.push((name, bytes[0], bytes[1], target));
    }
    table.figures("idle watchers, bytes", &rows)?;
    Ok(())
}
