//! `differential RIGHT [LEFT]`: plays one random sequence to two programs and compares every
//! answer. RIGHT is an etcd; LEFT is althingd unless given (two etcds show what the comparison
//! sees). Environment: SEED (random unless set), OPS (2,500), TRANSPORT (grpc, json or mixed),
//! TRACE (if set, prints every step).

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use althing_tests::binaries;
use althing_tests::differential::generate::Ways;
use althing_tests::differential::known::KNOWN;
use althing_tests::differential::{Plan, Report, run};
use althing_tests::variable::number;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut programs = env::args_os().skip(1).map(PathBuf::from);
    let Some(right) = programs.next() else {
        eprintln!("usage: differential RIGHT [LEFT]");
        return ExitCode::from(2);
    };
    let left = programs.next().unwrap_or_else(binaries::althingd);
    let plan = Plan {
        seed: number("SEED").unwrap_or_else(rand::random),
        steps: number("OPS").unwrap_or(2_500),
        ways: match env::var("TRANSPORT").as_deref() {
            Ok("grpc") => Ways::Grpc,
            Ok("json") => Ways::Json,
            _ => Ways::Mixed,
        },
        trace: env::var_os("TRACE").is_some(),
    };
    println!("{} | {} | {plan:?}", left.display(), right.display());
    match run(&left, &right, plan).await {
        Ok(report) => {
            print(&report);
            println!("{} steps, no unexplained difference", plan.steps);
            ExitCode::SUCCESS
        }
        Err(difference) => {
            println!(
                "{difference}\nreplay with SEED={} and the same TRANSPORT",
                plan.seed
            );
            ExitCode::FAILURE
        }
    }
}

fn print(report: &Report) {
    for (name, (steps, refused)) in &report.operations {
        println!("  {name}: {steps}, {refused} of them refused");
    }
    println!(
        "  sorted ranges that differed among equal values: {}",
        report.ties
    );
    for known in KNOWN {
        if let Some(count) = report.explained.get(known.name) {
            println!(
                "  explained {count} times: {} ({})",
                known.name, known.reason
            );
        }
    }
}
