//! Metrics of the endpoints and of the store, under etcd's names. The actors register theirs in
//! the same registry, which `/metrics` renders.

use std::time::Duration;

use althing_actors::node::Handles;
use althing_api::etcdserverpb::response_op::Response as Op;
use althing_api::etcdserverpb::{PutRequest, TxnResponse};
use althing_api::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use parking_lot::RwLock;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result, exponential_buckets,
};

use crate::process_metrics;

/// etcd's default quota of the store, in bytes, which Status and the metrics report.
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// Most values of `client_api_version` that get a label of their own: clients choose that text.
const VERSIONS_MAX: usize = 32;
/// A read index that took longer counts as slow; etcd retries after the same time.
const SLOW_READ_INDEX: Duration = Duration::from_millis(500);

/// What a request asked for, as the label `type` of the duration histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RequestKind {
    Range,
    Put,
    DeleteRange,
    Txn,
    ReadonlyTxn,
    Compaction,
}

impl RequestKind {
    const ALL: [RequestKind; 6] = [
        RequestKind::Range,
        RequestKind::Put,
        RequestKind::DeleteRange,
        RequestKind::Txn,
        RequestKind::ReadonlyTxn,
        RequestKind::Compaction,
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
    puts: IntCounter,
    ranges: IntCounter,
    deletes: IntCounter,
    txns: IntCounter,
    put_bytes: IntGauge,
    read_indexes_failed: IntCounter,
    read_indexes_slow: IntCounter,
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
        let put_bytes = IntGauge::new(
            "etcd_debugging_mvcc_total_put_size_in_bytes",
            "Bytes of all keys and values put since the start.",
        )?;
        registry.register(Box::new(put_bytes.clone()))?;
        Ok(RequestMetrics {
            unknown_version: per_call(&clients, "unknown"),
            versions: RwLock::default(),
            clients,
            durations: request_durations(registry)?,
            range_durations: range_durations(registry)?,
            puts: counter("etcd_mvcc_put_total", "Puts seen by this member.")?,
            ranges: counter("etcd_mvcc_range_total", "Ranges seen by this member.")?,
            deletes: counter("etcd_mvcc_delete_total", "Deletions seen by this member.")?,
            txns: counter("etcd_mvcc_txn_total", "Txns seen by this member.")?,
            put_bytes,
            read_indexes_failed: counter(
                "etcd_server_read_indexes_failed_total",
                "Linearizable reads that got no read index.",
            )?,
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

    /// Records one read index.
    pub fn observe_read_index(&self, elapsed: Duration, succeeded: bool) {
        if !succeeded {
            self.read_indexes_failed.inc();
        }
        if elapsed > SLOW_READ_INDEX {
            self.read_indexes_slow.inc();
        }
    }

    /// Counts an applied put.
    pub fn count_put(&self, put_bytes: usize) {
        self.puts.inc();
        self.put_bytes.add(put_bytes as i64);
    }

    /// Counts an applied deletion.
    pub fn count_delete(&self) {
        self.deletes.inc();
    }

    /// Counts a txn and the operations that its answer shows as done.
    pub fn count_txn(&self, response: &TxnResponse) {
        self.txns.inc();
        self.count_ops(response);
    }

    fn count_ops(&self, response: &TxnResponse) {
        for op in &response.responses {
            match &op.response {
                Some(Op::ResponseRange(_)) => self.ranges.inc(),
                Some(Op::ResponsePut(_)) => self.puts.inc(),
                Some(Op::ResponseDeleteRange(_)) => self.deletes.inc(),
                Some(Op::ResponseTxn(nested)) => self.count_ops(nested),
                None => {}
            }
        }
    }
}

/// The bytes a put adds to the store's keys and values.
pub fn put_bytes(request: &PutRequest) -> usize {
    request.key.len() + request.value.len()
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

/// Gauges that are read from the node when somebody asks, so that they cost nothing otherwise.
struct NodeGauges {
    handles: Handles,
    cluster_version: IntGaugeVec,
    file_bytes: IntGauge,
    used_bytes: IntGauge,
    keys: IntGauge,
    current_revision: IntGauge,
    compacted_revision: IntGauge,
}

/// Registers what describes this process and its store.
pub fn register_node(registry: &Registry, handles: &Handles) -> Result<()> {
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
    let quota = IntGauge::new("etcd_server_quota_backend_bytes", "Quota of the store.")?;
    quota.set(QUOTA_BYTES);
    registry.register(Box::new(quota))?;
    registry.register(Box::new(NodeGauges::new(handles.clone())?))?;
    process_metrics::register(registry)
}

impl NodeGauges {
    fn new(handles: Handles) -> Result<NodeGauges> {
        Ok(NodeGauges {
            handles,
            cluster_version: IntGaugeVec::new(
                Opts::new("etcd_cluster_version", "The version all members agreed on."),
                &["cluster_version"],
            )?,
            file_bytes: IntGauge::new(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes that the store's file occupies.",
            )?,
            used_bytes: IntGauge::new(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of the store's file that hold data.",
            )?,
            keys: IntGauge::new("etcd_debugging_mvcc_keys_total", "Live keys.")?,
            current_revision: IntGauge::new(
                "etcd_debugging_mvcc_current_revision",
                "The current revision of the store.",
            )?,
            compacted_revision: IntGauge::new(
                "etcd_debugging_mvcc_compact_revision",
                "The last compacted revision of the store.",
            )?,
        })
    }

    fn parts(&self) -> [&dyn Collector; 6] {
        [
            &self.cluster_version,
            &self.file_bytes,
            &self.used_bytes,
            &self.keys,
            &self.current_revision,
            &self.compacted_revision,
        ]
    }
}

impl Collector for NodeGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let store = self.handles.store();
        let (sizes, revisions) = (store.sizes(), store.revisions());
        self.file_bytes.set(sizes.allocated as i64);
        self.used_bytes.set(sizes.in_use as i64);
        self.keys.set(store.key_count() as i64);
        self.current_revision.set(revisions.current);
        self.compacted_revision.set(revisions.compacted);
        self.cluster_version.reset();
        let version = store.cluster_version();
        let version = version.as_deref().unwrap_or(ETCD_CLUSTER_VERSION);
        let label = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
        self.cluster_version.with_label_values(&[label]).set(1);
        self.parts()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
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
