//! Sends transactions to the destination, each until its outcome is known; by any of its members.

use std::time::Duration;

use althing_api::etcdserverpb::{RequestOp, TxnRequest};
use tokio::time::sleep;

use super::batch::Change;
use crate::client::Client;
use crate::failure::{DEADLINE_TEXT, Failure};

/// Attempts before the destination counts as gone.
const ATTEMPTS_MAX: u32 = 30;
/// Pause before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// The destination.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    /// Changes written.
    pub written: u64,
}

impl Writer {
    /// Writes through `client`.
    pub fn new(client: Client) -> Writer {
        Writer { client, written: 0 }
    }

    /// The destination's client, for reads.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Makes changes, all or none.
    ///
    /// # Errors
    /// The destination's refusal, or that it stays unreachable.
    pub async fn write(&mut self, changes: Vec<Change>) -> Result<(), Failure> {
        let count = changes.len() as u64;
        let success: Vec<RequestOp> = changes.into_iter().map(Change::request).collect();
        let request = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let mut patience = Patience::default();
        while let Err(failure) = self.client.txn(request.clone()).await {
            patience.again(failure).await?;
            // Perhaps only this member is cut off.
            self.client.go_elsewhere();
        }
        self.written += count;
        Ok(())
    }
}

/// Counts failed attempts.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits before the next attempt.
    ///
    /// # Errors
    /// `failure`, if it does not pass or there were too many.
    pub async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        self.failures += 1;
        if self.failures >= ATTEMPTS_MAX || !passes(&failure) {
            return Err(failure);
        }
        sleep(PAUSE).await;
        Ok(())
    }
}

/// Whether the same request may succeed later.
pub fn passes(failure: &Failure) -> bool {
    let text = failure.text.as_str();
    text == DEADLINE_TEXT
        || text.contains("Unavailable")
        || [
            "etcdserver: no leader",
            "etcdserver: too many requests",
            "etcdserver: server stopped",
        ]
        .contains(&text)
        || text.starts_with("etcdserver: request timed out")
}
