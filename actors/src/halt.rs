//! The one switch that stops the node. Any part that cannot go on trips it; the first cause is
//! kept.
//!
//! It is a published value and not a message, so that it works while actors and threads are dying.

use std::sync::Arc;

use crate::latest;

/// Why the node stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaltCause(pub String);

/// The switch. Clones share it.
#[derive(Clone, Debug)]
pub struct Halt(Arc<latest::Sender<Option<HaltCause>>>);

impl Default for Halt {
    fn default() -> Halt {
        Halt(Arc::new(latest::Sender::new(None)))
    }
}

impl Halt {
    /// Stops the node because of `cause`. Only the first call has an effect, since later failures
    /// follow from the first.
    pub fn trip(&self, cause: impl Into<String>) {
        let cause = HaltCause(cause.into());
        let first = self.0.send_if_modified(|current| {
            if current.is_some() {
                return false;
            }
            *current = Some(cause.clone());
            true
        });
        if first {
            tracing::error!(cause = %cause.0, "the node halts");
        }
    }

    /// The cause, if the node halted.
    #[cfg(test)]
    pub(crate) fn cause(&self) -> Option<HaltCause> {
        self.0.borrow().clone()
    }

    /// Waits until the node halts.
    pub async fn tripped(&self) -> HaltCause {
        let mut receiver = self.0.subscribe();
        let cause = receiver
            .wait_for(Option::is_some)
            .await
            .expect("self holds the sender, so the channel is open");
        cause.clone().expect("wait_for saw a cause")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn the_first_cause_is_kept() {
        let halt = Halt::default();
        assert_eq!(halt.cause(), None);
        halt.trip("disk");
        halt.trip("everything after it");
        assert_eq!(halt.tripped().await, HaltCause("disk".into()));
    }
}
