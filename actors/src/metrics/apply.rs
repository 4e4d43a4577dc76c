//! How long commands take to apply, and which were slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use althing_api::commandpb::command::Request;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, Registry, exponential_buckets,
};

/// A command that takes longer is counted and logged, as in etcd, until another time is set.
const SLOW_APPLY: Duration = Duration::from_millis(100);

/// etcd's names of the commands, and ours where etcd has none.
const OPS: [&str; 12] = [
    "Put",
    "DeleteRange",
    "Txn",
    "Compaction",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseCheckpoint",
    "Alarm",
    "ClusterVersionSet",
    "ClusterMemberAttrSet",
    "DowngradeInfoSet",
    "Unknown",
];

/// A command's kind, as a position in the list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op(usize);

impl Op {
    pub(crate) fn of(request: Option<&Request>) -> Op {
        Op(match request {
            Some(Request::Put(_) | Request::PutWithTtl(_)) => 0,
            Some(Request::DeleteRange(_)) => 1,
            Some(Request::Txn(_)) => 2,
            Some(Request::Compaction(_)) => 3,
            Some(Request::LeaseGrant(_)) => 4,
            Some(Request::LeaseRevoke(_)) => 5,
            Some(Request::LeaseCheckpoint(_)) => 6,
            Some(Request::SetAlarm(_)) => 7,
            Some(Request::SetClusterVersion(_)) => 8,
            Some(Request::PublishMember(_)) => 9,
            Some(Request::SetDowngrade(_)) => 10,
            None => OPS.len() - 1,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        OPS[self.0]
    }
}

/// The histograms, one for each command and outcome, and the count of slow ones.
#[derive(Clone, Debug)]
pub(crate) struct ApplyMetrics {
    /// By command, then by outcome: failed, succeeded.
    durations: [[Histogram; 2]; OPS.len()],
    slow: IntCounter,
    slow_us: Arc<AtomicU64>,
}

impl ApplyMetrics {
    pub(super) fn register(registry: &Registry) -> ApplyMetrics {
        let name = "etcd_server_apply_duration_seconds";
        let buckets = exponential_buckets(0.0001, 2.0, 20).expect("sound numbers");
        let options = HistogramOpts::new(name, "Time to apply a command.").buckets(buckets);
        let durations = HistogramVec::new(options, &["version", "op", "success"]);
        let durations = durations.expect("fixed names that are valid");
        let slow = IntCounter::new(
            "etcd_server_slow_apply_total",
            "Number of commands that were slow to apply.",
        )
        .expect("a fixed name that is valid");
        super::register(registry, durations.clone());
        super::register(registry, slow.clone());
        let of = |op: &str, success: &str| durations.with_label_values(&["v3", op, success]);
        ApplyMetrics {
            durations: OPS.map(|op| ["false", "true"].map(|success| of(op, success))),
            slow,
            slow_us: Arc::new(AtomicU64::new(micros(SLOW_APPLY))),
        }
    }

    /// The time from which a command counts as slow.
    pub(crate) fn slow_apply(&self) -> Duration {
        Duration::from_micros(self.slow_us.load(Ordering::Relaxed))
    }

    pub(crate) fn set_slow(&self, time: Duration) {
        self.slow_us.store(micros(time), Ordering::Relaxed);
    }

    pub(crate) fn applied(&self, op: Op, took: Duration, succeeded: bool) {
        self.durations[op.0][usize::from(succeeded)].observe(took.as_secs_f64());
        if took > self.slow_apply() {
            self.slow.inc();
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
