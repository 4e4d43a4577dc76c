//! The whole node: how it is opened, recovered, started and stopped.
//!
//! ```text
//!  open WAL and store -> check that they fit -> threads, actors, raft -> lead or follow -> caught
//!  up with all that the log could have applied -> publish ourselves -> serve -> stop or halt
//! ```
//! Starting is the only recovery there is: the store holds a prefix of the log, the rest of the log
//! is applied again.

mod backup;
mod handles;
mod key_watch;
mod settings;
mod start_error;
mod status;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use althing_api::ETCD_CLUSTER_VERSION;
use althing_api::commandpb::{Command, PublishMember, SetClusterVersion, command};
use althing_api::error::{Code, Error};
use althing_storage::data_dir::DataDir;
use althing_storage::entry::LogId;
use althing_storage::store::{MemberRecord, Store};
use althing_storage::wal::{Recovery, Wal};

pub use self::backup::BackupStream;
use self::backup::Backups;
use self::handles::Shared;
pub use self::handles::{Applied, Handles};
pub use self::key_watch::{KeyWatch, WatchEnd};
pub use self::settings::{MemberAddress, NodeSettings};
pub use self::start_error::StartError;
pub use self::status::{MemberStatus, NodeStatus};
use self::tree::{NodeState, Opened, Tree, raft_node_setup, start_links, start_upkeep};
use crate::arbiters::Arbiters;
use crate::ground;
pub use crate::halt::HaltCause;
use crate::lessor::LeaseKeeper;
pub use crate::lessor::{Clock, LeaseTime};
use crate::metrics::StateCollector;
use crate::peer_link::{Links, Transport};
use crate::raft_node::{CORE_QUEUE, Outbox, Proposer, RaftSetup, StartedRaft, start as start_raft};
pub use crate::raft_node::{Inbound, MemberChange, RaftTuning, Refusal};
use crate::store_writer::Checkpoint;
use crate::supervisor::{ActorRef, RetireAll, Supervisor};
pub use crate::upkeep::{AutoCompaction, SharedSettings, UpkeepSettings};
use crate::upkeep::{Hasher, Upkeep, UpkeepSetup};
use crate::wal_writer::Sync;

/// Pause between two attempts to publish this member.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);

/// A running node: owns the supervisor tree and its threads. Dropping it stops everything at once,
/// without a checkpoint; everything acknowledged is in the log and comes back at the next start.
pub struct Node {
    shared: NodeState,
    supervisor: Addr<Supervisor>,
    arbiters: Option<Arbiters>,
    tree: Option<Tree>,
    raft: Option<StartedRaft>,
    /// Kept so that Upkeep can be started again.
    upkeep: Option<(Arc<UpkeepSetup>, ActorRef<Upkeep>)>,
    /// The last field, so that the directory stays locked until every file in it is closed.
    _dir: Arc<DataDir>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("me", &self.shared.me)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Opens WAL and store, recovers and starts the tree. From then on the node takes part in its
    /// cluster, through `transport` and [`Handles::inbound`]; it serves once [`Node::ready`] has
    /// returned. Must run inside an actix System. Dropping the future stops what was started,
    /// except the thread that reads log and store; that thread holds the directory until it is
    /// done.
    pub async fn launch(
        dir: DataDir,
        settings: &NodeSettings,
        transport: Arc<dyn Transport>,
    ) -> Result<(Node, Handles), StartError> {
        assert!(
            (settings.proposals_max as u64) <= CORE_QUEUE / 2,
            "admitted proposals must fit the queue of raft's core"
        );
        let of_its_thread = settings.clone();
        let opening = ground::offload(move || {
            let log = Wal::open(&dir.wal(), of_its_thread.wal.clone())?;
            open_beside(log, dir, &of_its_thread)
        });
        let opened = opening.await.map_err(StartError::Thread)??;
        Node::launch_opened(opened, settings, transport).await
    }

    /// Launches on a log and a store that are already open.
    pub(crate) async fn launch_opened(
        opened: Opened,
        settings: &NodeSettings,
        transport: Arc<dyn Transport>,
    ) -> Result<(Node, Handles), StartError> {
        if opened.store.is_removed(settings.member_id.0) {
            return Err(StartError::Removed);
        }
        if opened.recovery.last.is_none() && settings.founders.is_empty() && !settings.joins {
            return Err(StartError::NotFormed);
        }
        let store = opened.store.clone();
        let shared = NodeState::new(
            settings.member_id.0,
            settings.disk_reserve_bytes,
            settings.proposals_max,
            settings.clock.clone(),
            settings.raft,
        );
        let mut node = Node::build(shared, opened)?;
        let links = node.start_raft(settings, transport).await?;
        let handles = node.handles(settings, store, links);
        Ok((node, handles))
    }

    /// Returns when the node has caught up with everything its log could have applied and has
    /// published itself, for which its cluster needs a leader. Dropping the future loses nothing.
    pub async fn ready(
        &self,
        handles: &Handles,
        settings: &NodeSettings,
    ) -> Result<(), StartError> {
        tokio::select! {
            biased;
            cause = self.shared.halt.tripped() => Err(StartError::Halted(cause)),
            () = self.shared.departure.tripped() => Err(StartError::Removed),
            ready = self.get_ready(handles, settings) => ready,
        }
    }

    /// Starts all threads and actors except raft.
    fn build(shared: NodeState, opened: Opened) -> Result<Node, StartError> {
        let arbiters = Arbiters::start().map_err(StartError::Thread)?;
        let supervisor = Supervisor::new(shared.halt.clone()).start();
        let dir = Arc::clone(&opened.dir);
        if let Some(applied) = opened.store.applied().log_id {
            shared.progress.commit(applied.index);
            shared.progress.apply(applied.index);
            shared.progress.applied_a_batch();
        }
        let tree = Tree::start(&shared, opened, &arbiters.threads(), &supervisor);
        Ok(Node {
            shared,
            supervisor,
            arbiters: Some(arbiters),
            tree: Some(tree),
            raft: None,
            upkeep: None,
            _dir: dir,
        })
    }

    async fn start_raft(
        &mut self,
        settings: &NodeSettings,
        transport: Arc<dyn Transport>,
    ) -> Result<Arc<Links>, StartError> {
        let threads = self.arbiters.as_ref().expect("running").threads();
        let links = start_links(&self.shared, transport, &threads, &self.supervisor);
        let others = settings.known_members.iter();
        for other in others.filter(|other| other.id != settings.member_id) {
            links.reach(other.id.0, &other.peer_urls);
        }
        let tree = self.tree.as_ref().expect("built before raft starts");
        let founders: BTreeMap<u64, Vec<String>> = settings
            .founders
            .iter()
            .map(|member| (member.id.0, member.peer_urls.clone()))
            .collect();
        let (peers, supervisor) = (Arc::clone(&links), &self.supervisor);
        let setup = RaftSetup {
            node: raft_node_setup(&self.shared, tree, peers, supervisor),
            cluster_name: settings.cluster_id.to_string(),
            log_store: tree.log_store.clone(),
            state_machine: tree.state_machine.clone(),
            links: Arc::clone(&links),
            founders,
        };
        let raft = start_raft(&threads.raft, setup)
            .await
            .map_err(StartError::Raft)?;
        self.raft = Some(raft);
        Ok(links)
    }

    fn handles(&mut self, settings: &NodeSettings, store: Store, links: Arc<Links>) -> Handles {
        let shared = &self.shared;
        let raft_node = self.raft.as_ref().expect("started").node.clone();
        let membership = Arc::clone(&shared.membership);
        let (watched, me) = (Arc::clone(&membership), shared.me);
        let collector = StateCollector {
            me,
            progress: Arc::clone(&shared.progress),
            proposals: Arc::clone(&shared.proposals),
            is_learner: Box::new(move || watched.is_learner(me)),
            store: store.clone(),
        };
        shared.metrics.register(collector);
        let proposer = Proposer {
            me,
            outbox: Arc::new(Outbox::new(raft_node.clone().recipient())),
            raft_node: raft_node.clone(),
            links,
            proposals: Arc::clone(&shared.proposals),
            reads: Arc::clone(&shared.reads),
            gate: Arc::clone(&shared.gate),
            progress: Arc::clone(&shared.progress),
            sole_voter: Arc::clone(&shared.sole_voter),
            store,
            metrics: shared.metrics.clone(),
        };
        let tree = self.tree.as_ref().expect("built before raft starts");
        let known = tree.lessor_setup.proposer.set(proposer.clone());
        debug_assert!(known.is_ok(), "raft starts once");
        let leases = LeaseKeeper {
            me: shared.me,
            clock: Arc::clone(&shared.lease_clock),
            proposer: proposer.clone(),
            tuning: shared.tuning.clone(),
        };
        let hasher = Hasher::new(proposer.store.clone());
        let inbound = Inbound {
            member_id: settings.member_id,
            cluster_id: settings.cluster_id,
            raft_node,
            proposer: proposer.clone(),
            leases: leases.clone(),
            snapshotter: tree.snapshotter.clone(),
            hasher: hasher.clone(),
        };
        let store_writer = tree.store_writer.clone();
        let backups = Backups::new(proposer.store.clone(), store_writer.clone());
        let watch_hub = tree.watch_hub.clone();
        let upkeep = SharedSettings::new(settings.upkeep);
        let setup = Arc::new(UpkeepSetup {
            proposer: proposer.clone(),
            settings: upkeep.clone(),
            hasher,
        });
        let threads = self.arbiters.as_ref().expect("running").threads();
        let actor = start_upkeep(&setup, &threads, &self.supervisor);
        let handles = Handles::new(Shared {
            member_id: settings.member_id,
            cluster_id: settings.cluster_id,
            proposer,
            inbound,
            leases,
            membership,
            restored: Arc::clone(&shared.restored),
            compacted: Arc::clone(&shared.compacted),
            watch_hub,
            store_writer,
            upkeep,
            raising: tokio::sync::Mutex::default(),
            backups,
        });
        self.upkeep = Some((setup, actor));
        handles
    }

    async fn get_ready(
        &self,
        handles: &Handles,
        settings: &NodeSettings,
    ) -> Result<(), StartError> {
        let raft = self.raft.as_ref().expect("started");
        raft.recovered().await.map_err(StartError::Raft)?;
        loop {
            match publish(handles, settings).await {
                // Publishing twice changes nothing.
                Err(error) if may_pass(&error) => {
                    tracing::info!(%error, "publishes this member again");
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
                Err(error) => return Err(StartError::Publish(error)),
                Ok(()) => break,
            }
        }
        // A snapshot that came since the start is the leader's state and was verified on arrival;
        // to compare it would make all members read everything they hold.
        if handles.snapshots_taken_over() > 0 {
            return Ok(());
        }
        let (setup, _) = self.upkeep.as_ref().expect("started with raft");
        if setup.differs_from_the_others().await {
            Err(StartError::Differs)
        } else {
            Ok(())
        }
    }

    /// Resolves when the node has to stop by itself (I/O error, a core actor's death).
    pub async fn halted(&mut self) -> HaltCause {
        let cause = self.shared.halt.tripped().await;
        self.shared.close();
        cause
    }

    /// Resolves when the member was removed from its cluster; the caller then has to stop it.
    pub fn removed(&self) -> impl Future<Output = ()> + use<> {
        let departure = self.shared.departure.clone();
        async move { departure.tripped().await }
    }

    /// Stops in order: no more proposals, a checkpoint, the WAL closed.
    pub async fn stop(mut self) {
        self.shared.proposals.close();
        self.shared.reads.close();
        self.supervisor.do_send(RetireAll);
        if let Some(raft) = self.raft.take() {
            raft.stop().await;
        }
        if let Some(tree) = self.tree.take() {
            // The log holds whatever a checkpoint misses; the next start applies it again.
            if let Ok(Err(error)) = tree.wal_writer.send(Sync).await {
                tracing::warn!(%error, "the log was not flushed at the stop");
            }
            if tree.store_writer.send(Checkpoint).await.is_err() {
                tracing::warn!("no checkpoint at the stop");
            }
        }
        self.shared.close();
        if let Some(arbiters) = self.arbiters.take() {
            // Joining blocks, and the supervisor lives on this thread.
            let _ = ground::offload(move || arbiters.stop_and_join()).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.close();
        self.supervisor.do_send(RetireAll);
        if let Some(arbiters) = self.arbiters.take() {
            arbiters.stop_and_join();
        }
    }
}

/// Opens the store beside an open log, and checks that the two fit.
pub(crate) fn open_beside(
    (wal, recovery): (Wal, Recovery),
    dir: DataDir,
    settings: &NodeSettings,
) -> Result<Opened, StartError> {
    if let Some(torn) = &recovery.repaired {
        tracing::warn!(
            file = %torn.file.display(),
            offset = torn.offset,
            "cut off a torn record at the end of the log; it was never acknowledged"
        );
    }
    let index = |id: Option<LogId>| id.map(|id| id.index);
    tracing::info!(
        last_index = index(recovery.last),
        committed_index = index(recovery.committed),
        purged_index = index(recovery.purged),
        "read the write-ahead log"
    );
    // Before the store: if these fill the disk, it could not be opened.
    if let Err(error) = dir.remove_arrivals() {
        tracing::warn!(%error, "snapshots that were not taken over stay in the data directory");
    }
    let store = Store::open(&dir.store(), settings.store.clone())?;
    tracing::info!(
        applied_index = index(store.durable()),
        revision = store.revisions().current,
        keys = store.key_count(),
        bytes = store.used_bytes(),
        "opened the store; the log has what follows its applied index"
    );
    let replacing = dir.replacing();
    check(&recovery, &store, replacing)?;
    Ok(Opened {
        dir: Arc::new(dir),
        wal,
        recovery,
        store,
        store_settings: settings.store.clone(),
        cluster_id: settings.cluster_id.0,
    })
}

/// Errors: the store and the log do not belong together.
fn check(recovery: &Recovery, store: &Store, replacing: Option<LogId>) -> Result<(), StartError> {
    let fits = recovery.fits(store.durable(), replacing);
    fits.map_err(StartError::Mismatch)
}

/// Whether publishing may succeed in a moment: a leader was lost, or has too much to do.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::TooManyRequests | Error::NoSpace => true,
        Error::Stopped => false,
        error => error.code() == Code::Unavailable,
    }
}

/// Tells the cluster this member's addresses, and its version, unless the cluster knows them.
async fn publish(handles: &Handles, settings: &NodeSettings) -> Result<(), Error> {
    // A sole voter leads by now; among several members this waits for a leader.
    handles.read_index().await?;
    let record = MemberRecord {
        id: settings.member_id.0,
        name: settings.name.clone(),
        peer_urls: settings.peer_urls.clone(),
        client_urls: settings.client_urls.clone(),
    };
    if !handles.store().members().contains(&record) {
        let publish = PublishMember {
            member_id: record.id,
            name: record.name,
            peer_urls: record.peer_urls,
            client_urls: record.client_urls,
        };
        let request = Some(command::Request::PublishMember(publish));
        handles.propose_own(Command { request }).await?.response?;
        tracing::info!(
            name = settings.name,
            member_id = %settings.member_id,
            "published local member to cluster through raft"
        );
    }
    if handles.store().cluster_version().is_none() {
        let version = ETCD_CLUSTER_VERSION.to_owned();
        let request = Some(command::Request::SetClusterVersion(SetClusterVersion {
            version,
        }));
        handles.propose_own(Command { request }).await?.response?;
        tracing::info!(
            cluster_version = ETCD_CLUSTER_VERSION,
            "set initial cluster version"
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "../raft_node/membership/half_done_test.rs"]
mod half_done_tests;
#[cfg(test)]
#[path = "node_test.rs"]
mod tests;
