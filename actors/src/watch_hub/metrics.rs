//! What WatchHub counts, under etcd's names.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge, Registry};

/// What WatchHub counts.
#[derive(Clone, Debug)]
pub(crate) struct WatchMetrics {
    pub(crate) streams: IntGauge,
    pub(crate) watchers: IntGauge,
    pub(crate) behind: IntGauge,
    pub(crate) waiting_events: IntGauge,
    pub(crate) events: IntCounter,
}

impl WatchMetrics {
    pub(crate) fn new(registry: &Registry) -> WatchMetrics {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a fixed name that is valid");
            register(registry, gauge.clone());
            gauge
        };
        let events = IntCounter::new(
            "etcd_debugging_mvcc_events_total",
            "Number of events sent to watchers.",
        )
        .expect("a fixed name that is valid");
        register(registry, events.clone());
        WatchMetrics {
            streams: gauge(
                "etcd_debugging_mvcc_watch_stream_total",
                "Number of open watch streams.",
            ),
            watchers: gauge("etcd_debugging_mvcc_watcher_total", "Number of watchers."),
            behind: gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Number of watchers that are behind.",
            ),
            waiting_events: gauge(
                "etcd_debugging_mvcc_pending_events_total",
                "Number of events that wait to be sent.",
            ),
            events,
        }
    }
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    let registered = registry.register(Box::new(collector));
    registered.expect("each metric is registered once");
}
