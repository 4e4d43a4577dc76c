//! Locks and elections, made of leases and keys exactly as etcd's Go clients make them, so that
//! they and we exclude each other: a client that wants `NAME` puts the key `NAME/<lease in hex>`,
//! the owner of the oldest of these keys holds it, and each waits for the key in front of its own
//! to go.
//!
//! States of a session: alive -> lost (the lease expired, was revoked, or could not be renewed in
//! time) or closed. `session` keeps the lease, `turn` the place in the queue, `interrupt` the
//! signals. A lost session is a value to wait for, never a panic; closing revokes the lease, which
//! gives up every key of it at once.

mod interrupt;
mod turn;

use std::time::Duration;

use althing_api::error::Error as ApiError;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::notice;

pub use interrupt::Interrupt;
pub use turn::{Turn, contenders};

/// The TTL of a session that does not name one, in seconds.
pub const DEFAULT_TTL: i64 = 60;
/// What Go's clients say when a signal ends their wait.
const CANCELED: &str = "context canceled";

/// A lease that is kept alive in the background.
pub struct Session {
    lease: i64,
    keeper: JoinHandle<()>,
    lost: bool,
}

impl Session {
    /// Grants a lease of `ttl` seconds (60 where that is not positive) and keeps it alive.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn open(client: &mut Client, ttl: i64) -> Result<Session, Failure> {
        let ttl = if ttl > 0 { ttl } else { DEFAULT_TTL };
        let granted = client.grant(ttl).await?;
        let left = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0));
        let mut keep_alive = client.keep_alive(granted.id, Some(left));
        let keeper = tokio::spawn(async move {
            loop {
                match keep_alive.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return,
                    Err(failure) => {
                        notice::tell(format_args!(
                            "Warning: the lease is not renewed any more: {failure}"
                        ));
                        return;
                    }
                }
            }
        });
        Ok(Session {
            lease: granted.id,
            keeper,
            lost: false,
        })
    }

    /// The lease's id.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Waits until the lease is lost.
    pub async fn lost(&mut self) {
        if !self.lost {
            // A keeper that panicked no longer renews anything either.
            _ = (&mut self.keeper).await;
            self.lost = true;
        }
    }

    /// The outcome of `work`, unless a signal arrives or the session is lost before; then `lost` is
    /// the failure's text.
    ///
    /// # Errors
    /// That of `work`, the signal or the loss.
    pub async fn guard<T>(
        &mut self,
        interrupt: &mut Interrupt,
        lost: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = interrupt.arrived() => Err(Failure::new(ERROR, CANCELED)),
            () = self.lost() => Err(Failure::new(ERROR, lost)),
            done = work => done,
        }
    }

    /// Gives the lease back, and with it every key that it holds.
    ///
    /// # Errors
    /// The server's refusal, or the deadline: then the keys live until the lease expires.
    pub async fn close(self, client: &mut Client) -> Result<(), Failure> {
        self.keeper.abort();
        if self.lost {
            return Ok(());
        }
        match client.revoke(self.lease).await {
            Err(failure) if failure.text != ApiError::LeaseNotFound.text() => Err(failure),
            _ => Ok(()),
        }
    }
}
