//! The tree of options. `default.toml` documents each one.
#![allow(missing_docs)]
use std::path::PathBuf;
use std::time::Duration;

/// Everything an operator may say, after all layers and checks.
#[derive(Clone, Debug)]
pub struct Config {
    pub member: Member,
    pub cluster: Cluster,
    pub client: Client,
    pub peer: Peer,
    pub raft: Raft,
    pub store: Store,
    pub log: Log,
}
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    /// `<name>.althing` unless set.
    pub data_dir: PathBuf,
    /// Inside the data directory unless set.
    pub wal_dir: Option<PathBuf>,
}
#[derive(Clone, Debug)]
pub struct Cluster {
    /// name -> peer URLs
    pub initial: Vec<(String, Vec<String>)>,
    pub initial_state: InitialState,
    pub token: String,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    New,
    Existing,
}
#[derive(Clone, Debug)]
pub struct Client {
    pub listen_urls: Vec<Url>,
    pub advertise_urls: Vec<String>,
    /// Extra listeners of /metrics, /health, /livez, /readyz only.
    pub metrics_urls: Vec<Url>,
    pub request_bytes_max: u64,
    pub txn_ops_max: usize,
    pub streams_max: u32,
    pub connections_max: usize,
    pub keepalive_min_time: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
    pub grpc_gateway: bool,
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    /// HTTP worker threads; 0 = one per core.
    pub workers: usize,
    pub read_bytes_max: u64,
    /// Time an orderly stop waits for requests in flight.
    pub shutdown_timeout: Duration,
}
#[derive(Clone, Debug)]
pub struct Peer {
    pub listen_urls: Vec<Url>,
    pub advertise_urls: Vec<String>,
}
#[derive(Clone, Debug)]
pub struct Raft {
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub snapshot_count: u64,
    pub proposals_max: usize,
    pub wal_segment_bytes: u64,
    pub wal_tail_bytes: u64,
}
#[derive(Clone, Debug)]
pub struct Store {
    pub record_cache_bytes: u64,
    pub page_cache_bytes: u64,
    pub pending_bytes_max: u64,
    pub disk_reserve_bytes: u64,
}
#[derive(Clone, Debug)]
pub struct Log {
    /// etcd's levels: debug, info, warn, error; or a RUST_LOG-style filter.
    pub level: String,
    pub format: LogFormat,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}
/// A listen URL: scheme http/https, host an IP or localhost, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub scheme: String,
    pub host: String,
    pub port: u16,
}
