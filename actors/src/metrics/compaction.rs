//! What physical compaction does, under etcd's names.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, Histogram, HistogramOpts, Registry, exponential_buckets};

/// Clones share the metrics; the caller that compacts keeps the time when it began.
#[derive(Clone, Debug)]
pub(crate) struct CompactionMetrics {
    pause: Histogram,
    total: Histogram,
    last: Gauge,
}

impl CompactionMetrics {
    pub(super) fn register(registry: &Registry) -> CompactionMetrics {
        let histogram = |name: &str, help: &str, start: f64, count: usize| {
            let buckets = exponential_buckets(start, 2.0, count).expect("sound numbers");
            let options = HistogramOpts::new(name, help).buckets(buckets);
            let histogram = Histogram::with_opts(options).expect("a fixed name that is valid");
            super::register(registry, histogram.clone());
            histogram
        };
        let last = Gauge::new(
            "etcd_debugging_mvcc_db_compaction_last",
            "Unix time of the end of the last compaction.",
        )
        .expect("a fixed name that is valid");
        super::register(registry, last.clone());
        CompactionMetrics {
            pause: histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Time of one window of compaction.",
                1.0,
                13,
            ),
            total: histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Time of a compaction, from its first window to its last.",
                100.0,
                14,
            ),
            last,
        }
    }

    pub(crate) fn window(&self, took: Duration) {
        self.pause.observe(took.as_secs_f64() * 1000.0);
    }

    pub(crate) fn finished(&self, began: Instant) {
        self.total.observe(began.elapsed().as_secs_f64() * 1000.0);
        // A clock before 1970 has nothing to show.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.last.set(now.as_secs_f64());
    }
}
