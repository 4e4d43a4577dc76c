//! No watcher loses an event, sees one twice, out of order or in halves, or is promised more than
//! it has, whatever writers, compactions, slow readers, broken streams and restarts do.
//!
//! Environment: SEED replays a plan, REVISIONS sets its length, RESTARTS how often the member ends,
//! MEMBER names another program (a real etcd) and MEMBER_FLAGS its flags.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use althing_tests::binaries;
use althing_tests::member::Member;
use althing_tests::variable::number;
use althing_tests::watch_check::run::{Plan, run};

/// The number of events that the suite promises to check.
const EVENTS_MIN: u64 = 1_000_000;
/// Revisions of a run unless given; with this many readers they make more than a million events,
/// even if compactions overtake slow readers.
const REVISIONS: u64 = 3_500;
/// Frequent progress, and the smallest possible pieces of responses.
const FLAGS: [&str; 4] = [
    "--watch-progress-notify-interval",
    "100ms",
    "--max-request-bytes",
    "65536",
];
/// A run that takes longer has hung.
const DEADLINE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_events_come_once_in_order_and_whole_through_every_disturbance() {
    let seed = number("SEED").unwrap_or_else(rand::random);
    let revisions = number("REVISIONS").unwrap_or(REVISIONS);
    let restarts = number("RESTARTS").unwrap_or(4);
    println!("SEED={seed} REVISIONS={revisions} RESTARTS={restarts}");
    let mut member = member();
    let plan = Plan {
        seed,
        revisions: i64::try_from(revisions).expect("a small number"),
        writers: 6,
        grpc_readers: 20,
        json_readers: 4,
        watchers: 10,
        restarts: usize::try_from(restarts).expect("a small number"),
        is_etcd: std::env::var_os("MEMBER").is_some(),
    };
    let began = Instant::now();
    let ran = tokio::time::timeout(DEADLINE, run(plan, &mut member)).await;
    let ran = ran.unwrap_or_else(|_| panic!("SEED={seed}: the run hangs"));
    let report = ran.unwrap_or_else(|what| panic!("SEED={seed}: {what}"));
    println!("{report:#?}\nin {:?}", began.elapsed());
    assert!(plan.is_etcd || report.counts.progress > 0);
    assert!(
        revisions < REVISIONS || report.counts.events >= EVENTS_MIN,
        "SEED={seed}: only {} events were checked",
        report.counts.events
    );
}

fn member() -> Member {
    let Some(program) = std::env::var_os("MEMBER") else {
        return Member::start(&binaries::althingd(), &FLAGS);
    };
    let flags = std::env::var("MEMBER_FLAGS").unwrap_or_default();
    let flags: Vec<_> = flags.split_whitespace().collect();
    Member::start(&PathBuf::from(program), &flags)
}
