//! Every option we have: its key in the file, its flag, and what its value looks like.
//!
//! The one table from which flags, environment names and the reader's checks for unknown keys are
//! made. `default.toml` and the reader are compared with it by tests.

use crate::effect::Effect;

/// One option.
#[derive(Debug)]
pub(crate) struct Setting {
    /// `section.key` in the file.
    pub key: &'static str,
    /// The long flag without dashes; etcd's where etcd has it.
    pub flag: &'static str,
    /// What the help calls the value; empty for a boolean.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// When a running member takes over a change of it.
    pub effect: Effect,
}

impl Setting {
    pub fn is_bool(&self) -> bool {
        self.value.is_empty()
    }
}

/// The option that a file key names.
pub(crate) fn by_key(key: &str) -> Option<&'static Setting> {
    OPTIONS.iter().find(|option| option.key == key)
}

/// The option that a flag names, be it by its former name.
pub(crate) fn by_flag(flag: &str) -> Option<&'static Setting> {
    let former = FORMER.iter().find(|(former, _)| *former == flag);
    let flag = former.map_or(flag, |(_, now)| now);
    OPTIONS.iter().find(|option| option.flag == flag)
}

/// The names of an option's flag, the least first.
pub(crate) fn flags_of(option: &'static Setting) -> impl Iterator<Item = &'static str> {
    let former = FORMER.iter().filter(|(_, now)| *now == option.flag);
    former.map(|(former, _)| *former).chain([option.flag])
}

/// What flags were called in etcd 3.5 and are still known by in 3.6: former, now.
pub(crate) static FORMER: &[(&str, &str)] = &[
    ("experimental-corrupt-check-time", "corrupt-check-time"),
    (
        "experimental-initial-corrupt-check",
        "initial-corrupt-check",
    ),
    (
        "experimental-distributed-tracing-address",
        "distributed-tracing-address",
    ),
    (
        "experimental-distributed-tracing-instance-id",
        "distributed-tracing-instance-id",
    ),
    (
        "experimental-distributed-tracing-sampling-rate",
        "distributed-tracing-sampling-rate",
    ),
    (
        "experimental-distributed-tracing-service-name",
        "distributed-tracing-service-name",
    ),
    (
        "experimental-enable-distributed-tracing",
        "enable-distributed-tracing",
    ),
    ("experimental-max-learners", "max-learners"),
    (
        "experimental-warning-apply-duration",
        "warning-apply-duration",
    ),
    (
        "experimental-warning-unary-request-duration",
        "warning-unary-request-duration",
    ),
    (
        "experimental-watch-progress-notify-interval",
        "watch-progress-notify-interval",
    ),
];

type Text = &'static str;

const fn reload(key: Text, flag: Text, value: Text, help: Text) -> Setting {
    option(Effect::Reload, [key, flag, value, help])
}

const fn restart(key: Text, flag: Text, value: Text, help: Text) -> Setting {
    option(Effect::Restart, [key, flag, value, help])
}

const fn first_start(key: Text, flag: Text, value: Text, help: Text) -> Setting {
    option(Effect::FirstStart, [key, flag, value, help])
}

const fn identity(key: Text, flag: Text, value: Text, help: Text) -> Setting {
    option(Effect::Identity, [key, flag, value, help])
}

const fn option(effect: Effect, [key, flag, value, help]: [Text; 4]) -> Setting {
    Setting {
        key,
        flag,
        value,
        help,
        effect,
    }
}

pub(crate) static OPTIONS: &[Setting] = &[
    identity("member.name", "name", "NAME", "Name of this member"),
    identity(
        "member.data_dir",
        "data-dir",
        "DIR",
        "Data directory [default: <name>.althing]",
    ),
    identity(
        "member.wal_dir",
        "wal-dir",
        "DIR",
        "WAL directory [default: in the data directory]",
    ),
    restart(
        "member.admin_socket",
        "admin-socket",
        "FILE",
        "Socket of `althingctl config` [default: in the data directory]",
    ),
    first_start(
        "cluster.initial",
        "initial-cluster",
        "NAME=URL,...",
        "Members of the first cluster",
    ),
    first_start(
        "cluster.initial_state",
        "initial-cluster-state",
        "STATE",
        "new or existing",
    ),
    first_start(
        "cluster.token",
        "initial-cluster-token",
        "TOKEN",
        "Makes member and cluster ids unique",
    ),
    first_start(
        "cluster.discovery_srv",
        "discovery-srv",
        "DOMAIN",
        "Domain whose SRV records name the members of the first cluster",
    ),
    first_start(
        "cluster.discovery_srv_name",
        "discovery-srv-name",
        "NAME",
        "Suffix of the service in the names of the SRV records",
    ),
    first_start(
        "cluster.discovery_srv_servers",
        "discovery-srv-servers",
        "ADDRESSES",
        "Name servers to ask [default: those of the host]",
    ),
    first_start(
        "cluster.join",
        "join",
        "URL,...",
        "Client URLs of members whose cluster this new member joins",
    ),
    reload(
        "cluster.learners_max",
        "max-learners",
        "COUNT",
        "Most members without a vote",
    ),
    reload(
        "client.listen_urls",
        "listen-client-urls",
        "URLS",
        "Where to listen for clients",
    ),
    reload(
        "client.advertise_urls",
        "advertise-client-urls",
        "URLS",
        "What clients are told to dial",
    ),
    reload(
        "client.metrics_urls",
        "listen-metrics-urls",
        "URLS",
        "Extra metrics and health listeners",
    ),
    reload(
        "client.metrics",
        "metrics",
        "DETAIL",
        "basic or extensive: whether /metrics times each call",
    ),
    reload(
        "client.request_bytes_max",
        "max-request-bytes",
        "BYTES",
        "Largest request accepted",
    ),
    reload(
        "client.txn_ops_max",
        "max-txn-ops",
        "COUNT",
        "Most operations of one txn",
    ),
    reload(
        "client.streams_max",
        "max-concurrent-streams",
        "COUNT",
        "Most streams of a connection",
    ),
    reload(
        "client.connections_max",
        "max-connections",
        "COUNT",
        "Most client connections at once",
    ),
    reload(
        "client.keepalive_min_time",
        "grpc-keepalive-min-time",
        "TIME",
        "Shortest interval at which a client may ping",
    ),
    reload(
        "client.keepalive_interval",
        "grpc-keepalive-interval",
        "TIME",
        "How often the server pings a connection; 0 = never",
    ),
    reload(
        "client.keepalive_timeout",
        "grpc-keepalive-timeout",
        "TIME",
        "How long the server waits for the answer to its ping",
    ),
    reload(
        "client.grpc_gateway",
        "enable-grpc-gateway",
        "",
        "Serve the JSON form of the RPCs",
    ),
    reload(
        "client.cors",
        "cors",
        "ORIGINS",
        "Origins that browsers may call from",
    ),
    reload(
        "client.host_whitelist",
        "host-whitelist",
        "HOSTS",
        "Host names accepted over HTTP",
    ),
    restart(
        "client.workers",
        "workers",
        "COUNT",
        "HTTP worker threads; 0 = one per core",
    ),
    reload(
        "client.read_bytes_max",
        "max-read-bytes",
        "BYTES",
        "Bytes all running reads may hold",
    ),
    reload(
        "client.watch_progress_interval",
        "watch-progress-notify-interval",
        "TIME",
        "Silence after which watchers are told how far they are",
    ),
    reload(
        "client.shutdown_timeout",
        "shutdown-timeout",
        "TIME",
        "How long a stop waits for requests",
    ),
    reload(
        "peer.listen_urls",
        "listen-peer-urls",
        "URLS",
        "Where to listen for other members",
    ),
    first_start(
        "peer.advertise_urls",
        "initial-advertise-peer-urls",
        "URLS",
        "What other members are told to dial",
    ),
    reload(
        "raft.heartbeat_interval",
        "heartbeat-interval",
        "MS",
        "How often a leader shows it lives",
    ),
    reload(
        "raft.election_timeout",
        "election-timeout",
        "MS",
        "How long a follower waits for that",
    ),
    reload(
        "raft.snapshot_count",
        "snapshot-count",
        "COUNT",
        "Applied entries between snapshots",
    ),
    reload(
        "raft.proposals_max",
        "max-proposals",
        "COUNT",
        "Writes in flight at once",
    ),
    restart(
        "raft.wal_segment_bytes",
        "wal-segment-bytes",
        "BYTES",
        "Size of one WAL segment",
    ),
    restart(
        "raft.wal_tail_bytes",
        "wal-tail-bytes",
        "BYTES",
        "Recent log entries kept in memory",
    ),
    restart(
        "store.record_cache_bytes",
        "record-cache-bytes",
        "BYTES",
        "Latest records kept in memory",
    ),
    restart(
        "store.page_cache_bytes",
        "page-cache-bytes",
        "BYTES",
        "Page cache of the store's file",
    ),
    restart(
        "store.pending_bytes_max",
        "max-pending-bytes",
        "BYTES",
        "Applied, not yet in the file",
    ),
    reload(
        "store.disk_reserve_bytes",
        "disk-reserve-bytes",
        "BYTES",
        "Free disk kept in reserve",
    ),
    reload(
        "store.quota_bytes",
        "quota-backend-bytes",
        "BYTES",
        "Quota; 0 = 2 GiB, negative = none",
    ),
    reload(
        "store.auto_compaction_mode",
        "auto-compaction-mode",
        "MODE",
        "periodic or revision",
    ),
    reload(
        "store.auto_compaction_retention",
        "auto-compaction-retention",
        "KEPT",
        "History kept: a time or revisions; 0 = all",
    ),
    reload(
        "store.corrupt_check_interval",
        "corrupt-check-time",
        "TIME",
        "Between comparisons of members; 0 = never",
    ),
    restart(
        "store.initial_corrupt_check",
        "initial-corrupt-check",
        "",
        "Compare with the others before serving",
    ),
    reload(
        "log.level",
        "log-level",
        "LEVEL",
        "debug, info, warn, error, or a filter",
    ),
    reload("log.format", "log-format", "FORMAT", "json or console"),
    reload(
        "log.slow_request",
        "warning-apply-duration",
        "TIME",
        "Requests that take longer are logged",
    ),
    reload(
        "log.slow_call",
        "warning-unary-request-duration",
        "TIME",
        "Unary calls that take longer are logged",
    ),
    restart(
        "trace.enabled",
        "enable-distributed-tracing",
        "",
        "Export spans of calls over OTLP",
    ),
    restart(
        "trace.address",
        "distributed-tracing-address",
        "HOST:PORT",
        "Where the collector of spans listens",
    ),
    restart(
        "trace.service_name",
        "distributed-tracing-service-name",
        "NAME",
        "What the spans say they are of",
    ),
    restart(
        "trace.instance_id",
        "distributed-tracing-instance-id",
        "ID",
        "Which one of that name this member is",
    ),
    restart(
        "trace.sampling_rate",
        "distributed-tracing-sampling-rate",
        "COUNT",
        "How many of a million traces are exported",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_name_is_that_of_an_option_and_of_nothing_else() {
        for (former, now) in FORMER {
            assert_eq!(by_flag(former).map(|option| option.flag), Some(*now));
            assert!(OPTIONS.iter().all(|option| option.flag != *former));
            assert!(crate::foreign::by_flag(former).is_none(), "{former}");
        }
    }
}
