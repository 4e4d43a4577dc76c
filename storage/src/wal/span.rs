//! The bounds of the log, and the one rule for how each operation moves them. The writer, the
//! readable tail and recovery all use it, so they cannot disagree.

use crate::entry::LogId;

/// Which entries the log holds: those behind `purged`, up to `last`. `last >= purged` always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// The last entry purged.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` if there is no entry behind it.
    pub last: Option<LogId>,
}

impl Span {
    /// The index of the first entry, if the log holds any.
    pub(super) fn first_index(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    /// The index that the next entry must have.
    pub(super) fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// Takes one more entry; false if it does not follow the last one. A log that never held
    /// anything may begin anywhere.
    #[must_use]
    pub(super) fn push(&mut self, id: LogId) -> bool {
        let follows = self
            .last
            .is_none_or(|last| id.index == last.index + 1 && id.term >= last.term);
        if follows {
            self.last = Some(id);
        }
        follows
    }

    /// Voids entries behind `last`. Purged entries stay purged.
    pub(super) fn truncate_after(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |id| id.index + 1);
        if keep < self.next_index() {
            self.last = if keep <= self.first_index() {
                self.purged
            } else {
                last
            };
        }
    }

    /// Forgets entries up to `upto`, which may lie beyond the end (a snapshot was installed).
    pub(super) fn purge(&mut self, upto: LogId) {
        if upto.index < self.first_index() {
            return;
        }
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
    }
}
