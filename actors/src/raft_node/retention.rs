//! How much of the log is kept: when the next snapshot is due, and which entries may be purged.
//! Pure but for `retain_log`, which asks raft for both.
//!
//! openraft could do the same, but only with fixed numbers.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::RaftNode;
use super::adapters::core_queue::post;
use super::types::RaftLogId;

/// Pause between two looks at how much of the log is kept.
pub(super) const RETENTION_INTERVAL: Duration = Duration::from_millis(100);

/// The log kept behind a snapshot, for members that lag, is `snapshot_count` divided by this: by
/// default etcd's 5,000 entries. Fewer entries between snapshots bound the log tighter.
const SNAPSHOT_COUNT_PER_LOG_KEPT: u64 = 2;
/// Entries purged at once, where snapshots are further apart than this.
const PURGE_BATCH_MAX: u64 = 1_024;

/// How far each thing is, as the number of entries from the beginning of the log.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    applied: u64,
    snapshot: u64,
    purged: u64,
}

/// What raft was asked for.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// The entries applied when a snapshot was last asked for. It may have come to nothing, because
    /// another one is under way or the disk is full; the next attempt waits for as many entries
    /// again.
    tried: u64,
}

impl Retention {
    /// Whether to ask for a snapshot now.
    #[must_use]
    fn needs_snapshot(&mut self, extent: Extent, snapshot_count: u64) -> bool {
        let last = extent.snapshot.max(self.tried);
        let is_due = extent.applied.saturating_sub(last) >= snapshot_count;
        if is_due {
            self.tried = extent.applied;
        }
        is_due
    }
}

/// The last entry that may be purged now.
fn purge_upto(extent: Extent, snapshot_count: u64) -> Option<u64> {
    let end = (extent.snapshot).saturating_sub(snapshot_count / SNAPSHOT_COUNT_PER_LOG_KEPT);
    let batch = snapshot_count.clamp(1, PURGE_BATCH_MAX);
    (end >= extent.purged.saturating_add(batch)).then(|| end - 1)
}

impl RaftNode {
    /// Asks for a snapshot, or purges entries that are in one.
    pub(super) fn retain_log(&mut self) {
        let extent = {
            let metrics = self.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            Extent {
                applied: count(metrics.last_applied.as_ref()),
                snapshot: count(metrics.snapshot.as_ref()),
                purged: count(metrics.purged.as_ref()),
            }
        };
        let snapshot_count = self.tuning().snapshot_count;
        let trigger = self.raft.trigger();
        if self.retention.needs_snapshot(extent, snapshot_count) {
            post(trigger.snapshot());
        }
        if let Some(upto) = purge_upto(extent, snapshot_count) {
            post(trigger.purge_log(upto));
        }
    }
}

/// The number of entries from the beginning of the log to `last`.
fn count(last: Option<&RaftLogId>) -> u64 {
    last.map_or(0, |id| id.index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(applied: u64, snapshot: u64, purged: u64) -> Extent {
        Extent {
            applied,
            snapshot,
            purged,
        }
    }

    #[test]
    fn a_snapshot_is_due_after_so_many_entries_and_not_tried_again_before_as_many_more() {
        let mut retention = Retention::default();
        assert!(!retention.needs_snapshot(extent(1_099, 100, 0), 1_000));
        assert!(retention.needs_snapshot(extent(1_100, 100, 0), 1_000));
        assert!(!retention.needs_snapshot(extent(2_099, 100, 0), 1_000));
        assert!(retention.needs_snapshot(extent(2_100, 100, 0), 1_000));
        assert!(!retention.needs_snapshot(extent(2_300, 2_100, 0), 1_000));
        assert!(
            retention.needs_snapshot(extent(2_300, 2_100, 0), 200),
            "it was changed"
        );
    }

    #[test]
    fn half_the_distance_of_snapshots_stays_behind_the_last_one() {
        assert_eq!(purge_upto(extent(11_000, 10_000, 0), 10_000), Some(4_999));
        assert_eq!(purge_upto(extent(11_000, 10_000, 5_000), 10_000), None);
        assert_eq!(
            purge_upto(extent(11_000, 10_000, 3_977), 10_000),
            None,
            "a few"
        );
        assert_eq!(
            purge_upto(extent(11_000, 10_000, 3_976), 10_000),
            Some(4_999)
        );
        assert_eq!(purge_upto(extent(9, 9, 0), 1), Some(8));
        assert_eq!(purge_upto(extent(9, 0, 0), 1), None);
        assert_eq!(purge_upto(extent(9, 9, 0), u64::MAX), None);
    }
}
