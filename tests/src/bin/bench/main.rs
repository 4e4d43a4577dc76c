//! `bench [--quick | --full] [--only TEXT] [--out FILE]`: althingd and a real etcd on the same
//! box, alternately, as ratios. `tests/bench` builds and installs what it needs and starts it.
//! Environment: ALTHINGD and ETCD name the programs.
//!
//! Both members run all the time, one of them under load; beside both a spinner of the lowest
//! priority keeps each core awake, since on an idle virtual machine an fsync takes a timer tick and
//! a bench would compare ticks. Each figure is the median of several rounds. A row that cannot be
//! measured, or not in time, is reported and the others go on.

mod cluster;
mod scenario;
mod sizes;
mod table;
mod watching;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use althing_tests::binaries;
use althing_tests::grpc::{Grpc, path};
use althing_tests::load::workload::{KEYS, VALUE_BYTES, Workload, loading};
use althing_tests::load::{Sample, Shape, measure};
use althing_tests::member::Member;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use scenario::{SCENARIOS, Scenario};
use table::Table;

/// Transactions in flight while keys are loaded.
const LOADERS: usize = 16;

/// How long to measure, and how often.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: usize,
    measured: Duration,
    /// Numbers of keys for which memory, disk and start-up are measured.
    sizes: &'static [u64],
    /// How long leases are kept alive.
    leased: Duration,
    /// The longest time for one row, or for one group of rows that belong together.
    row_max: Duration,
    /// The longest time for all rows; later ones are reported as not measured.
    all_max: Duration,
    /// How often the lead is ended in each way.
    ends: usize,
    /// Bytes of values that a member catches up with.
    caught_up: u64,
}

const QUICK: Effort = Effort {
    rounds: 3,
    measured: Duration::from_millis(1_500),
    sizes: &[0, 1_000_000],
    leased: Duration::from_secs(12),
    row_max: Duration::from_secs(120),
    all_max: Duration::from_secs(15 * 60),
    ends: 10,
    caught_up: 100 << 20,
};
const FULL: Effort = Effort {
    rounds: 5,
    measured: Duration::from_secs(4),
    sizes: &[0, 500_000, 1_000_000],
    leased: Duration::from_secs(40),
    row_max: Duration::from_secs(600),
    all_max: Duration::from_secs(2 * 60 * 60),
    ends: 50,
    caught_up: 1 << 30,
};

/// Why something was not measured.
type Failure = Box<dyn std::error::Error>;
type Outcome = Result<(), Failure>;

struct Options {
    effort: Effort,
    only: String,
    out: PathBuf,
    programs: [PathBuf; 2],
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: bench [--quick | --full] [--only TEXT] [--out FILE], with ETCD set");
        return ExitCode::from(2);
    };
    match run(&options).await {
        Ok(table) => {
            println!("\n{table}; every figure is in {}", options.out.display());
            ExitCode::from(u8::from(table.failed() > 0))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Option<Options> {
    let mut options = Options {
        effort: QUICK,
        only: String::new(),
        out: PathBuf::from("bench.jsonl"),
        programs: [binaries::althingd(), PathBuf::from(env::var_os("ETCD")?)],
    };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.effort = QUICK,
            "--full" => options.effort = FULL,
            "--only" => options.only = arguments.next()?,
            "--out" => options.out = PathBuf::from(arguments.next()?),
            _ => return None,
        }
    }
    Some(options)
}

async fn run(options: &Options) -> Result<Table, Failure> {
    let _spinners = Spinners::start()?;
    let mut table = Table::create(&options.out, options.effort)?;
    println!(
        "{:?}, {KEYS} keys of 256 bytes, {} rounds",
        options.effort.measured, options.effort.rounds
    );
    println!("etcd is {}\n", options.programs[1].display());
    requests(options, &mut table).await?;
    watching::compare(&options.programs, &options.only, options.effort, &mut table).await?;
    cluster::compare(&options.programs, &options.only, options.effort, &mut table).await?;
    if "sizes".contains(&options.only) {
        sizes::compare(&options.programs, options.effort, &mut table).await?;
    }
    Ok(table)
}

/// The scenarios of single requests, on one pair of members.
async fn requests(options: &Options, table: &mut Table) -> Outcome {
    let is_chosen = |scenario: &&Scenario| scenario.name().contains(&options.only);
    let chosen: Vec<_> = SCENARIOS.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let members = options
        .programs
        .each_ref()
        .map(|program| Member::start(program, &[]));
    for member in &members {
        load(member, KEYS, VALUE_BYTES).await?;
    }
    table.head();
    for scenario in chosen {
        let time = table.time_for_a_row();
        let row = compare(scenario, members.each_ref(), options.effort, table);
        let outcome = timeout(time, row).await;
        table.settle(&scenario.name(), outcome)?;
    }
    Ok(())
}

/// Measures both members in turn, several rounds.
async fn compare(
    scenario: &Scenario,
    members: [&Member; 2],
    effort: Effort,
    table: &mut Table,
) -> Outcome {
    let workload = Arc::new(Workload::new(scenario.kind));
    let shape = Shape {
        protocol: scenario.protocol,
        connections: scenario.connections,
        warm_up: effort.measured / 5,
        measured: effort.measured,
    };
    let mut samples: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    for round in 0..effort.rounds {
        for at in turns(round) {
            let (member, samples) = (members[at], &mut samples[at]);
            let (port, pid) = (member.client_port(), member.process_id());
            let sample = measure(port, pid, &workload, shape).await?;
            if sample.refused > 0 {
                return Err(format!("{}: {} refusals", scenario.name(), sample.refused).into());
            }
            samples.push(sample);
        }
    }
    table.row(
        &scenario.name(),
        scenario.clients(),
        scenario.targets,
        &samples,
    )?;
    Ok(())
}

/// The order within a round: the first one is at a disadvantage, so each comes first in turn.
fn turns(round: usize) -> [usize; 2] {
    [round % 2, (round + 1) % 2]
}

/// Puts `keys` keys, many in each transaction.
async fn load(member: &Member, keys: u64, value_bytes: usize) -> Outcome {
    let client = member.grpc().await;
    let put = |request| {
        let mut client: Grpc = client.clone();
        async move {
            let answer = client.unary(path::TXN, &request).await;
            answer.map(|_: althing_api::etcdserverpb::TxnResponse| ())
        }
    };
    stream::iter(loading(keys, value_bytes))
        .map(put)
        .buffer_unordered(LOADERS)
        .try_collect::<()>()
        .await?;
    Ok(())
}

/// Busy loops of the lowest priority, one for each core.
struct Spinners(Vec<Child>);

impl Spinners {
    fn start() -> std::io::Result<Spinners> {
        let cores = std::thread::available_parallelism()?.get();
        let spinner = || {
            let mut command = Command::new("nice");
            command.args(["-n", "19", "sh", "-c", "while :; do :; done"]);
            command.stdin(Stdio::null()).spawn()
        };
        (0..cores)
            .map(|_| spinner())
            .collect::<Result<_, _>>()
            .map(Spinners)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for spinner in &mut self.0 {
            // It cannot have ended by itself; if it has, nothing is left to end.
            let _ = spinner.kill();
            let _ = spinner.wait();
        }
    }
}

/// The middle value; `values` must not be empty.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A program's name for the report.
fn label(program: &Path) -> String {
    program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
