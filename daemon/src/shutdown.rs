//! How a member ends: by a signal, in order, or by itself, when it must not go on.
//!
//! A signal closes the listeners, lets requests in flight finish within their time limit, and then
//! stops the node, which writes a checkpoint and closes its log: exit 0. A second signal ends the
//! process at once; the next start recovers. A member that was removed from its cluster stops in
//! order too. A halt of the node ends it with 70.

use std::io;
use std::process::ExitCode;

use actix_rt::task::JoinError;
use althing_actors::node::HaltCause;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::boot::{Port, Running};
use crate::systemd;

/// The member halted: its disk or one of its core actors failed.
pub const EXIT_HALTED: u8 = 70;
/// What a shell shows for a process that a signal ended, above the signal's number.
const EXIT_SIGNALLED: i32 = 128;

/// The signals that ask the process to end.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Takes the signals over. Error: the system refuses.
    pub fn new() -> io::Result<StopSignals> {
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

/// Serves until a signal or a halt, ends in order, and returns the process's exit code.
pub async fn serve_until_end(mut running: Running, mut signals: StopSignals) -> ExitCode {
    let ports = &mut running.ports;
    let removed = running.node.removed();
    let end = tokio::select! {
        signal = signals.next() => End::Signalled(signal),
        cause = running.node.halted() => End::Halted(cause),
        () = removed => End::Removed,
        closed = &mut ports.client.task => End::PortClosed(flat(closed)),
        closed = &mut ports.peer.port.task => End::PortClosed(flat(closed)),
    };
    match end {
        End::Signalled(signal) => {
            let signal = signal_name(signal);
            tracing::info!(signal, "received signal; shutting down");
            tokio::select! {
                () = stop(running) => ExitCode::SUCCESS,
                again = signals.next() => exit_now(again),
            }
        }
        End::Removed => {
            tracing::warn!("data-dir used by this member must be removed");
            tokio::select! {
                () = stop(running) => ExitCode::SUCCESS,
                again = signals.next() => exit_now(again),
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
    systemd::notify(systemd::STOPPING);
    let handles = running.handles().clone();
    let Running { node, ports, .. } = running;
    close(ports.client).await;
    handles.step_aside().await;
    drop(handles);
    // Nobody listens when it is gone already.
    let _ = ports.peer.closing.send(true);
    close(ports.peer.port).await;
    node.stop().await;
    tracing::info!("stopped");
}

/// Stops accepting, lets requests in flight finish within the time limit, and ends the server.
async fn close(port: Port) {
    port.handle.stop(true).await;
    if let Err(error) = flat(port.task.await) {
        tracing::warn!(%error, "a port did not close in order");
    }
}

/// A server that panicked failed like one that returned an error.
fn flat(ended: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    ended.unwrap_or_else(|error| Err(io::Error::other(error)))
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
