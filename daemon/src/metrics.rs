//! Metrics of the client services and of the process, under etcd's names. The actors register
//! theirs, what is applied and the state of the store among them, in the same registry, which
//! `/metrics` renders.

use std::time::Duration;

use althing_actors::node::{Handles, SharedSettings};
use althing_api::ETCD_VERSION;
use althing_api::etcdserverpb::TxnResponse;
use althing_api::etcdserverpb::response_op::Response as Op;
use althing_api::id::MemberId;
use althing_storage::store::Store;
use parking_lot::{Mutex, RwLock};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result, exponential_buckets,
};

use crate::process_metrics;

/// Values of `client_api_version` that get a label of their own: clients choose that text.
const VERSIONS_MAX: usize = 32;
/// A read index that took longer counts as slow; etcd retries after the same time.
const SLOW_READ_INDEX: Duration = Duration::from_millis(500);

/// What a request asked for, as the label `type` of the duration histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    Range,
    Put,
    DeleteRange,
    Txn,
    ReadonlyTxn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    Alarm,
    DowngradeInfoSet,
}

impl RequestKind {
    const ALL: [RequestKind; 10] = [
        RequestKind::Range,
        RequestKind::Put,
        RequestKind::DeleteRange,
        RequestKind::Txn,
        RequestKind::ReadonlyTxn,
        RequestKind::Compaction,
        RequestKind::LeaseGrant,
        RequestKind::LeaseRevoke,
        RequestKind::Alarm,
        RequestKind::DowngradeInfoSet,
    ];

    /// The name that etcd uses in labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            RequestKind::Range => "Range",
            RequestKind::Put => "Put",
            RequestKind::DeleteRange => "DeleteRange",
            RequestKind::Txn => "Txn",
            RequestKind::ReadonlyTxn => "ReadonlyTxn",
            RequestKind::Compaction => "Compaction",
            RequestKind::LeaseGrant => "LeaseGrant",
            RequestKind::LeaseRevoke => "LeaseRevoke",
            RequestKind::Alarm => "Alarm",
            RequestKind::DowngradeInfoSet => "DowngradeInfoSet",
        }
    }
}

/// Counters that the client services keep. Children of labelled metrics are resolved once, so that
/// a request pays only for its atomics.
#[derive(Debug)]
pub struct RequestMetrics {
    clients: IntCounterVec,
    versions: RwLock<Vec<(String, [IntCounter; 2])>>,
    unknown_version: [IntCounter; 2],
    /// Per kind: failed, succeeded.
    durations: [[Histogram; 2]; RequestKind::ALL.len()],
    range_durations: [Histogram; 2],
    ranges: IntCounter,
    read_indexes_slow: IntCounter,
    /// Hashes of the whole store, of its records.
    hashes: [Histogram; 2],
}

impl RequestMetrics {
    /// Registers every counter. Error: one of the names is taken.
    pub fn register(registry: &Registry) -> Result<RequestMetrics> {
        let counter = |name: &str, help: &str| -> Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let clients = IntCounterVec::new(
            Opts::new(
                "etcd_server_client_requests_total",
                "Requests of clients, by API version of the client.",
            ),
            &["type", "client_api_version"],
        )?;
        registry.register(Box::new(clients.clone()))?;
        Ok(RequestMetrics {
            unknown_version: per_call(&clients, "unknown"),
            versions: RwLock::default(),
            clients,
            durations: request_durations(registry)?,
            range_durations: range_durations(registry)?,
            hashes: [
                hash_duration(registry, "etcd_mvcc_hash_duration_seconds")?,
                hash_duration(registry, "etcd_mvcc_hash_rev_duration_seconds")?,
            ],
            ranges: counter("etcd_mvcc_range_total", "Ranges seen by this member.")?,
            read_indexes_slow: counter(
                "etcd_server_slow_read_indexes_total",
                "Linearizable reads that waited long for their read index.",
            )?,
        })
    }

    /// Counts one call of a client that announced `version`.
    pub fn count_client(&self, version: Option<&str>, is_stream: bool) {
        let kind = usize::from(is_stream);
        let Some(version) = version else {
            self.unknown_version[kind].inc();
            return;
        };
        if let Some(known) = find(&self.versions.read(), version) {
            known[kind].inc();
            return;
        }
        let mut versions = self.versions.write();
        match find(&versions, version) {
            Some(known) => known[kind].inc(),
            None if versions.len() < VERSIONS_MAX => {
                let counters = per_call(&self.clients, version);
                counters[kind].inc();
                versions.push((version.to_owned(), counters));
            }
            None => self.unknown_version[kind].inc(),
        }
    }

    /// Records how long a request took, from its check to its answer.
    pub fn observe(&self, kind: RequestKind, elapsed: Duration, succeeded: bool) {
        self.durations[kind as usize][usize::from(succeeded)].observe(elapsed.as_secs_f64());
    }

    /// Records one execution of a range.
    pub fn observe_range(&self, elapsed: Duration, succeeded: bool) {
        self.ranges.inc();
        self.range_durations[usize::from(succeeded)].observe(elapsed.as_secs_f64());
    }

    /// Records one hash of the whole store.
    pub fn observe_hash(&self, elapsed: Duration) {
        self.hashes[0].observe(elapsed.as_secs_f64());
    }

    /// Records one hash of the records up to a revision.
    pub fn observe_hash_kv(&self, elapsed: Duration) {
        self.hashes[1].observe(elapsed.as_secs_f64());
    }

    /// Records one read index.
    pub fn observe_read_index(&self, elapsed: Duration) {
        if elapsed > SLOW_READ_INDEX {
            self.read_indexes_slow.inc();
        }
    }

    /// Counts the ranges that a txn's answer shows.
    pub fn count_ranges(&self, response: &TxnResponse) {
        for op in &response.responses {
            match &op.response {
                Some(Op::ResponseRange(_)) => self.ranges.inc(),
                Some(Op::ResponseTxn(nested)) => self.count_ranges(nested),
                _ => {}
            }
        }
    }
}

fn find<'a>(versions: &'a [(String, [IntCounter; 2])], name: &str) -> Option<&'a [IntCounter; 2]> {
    let found = versions.iter().find(|(version, _)| version == name);
    found.map(|(_, counters)| counters)
}

/// The counters of unary and of streaming calls.
fn per_call(clients: &IntCounterVec, version: &str) -> [IntCounter; 2] {
    ["unary", "stream"].map(|call| clients.with_label_values(&[call, version]))
}

fn by_success(durations: &HistogramVec, labels: &[&str]) -> [Histogram; 2] {
    ["false", "true"].map(|success| durations.with_label_values(&[labels, &[success]].concat()))
}

fn hash_duration(registry: &Registry, name: &str) -> Result<Histogram> {
    let options = HistogramOpts::new(name, "Time to hash what the store holds.");
    let histogram = Histogram::with_opts(options.buckets(exponential_buckets(0.01, 2.0, 15)?))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

fn request_durations(registry: &Registry) -> Result<[[Histogram; 2]; RequestKind::ALL.len()]> {
    let options = HistogramOpts::new(
        "etcd_server_request_duration_seconds",
        "Time from the check of a request to its answer.",
    )
    .buckets(exponential_buckets(0.001, 2.0, 14)?);
    let durations = HistogramVec::new(options, &["type", "success"])?;
    registry.register(Box::new(durations.clone()))?;
    Ok(RequestKind::ALL.map(|kind| by_success(&durations, &[kind.name()])))
}

fn range_durations(registry: &Registry) -> Result<[Histogram; 2]> {
    let options = HistogramOpts::new(
        "etcd_server_range_duration_seconds",
        "Time to execute a range.",
    )
    .buckets(exponential_buckets(0.0001, 2.0, 20)?);
    let durations = HistogramVec::new(options, &["success"])?;
    registry.register(Box::new(durations.clone()))?;
    Ok(by_success(&durations, &[]))
}

/// Registers what describes this member and its process.
pub fn register_member(registry: &Registry, handles: &Handles) -> Result<()> {
    let constant = |name: &str, help: &str, label: &str, value: &str| -> Result<()> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        gauge.with_label_values(&[value]).set(1);
        registry.register(Box::new(gauge))
    };
    let version = "The etcd level that this member speaks.";
    constant(
        "etcd_server_version",
        version,
        "server_version",
        ETCD_VERSION,
    )?;
    let id = handles.status().member_id.to_string();
    constant("etcd_server_id", "The id of this member.", "server_id", &id)?;
    registry.register(Box::new(Quota::new(handles.upkeep().clone())?))?;
    registry.register(Box::new(ClusterVersion::new(handles.store().clone())?))?;
    registry.register(Box::new(Alarms::new(handles.store().clone())?))?;
    process_metrics::register(registry)
}

/// The quota in force, which may change while the member runs.
struct Quota {
    settings: SharedSettings,
    gauge: IntGauge,
}

impl Quota {
    fn new(settings: SharedSettings) -> Result<Quota> {
        let gauge = IntGauge::new("etcd_server_quota_backend_bytes", "Quota of the store.")?;
        Ok(Quota { settings, gauge })
    }
}

impl Collector for Quota {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge
            .set(quota_as_number(self.settings.get().quota_bytes));
        self.gauge.collect()
    }
}

/// The quota as etcd's clients read it: negative stands for none.
pub fn quota_as_number(bytes: Option<u64>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Alarms, read when somebody asks.
struct Alarms {
    store: Store,
    gauge: IntGaugeVec,
    /// Held while the gauge is emptied, filled and read: two may scrape at once.
    scrape: Mutex<()>,
}

impl Alarms {
    fn new(store: Store) -> Result<Alarms> {
        let options = Opts::new("etcd_debugging_server_alarms", "Active alarms.");
        let gauge = IntGaugeVec::new(options, &["server_id", "alarm_type"])?;
        let scrape = Mutex::default();
        Ok(Alarms {
            store,
            gauge,
            scrape,
        })
    }
}

impl Collector for Alarms {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.scrape.lock();
        self.gauge.reset();
        for record in self.store.alarms() {
            // As in etcd: the member that raised it, whichever member is asked.
            let id = MemberId(record.member_id).to_string();
            let labels = [id.as_str(), record.alarm.as_str_name()];
            self.gauge.with_label_values(&labels).set(1);
        }
        self.gauge.collect()
    }
}

/// The cluster version, which is decided through the log, read when somebody asks. It holds the
/// store and not the handles: those hold the registry, and would never be dropped.
struct ClusterVersion {
    store: Store,
    gauge: IntGaugeVec,
    /// See [`Alarms`].
    scrape: Mutex<()>,
}

impl ClusterVersion {
    fn new(store: Store) -> Result<ClusterVersion> {
        let options = Opts::new("etcd_cluster_version", "The version all members agreed on.");
        let gauge = IntGaugeVec::new(options, &["cluster_version"])?;
        let scrape = Mutex::default();
        Ok(ClusterVersion {
            store,
            gauge,
            scrape,
        })
    }
}

impl Collector for ClusterVersion {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.scrape.lock();
        self.gauge.reset();
        if let Some(version) = self.store.cluster_version() {
            let minor = major_minor(&version);
            self.gauge.with_label_values(&[minor]).set(1);
        }
        self.gauge.collect()
    }
}

/// "3.7.0" as "3.7".
fn major_minor(version: &str) -> &str {
    let mut dots = version.match_indices('.').map(|(at, _)| at);
    dots.nth(1).map_or(version, |at| &version[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_version_has_its_own_counter_until_there_are_too_many() {
        let metrics = RequestMetrics::register(&Registry::new()).expect("an empty registry");
        let count = |version: &str| {
            let counter = metrics.clients.with_label_values(&["unary", version]);
            counter.get()
        };
        for minor in 0..VERSIONS_MAX + 5 {
            metrics.count_client(Some(&format!("3.{minor}")), false);
        }
        metrics.count_client(Some("3.0"), false);
        metrics.count_client(None, false);
        assert_eq!(count("3.0"), 2);
        assert_eq!(count("unknown"), 5 + 1);
    }

    #[test]
    fn a_version_is_shown_without_its_patch_level() {
        assert_eq!(major_minor("3.7.0"), "3.7");
        assert_eq!(major_minor("3.7"), "3.7");
    }

    #[test]
    fn durations_are_kept_by_kind_and_outcome() {
        let metrics = RequestMetrics::register(&Registry::new()).expect("an empty registry");
        metrics.observe(RequestKind::Put, Duration::from_millis(3), true);
        for (index, kind) in RequestKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "kinds are used as positions");
            let seen = |outcome: usize| metrics.durations[index][outcome].get_sample_count();
            let expected = u64::from(kind == RequestKind::Put);
            assert_eq!((seen(0), seen(1)), (0, expected));
        }
    }
}
