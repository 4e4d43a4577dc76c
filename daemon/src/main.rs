//! `althingd`, one member of a cluster: reads its configuration, starts, serves, and ends with an
//! exit code that tells why.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use althing_actors::node::StartError;
use althing_conf::Config;
use althing_daemon::boot::BootError;
use althing_daemon::shutdown::StopSignals;
use althing_daemon::{boot, log, shutdown};

/// What the operator asked for is wrong: starting again will not help (sysexits' EX_CONFIG).
const EXIT_CONFIGURATION: u8 = 78;

/// A command is allocated on one thread, shared by three and freed on a fourth: the system's
/// allocator spends a sixth of a write's CPU on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let loaded = match Config::load(std::env::args_os(), std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(error) => {
            match error.is_answer() {
                true => print!("{error}"),
                false => eprintln!("{}", error.to_string().trim_end()),
            }
            return ExitCode::from(error.exit_code());
        }
    };
    if let Err(error) = log::start(&loaded.config.log) {
        eprintln!("{error}");
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    actix_rt::System::new().block_on(run(&loaded.config))
}

async fn run(config: &Config) -> ExitCode {
    let mut signals = match StopSignals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            return ExitCode::FAILURE;
        }
    };
    let started = tokio::select! {
        started = boot::start(config) => started,
        _ = signals.next() => {
            tracing::info!("received signal while starting");
            return ExitCode::SUCCESS;
        }
    };
    match started {
        Ok(running) => shutdown::serve_until_end(running, signals).await,
        Err(error) => {
            tracing::error!(%error, "the member cannot start");
            match error {
                // As etcd: this is the end of a member, not a failure to try again.
                BootError::Node(StartError::Removed) => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
    }
}
