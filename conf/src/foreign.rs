//! etcd's flags that we do not have: which are harmless, and which would change the meaning.
//!
//! A unit file written for etcd should start us where it can. A flag that only tunes etcd's own
//! insides is accepted with a warning; one that asks for something we would not do (encryption,
//! authentication) is refused, because an operator must not believe it to be there.

/// A flag of etcd that is no option of ours.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// The flag without dashes.
    pub flag: &'static str,
    /// Whether it takes its value after `=` only.
    pub is_bool: bool,
    /// Which values change nothing here.
    pub harmless: Harmless,
    /// Why the others are refused; empty when all are harmless.
    pub why: &'static str,
}

/// Which values of a foreign flag change nothing here.
#[derive(Debug)]
pub(crate) enum Harmless {
    Every,
    Only(&'static [&'static str]),
}

impl Foreign {
    pub fn accepts(&self, value: &str) -> bool {
        let value = match value {
            "1" | "t" | "T" | "TRUE" | "True" if self.is_bool => "true",
            "0" | "f" | "F" | "FALSE" | "False" if self.is_bool => "false",
            _ => value,
        };
        match self.harmless {
            Harmless::Every => true,
            Harmless::Only(values) => value.split(',').all(|part| values.contains(&part.trim())),
        }
    }
}

/// The foreign flag of this name.
pub(crate) fn by_flag(flag: &str) -> Option<&'static Foreign> {
    FOREIGN.iter().find(|foreign| foreign.flag == flag)
}

const fn tuning(flag: &'static str) -> Foreign {
    Foreign {
        flag,
        is_bool: false,
        harmless: Harmless::Every,
        why: "",
    }
}

const fn tuning_switch(flag: &'static str) -> Foreign {
    Foreign {
        flag,
        is_bool: true,
        harmless: Harmless::Every,
        why: "",
    }
}

const fn only(flag: &'static str, values: &'static [&'static str], why: &'static str) -> Foreign {
    Foreign {
        flag,
        is_bool: false,
        harmless: Harmless::Only(values),
        why,
    }
}

const fn never(flag: &'static str, why: &'static str) -> Foreign {
    only(flag, &[""], why)
}

const fn off(flag: &'static str, why: &'static str) -> Foreign {
    Foreign {
        flag,
        is_bool: true,
        harmless: Harmless::Only(&["false"]),
        why,
    }
}

const fn on(flag: &'static str, why: &'static str) -> Foreign {
    Foreign {
        flag,
        is_bool: true,
        harmless: Harmless::Only(&["true"]),
        why,
    }
}

const TLS: &str = "this version has no TLS";
const DISCOVERY: &str = "this version discovers members by --discovery-srv only";
const AUTH: &str = "this version has no authentication";
const LOGS: &str = "log lines go to standard error; let the service manager keep them";

/// Feature gates that ask for what is always so here, or that only tune etcd's insides.
const GATES: &[&str] = &[
    "",
    "AllAlpha=false",
    "AllBeta=false",
    "CompactHashCheck=false",
    "CompactHashCheck=true",
    "FastLeaseKeepAlive=false",
    "FastLeaseKeepAlive=true",
    "InitialCorruptCheck=false",
    "InitialCorruptCheck=true",
    "LeaseCheckpoint=false",
    "LeaseCheckpoint=true",
    "LeaseCheckpointPersist=false",
    "LeaseCheckpointPersist=true",
    "PriorityRequest=false",
    "PriorityRequest=true",
    "SetMemberLocalAddr=false",
    "StopGRPCServiceOnDefrag=false",
    "TxnModeWriteWithSharedBuffer=false",
    "TxnModeWriteWithSharedBuffer=true",
];

pub(crate) static FOREIGN: &[Foreign] = &[
    // Insides of etcd that have no counterpart.
    tuning("max-wals"),
    tuning("max-snapshots"),
    tuning("backend-bbolt-freelist-type"),
    tuning("backend-batch-interval"),
    tuning("backend-batch-limit"),
    tuning("compaction-batch-limit"),
    tuning("compaction-sleep-interval"),
    tuning("bootstrap-defrag-threshold-megabytes"),
    tuning("snapshot-catchup-entries"),
    tuning("downgrade-check-time"),
    tuning("compact-hash-check-time"),
    tuning("raft-read-timeout"),
    tuning("raft-write-timeout"),
    tuning("bcrypt-cost"),
    tuning("auth-token-ttl"),
    tuning("self-signed-cert-validity"),
    tuning("v2-deprecation"),
    tuning("logger"),
    tuning("log-rotation-config-json"),
    tuning("log-package-levels"),
    tuning_switch("initial-election-tick-advance"),
    tuning_switch("socket-reuse-address"),
    tuning_switch("experimental-memory-mlock"),
    tuning_switch("memory-mlock"),
    // What an operator must not believe to be there.
    never("cert-file", TLS),
    never("key-file", TLS),
    never("client-cert-file", TLS),
    never("client-key-file", TLS),
    never("trusted-ca-file", TLS),
    never("client-crl-file", TLS),
    never("client-cert-allowed-hostname", TLS),
    never("peer-cert-file", TLS),
    never("peer-key-file", TLS),
    never("peer-trusted-ca-file", TLS),
    never("peer-crl-file", TLS),
    never("peer-client-cert-file", TLS),
    never("peer-client-key-file", TLS),
    never("peer-cert-allowed-cn", TLS),
    never("peer-cert-allowed-hostname", TLS),
    never("cipher-suites", TLS),
    only("tls-min-version", &["", "TLS1.2"], TLS),
    never("tls-max-version", TLS),
    off("client-cert-auth", TLS),
    off("auto-tls", TLS),
    off("peer-client-cert-auth", TLS),
    off("peer-auto-tls", TLS),
    off("peer-skip-client-san-verification", TLS),
    never("discovery", DISCOVERY),
    never("discovery-proxy", DISCOVERY),
    never("discovery-token", DISCOVERY),
    never("discovery-endpoints", DISCOVERY),
    never("discovery-cert", DISCOVERY),
    never("discovery-key", DISCOVERY),
    never("discovery-cacert", DISCOVERY),
    never("discovery-user", DISCOVERY),
    never("discovery-password", DISCOVERY),
    tuning("discovery-dial-timeout"),
    tuning("discovery-request-timeout"),
    tuning("discovery-keepalive-time"),
    tuning("discovery-keepalive-timeout"),
    tuning_switch("discovery-insecure-transport"),
    tuning_switch("discovery-insecure-skip-tls-verify"),
    only("discovery-fallback", &["", "exit"], DISCOVERY),
    only("auth-token", &["", "simple"], AUTH),
    on(
        "strict-reconfig-check",
        "unsafe membership changes are always refused",
    ),
    on("pre-vote", "pre-vote is always on"),
    off(
        "force-new-cluster",
        "this version cannot rebuild a cluster from one member's data",
    ),
    off("unsafe-no-fsync", "an acknowledged write is always on disk"),
    off(
        "socket-reuse-port",
        "a second process on the port would take half of the requests",
    ),
    tuning_switch("experimental-compact-hash-check-enabled"),
    tuning("experimental-compact-hash-check-time"),
    only(
        "feature-gates",
        GATES,
        "this version has no feature gates, and does not do what that one asks for",
    ),
    never(
        "listen-client-http-urls",
        "gRPC and HTTP share the client port",
    ),
    off("enable-pprof", "this version has no profiling endpoint"),
    only("log-outputs", &["", "default", "stderr"], LOGS),
    only("log-output", &["", "default", "stderr"], LOGS),
    off("enable-log-rotation", LOGS),
    off("enable-v2", "etcd's version 2 API is not served"),
    off("debug", "use --log-level=debug"),
    only("proxy", &["", "off"], "this daemon is no proxy"),
    never(
        "experimental-enable-v2v3",
        "etcd's version 2 API is not served",
    ),
    tuning("experimental-compaction-batch-limit"),
];
