//! The actors' metrics under etcd's names. Counters on the hot path are plain atomics or are added
//! once per batch; what can be read from published state is read at each scrape.

use std::sync::Arc;
use std::time::Duration;

use althing_api::error::Error;
use althing_storage::store::Store;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    exponential_buckets,
};

mod apply;
mod compaction;
mod network;

pub(crate) use self::apply::{ApplyMetrics, Op};
pub(crate) use self::compaction::CompactionMetrics;
use self::network::Network;
pub(crate) use self::network::PeerMetrics;
use crate::lessor::LeaseMetrics;
use crate::progress::Progress;
use crate::reply::Admission;
use crate::watch_hub::WatchMetrics;

/// The handles that actors write to. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    wal_fsync: Histogram,
    wal_bytes: Gauge,
    backend_commit: Histogram,
    defragment: Histogram,
    defragmenting: IntGauge,
    proposals_failed: IntCounter,
    read_indexes_failed: IntCounter,
    leader_deaths: IntCounter,
    stall_hand_overs: IntCounter,
    puts: IntCounter,
    deletes: IntCounter,
    txns: IntCounter,
    put_bytes: IntGauge,
    pub(crate) apply: ApplyMetrics,
    pub(crate) compaction: CompactionMetrics,
    promotions: IntCounter,
    promotions_failed: IntCounterVec,
    network: Network,
    pub(crate) watch: WatchMetrics,
    pub(crate) lease: LeaseMetrics,
}

impl Metrics {
    /// Registers all metrics that the actors keep, in a registry of their own.
    pub(crate) fn new() -> Metrics {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a fixed name that is valid");
            register(&registry, counter.clone());
            counter
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a fixed name that is valid");
            register(&registry, gauge.clone());
            gauge
        };
        let histogram = |name: &str, help: &str, (start, count): (f64, usize)| {
            let buckets =
                exponential_buckets(start, 2.0, count).expect("fixed numbers that are valid");
            let options = HistogramOpts::new(name, help).buckets(buckets);
            let histogram = Histogram::with_opts(options).expect("a fixed name that is valid");
            register(&registry, histogram.clone());
            histogram
        };
        let disk = |name: &str, help: &str| histogram(name, help, (0.001, 14));
        let wal_bytes = Gauge::new(
            "etcd_disk_wal_write_bytes_total",
            "Total number of bytes written to the WAL.",
        )
        .expect("a fixed name that is valid");
        register(&registry, wal_bytes.clone());
        let failures = Opts::new(
            "etcd_server_learner_promote_failures",
            "Number of promotions that this member was asked for and that failed.",
        );
        let promotions_failed = IntCounterVec::new(failures, &["Reason"]);
        let promotions_failed = promotions_failed.expect("fixed names that are valid");
        register(&registry, promotions_failed.clone());
        Metrics {
            wal_fsync: disk(
                "etcd_disk_wal_fsync_duration_seconds",
                "Latency of a write and fsync of the WAL.",
            ),
            backend_commit: disk(
                "etcd_disk_backend_commit_duration_seconds",
                "Latency of a commit of the store's file.",
            ),
            defragment: histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "Time to copy the store's file into a smaller one.",
                (0.1, 13),
            ),
            defragmenting: gauge(
                "etcd_disk_defrag_inflight",
                "Whether the store's file is being copied into a smaller one.",
            ),
            proposals_failed: counter(
                "etcd_server_proposals_failed_total",
                "Number of proposals that failed.",
            ),
            read_indexes_failed: counter(
                "etcd_server_read_indexes_failed_total",
                "Number of linearizable reads whose round failed.",
            ),
            leader_deaths: counter(
                "althing_leader_deaths_seen_total",
                "Times that the leader's process was found dead before the election timeout.",
            ),
            stall_hand_overs: counter(
                "althing_disk_stall_hand_overs_total",
                "Times that this member handed the lead over because its disk hung.",
            ),
            puts: counter("etcd_mvcc_put_total", "Number of keys put by this member."),
            deletes: counter(
                "etcd_mvcc_delete_total",
                "Number of keys deleted by this member.",
            ),
            txns: counter(
                "etcd_mvcc_txn_total",
                "Number of changes made by this member.",
            ),
            promotions: counter(
                "etcd_server_learner_promote_successes",
                "Number of learners that were promoted while this member was asked to.",
            ),
            promotions_failed,
            put_bytes: gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes of keys and values put by this member.",
            ),
            apply: ApplyMetrics::register(&registry),
            compaction: CompactionMetrics::register(&registry),
            lease: LeaseMetrics::register(&registry),
            wal_bytes,
            network: Network::register(&registry),
            watch: WatchMetrics::new(&registry),
            registry,
        }
    }

    /// The metrics of the exchange with member `peer`.
    pub(crate) fn peer(&self, me: u64, peer: u64) -> PeerMetrics {
        self.network.peer(me, peer)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds what is read at each scrape.
    pub(crate) fn register(&self, collector: StateCollector) {
        register(&self.registry, collector);
    }

    pub(crate) fn wal_flushed(&self, took: Duration, bytes: usize) {
        self.wal_fsync.observe(took.as_secs_f64());
        self.wal_bytes.add(bytes as f64);
    }

    pub(crate) fn checkpointed(&self, took: Duration) {
        self.backend_commit.observe(took.as_secs_f64());
    }

    pub(crate) fn defragmenting(&self, under_way: bool) {
        self.defragmenting.set(under_way.into());
    }

    pub(crate) fn defragmented(&self, took: Duration) {
        self.defragment.observe(took.as_secs_f64());
    }

    pub(crate) fn proposal_failed(&self) {
        self.proposals_failed.inc();
    }

    pub(crate) fn learner_promoted(&self, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => self.promotions.inc(),
            Err(error) => self
                .promotions_failed
                .with_label_values(&[error.text()])
                .inc(),
        }
    }

    pub(crate) fn read_index_failed(&self) {
        self.read_indexes_failed.inc();
    }

    pub(crate) fn leader_death_seen(&self) {
        self.leader_deaths.inc();
    }

    pub(crate) fn stall_hand_over(&self) {
        self.stall_hand_overs.inc();
    }

    pub(crate) fn put_bytes(&self, bytes: u64) {
        self.put_bytes.add(signed(bytes));
    }

    pub(crate) fn applied(&self, puts: u64, deletes: u64, txns: u64) {
        self.puts.inc_by(puts);
        self.deletes.inc_by(deletes);
        self.txns.inc_by(txns);
    }
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry
        .register(Box::new(collector))
        .expect("each name is registered once per registry");
}

/// What is read at each scrape.
pub(crate) struct StateCollector {
    pub(crate) me: u64,
    pub(crate) progress: Arc<Progress>,
    pub(crate) proposals: Arc<Admission>,
    pub(crate) is_learner: Box<dyn Fn() -> bool + Send + std::marker::Sync>,
    pub(crate) store: Store,
}

impl StateCollector {
    fn gauges(&self) -> [(&'static str, &'static str, i64); 13] {
        let leader = self.progress.leader();
        let revisions = self.store.revisions();
        let sizes = self.store.sizes();
        [
            (
                "etcd_server_has_leader",
                "Whether a leader is known.",
                i64::from(leader != 0),
            ),
            (
                "etcd_server_is_leader",
                "Whether this member leads.",
                i64::from(leader == self.me),
            ),
            (
                "etcd_server_is_learner",
                "Whether this member is a learner.",
                i64::from((self.is_learner)()),
            ),
            (
                "etcd_server_proposals_committed_total",
                "The committed index.",
                signed(self.progress.committed()),
            ),
            (
                "etcd_server_proposals_applied_total",
                "The applied index.",
                signed(self.progress.applied()),
            ),
            (
                "etcd_server_proposals_pending",
                "Proposals under way.",
                signed(self.proposals.under_way() as u64),
            ),
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Size of the store's file.",
                signed(sizes.allocated),
            ),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of the store's file that are in use.",
                signed(sizes.in_use),
            ),
            (
                "etcd_debugging_mvcc_keys_total",
                "Number of keys.",
                signed(self.store.key_count()),
            ),
            (
                "etcd_debugging_mvcc_current_revision",
                "The store's revision.",
                revisions.current,
            ),
            (
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction.",
                revisions.compacted,
            ),
            (
                "etcd_mvcc_db_open_read_transactions",
                "Views of the state that are open.",
                signed(self.store.open_views() as u64),
            ),
            (
                "etcd_server_snapshot_apply_in_progress_total",
                "Snapshots being taken over.",
                0,
            ),
        ]
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Collector for StateCollector {
    fn desc(&self) -> Vec<&Desc> {
        // Its first collection describes the metrics.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        for (name, help, value) in self.gauges() {
            let gauge = IntGauge::new(name, help).expect("a fixed name that is valid");
            gauge.set(value);
            families.extend(gauge.collect());
        }
        let counters = [
            (
                "etcd_server_leader_changes_seen_total",
                "Leader changes seen.",
                self.progress.leader_changes(),
            ),
            (
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Revisions deleted by compaction.",
                self.store.compacted_records(),
            ),
        ];
        for (name, help, value) in counters {
            let counter = Counter::new(name, help).expect("a fixed name that is valid");
            counter.inc_by(value as f64);
            families.extend(counter.collect());
        }
        families
    }
}
