//! SIGINT and SIGTERM as something to wait for.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{ERROR, Failure};

/// The two signals that ask a command to end. Once this exists, they no longer kill the process.
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
    arrived: bool,
}

impl Interrupt {
    /// Begins to catch the signals.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn catch() -> Result<Interrupt, Failure> {
        let catch = |kind| {
            let refuse = |error| Failure::new(ERROR, format!("catch signals: {error}"));
            signal(kind).map_err(refuse)
        };
        Ok(Interrupt {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            arrived: false,
        })
    }

    /// Waits for the first signal; returns at once if it has arrived before.
    pub async fn arrived(&mut self) {
        if self.arrived {
            return;
        }
        self.next().await;
        self.arrived = true;
    }

    /// Waits for the second signal, which asks not to wait for the orderly end that the first one
    /// began.
    pub async fn arrived_twice(&mut self) {
        self.next().await;
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
