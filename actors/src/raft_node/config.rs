//! openraft's configuration.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

/// The log behind a snapshot is kept for members that lag: half of what lies between two snapshots,
/// which by default is etcd's 5,000 entries. Fewer entries between snapshots bound the log tighter.
const SNAPSHOT_COUNT_PER_LOG_KEPT: u64 = 2;
/// Entries purged at once, where snapshots are further apart than this.
const PURGE_BATCH_MAX: u64 = 1_024;
/// Entries of one message to another member.
const REPLICATION_ENTRIES_MAX: u64 = 1_024;
/// Entries of one append to the log.
const APPEND_ENTRIES_MAX: u64 = 4_096;
/// Requests that wait for the raft core; more than are ever admitted, so that handing one over
/// never waits.
pub(crate) const CORE_QUEUE: u64 = 65_536;

/// What of it an operator may choose.
#[derive(Clone, Debug)]
pub(crate) struct RaftSettings {
    pub(crate) cluster_name: String,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) snapshot_count: u64,
    /// Members without a vote at once; one more is refused.
    pub(crate) learners_max: usize,
}

/// Errors: an election timeout that is not well above the heartbeat interval.
pub(super) fn config(settings: &RaftSettings) -> Result<Arc<Config>, ConfigError> {
    let heartbeat = millis(settings.heartbeat_interval);
    let election = millis(settings.election_timeout);
    let config = Config {
        cluster_name: settings.cluster_name.clone(),
        heartbeat_interval: heartbeat,
        election_timeout_min: (election / 2).max(heartbeat + 1),
        election_timeout_max: election,
        enable_pre_vote: Some(true),
        // A leader that restarts goes through an election, as in etcd.
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(election * 2),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_count),
        max_in_snapshot_log_to_keep: settings.snapshot_count / SNAPSHOT_COUNT_PER_LOG_KEPT,
        purge_batch_size: settings.snapshot_count.clamp(1, PURGE_BATCH_MAX),
        max_payload_entries: REPLICATION_ENTRIES_MAX,
        max_append_entries: Some(APPEND_ENTRIES_MAX),
        api_channel_size: Some(CORE_QUEUE),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(heartbeat_ms: u64, election_ms: u64) -> RaftSettings {
        RaftSettings {
            cluster_name: "test".into(),
            heartbeat_interval: Duration::from_millis(heartbeat_ms),
            election_timeout: Duration::from_millis(election_ms),
            snapshot_count: 10_000,
            learners_max: 1,
        }
    }

    #[test]
    fn the_default_times_are_accepted_and_senseless_ones_are_not() {
        assert!(config(&settings(100, 1000)).is_ok());
        assert!(config(&settings(1000, 100)).is_err());
    }
}
