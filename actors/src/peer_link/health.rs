//! Whether a member can be reached, as the latest exchange with it showed.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::transport::LinkError;
use crate::departure::Departure;
use crate::metrics::PeerMetrics;

/// Written by the tasks of a link, read by all that ask. Logs every change once.
#[derive(Debug)]
pub(crate) struct Health {
    peer: u64,
    metrics: Arc<PeerMetrics>,
    departure: Departure,
    state: Mutex<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Active { since: Instant },
    Inactive { why: String },
}

impl Health {
    pub(crate) fn new(peer: u64, metrics: Arc<PeerMetrics>, departure: Departure) -> Health {
        metrics.known();
        Health {
            peer,
            metrics,
            departure,
            state: Mutex::new(State::Unknown),
        }
    }

    pub(crate) fn metrics(&self) -> &PeerMetrics {
        &self.metrics
    }

    /// Notes that the member answered.
    pub(crate) fn succeeded(&self) {
        let mut state = self.state.lock();
        if let State::Active { .. } = *state {
            return;
        }
        *state = State::Active {
            since: Instant::now(),
        };
        self.metrics.active(true);
        tracing::info!(peer_id = %format_args!("{:x}", self.peer), "peer became active");
    }

    /// Notes that the member did not answer.
    pub(crate) fn failed(&self, error: &LinkError) {
        if matches!(error, LinkError::Removed) {
            self.departure.trip("another member");
        }
        self.metrics.send_failed();
        let mut state = self.state.lock();
        let was_active = matches!(*state, State::Active { .. });
        // A member that refuses one thing does answer. It does not prove that the right member is
        // there, though: a member of another cluster refuses everything.
        let is_answer = was_active && matches!(error, LinkError::Refused(_));
        if is_answer {
            return;
        }
        let was_inactive = matches!(*state, State::Inactive { .. });
        *state = State::Inactive {
            why: error.to_string(),
        };
        if was_inactive {
            return;
        }
        self.metrics.active(false);
        if was_active {
            self.metrics.disconnected();
        }
        let peer_id = format_args!("{:x}", self.peer);
        tracing::warn!(%peer_id, %error, "peer became inactive");
    }

    /// Since when the member has answered without a failure; `None` if it does not.
    pub(crate) fn active_since(&self) -> Option<Instant> {
        match *self.state.lock() {
            State::Active { since } => Some(since),
            State::Unknown | State::Inactive { .. } => None,
        }
    }

    /// Why the member does not answer; `None` if it does.
    pub(crate) fn silence(&self) -> Option<String> {
        match &*self.state.lock() {
            State::Active { .. } => None,
            State::Unknown => Some("not asked yet".to_owned()),
            State::Inactive { why } => Some(why.clone()),
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.metrics.forgotten();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_refusal_makes_a_member_neither_active_nor_inactive() {
        let metrics = Arc::new(Metrics::new().peer(1, 2));
        let health = Health::new(2, metrics, Departure::default());
        let refused = LinkError::Refused("another snapshot is on its way in".to_owned());
        assert_eq!(health.silence().unwrap(), "not asked yet");
        health.failed(&refused);
        assert!(health.active_since().is_none(), "it never answered");
        assert_eq!(health.silence().unwrap(), refused.to_string());
        health.succeeded();
        health.failed(&refused);
        assert!(health.active_since().is_some() && health.silence().is_none());
        health.failed(&LinkError::Lost("cut".to_owned()));
        health.failed(&refused);
        assert!(health.active_since().is_none());
    }
}
