//! History that outlives the compaction that makes it unreadable, for a reader who was to read it
//! and has not come to it yet.

use std::sync::{Arc, Weak};

use althing_api::error::Error;

use super::events::{HistorySlice, SliceLimits, read_history};
use super::{Shared, Store};

/// Keeps the history of its moment, and of all that follows, whatever is compacted meanwhile.
/// Physical compaction waits until it is dropped.
#[derive(Clone, Debug)]
pub struct HeldHistory {
    /// Weakly, so that a store whose owner is gone is closed.
    shared: Weak<Shared>,
    /// What was compacted before.
    compacted: i64,
    _pin: Arc<()>,
}

impl Store {
    /// Holds the history that can be read now. To be of use it is taken before a compaction is
    /// visible.
    pub fn hold_history(&self) -> HeldHistory {
        let shared = self.shared();
        let published = shared.published.read();
        HeldHistory {
            shared: Arc::downgrade(&shared),
            compacted: published.compacted,
            _pin: Arc::clone(&published.pin),
        }
    }
}

impl HeldHistory {
    /// As [`ReadView::history`](super::ReadView::history), up to now. Errors: `Compacted` when
    /// `from` was compacted before, or is not in this store, which another one has replaced.
    pub fn history(
        &self,
        from: i64,
        limits: SliceLimits,
        mut wants: impl FnMut(&[u8]) -> bool,
    ) -> Result<HistorySlice, Error> {
        let shared = self.shared.upgrade().ok_or(Error::Compacted)?;
        let until = shared.published.read().current;
        if from < self.compacted || from > until {
            return Err(Error::Compacted);
        }
        read_history(&shared, from..=until, limits, &mut wants)
    }
}
