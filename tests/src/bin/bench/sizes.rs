//! What a member with a number of keys takes: memory, disk, and time until it serves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use althing_tests::load::proc_stat::{ProcStat, bytes_on_disk};
use althing_tests::load::workload::VALUE_BYTES;
use althing_tests::member::Member;
use tokio::time::timeout;

use crate::scenario::Bound;
use crate::table::{Table, Target};
use crate::{Effort, Failure, Outcome, label, load, median};

/// Time for a member to write what it holds back, and to give memory back.
const SETTLE: Duration = Duration::from_secs(3);
/// The number of keys for which the targets hold.
const TARGET_KEYS: u64 = 1_000_000;
const HALF: Target = Target::Ratio(Bound::AtMost(0.5));
const MIB: f64 = 1_048_576.0;

/// What one program takes.
#[derive(Debug)]
struct Size {
    rss_loaded: f64,
    rss_restarted: f64,
    anonymous_restarted: f64,
    disk: f64,
    start_clean_ms: f64,
    start_killed_ms: f64,
}

/// Measures both programs at every size.
///
/// # Errors
/// When the report cannot be written.
pub async fn compare(programs: &[PathBuf; 2], effort: Effort, table: &mut Table) -> Outcome {
    for keys in effort.sizes.iter().copied() {
        let time = table.time_for_a_row();
        let row = of_size(programs, keys, effort.rounds, table);
        let outcome = timeout(time, row).await;
        table.settle(&format!("{keys} keys"), outcome)?;
    }
    Ok(())
}

async fn of_size(programs: &[PathBuf; 2], keys: u64, rounds: usize, table: &mut Table) -> Outcome {
    let ours = measure(&programs[0], keys, rounds).await?;
    let theirs = measure(&programs[1], keys, rounds).await?;
    let target = (keys == TARGET_KEYS).then_some(HALF);
    let rows = [
        (
            "memory after loading, MiB",
            ours.rss_loaded,
            theirs.rss_loaded,
            target,
        ),
        (
            "memory after restart, MiB",
            ours.rss_restarted,
            theirs.rss_restarted,
            target,
        ),
        (
            "the same without mapped files",
            ours.anonymous_restarted,
            theirs.anonymous_restarted,
            None,
        ),
        ("on disk, MiB", ours.disk, theirs.disk, None),
        (
            "start after a stop, ms",
            ours.start_clean_ms,
            theirs.start_clean_ms,
            target,
        ),
        (
            "start after a kill, ms",
            ours.start_killed_ms,
            theirs.start_killed_ms,
            target,
        ),
    ];
    table.figures(&format!("{keys} keys"), &rows)?;
    Ok(())
}

async fn measure(program: &Path, keys: u64, rounds: usize) -> Result<Size, Failure> {
    let mut member = Member::start(program, &[]);
    load(&member, keys, VALUE_BYTES).await?;
    tokio::time::sleep(SETTLE).await;
    let loaded = ProcStat::read(member.process_id())?;
    let disk = bytes_on_disk(member.data_dir())?;
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        member.stop();
        clean.push(start(&mut member));
        member.kill();
        killed.push(start(&mut member));
    }
    tokio::time::sleep(SETTLE).await;
    let restarted = ProcStat::read(member.process_id())?;
    println!(
        "{} with {keys} keys: starts {clean:?} and {killed:?} ms",
        label(program)
    );
    Ok(Size {
        rss_loaded: loaded.rss_bytes as f64 / MIB,
        rss_restarted: restarted.rss_bytes as f64 / MIB,
        anonymous_restarted: restarted.anonymous_bytes as f64 / MIB,
        disk: disk as f64 / MIB,
        start_clean_ms: median(clean.into_iter()),
        start_killed_ms: median(killed.into_iter()),
    })
}

/// Milliseconds until the member serves.
fn start(member: &mut Member) -> f64 {
    let began = Instant::now();
    member.restart();
    (began.elapsed().as_secs_f64() * 1e4).round() / 10.0
}
