//! What a reload may change, in one value that is swapped as a whole. Each request reads its
//! settings there, so a change holds from the next request on.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use althing_actors::node::{AutoCompaction, RaftTuning, UpkeepSettings};
use althing_conf::{Config, config};
use arc_swap::{ArcSwap, Guard};

use crate::client::PortSettings;
use crate::rpc::Limits;

/// etcd's default and shortest interval between two notices of progress to a silent watcher.
const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The least time between two pings of a client if 0 is configured, as in etcd.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(300);

/// What etcd adds to twice the election timeout before it gives up on a request.
const REQUEST_GRACE: Duration = Duration::from_secs(5);

/// What a reload may change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of requests.
    pub limits: Limits,
    /// Settings of the client port.
    pub port: PortSettings,
}

/// The current settings. Clones share them.
#[derive(Clone, Debug)]
pub struct Live(Arc<ArcSwap<Settings>>);

/// The limits as they were when they were read.
#[derive(Debug)]
pub struct CurrentLimits(Guard<Arc<Settings>>);

impl Live {
    /// Begins with `settings`.
    pub fn new(settings: Settings) -> Live {
        Live(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// The current settings.
    pub fn get(&self) -> Guard<Arc<Settings>> {
        self.0.load()
    }

    /// The current limits.
    pub fn limits(&self) -> CurrentLimits {
        CurrentLimits(self.0.load())
    }

    /// Makes `settings` the current ones.
    pub fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}

impl Deref for CurrentLimits {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        &self.0.limits
    }
}

impl Settings {
    /// The settings that `config` asks for.
    pub fn of(config: &Config) -> Settings {
        Settings {
            limits: limits(config),
            port: port(config),
        }
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        request_bytes_max: saturating_usize(config.client.request_bytes_max),
        txn_ops_max: config.client.txn_ops_max,
        slow_request: config.log.slow_request,
        request_timeout: REQUEST_GRACE + 2 * config.raft.election_timeout,
        watch_progress_interval: watch_progress_interval(config),
        election_timeout: config.raft.election_timeout,
        read_bytes_max: saturating_usize(config.client.read_bytes_max),
    }
}

fn port(config: &Config) -> PortSettings {
    let client = &config.client;
    PortSettings {
        connections_max: client.connections_max,
        streams_max: client.streams_max,
        request_bytes_max: saturating_usize(client.request_bytes_max),
        ping_interval_min: match client.keepalive_min_time {
            Duration::ZERO => PING_INTERVAL_MIN,
            interval => interval,
        },
        keepalive_interval: keepalive_interval(client),
        keepalive_timeout: client.keepalive_timeout,
        slow_call: config.log.slow_call,
        is_metrics_extensive: client.metrics == config::Metrics::Extensive,
        gateway: client.grpc_gateway,
        cors: client.cors.clone(),
        host_whitelist: client.host_whitelist.clone(),
        shutdown_timeout: client.shutdown_timeout,
    }
}

/// A ping whose answer nobody waits for is not worth sending.
fn keepalive_interval(client: &config::Client) -> Option<Duration> {
    let (interval, timeout) = (client.keepalive_interval, client.keepalive_timeout);
    (!interval.is_zero() && !timeout.is_zero()).then_some(interval)
}

/// As in etcd, zero stands for the default; an interval that is too short is raised to the least.
fn watch_progress_interval(config: &Config) -> Duration {
    match config.client.watch_progress_interval {
        Duration::ZERO => WATCH_PROGRESS_INTERVAL,
        interval => interval.max(WATCH_PROGRESS_INTERVAL_MIN),
    }
}

/// Settings of what a member does by itself.
pub(crate) fn upkeep(config: &Config) -> UpkeepSettings {
    UpkeepSettings {
        quota_bytes: config.store.quota_bytes,
        auto_compaction: match config.store.auto_compaction {
            config::AutoCompaction::Off => AutoCompaction::Off,
            config::AutoCompaction::Period(period) => AutoCompaction::Period(period),
            config::AutoCompaction::Revisions(kept) => AutoCompaction::Revisions(kept),
        },
        corrupt_check_interval: config.store.corrupt_check_interval,
        initial_corrupt_check: config.store.initial_corrupt_check,
    }
}

/// Raft settings that can change at run time.
pub(crate) fn raft(config: &Config) -> RaftTuning {
    RaftTuning {
        heartbeat_interval: config.raft.heartbeat_interval,
        election_timeout: config.raft.election_timeout,
        snapshot_count: config.raft.snapshot_count,
        learners_max: config.cluster.learners_max,
    }
}

/// `number` as a `usize`; the largest one if it does not fit.
pub(crate) fn saturating_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: &[&str]) -> PortSettings {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = format!("--data-dir={}", dir.path().display());
        let usual = ["althingd", &data_dir];
        let args = usual.iter().chain(flags);
        let loaded = Config::load(args.map(Into::into), []).unwrap();
        Settings::of(&loaded.config).port
    }

    #[test]
    fn a_zero_switches_pings_of_the_server_off_and_stands_for_the_default_of_the_clients() {
        let port = of(&[]);
        assert_eq!(port.keepalive_interval, Some(Duration::from_secs(7200)));
        assert_eq!(port.ping_interval_min, Duration::from_secs(5));
        for flag in ["--grpc-keepalive-interval=0", "--grpc-keepalive-timeout=0"] {
            assert_eq!(of(&[flag]).keepalive_interval, None);
        }
        let port = of(&["--grpc-keepalive-min-time=0"]);
        assert_eq!(port.ping_interval_min, PING_INTERVAL_MIN);
    }
}
