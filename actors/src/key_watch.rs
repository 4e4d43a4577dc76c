//! A watch in process: the events of a range of keys, for whoever runs beside the actors.

use std::sync::Arc;

use althing_api::error::Error;
use althing_api::mvccpb::Event;
use althing_api::range::KeyRange;
use althing_storage::store::{SliceLimits, Store};

use crate::progress::Progress;
use crate::reply::Admission;

/// How much is read at once.
const SLICE: SliceLimits = SliceLimits {
    changes_max: 1_000,
    bytes_max: 1 << 20,
};

/// Why a watch has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// Revisions that it still wanted were compacted; this one is the first that is left.
    #[error("required revision has been compacted, the first one left is {0}")]
    Compacted(i64),
    /// The node stops, or the hub was started again: a new watch may go on at `next_revision`.
    #[error("the watch was stopped")]
    Stopped,
    /// The store cannot be read.
    #[error(transparent)]
    Store(Error),
}

/// The events of a range of keys, in order, each once. Dropping it ends the watch.
#[derive(Debug)]
pub struct KeyWatch {
    pub(crate) store: Store,
    pub(crate) progress: Arc<Progress>,
    pub(crate) proposals: Arc<Admission>,
    pub(crate) range: KeyRange,
    pub(crate) next: i64,
}

impl KeyWatch {
    /// Waits for the next events: those of one revision or of several, never a part of one.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Vec<Event>, WatchEnd> {
        loop {
            let applied = self.progress.applied();
            let view = self.store.read();
            if view.revision() >= self.next {
                let slice = view.history(self.next, SLICE, |key| self.range.contains(key));
                let slice = slice.map_err(|error| match error {
                    Error::Compacted => WatchEnd::Compacted(view.compacted_revision()),
                    error => WatchEnd::Store(error),
                })?;
                self.next = slice.next;
                if !slice.events.is_empty() {
                    return Ok(slice.events);
                }
                continue;
            }
            drop(view);
            tokio::select! {
                () = self.progress.until_applied(applied + 1) => {}
                () = self.proposals.closed() => return Err(WatchEnd::Stopped),
            }
        }
    }

    /// The revision from which the next events come: all below were delivered.
    pub fn next_revision(&self) -> i64 {
        self.next
    }
}
