//! When a changed option takes effect in a member that runs.

use std::fmt;

/// When a change of an option takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At the reload, for what begins after it; open streams and connections go on.
    Reload,
    /// At the next start; the running value stays until then.
    Restart,
    /// Never for this member: its first start settled who it is. One that joined by the option only
    /// asks the addresses in it, at each start, whether it still belongs.
    FirstStart,
    /// Never: the option says which member this is, so a reload that would change it is refused.
    Identity,
}

/// Options that a running member takes over. What is in none of the lists needs a restart, so that
/// an option added later promises nothing that nobody wrote.
const RELOAD: &[&str] = &[
    "cluster.learners_max",
    "client.listen_urls",
    "client.advertise_urls",
    "client.metrics_urls",
    "client.metrics",
    "client.request_bytes_max",
    "client.txn_ops_max",
    "client.streams_max",
    "client.connections_max",
    "client.keepalive_min_time",
    "client.keepalive_interval",
    "client.keepalive_timeout",
    "client.grpc_gateway",
    "client.cors",
    "client.host_whitelist",
    "client.read_bytes_max",
    "client.watch_progress_interval",
    "client.shutdown_timeout",
    "peer.listen_urls",
    "raft.heartbeat_interval",
    "raft.election_timeout",
    "raft.snapshot_count",
    "raft.proposals_max",
    "store.disk_reserve_bytes",
    "store.quota_bytes",
    "store.auto_compaction_mode",
    "store.auto_compaction_retention",
    "store.corrupt_check_interval",
    "log.level",
    "log.format",
    "log.slow_request",
    "log.slow_call",
];

const FIRST_START: &[&str] = &[
    "cluster.initial",
    "cluster.initial_state",
    "cluster.discovery_srv",
    "cluster.discovery_srv_name",
    "cluster.discovery_srv_servers",
    "cluster.join",
    "cluster.token",
    "peer.advertise_urls",
];

const IDENTITY: &[&str] = &["member.name", "member.data_dir", "member.wal_dir"];

impl Effect {
    /// When a change of the option `key` takes effect.
    #[must_use]
    pub fn of(key: &str) -> Effect {
        if RELOAD.contains(&key) {
            Effect::Reload
        } else if FIRST_START.contains(&key) {
            Effect::FirstStart
        } else if IDENTITY.contains(&key) {
            Effect::Identity
        } else {
            Effect::Restart
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Reload => "reload",
            Effect::Restart => "restart",
            Effect::FirstStart => "first start only",
            Effect::Identity => "never",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::option::by_key;

    #[test]
    fn every_listed_option_exists_and_is_listed_once() {
        let listed: Vec<&str> = [RELOAD, FIRST_START, IDENTITY].concat();
        for (position, key) in listed.iter().enumerate() {
            assert!(by_key(key).is_some(), "{key} is no option");
            assert!(!listed[..position].contains(key), "{key} is listed twice");
        }
    }

    #[test]
    fn an_option_in_no_list_needs_a_restart() {
        assert_eq!(Effect::of("client.workers"), Effect::Restart);
        assert_eq!(Effect::of("log.level"), Effect::Reload);
        assert_eq!(Effect::of("member.name"), Effect::Identity);
        assert_eq!(Effect::of("cluster.token"), Effect::FirstStart);
    }
}
