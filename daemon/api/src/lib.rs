//! The wire contract of Althing: etcd's protobufs and their Rust types, etcd's error table, key
//! ranges and ids. It depends on nothing of ours, so that storage, daemon, ctl and tests may all
//! speak it without seeing one another.
//!
//! Not here: validation of requests, I/O, default values.

#![forbid(unsafe_code)]

pub mod error;
pub mod id;
#[cfg(feature = "json")]
pub mod json;
pub mod order;
pub mod range;

/// Key-value records and events.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/mvccpb.serde.rs"));
}

/// Users, roles and permissions.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/authpb.serde.rs"));
}

/// The client services KV, Watch, Lease, Cluster, Maintenance and Auth.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.serde.rs"));
}

/// The lock service.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.serde.rs"));
}

/// The election service.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.serde.rs"));
}

/// The standard health service of gRPC, package `grpc.health.v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod healthpb {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// What the operator of a member asks it over its admin socket.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod adminpb {
    include!(concat!(env!("OUT_DIR"), "/adminpb.rs"));
}

/// What an entry of the raft log holds.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod commandpb {
    include!(concat!(env!("OUT_DIR"), "/commandpb.rs"));
}

/// What members say to one another.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod peerpb {
    include!(concat!(env!("OUT_DIR"), "/peerpb.rs"));
}

/// The etcd release whose contract this crate carries; `/version` and Status report it.
pub const ETCD_VERSION: &str = "3.7.0";
/// The cluster version of that release, as etcd derives it: major and minor, patch zero.
pub const ETCD_CLUSTER_VERSION: &str = "3.7.0";

/// How many txns may lie inside each other, the outermost one counted: as many as can be read from
/// JSON, which allows 127 nested values. The wire allows 100 nested messages, and one that deep
/// could not be read back from the log, where the command around it is one message more.
pub const TXN_DEPTH_MAX: usize = 42;
