//! Counters of leases, under etcd's names.

use althing_storage::store::LeaseFact;
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry, exponential_buckets};

/// The counters. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct LeaseMetrics {
    granted: IntCounter,
    revoked: IntCounter,
    renewed: IntCounter,
    expired: IntCounter,
    ttl: Histogram,
}

impl LeaseMetrics {
    pub(crate) fn register(registry: &Registry) -> LeaseMetrics {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a fixed name that is valid");
            let registered = registry.register(Box::new(counter.clone()));
            registered.expect("each name is registered once per registry");
            counter
        };
        let buckets = exponential_buckets(1.0, 2.0, 24).expect("fixed numbers that are valid");
        let options = HistogramOpts::new(
            "etcd_debugging_lease_ttl_total",
            "Times to live of granted leases, in seconds.",
        );
        let ttl = Histogram::with_opts(options.buckets(buckets));
        let ttl = ttl.expect("a fixed name that is valid");
        let registered = registry.register(Box::new(ttl.clone()));
        registered.expect("each name is registered once per registry");
        LeaseMetrics {
            granted: counter(
                "etcd_debugging_lease_granted_total",
                "Number of leases granted.",
            ),
            revoked: counter(
                "etcd_debugging_lease_revoked_total",
                "Number of leases ended, by clients and by expiry.",
            ),
            renewed: counter(
                "etcd_debugging_lease_renewed_total",
                "Number of renewals of leases by this member as leader.",
            ),
            expired: counter(
                "etcd_debugging_server_lease_expired_total",
                "Number of leases ended by this member as leader because their time was over.",
            ),
            ttl,
        }
    }

    /// Notes what an entry did to a lease.
    pub(crate) fn applied(&self, fact: LeaseFact) {
        match fact {
            LeaseFact::Granted(ttl) => {
                self.granted.inc();
                self.ttl.observe(ttl as f64);
            }
            LeaseFact::Ended => self.revoked.inc(),
            LeaseFact::Checkpointed => {}
        }
    }

    pub(super) fn renewed(&self) {
        self.renewed.inc();
    }

    pub(super) fn expired(&self) {
        self.expired.inc();
    }
}
