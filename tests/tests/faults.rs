//! A cluster of real processes that die, stop for a while, are cut off, slowed down and restarted
//! never gives a wrong answer: what clients saw meanwhile is linearizable, and nothing that was
//! acknowledged is lost.
//!
//! The judge is judged too: with clients that deceive themselves it must find faults.
//!
//! Environment: SEED replays a plan, STEPS sets its length, MEMBERS the size of the cluster, FAULTS
//! the families (processes,network,members,disks,clocks; the last two need rights and programs that
//! not every machine has, and are left out there), KILLS how often the leader is killed under load,
//! MEMBER names another program (a real etcd must pass).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use althing_tests::binaries::althingd;
use althing_tests::cluster::Cluster;
use althing_tests::faults::clients::{Behaviour, Flaw};
use althing_tests::faults::clock::Clock;
use althing_tests::faults::flushes::Flushes;
use althing_tests::faults::pauses;
use althing_tests::faults::plan::{Direction, Fault, Kind, Manner, Step, Target, plan};
use althing_tests::faults::run::{Report, Run};
use althing_tests::small_disk::SmallDisk;
use althing_tests::variable::number;

/// Small logs, so that a member that was away sometimes needs a snapshot; short elections.
const FLAGS: [&str; 6] = [
    "--heartbeat-interval",
    "50",
    "--election-timeout",
    "500",
    "--snapshot-count",
    "200",
];
/// Further flags, which make a member fit onto a small disk.
const SMALL: [&str; 8] = [
    "--max-request-bytes",
    "131072",
    "--wal-segment-bytes",
    "1MiB",
    "--max-pending-bytes",
    "2MiB",
    "--disk-reserve-bytes",
    "4MiB",
];

const HONEST: Behaviour = Behaviour {
    clients: 8,
    patience: Duration::from_secs(2),
    rest: Duration::from_millis(5),
    flaw: None,
};

/// The most runs until clients that deceive themselves have met what exposes them: whether the
/// isolated member is asked for what changed meanwhile is random.
const DECEPTIONS: usize = 10;

/// The judgement of a run, with its figures printed.
async fn judged(run: Run<'_>) -> Report {
    let began = Instant::now();
    let report = run.run().await;
    let [done, failed, unknown] = report.counts();
    println!(
        "{done} answered, {failed} refused, {unknown} unknown, {} revisions in {:?}",
        report.log.len(),
        began.elapsed()
    );
    report
}

/// Whether `tests/interop/faults` has prepared a network that members may be given parts of.
fn namespaces() -> bool {
    std::env::var_os("NAMESPACES").is_some()
}

fn program() -> PathBuf {
    std::env::var_os("MEMBER").map_or_else(althingd, PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_members_and_links_no_answer_is_wrong() {
    let seed = number("SEED").unwrap_or_else(rand::random);
    let steps = count("STEPS", 12);
    let size = count("MEMBERS", 3);
    let kinds = kinds();
    println!("SEED={seed} STEPS={steps} MEMBERS={size} FAULTS={kinds:?}");
    let flags = if kinds.contains(&Kind::Disks) {
        [&FLAGS[..], &SMALL[..]].concat()
    } else {
        FLAGS.to_vec()
    };
    let run = Run {
        program: &program(),
        size,
        flags: &flags,
        kinds: &kinds,
        namespaces: namespaces(),
        seed,
        behaviour: HONEST,
        plan: plan(seed, size, steps, &kinds),
        // On a slow machine the plan may have to be carried out once more.
        requests: 20 * steps as u64,
    };
    let report = judged(run).await;
    let faults = report.faults.join("\n");
    assert!(faults.is_empty(), "SEED={seed}:\n{faults}");
    assert!(report.counts()[0] > 10 * steps, "too little was looked at");
}

/// Runs clients with a flaw, in a situation where it matters, until `requests` requests were
/// answered; returns what the judge says.
async fn deceived(flaw: Flaw, patience: Duration, fault: Fault, requests: u64) -> String {
    let seed = number("SEED").unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let behaviour = Behaviour {
        flaw: Some(flaw),
        patience,
        ..HONEST
    };
    let step = Step {
        fault,
        lasts: Duration::from_millis(1_500),
        calm: Duration::from_millis(500),
    };
    let run = Run {
        program: &program(),
        size: 3,
        flags: &FLAGS,
        kinds: &[Kind::Network],
        namespaces: namespaces(),
        seed,
        behaviour,
        plan: vec![step],
        requests,
    };
    judged(run).await.faults.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_member_that_is_cut_off_are_found_if_they_pass_for_linearizable() {
    let fault = Fault::Isolate(Target::Position(2), Direction::Both, Manner::Held);
    let patience = Duration::from_millis(300);
    let proofs = ["no order explains", "although before it"];
    let mut found = String::new();
    for _ in 0..DECEPTIONS {
        found += &deceived(Flaw::StaleReads, patience, fault, 800).await;
        if proofs.iter().all(|proof| found.contains(proof)) {
            break;
        }
    }
    for proof in proofs {
        assert!(found.contains(proof), "no {proof:?}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_taken_for_failed_since_no_answer_came_is_found() {
    let fault = Fault::Slow(Target::Leader, 100);
    let patience = Duration::from_millis(150);
    let found = deceived(Flaw::UnknownIsFailed, patience, fault, 100).await;
    assert!(found.contains("-> failed"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_is_answered_with_what_was_read_before_is_found() {
    let fault = Fault::Slow(Target::Leader, 5);
    let found = deceived(Flaw::CachedReads, HONEST.patience, fault, 100).await;
    assert!(found.contains("although before it"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_sent_twice_in_silence_is_found() {
    let fault = Fault::Slow(Target::Leader, 100);
    let patience = Duration::from_millis(150);
    let found = deceived(Flaw::Retries, patience, fault, 100).await;
    assert!(found.contains("the log writes a value again"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_under_load_is_replaced_and_the_pause_is_told() {
    let kills = count("KILLS", 2);
    let mut cluster = Cluster::start(&program(), 3, &[]);
    let pauses = pauses::of_leader_kills(&mut cluster, kills, 6).await;
    let [median, worst] = [0.5, 0.99].map(|share| pauses.quantile(share));
    println!("{kills} kills: p50 {median:?}, p99 {worst:?}");
    assert!(worst < Duration::from_secs(15), "{worst:?}");
}

/// The families that are asked for, without those that are unavailable here.
fn kinds() -> Vec<Kind> {
    // A real etcd does not know `--join`.
    let others = match std::env::var_os("MEMBER") {
        Some(_) => "processes,network",
        None => "processes,network,members",
    };
    let names = std::env::var("FAULTS").unwrap_or_else(|_| others.to_owned());
    let named = |name| Kind::named(name).unwrap_or_else(|| panic!("no family is called {name:?}"));
    let mut kinds: Vec<Kind> = names.split(',').map(named).collect();
    kinds.retain(|kind| {
        let possible = match kind {
            Kind::Processes | Kind::Network | Kind::Members => true,
            Kind::Disks => Flushes::can_be_changed() && SmallDisk::mount(1 << 20).is_some(),
            Kind::Clocks => Clock::library().is_some(),
        };
        if !possible {
            println!("skipped: {kind:?}, for want of rights, of strace or of libfaketime");
        }
        possible
    });
    kinds
}

fn count(variable: &str, otherwise: u64) -> usize {
    let number = number(variable).unwrap_or(otherwise);
    usize::try_from(number).expect("a small number")
}
