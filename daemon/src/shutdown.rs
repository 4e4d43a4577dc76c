//! How a member ends: by a signal, in order, or by itself, when it must not go on.
//!
//! A signal closes the listeners, lets requests in flight finish within their time limit, and then
//! stops the node, which writes a checkpoint and closes its log: exit 0. A second signal ends the
//! process at once; the next start recovers. A member that was removed from its cluster stops in
//! order too. A halt of the node ends it with 70.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use althing_actors::node::HaltCause;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::boot::Running;
use crate::operator::Operator;
use crate::{service, systemd};

/// The member halted: its disk or one of its core actors failed.
pub const EXIT_HALTED: u8 = 70;
/// A shell shows this plus a signal's number for a process that the signal ended.
const EXIT_SIGNALLED: i32 = 128;
/// How long a stop waits for a successor. A hand-over takes a few round trips; looking for a
/// successor takes up to two election timeouts, which may be more than a service manager waits.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);
/// Time asked of a service manager beyond the waiting, for the checkpoint on a slow disk.
const CHECKPOINT_MAX: Duration = Duration::from_secs(30);

/// The signals that ask the process to end.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

/// The signals of the process.
#[derive(Debug)]
pub struct Signals {
    /// The signals that ask the process to end.
    pub stop: StopSignals,
    /// The signal that asks it to read its configuration again.
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over. Error: the system refuses.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            stop: StopSignals::new()?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

impl StopSignals {
    /// Takes the signals over. Error: the system refuses.
    fn new() -> io::Result<StopSignals> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves with the next of them.
    pub async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}

/// Why the member ends.
enum End {
    Signalled(SignalKind),
    Halted(HaltCause),
    Removed,
    PortClosed(io::Result<()>),
}

/// Serves until a signal or a halt, doing what the operator asks meanwhile, ends in order, and
/// returns the process's exit code.
pub async fn serve_until_end(
    mut running: Running,
    mut signals: Signals,
    mut operator: Operator,
) -> ExitCode {
    let report = service::report(running.handles().clone());
    let end = loop {
        let removed = running.node.removed();
        let wish = tokio::select! {
            signal = signals.stop.next() => break End::Signalled(signal),
            cause = running.node.halted() => break End::Halted(cause),
            () = removed => break End::Removed,
            closed = running.ports.ended() => break End::PortClosed(closed),
            _ = signals.hang_up.recv() => None,
            question = running.admin.next() => Some(question),
        };
        let fulfilled = async {
            match wish {
                Some(question) => operator.answer(question, &mut running).await,
                // What came of it is in the log.
                None => drop(operator.reload(&mut running).await),
            }
        };
        // A reload waits only before it changes anything, so it may be given up there.
        tokio::select! {
            signal = signals.stop.next() => break End::Signalled(signal),
            () = fulfilled => {}
        }
    };
    if let Some(report) = report {
        report.abort();
    }
    match end {
        End::Signalled(signal) => {
            let signal = signal_name(signal);
            tracing::info!(signal, "received signal; shutting down");
            tokio::select! {
                () = stop(running) => ExitCode::SUCCESS,
                again = signals.stop.next() => exit_now(again),
            }
        }
        End::Removed => {
            tracing::warn!("data-dir used by this member must be removed");
            tokio::select! {
                () = stop(running) => ExitCode::SUCCESS,
                again = signals.stop.next() => exit_now(again),
            }
        }
        End::Halted(HaltCause(cause)) => {
            // Nothing more is written: what the log holds is what the next start recovers.
            tracing::error!(cause, "the member halts; the next start recovers its data");
            ExitCode::from(EXIT_HALTED)
        }
        End::PortClosed(result) => {
            let cause = result.err().map(|error| error.to_string());
            tracing::error!(cause, "a port closed by itself; the member halts");
            running.node.stop().await;
            ExitCode::from(EXIT_HALTED)
        }
    }
}

/// Ends a member in order: ports first, so that every request in flight still finds the node. The
/// lead is handed over while the other members can still be heard.
pub async fn stop(running: Running) {
    let handles = running.handles().clone();
    let patience = running.settings.get().port.shutdown_timeout;
    systemd::notify(&systemd::stopping(time_to_stop(patience)));
    let Running {
        node,
        mut ports,
        rpc,
        publisher,
        admin,
        ..
    } = running;
    // Nobody answers there any more: a caller must be told so rather than kept waiting.
    drop(admin);
    drop(publisher);
    ports.close_clients(patience).await;
    let aside = tokio::time::timeout(HAND_OVER_MAX, handles.step_aside());
    if aside.await.is_err() {
        tracing::warn!("no other member took the lead in time; the others elect one");
    }
    ports.close_peers(patience).await;
    drop((handles, rpc, ports));
    node.stop().await;
    tracing::info!("stopped");
}

/// How long a stop may take. A service manager is told once, and ends a member that takes longer,
/// such as one whose disk hangs.
fn time_to_stop(patience: Duration) -> Duration {
    // Clients are waited for first, then the other members.
    let waiting = patience.saturating_mul(2);
    waiting.saturating_add(HAND_OVER_MAX + CHECKPOINT_MAX)
}

fn exit_now(signal: SignalKind) -> ExitCode {
    let name = signal_name(signal);
    tracing::warn!(signal = name, "received a second signal; exiting at once");
    std::process::exit(EXIT_SIGNALLED + signal.as_raw_value())
}

fn signal_name(signal: SignalKind) -> &'static str {
    if signal == SignalKind::interrupt() {
        "interrupt"
    } else {
        "terminated"
    }
}
