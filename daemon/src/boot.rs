//! From a configuration to a member that serves: the one place that maps options to settings.
//!
//! ```text
//! listeners -> data directory -> identity -> node -> peer port -> ready -> services -> accept
//!   (bound)       (locked)        (kept)   (recovers)         (knows a leader)
//! ```
//!
//! Listeners are bound first, so that a wrong address shows before a long recovery; what connects
//! early waits in the system's queue until the node is ready. A failure at any step names what
//! failed and what to do, and leaves nothing running but the process, which ends.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use actix_server::{Server, ServerHandle};
use althing_actors::node::{Clock, Handles, Node, NodeSettings, StartError};
use althing_api::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use althing_conf::Config;
use althing_conf::config::Client;
use althing_storage::data_dir::DataDir;
use althing_storage::error::OpenError;
use althing_storage::store::StoreSettings;
use althing_storage::wal::WalSettings;
use tokio::sync::watch;

use crate::client::{self, ClientSettings};
use crate::identity::{self, IdentityError, Settled};
use crate::listen::{self, ListenError};
use crate::metrics;
use crate::peer::{self, HttpTransport};
use crate::rpc::{Limits, Rpc};
use crate::systemd;

/// etcd's interval, and its shortest, between two notices of progress to a silent watcher.
const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What etcd adds to twice the election timeout before it gives up on a request.
const REQUEST_GRACE: Duration = Duration::from_secs(5);

/// A member that serves its clients.
#[derive(Debug)]
pub struct Running {
    pub(crate) node: Node,
    pub(crate) ports: Ports,
    handles: Handles,
    client_addresses: Vec<SocketAddr>,
}

/// The servers of the client and peer ports.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) client: Port,
    pub(crate) peer: PeerPort,
}

/// The peer port, whose requests may be endless.
#[derive(Debug)]
pub(crate) struct PeerPort {
    pub(crate) port: Port,
    /// Ends them.
    pub(crate) closing: watch::Sender<bool>,
}

/// A running server: the task that it is, and the handle that stops it.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) task: JoinHandle<io::Result<()>>,
    pub(crate) handle: ServerHandle,
}

impl Port {
    /// A server accepts only while something polls it.
    fn run((server, handle): (Server, ServerHandle)) -> Port {
        let task = actix_rt::spawn(server);
        Port { task, handle }
    }
}

/// Why a member could not start. Each text names the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory was refused.
    #[error(transparent)]
    DataDir(#[from] OpenError),
    /// It is not known who this member is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] StartError),
    /// Two metrics have one name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A listener that was opened cannot be served.
    #[error("listener: {0}")]
    Serve(#[from] io::Error),
}

/// Listeners that are bound and wait.
struct Listeners {
    client: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
    peer: Vec<TcpListener>,
}

/// Starts a member. To be called inside an actix system; returns when clients are served.
pub async fn start(config: &Config) -> Result<Running, BootError> {
    log_facts(config);
    let listeners = Listeners {
        client: listen::open(&config.client.listen_urls, "listen-client-urls")?,
        metrics: listen::open(&config.client.metrics_urls, "listen-metrics-urls")?,
        peer: listen::open(&config.peer.listen_urls, "listen-peer-urls")?,
    };
    let member = &config.member;
    let dir = DataDir::open_with_wal(&member.data_dir, member.wal_dir.as_deref())?;
    let settled = identity::settle(config, &dir).await?;
    let transport = HttpTransport::new(settled.ids.cluster_id, settled.ids.member_id);
    let settings = node_settings(config, settled);
    let (node, handles) = Node::launch(dir, &settings, Arc::new(transport)).await?;
    // Other members must be heard before there is a leader.
    let peer = serve_peers(config, &handles, listeners.peer)?;
    node.ready(&handles, &settings).await?;
    let listeners = (listeners.client, listeners.metrics);
    serve(config, node, handles, peer, listeners)
}

fn serve_peers(
    config: &Config,
    handles: &Handles,
    listeners: Vec<TcpListener>,
) -> Result<PeerPort, BootError> {
    let (closing, closed) = watch::channel(false);
    let addresses = addresses(&listeners)?;
    let way_in = handles.inbound().clone();
    let timeout = config.client.shutdown_timeout;
    let server = peer::serve(handles.clone(), way_in, listeners, closed, timeout)?;
    for address in addresses {
        tracing::info!(%address, "serving peer traffic");
    }
    let port = Port::run(server);
    Ok(PeerPort { port, closing })
}

/// Opens the ports of a node that is ready.
fn serve(
    config: &Config,
    node: Node,
    handles: Handles,
    peer: PeerPort,
    (clients, metrics_listeners): (Vec<TcpListener>, Vec<TcpListener>),
) -> Result<Running, BootError> {
    let registry = handles.metrics();
    metrics::register_member(&registry, &handles, quota(config))?;
    let rpc = Rpc::new(handles.clone(), limits(config))?;
    let client_addresses = addresses(&clients)?;
    let metrics_addresses = addresses(&metrics_listeners)?;
    let settings = client_settings(&config.client, clients, metrics_listeners);
    let client = Port::run(client::serve(rpc, &registry, settings)?);
    for address in &metrics_addresses {
        tracing::info!(%address, "serving metrics");
    }
    for address in &client_addresses {
        // Tools wait for exactly this text, once per listener.
        tracing::info!(%address, "ready to serve client requests");
        let traffic = "grpc+http";
        tracing::warn!(
            traffic,
            %address,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
    systemd::notify(systemd::READY);
    Ok(Running {
        node,
        ports: Ports { client, peer },
        handles,
        client_addresses,
    })
}

impl Running {
    /// Where clients connect, in the order of the listen URLs, with the port that the system chose
    /// for port zero.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// The node behind the ports.
    pub fn handles(&self) -> &Handles {
        &self.handles
    }
}

fn addresses(listeners: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

fn log_facts(config: &Config) {
    let (member, client, peer) = (&config.member, &config.client, &config.peer);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        etcd_version = ETCD_VERSION,
        cluster_version = ETCD_CLUSTER_VERSION,
        name = member.name,
        data_dir = %member.data_dir.display(),
        listen_client_urls = %joined(&client.listen_urls),
        advertise_client_urls = %client.advertise_urls.join(","),
        listen_peer_urls = %joined(&peer.listen_urls),
        initial_advertise_peer_urls = %peer.advertise_urls.join(","),
        heartbeat_interval = ?config.raft.heartbeat_interval,
        election_timeout = ?config.raft.election_timeout,
        snapshot_count = config.raft.snapshot_count,
        max_request_bytes = client.request_bytes_max,
        max_txn_ops = client.txn_ops_max,
        "starting a member"
    );
}

fn joined(urls: &[althing_conf::config::Url]) -> String {
    let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
    urls.join(",")
}

fn node_settings(config: &Config, settled: Settled) -> NodeSettings {
    let (raft, store) = (&config.raft, &config.store);
    let Settled {
        ids,
        founders,
        joins,
    } = settled;
    NodeSettings {
        name: config.member.name.clone(),
        member_id: ids.member_id,
        cluster_id: ids.cluster_id,
        peer_urls: config.peer.advertise_urls.clone(),
        initial_members: founders,
        joins,
        client_urls: config.client.advertise_urls.clone(),
        heartbeat_interval: raft.heartbeat_interval,
        election_timeout: raft.election_timeout,
        snapshot_count: raft.snapshot_count,
        learners_max: config.cluster.learners_max,
        proposals_max: raft.proposals_max,
        disk_reserve_bytes: store.disk_reserve_bytes,
        clock: Clock::default(),
        wal: WalSettings {
            segment_bytes: raft.wal_segment_bytes,
            tail_bytes: bytes(raft.wal_tail_bytes),
        },
        store: StoreSettings {
            record_cache_bytes: bytes(store.record_cache_bytes),
            page_cache_bytes: bytes(store.page_cache_bytes),
            pending_bytes_max: bytes(store.pending_bytes_max),
        },
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        request_bytes_max: bytes(config.client.request_bytes_max),
        txn_ops_max: config.client.txn_ops_max,
        request_timeout: REQUEST_GRACE + 2 * config.raft.election_timeout,
        watch_progress_interval: watch_progress_interval(config),
        election_timeout: config.raft.election_timeout,
        read_bytes_max: bytes(config.client.read_bytes_max),
        quota_bytes: quota(config),
    }
}

fn client_settings(
    client: &Client,
    listeners: Vec<TcpListener>,
    metrics_listeners: Vec<TcpListener>,
) -> ClientSettings {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    ClientSettings {
        listeners,
        metrics_listeners,
        workers: match client.workers {
            0 => cores(),
            workers => workers,
        },
        connections_max: client.connections_max,
        streams_max: client.streams_max,
        request_bytes_max: bytes(client.request_bytes_max),
        keepalive_interval: client.keepalive_interval,
        keepalive_timeout: client.keepalive_timeout,
        gateway: client.grpc_gateway,
        cors: client.cors.clone(),
        host_whitelist: client.host_whitelist.clone(),
        shutdown_timeout: client.shutdown_timeout,
    }
}

/// As etcd reads it: zero stands for the default, and what is too short for the least.
fn watch_progress_interval(config: &Config) -> Duration {
    match config.client.watch_progress_interval {
        Duration::ZERO => WATCH_PROGRESS_INTERVAL,
        interval => interval.max(WATCH_PROGRESS_INTERVAL_MIN),
    }
}

/// The quota as etcd's clients read it: negative stands for none.
fn quota(config: &Config) -> i64 {
    let bytes = config.store.quota_bytes;
    bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// A number of bytes as memory counts them; more than the address space holds means all of it.
fn bytes(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
