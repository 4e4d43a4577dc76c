//! `althingd`, one member of a cluster: reads its configuration, starts, serves, and ends with an
//! exit code that tells why.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use althing_actors::node::StartError;
use althing_conf::Config;
use althing_daemon::boot::BootError;
use althing_daemon::operator::{CommandLine, Operator};
use althing_daemon::shutdown::Signals;
use althing_daemon::{boot, log, shutdown, spans};

/// What the operator asked for or what lies in the data directory is wrong: starting again will not
/// help (sysexits' EX_CONFIG).
const EXIT_CONFIGURATION: u8 = 78;

/// A command is allocated on one thread, shared by three and freed on a fourth: the system's
/// allocator spends a sixth of a write's CPU on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command_line = CommandLine {
        args: std::env::args_os().collect(),
        env: std::env::vars_os().collect(),
    };
    let CommandLine { args, env } = command_line.clone();
    let loaded = match Config::load(args, env) {
        Ok(loaded) => loaded,
        Err(error) => {
            if error.is_answer() {
                print!("{error}")
            } else {
                eprintln!("{}", error.to_string().trim_end())
            }
            return ExitCode::from(error.exit_code());
        }
    };
    let log = match log::start(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let operator = Operator::new(command_line, loaded, log);
    actix_rt::System::new().block_on(run(operator))
}

async fn run(operator: Operator) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            return ExitCode::FAILURE;
        }
    };
    let spans = match spans::start(&operator.config().trace) {
        Ok(spans) => spans,
        Err(error) => {
            tracing::error!(%error, "the configuration is refused");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let started = tokio::select! {
        started = boot::start(operator.config()) => started,
        _ = signals.stop.next() => {
            tracing::info!("received signal while starting");
            // Returning would wait for the thread that reads log and store, for minutes perhaps.
            // That work may be cut off anywhere, as by a crash.
            std::process::exit(0);
        }
    };
    match started {
        Ok(running) => {
            let code = shutdown::serve_until_end(running, signals, operator).await;
            spans.end().await;
            code
        }
        Err(error) => {
            tracing::error!(%error, "the member cannot start");
            match error {
                // As etcd: this is the end of a member, not a failure to try again.
                BootError::Node(StartError::Removed) => ExitCode::SUCCESS,
                error if error.is_final() => ExitCode::from(EXIT_CONFIGURATION),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
