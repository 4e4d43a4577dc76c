//! History that outlives the compaction that makes it unreadable, for a reader that has still to
//! read it.

use std::sync::{Arc, Weak};

use althing_api::error::Error;
use althing_api::mvccpb::KeyValue;
use bytes::Bytes;

use super::events::{HistorySlice, SliceLimits, read_history};
use super::read::{ReadView, get};
use super::{Shared, Store};

/// Keeps the history from its moment on readable, whatever is compacted meanwhile. Physical
/// compaction waits until it is dropped.
#[derive(Clone, Debug)]
pub struct HeldHistory {
    /// Weak, so that a store whose owner is gone is closed.
    shared: Weak<Shared>,
    /// The revision that was compacted before.
    compacted: i64,
    _pin: Arc<()>,
}

impl Store {
    /// Holds the history that can be read now. To be of use it must be taken before a compaction is
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
    /// Like [`ReadView::history`](super::ReadView::history), up to now. Errors: `Compacted` if
    /// `from` was compacted before, or is not in this store because another one has replaced it.
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

    /// Like [`ReadView::key_at`], up to now. Errors: `Compacted` as for [`HeldHistory::history`];
    /// otherwise as for `ReadView::key_at`.
    pub fn key_at(&self, key: &Bytes, revision: i64) -> Result<Option<KeyValue>, Error> {
        let shared = self.shared.upgrade().ok_or(Error::Compacted)?;
        let (view, _) = ReadView::open(shared);
        if revision < self.compacted || revision > view.revision() {
            return Err(Error::Compacted);
        }
        get(&view, key, revision, false)
    }
}
