//! openraft's configuration. No value here depends on what an operator may change: times are in
//! raft's time (`clock`), and RaftNode asks for heartbeats (`tuning`) and snapshots (`retention`).

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

use super::clock::ELECTION_TIMEOUT;
use super::core_queue::CORE_QUEUE;

/// The longest interval between heartbeats that the rules allow is a fifth of the election timeout:
/// openraft waits this long for the answer to one, and looks at its timers five times meanwhile.
const HEARTBEATS_PER_ELECTION_TIMEOUT: u32 = 5;
/// Entries in one message to another member, at most.
const REPLICATION_ENTRIES_MAX: u64 = 1_024;
/// Entries in one append to the log, at most.
const APPEND_ENTRIES_MAX: u64 = 4_096;

/// Errors: openraft finds a contradiction in the configuration.
pub(in crate::raft_node) fn config(cluster_name: String) -> Result<Arc<Config>, ConfigError> {
    let election = millis(ELECTION_TIMEOUT);
    let config = Config {
        cluster_name,
        heartbeat_interval: millis(ELECTION_TIMEOUT / HEARTBEATS_PER_ELECTION_TIMEOUT),
        enable_heartbeat: false,
        election_timeout_min: election / 2,
        election_timeout_max: election,
        enable_pre_vote: Some(true),
        // A leader that restarts goes through an election, as in etcd. `read_index` relies on it.
        enable_leader_restore: Some(false),
        // Otherwise the leader would never send again what a member had acknowledged and then lost.
        // `network` tells of such a member.
        allow_log_reversion: Some(true),
        quorum_loss_probe_interval: Some(election * 2),
        snapshot_policy: SnapshotPolicy::Never,
        // openraft purges nothing by itself; RaftNode asks for it.
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: REPLICATION_ENTRIES_MAX,
        max_append_entries: Some(APPEND_ENTRIES_MAX),
        api_channel_size: Some(CORE_QUEUE),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openraft_accepts_it() {
        assert!(config("test".into()).is_ok());
    }
}
