//! Metrics of the exchange with other members, under etcd's names. Members appear by their ids in
//! hex.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};

/// The metric families of all members.
#[derive(Clone, Debug)]
pub(super) struct Network {
    known: IntGaugeVec,
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    sent: IntCounterVec,
    received: IntCounterVec,
    send_failures: IntCounterVec,
    round_trip: HistogramVec,
    snapshots: Snapshots,
}

/// Snapshots on their way out.
#[derive(Clone, Debug)]
struct Snapshots {
    under_way: IntGaugeVec,
    done: IntCounterVec,
    failed: IntCounterVec,
    duration: HistogramVec,
}

/// The metrics of one member.
#[derive(Clone, Debug)]
pub(crate) struct PeerMetrics {
    known: IntGauge,
    active: IntGauge,
    disconnected: IntCounter,
    sent: IntCounter,
    received: IntCounter,
    send_failures: IntCounter,
    round_trip: Histogram,
    snapshots_under_way: IntGauge,
    snapshots_done: IntCounter,
    snapshots_failed: IntCounter,
    snapshot_duration: Histogram,
}

impl Network {
    pub(super) fn register(registry: &Registry) -> Network {
        let both = ["Local", "Remote"];
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels);
            registered(registry, gauge.expect("fixed names that are valid"))
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels);
            registered(registry, counter.expect("fixed names that are valid"))
        };
        let histogram = |name: &str, help: &str, start: f64, count: usize| {
            let buckets = exponential_buckets(start, 2.0, count).expect("sound numbers");
            let options = HistogramOpts::new(name, help).buckets(buckets);
            let histogram = HistogramVec::new(options, &["To"]);
            registered(registry, histogram.expect("fixed names that are valid"))
        };
        Network {
            known: gauge("etcd_network_known_peers", "Known peers.", &both),
            active: gauge("etcd_network_active_peers", "Peers that answer.", &both),
            disconnected: counter(
                "etcd_network_disconnected_peers_total",
                "Times that a peer that had answered did so no more.",
                &both,
            ),
            sent: counter(
                "etcd_network_peer_sent_bytes_total",
                "Bytes sent to peers.",
                &["To"],
            ),
            received: counter(
                "etcd_network_peer_received_bytes_total",
                "Bytes received from peers.",
                &["From"],
            ),
            send_failures: counter(
                "etcd_network_peer_sent_failures_total",
                "Exchanges with peers that failed.",
                &["To"],
            ),
            round_trip: histogram(
                "etcd_network_peer_round_trip_time_seconds",
                "Time from a heartbeat to its answer.",
                0.0001,
                16,
            ),
            snapshots: Snapshots {
                under_way: gauge(
                    "etcd_network_snapshot_send_inflights_total",
                    "Snapshots being sent.",
                    &["To"],
                ),
                done: counter(
                    "etcd_network_snapshot_send_success",
                    "Snapshots that were sent.",
                    &["To"],
                ),
                failed: counter(
                    "etcd_network_snapshot_send_failures",
                    "Snapshots that could not be sent.",
                    &["To"],
                ),
                duration: histogram(
                    "etcd_network_snapshot_send_total_duration_seconds",
                    "Time to send a snapshot and have it taken over.",
                    0.1,
                    10,
                ),
            },
        }
    }

    pub(super) fn peer(&self, me: u64, peer: u64) -> PeerMetrics {
        let (me, peer) = (format!("{me:x}"), format!("{peer:x}"));
        let both = [me.as_str(), peer.as_str()];
        let one = [peer.as_str()];
        PeerMetrics {
            known: self.known.with_label_values(&both),
            active: self.active.with_label_values(&both),
            disconnected: self.disconnected.with_label_values(&both),
            sent: self.sent.with_label_values(&one),
            received: self.received.with_label_values(&one),
            send_failures: self.send_failures.with_label_values(&one),
            round_trip: self.round_trip.with_label_values(&one),
            snapshots_under_way: self.snapshots.under_way.with_label_values(&one),
            snapshots_done: self.snapshots.done.with_label_values(&one),
            snapshots_failed: self.snapshots.failed.with_label_values(&one),
            snapshot_duration: self.snapshots.duration.with_label_values(&one),
        }
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    super::register(registry, collector.clone());
    collector
}

impl PeerMetrics {
    pub(crate) fn known(&self) {
        self.known.set(1);
    }

    /// Notes that the member was removed.
    pub(crate) fn forgotten(&self) {
        self.known.set(0);
        self.active.set(0);
    }

    pub(crate) fn active(&self, active: bool) {
        self.active.set(active.into());
    }

    pub(crate) fn disconnected(&self) {
        self.disconnected.inc();
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    pub(crate) fn send_failed(&self) {
        self.send_failures.inc();
    }

    pub(crate) fn round_trip(&self, took: Duration) {
        self.round_trip.observe(took.as_secs_f64());
    }

    pub(crate) fn snapshot_begins(&self) {
        self.snapshots_under_way.inc();
    }

    /// Notes the end of a transfer; `took` is `None` if it failed.
    pub(crate) fn snapshot_ended(&self, took: Option<Duration>) {
        self.snapshots_under_way.dec();
        match took {
            Some(took) => {
                self.snapshots_done.inc();
                self.snapshot_duration.observe(took.as_secs_f64());
            }
            None => self.snapshots_failed.inc(),
        }
    }
}
