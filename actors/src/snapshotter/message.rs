//! The messages that the Snapshotter takes, and the snapshots in them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::Message;
use althing_storage::snapshot::Source;
use althing_storage::store::{AppliedMark, Replacement};

use super::sendings::Sendings;
use crate::arbiters::low_priority_thread;
use crate::peer_link::SnapshotBytes;
use crate::raft_node::Refusal;

/// What does the store's file hold?
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "io::Result<Outgoing>")]
pub(crate) struct OpenSnapshot;

/// Take a snapshot in. The answer comes when it is on disk, verified and ready to be used.
#[derive(Debug, Message)]
#[rtype(result = "Result<Received, Refusal>")]
pub(crate) struct Receive {
    pub(crate) body: SnapshotBytes,
}

/// A snapshot, as raft passes it between its network and its state machine.
pub enum SnapshotData {
    /// This member's, for another one.
    Outgoing(Outgoing),
    /// Another member's, for this one.
    Received(Received),
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotData::Outgoing(outgoing) => outgoing.fmt(f),
            SnapshotData::Received(received) => received.fmt(f),
        }
    }
}

/// What the store's file held when it was opened; bytes move only when the stream is asked for.
#[derive(Debug)]
pub struct Outgoing {
    pub(super) source: Box<Source>,
    pub(super) sendings: Sendings,
}

impl Outgoing {
    /// The log position and membership of exactly the state that the stream will hold.
    pub(crate) fn applied(&self) -> AppliedMark {
        self.source.applied()
    }
}

/// A verified state in a file of its own, opened.
#[derive(Debug)]
pub struct Received {
    applied: AppliedMark,
    /// `None` once used.
    state: Option<(Replacement, Under)>,
}

impl Received {
    /// While this is neither used nor dropped, the place keeps other snapshots from being taken in.
    pub(super) fn new(replacement: Replacement, place: Under) -> Received {
        Received {
            applied: replacement.applied(),
            state: Some((replacement, place)),
        }
    }

    /// The log position and membership of the state.
    pub(crate) fn applied(&self) -> &AppliedMark {
        &self.applied
    }

    /// Takes the state out, to be used.
    pub(crate) fn into_replacement(mut self) -> Replacement {
        let (replacement, _) = self.state.take().expect("used once");
        replacement
    }
}

impl Drop for Received {
    /// Raft does not want the state, and its thread must not stand still until all of it is freed.
    fn drop(&mut self) {
        let Some((replacement, place)) = self.state.take() else {
            return;
        };
        let left = (replacement.give_up(), place);
        if let Err(error) = low_priority_thread("snapshot-drop", move || drop(left)) {
            tracing::warn!(%error, "a snapshot was not dropped beside everything else");
        }
    }
}

/// Counts the snapshots on their way in. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfers(Arc<AtomicUsize>);

/// A snapshot on its way in.
#[derive(Debug)]
pub(crate) struct Under(Arc<AtomicUsize>);

impl Transfers {
    pub(crate) fn are_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(super) fn begin(&self) -> Under {
        self.0.fetch_add(1, Ordering::Relaxed);
        Under(Arc::clone(&self.0))
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
