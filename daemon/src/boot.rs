//! From a configuration to a member that serves. Options that a reload may change become settings
//! in `settings.rs`, the others here.
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
use std::net::SocketAddr;
use std::sync::Arc;

use althing_actors::node::{Clock, Handles, Node, NodeSettings, StartError};
use althing_api::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use althing_conf::Config;
use althing_storage::data_dir::DataDir;
use althing_storage::error::OpenError;
use althing_storage::store::{StoreOpenError, StoreSettings};
use althing_storage::wal::WalSettings;

use crate::admin::AdminSocket;
use crate::client::ClientPort;
use crate::dialled;
use crate::identity::{self, IdentityError, Settled};
use crate::listen::ListenError;
use crate::metrics;
use crate::peer::HttpTransport;
use crate::ports::{self, Bound, Ports};
use crate::publisher::Publisher;
use crate::rpc::Rpc;
use crate::service::Starting;
use crate::settings::{self, Live, Settings, saturating_usize};
use crate::systemd;
use crate::waiting;

/// A member that serves its clients.
#[derive(Debug)]
pub struct Running {
    pub(crate) node: Node,
    pub(crate) ports: Ports,
    pub(crate) settings: Live,
    pub(crate) rpc: Rpc,
    pub(crate) publisher: Publisher,
    pub(crate) admin: AdminSocket,
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
    /// The member's identity could not be settled.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] StartError),
    /// Two metrics have the same name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A listener that was opened cannot be served.
    #[error("listener: {0}")]
    Serve(#[from] io::Error),
}

impl BootError {
    /// Whether the next start would fail the same way until somebody repairs the cause. A cause
    /// that may pass by itself, such as a port in use or a cluster that does not answer, is not
    /// final.
    pub fn is_final(&self) -> bool {
        match self {
            BootError::DataDir(error)
            | BootError::Identity(IdentityError::Unreadable(error))
            | BootError::Node(StartError::Open(error)) => is_final(error),
            BootError::Identity(error) => matches!(
                error,
                IdentityError::Missing { .. }
                    | IdentityError::NotNamed { .. }
                    | IdentityError::Bootstrapped { .. }
                    | IdentityError::Differs { .. }
            ),
            BootError::Node(error) => matches!(
                error,
                StartError::Mismatch(_) | StartError::NotFormed | StartError::Differs
            ),
            BootError::Listen(_) | BootError::Metrics(_) | BootError::Serve(_) => false,
        }
    }
}

/// Whether the files themselves are at fault.
fn is_final(error: &OpenError) -> bool {
    match error {
        OpenError::WalDamaged { .. }
        | OpenError::WalIncomplete { .. }
        | OpenError::WalSettings { .. }
        | OpenError::Foreign { .. }
        | OpenError::Newer { .. }
        | OpenError::FileDamaged { .. } => true,
        OpenError::Io { .. } | OpenError::Locked { .. } | OpenError::Unusable { .. } => false,
        OpenError::Store(error) => match error {
            StoreOpenError::Damaged { .. }
            | StoreOpenError::Foreign { .. }
            | StoreOpenError::OtherFormat { .. } => true,
            StoreOpenError::Io { .. } | StoreOpenError::Refused(_) => false,
        },
    }
}

/// Starts a member; returns once clients are served. Must be called inside an actix system.
pub async fn start(config: &Config) -> Result<Running, BootError> {
    log_facts(config);
    let listeners = ports::bind(config)?;
    let starting = Starting::begin(|| "reading the log and the store".to_owned());
    let member = &config.member;
    let dir = DataDir::open_with_wal(&member.data_dir, member.wal_dir.as_deref())?;
    let admin = AdminSocket::open(&member.admin_socket);
    let settled = identity::settle(config, &dir).await?;
    let transport = HttpTransport::new(settled.ids.cluster_id, settled.ids.member_id);
    let settings = node_settings(config, settled);
    let (node, handles) = Node::launch(dir, &settings, Arc::new(transport)).await?;
    let looking = dialled::tell_of_other_urls(handles.clone(), settings.clone());
    actix_rt::spawn(looking);
    handles.set_slow_apply(config.log.slow_request);
    let mut ports = Ports::new(handles.clone(), workers(config));
    let (peers, others): (Vec<_>, Vec<_>) = listeners.into_iter().partition(Bound::is_for_peers);
    // Other members must be heard before there is a leader.
    for listener in peers {
        ports.serve(listener)?;
    }
    drop(starting);
    let starting = Starting::waiting(handles.clone());
    tokio::select! {
        ready = node.ready(&handles, &settings) => ready?,
        never = waiting::tell(&handles, &settings) => match never {},
    }
    drop(starting);
    let registry = handles.metrics();
    let settings = Live::new(Settings::of(config));
    metrics::register_member(&registry, &handles)?;
    let rpc = Rpc::new(handles, settings.clone())?;
    ports.serve_clients(ClientPort::new(rpc.clone(), &registry, settings.clone())?);
    for listener in others {
        ports.serve(listener)?;
    }
    let publisher = Publisher::start(rpc.handles.clone());
    systemd::notify(systemd::READY);
    Ok(Running {
        node,
        ports,
        settings,
        rpc,
        publisher,
        admin,
    })
}

impl Running {
    /// Where clients connect, in the order of the listen URLs, with the port that the system chose
    /// for port zero.
    pub fn client_addresses(&self) -> Vec<SocketAddr> {
        self.ports.client_addresses()
    }

    /// The node behind the ports.
    pub fn handles(&self) -> &Handles {
        &self.rpc.handles
    }
}

fn workers(config: &Config) -> usize {
    match config.client.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
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
        others,
    } = settled;
    NodeSettings {
        name: config.member.name.clone(),
        member_id: ids.member_id,
        cluster_id: ids.cluster_id,
        peer_urls: config.peer.advertise_urls.clone(),
        founders,
        joins,
        known_members: others,
        client_urls: config.client.advertise_urls.clone(),
        raft: settings::raft(config),
        proposals_max: raft.proposals_max,
        disk_reserve_bytes: store.disk_reserve_bytes,
        upkeep: settings::upkeep(config),
        clock: Clock::default(),
        wal: WalSettings {
            segment_bytes: raft.wal_segment_bytes,
            tail_bytes: saturating_usize(raft.wal_tail_bytes),
        },
        store: StoreSettings {
            record_cache_bytes: saturating_usize(store.record_cache_bytes),
            page_cache_bytes: saturating_usize(store.page_cache_bytes),
            pending_bytes_max: saturating_usize(store.pending_bytes_max),
        },
    }
}
