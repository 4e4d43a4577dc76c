//! A watch in process: the events of a range of keys, for callers that run beside the actors.

use althing_api::mvccpb::Event;
use althing_api::range::KeyRange;

use crate::watch_hub::{Notice, WatchOptions, Watches};

/// The only watcher of the stream.
const WATCH_ID: i64 = 0;

/// Why a watch has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// Revisions that the watch still wanted were compacted; this is the first one left.
    #[error("required revision has been compacted, the first one left is {0}")]
    Compacted(i64),
    /// The node stops, or the hub was started again; a new watch may go on at `next_revision`.
    #[error("the watch was stopped")]
    Stopped,
    /// There are too many watchers.
    #[error("too many watchers")]
    Refused,
}

/// The events of a range of keys, in order, each once. Dropping it ends the watch.
#[derive(Debug)]
pub struct KeyWatch {
    watches: Watches,
    next: i64,
}

impl KeyWatch {
    pub(crate) fn new(watches: Watches, range: KeyRange, next: i64) -> KeyWatch {
        watches.watch(WATCH_ID, range, next, WatchOptions::default());
        KeyWatch { watches, next }
    }

    /// Waits for the next events: those of one revision or of several, never a part of one.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Vec<Event>, WatchEnd> {
        while let Some(notice) = self.watches.next().await {
            match notice {
                Notice::Events(deliveries) => {
                    let told = deliveries.to.iter().flat_map(|(_, events)| events.iter());
                    let events: Vec<Event> = told.map(|event| event.event().clone()).collect();
                    let last = events.last().and_then(|event| event.kv.as_ref());
                    self.next = last.map_or(self.next, |kv| kv.mod_revision + 1);
                    return Ok(events);
                }
                Notice::Compacted {
                    compact_revision, ..
                } => return Err(WatchEnd::Compacted(compact_revision)),
                Notice::Refused { .. } => return Err(WatchEnd::Refused),
                Notice::Created { .. }
                | Notice::Progress { .. }
                | Notice::NoProgress
                | Notice::Cancelled { .. } => {}
            }
        }
        Err(WatchEnd::Stopped)
    }

    /// The revision of the next events to come: all earlier ones were delivered.
    pub fn next_revision(&self) -> i64 {
        self.next
    }
}
