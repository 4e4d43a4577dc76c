//! A member that is killed at any moment and started again has every write that it acknowledged, no
//! half of any other, and a revision that never goes back.
//!
//! Environment: SEED replays a run, KILLS sets its length, MEMBER names another program (a real
//! etcd must pass as well).

use std::path::PathBuf;

use althing_tests::binaries;
use althing_tests::member::{Member, READY_LINE};
use althing_tests::process::DEADLINE;
use althing_tests::variable::number;
use althing_tests::writers::Writers;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

/// Small enough that some 25 kills see logs rolled over, purged and recycled. A long election
/// timeout lets requests take their time on a busy machine; a lone member elects itself at once.
const SMALL: [&str; 8] = [
    "--election-timeout",
    "5000",
    "--max-request-bytes",
    "65536",
    "--wal-segment-bytes",
    "1MiB",
    "--snapshot-count",
    "50",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_at_any_moment_loses_or_halves_a_write() {
    let seed = number("SEED").unwrap_or_else(rand::random);
    let kills = number("KILLS").unwrap_or(25);
    println!("SEED={seed} KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut member = match std::env::var_os("MEMBER") {
        Some(program) => Member::start(&PathBuf::from(program), &["--snapshot-count", "50"]),
        None => Member::start(&binaries::althingd(), &SMALL),
    };
    let port = member.client_port();
    let mut writers = Writers::new(seed, 6);
    for kill in 1..=kills {
        let enough = random.random_range(0..300);
        let (acknowledged, mut progress) = watch::channel(0);
        let killed = async {
            let reached = progress.wait_for(|count| *count >= enough);
            let reached = tokio::time::timeout(DEADLINE, reached).await;
            let _ = reached
                .expect("the member answers")
                .expect("the writers write");
            // A random number of turns, so that the kill meets every phase of a write.
            for _ in 0..random.random_range(0..100) {
                tokio::task::yield_now().await;
            }
            tokio::task::block_in_place(|| member.kill());
        };
        let writing = tokio::time::timeout(DEADLINE, writers.write(port, acknowledged));
        let (written, ()) = tokio::join!(writing, killed);
        let written = written.expect("writers stop when the member is gone");
        written.unwrap_or_else(|what| panic!("SEED={seed}, before kill {kill}: {what}"));
        if random.random_ratio(1, 4) {
            kill_while_starting(&mut member, random.random_range(0..12));
        }
        tokio::task::block_in_place(|| member.restart());
        let checked = tokio::time::timeout(DEADLINE, writers.check(port)).await;
        let checked = checked.expect("the member answers");
        checked.unwrap_or_else(|what| panic!("SEED={seed}, after kill {kill}: {what}"));
    }
}

/// Interrupts recovery itself, after it printed some lines.
fn kill_while_starting(member: &mut Member, lines: usize) {
    tokio::task::block_in_place(|| {
        member.launch().wait_for_lines(lines, READY_LINE);
        member.kill();
    });
}
