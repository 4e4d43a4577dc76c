//! Trips when this member has been removed from its cluster; the node then stops. Not a failure,
//! unlike a halt.

use std::sync::Arc;

use crate::latest;

/// The switch. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Departure(Arc<latest::Sender<bool>>);

impl Default for Departure {
    fn default() -> Departure {
        Departure(Arc::new(latest::Sender::new(false)))
    }
}

impl Departure {
    /// Notes that this member was removed; `source` says who told.
    pub(crate) fn trip(&self, source: &str) {
        if !self.0.send_replace(true) {
            tracing::warn!(
                source,
                "the member has been permanently removed from the cluster"
            );
        }
    }

    /// Waits until this member is removed.
    pub(crate) async fn tripped(&self) {
        let mut receiver = self.0.subscribe();
        let removed = receiver.wait_for(|removed| *removed).await;
        removed
            .map(drop)
            .expect("self holds the sender, so the channel is open");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix::test]
    async fn a_departure_is_seen_before_and_after_somebody_waits_for_it() {
        let departure = Departure::default();
        assert_eq!(departure.tripped().now_or_never(), None);
        tokio::join!(departure.tripped(), async { departure.trip("a test") });
        departure.trip("again");
        assert_eq!(departure.tripped().now_or_never(), Some(()));
    }
}
