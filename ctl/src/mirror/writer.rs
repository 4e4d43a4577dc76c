//! Sends transactions to the destination, each until its outcome is known.

use std::time::Duration;

use althing_api::etcdserverpb::{RequestOp, TxnRequest};
use tokio::time::sleep;

use super::batch::Change;
use crate::client::Client;
use crate::failure::{DEADLINE_TEXT, Failure};

/// How often a transaction is sent before the destination counts as gone.
const ATTEMPTS_MAX: u32 = 30;
/// Before it is sent again.
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
    /// The destination's refusal, or it stays away.
    pub async fn write(&mut self, changes: Vec<Change>) -> Result<(), Failure> {
        let count = changes.len() as u64;
        let success: Vec<RequestOp> = changes.into_iter().map(Change::request).collect();
        let request = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let mut attempt = 1;
        loop {
            match self.client.txn(request.clone()).await {
                Ok(_) => break,
                Err(failure) if attempt < ATTEMPTS_MAX && passes(&failure) => {
                    attempt += 1;
                    sleep(PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
        self.written += count;
        Ok(())
    }
}

/// Whether the same transaction may succeed later.
pub(super) fn passes(failure: &Failure) -> bool {
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
