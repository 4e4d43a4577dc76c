//! The tree of options. `default.toml` documents each one.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything an operator may set, after all layers and checks.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name and where its data lies.
    pub member: Member,
    /// The cluster it starts with.
    pub cluster: Cluster,
    /// The client port.
    pub client: Client,
    /// The peer port.
    pub peer: Peer,
    /// Consensus and its log.
    pub raft: Raft,
    /// The key-value state.
    pub store: Store,
    /// The daemon's own log lines.
    pub log: Log,
    /// Spans of calls, for a collector of OpenTelemetry's.
    pub trace: Trace,
}

/// The member's name and where its data lies.
#[derive(Clone, Debug)]
pub struct Member {
    /// The member's name, as `cluster.initial` uses it.
    pub name: String,
    /// The data directory; `<name>.althing` unless set.
    pub data_dir: PathBuf,
    /// The write-ahead log's directory; inside the data directory unless set.
    pub wal_dir: Option<PathBuf>,
    /// The admin socket; `admin.sock` inside the data directory unless set.
    pub admin_socket: PathBuf,
}

/// The cluster it starts with.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Each member's name and peer URLs, in the order given; a name occurs once.
    pub initial: Vec<(String, Vec<String>)>,
    /// Whether this start forms the cluster or joins one.
    pub initial_state: InitialState,
    /// The token from which member and cluster ids are derived.
    pub token: String,
    /// The domain whose DNS records name the first members instead; empty: none.
    pub discovery_srv: String,
    /// A suffix of the service in the names of those records; may be empty.
    pub discovery_srv_name: String,
    /// The name servers to ask; empty: those of the host.
    pub discovery_srv_servers: Vec<SocketAddr>,
    /// Client URLs of the members that are asked to take this one in; empty: nobody is asked.
    pub join: Vec<String>,
    /// Most members without a vote.
    pub learners_max: usize,
}

/// Whether a first start forms a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Form a new cluster.
    New,
    /// Join a cluster that has this member already.
    Existing,
}

/// The client port.
#[derive(Clone, Debug)]
pub struct Client {
    /// Listeners of gRPC and JSON.
    pub listen_urls: Vec<Url>,
    /// What the member tells clients to dial.
    pub advertise_urls: Vec<String>,
    /// Extra listeners of /metrics, /health, /livez, /readyz only.
    pub metrics_urls: Vec<Url>,
    /// How much /metrics tells.
    pub metrics: Metrics,
    /// Largest encoded command, in bytes.
    pub request_bytes_max: u64,
    /// Most operations of one txn.
    pub txn_ops_max: usize,
    /// Most streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Most client connections at once.
    pub connections_max: usize,
    /// The shortest interval at which a client with calls open may ping; zero: five minutes.
    pub keepalive_min_time: Duration,
    /// How often the server pings an idle connection; zero: never.
    pub keepalive_interval: Duration,
    /// How long the server waits for the answer; zero: it does not check.
    pub keepalive_timeout: Duration,
    /// Whether HTTP/1.1 carries the JSON form of the RPCs.
    pub grpc_gateway: bool,
    /// Origins that browsers may call from; `*` allows all.
    pub cors: Vec<String>,
    /// Host names accepted in plain HTTP requests; `*` allows all.
    pub host_whitelist: Vec<String>,
    /// HTTP worker threads; 0 = one per core.
    pub workers: usize,
    /// Bytes that all running range reads may hold together.
    pub read_bytes_max: u64,
    /// Silence after which a watcher that asked for it is told how far it is; at least 100 ms.
    pub watch_progress_interval: Duration,
    /// Time an orderly stop waits for requests in flight.
    pub shutdown_timeout: Duration,
}

/// How much /metrics tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// Everything except how long each call takes.
    Basic,
    /// Everything.
    Extensive,
}

/// The peer port.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Listeners of raft traffic.
    pub listen_urls: Vec<Url>,
    /// What the member tells other members to dial.
    pub advertise_urls: Vec<String>,
}

/// Consensus and its log.
#[derive(Clone, Debug)]
pub struct Raft {
    /// How often a leader shows that it lives.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for a heartbeat; at least five intervals.
    pub election_timeout: Duration,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// Proposals admitted at once.
    pub proposals_max: usize,
    /// Size of one WAL segment, in bytes.
    pub wal_segment_bytes: u64,
    /// Flushed entries kept in memory, in bytes.
    pub wal_tail_bytes: u64,
}

/// The key-value state.
#[derive(Clone, Debug)]
pub struct Store {
    /// Latest records kept inside the key index, in bytes.
    pub record_cache_bytes: u64,
    /// Page cache of the file, in bytes.
    pub page_cache_bytes: u64,
    /// Bytes applied but not yet in the file, above which applying waits.
    pub pending_bytes_max: u64,
    /// Free disk bytes below which writes are refused.
    pub disk_reserve_bytes: u64,
    /// Data in the store above which puts are refused, in bytes; `None`: no quota.
    pub quota_bytes: Option<u64>,
    /// Which history the leader keeps from compaction.
    pub auto_compaction: AutoCompaction,
    /// Time between two comparisons of the members' records; zero: never.
    pub corrupt_check_interval: Duration,
    /// Whether the records are compared before the member serves.
    pub initial_corrupt_check: bool,
}

/// Which history the leader keeps from compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// The whole history.
    Off,
    /// The history of this span of time.
    Period(Duration),
    /// The history of this many revisions.
    Revisions(i64),
}

/// The daemon's own log lines.
#[derive(Clone, Debug)]
pub struct Log {
    /// etcd's levels: debug, info, warn, error; or a `target=level` filter list.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
    /// Requests that take longer are logged; commands that take longer to apply are counted
    /// and logged.
    pub slow_request: Duration,
    /// Unary calls that take longer are logged.
    pub slow_call: Duration,
}

/// Spans of calls, for a collector of OpenTelemetry's.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Whether spans are exported.
    pub enabled: bool,
    /// Host and port of the collector.
    pub address: String,
    /// The name of the service in the spans.
    pub service_name: String,
    /// This member's instance of the service in the spans; may be empty.
    pub instance_id: String,
    /// Of a million traces that begin here, how many are exported.
    pub sampling_rate: u32,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A listen URL: scheme http/https, host an IP or localhost, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `http` or `https`.
    pub scheme: String,
    /// An IP address or `localhost`; IPv6 without its brackets.
    pub host: String,
    /// Zero lets the system choose.
    pub port: u16,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.scheme, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
        }
    }
}
