//! The whole actor tree, top to bottom, and the handles that front ends use.
use althing_api::commandpb::Command;
use althing_api::error::Error;
use althing_api::id::{ClusterId, MemberId};
use althing_storage::apply::Response;
use althing_storage::data_dir::DataDir;
use althing_storage::entry::LogId;
use althing_storage::store::{Store, StoreSettings};
use althing_storage::wal::WalSettings;
use std::time::Duration;

/// What a node must be told.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NodeSettings {
    pub name: String,
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    /// Initial voters with their peer URLs; ignored when the data directory holds a log.
    pub initial_members: Vec<InitialMember>,
    pub client_urls: Vec<String>,
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub snapshot_count: u64,
    /// Proposals admitted at once; one more is refused with `TooManyRequests`.
    pub proposals_max: usize,
    /// Free disk bytes below which writes are refused.
    pub disk_reserve_bytes: u64,
    pub wal: WalSettings,
    pub store: StoreSettings,
}

/// One voter of the first configuration.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct InitialMember {
    pub id: MemberId,
    pub name: String,
    pub peer_urls: Vec<String>,
}

/// A running node: owns the supervisor tree.
#[derive(Debug)]
pub struct Node {}

/// What front ends may ask of the node. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub struct Handles {}

/// The outcome of a proposal that was committed and applied.
#[derive(Debug)]
pub struct Applied {
    /// The state machine's answer, or its refusal.
    pub response: Result<Response, Error>,
    /// Where the command stands in the log.
    pub log_id: LogId,
    /// The store's revision after the command.
    pub revision: i64,
}

/// Why the node stopped by itself.
#[derive(Clone, Debug)]
pub struct HaltCause(pub String);

/// A published picture of the node.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct NodeStatus {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    pub term: u64,
    /// Zero: none known.
    pub leader: MemberId,
    pub committed_index: u64,
    pub applied_index: u64,
    pub is_learner: bool,
    pub members: Vec<MemberStatus>,
}

/// One member of the current configuration.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct MemberStatus {
    pub id: MemberId,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

impl Node {
    /// Opens WAL and store, recovers, starts the tree, and returns when the node has caught up with
    /// everything its log could have applied (a one-member cluster: it leads and has published itself).
    pub async fn start(
        _dir: DataDir,
        _settings: NodeSettings,
    ) -> Result<(Node, Handles), StartError> {
        todo!()
    }
    /// Resolves when the node has to stop by itself (I/O error, a core actor's death).
    pub async fn halted(&mut self) -> HaltCause {
        todo!()
    }
    /// Orderly stop: no more proposals, checkpoint, WAL closed.
    pub async fn stop(self) {
        todo!()
    }
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error(transparent)]
    Open(#[from] althing_storage::error::OpenError),
    #[error("raft: {0}")]
    Raft(String),
}

impl Handles {
    /// Proposes a command and waits until it is committed and applied here. The proposal goes on
    /// even if the returned future is dropped. Errors: `TooManyRequests`, `NoSpace`, `NoLeader`,
    /// `Stopped`, `Timeout` (outcome unknown).
    pub async fn propose(&self, _command: Command) -> Result<Applied, Error> {
        todo!()
    }
    /// Returns once a read of the local store is linearizable. Errors: `NoLeader`, `LeaderChanged`,
    /// `Stopped`, `Timeout`.
    pub async fn read_index(&self) -> Result<(), Error> {
        todo!()
    }
    /// The store, for reads.
    pub fn store(&self) -> &Store {
        todo!()
    }
    /// The latest published status.
    pub fn status(&self) -> NodeStatus {
        todo!()
    }
    /// Current term and leader without building a whole status; for response headers.
    pub fn term(&self) -> u64 {
        todo!()
    }
    /// Resolves when physical compaction of everything below `revision` is done.
    pub async fn compaction_finished(&self, _revision: i64) -> Result<(), Error> {
        todo!()
    }
    /// The registry where the actors register etcd's metrics.
    pub fn metrics(&self) -> prometheus::Registry {
        todo!()
    }
}
