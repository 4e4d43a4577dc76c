//! The actors behind raft and what they share: built bottom up, torn down top down.

use std::sync::{Arc, OnceLock};

use actix::{Actor, Addr, Context};
use althing_storage::data_dir::DataDir;
use althing_storage::store::{Store, StoreSettings};
use althing_storage::wal::{LogTail, Recovery, Wal};

use crate::applier::{Applier, ApplierSetup, Backlog};
use crate::arbiters::Threads;
use crate::departure::Departure;
use crate::disk_gate::DiskGate;
use crate::halt::Halt;
use crate::latest;
use crate::lessor::{Clock, Lead, LeaseClock, Lessor, LessorSetup};
use crate::metrics::Metrics;
use crate::peer_link::{Links, LinksSetup, Transport};
use crate::progress::Progress;
use crate::raft_node::{
    LiveTuning, LogStore, LogStoreSetup, PublishedMembership, RaftNodeSetup, RaftTuning, SoleVoter,
    StateMachine,
};
use crate::reply::Admission;
use crate::snapshotter::{Sendings, Snapshotter, SnapshotterSetup, Transfers};
use crate::store_writer::{CheckpointPace, FlushedEnd, StoreWriter, StoreWriterSetup};
use crate::supervisor::{ActorRef, DeathWatch, Policy, Supervise, Supervisor};
use crate::upkeep::{Upkeep, UpkeepSetup};
use crate::wal_writer::{CommitMark, FlushClock, WalWriter, WalWriterSetup};
use crate::watch_hub::{Attention, Feed, WatchHub};

/// Names of the children, used when a death is reported.
const WAL_WRITER: &str = "WalWriter";
const APPLIER: &str = "Applier";
const STORE_WRITER: &str = "StoreWriter";
const LESSOR: &str = "Lessor";
const SNAPSHOTTER: &str = "Snapshotter";
const PEERS: &str = "Supervisor of peers";
const UPKEEP: &str = "Upkeep";
const WATCH_HUB: &str = "WatchHub";
const RAFT_NODE: &str = "RaftNode";

/// State that several actors share.
#[derive(Clone, Debug)]
pub(crate) struct NodeState {
    pub(crate) me: u64,
    pub(crate) halt: Halt,
    pub(crate) departure: Departure,
    pub(crate) progress: Arc<Progress>,
    pub(crate) membership: Arc<PublishedMembership>,
    pub(crate) sole_voter: Arc<SoleVoter>,
    pub(crate) gate: Arc<DiskGate>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) compacted: Arc<latest::Sender<i64>>,
    pub(crate) proposals: Arc<Admission>,
    pub(crate) reads: Arc<Admission>,
    pub(crate) tuning: LiveTuning,
    pub(crate) lease_clock: Arc<LeaseClock>,
    pub(crate) metrics: Metrics,
    /// Counts the snapshots that replaced the store as a whole. Anything derived from the store has
    /// to be derived again when this changes.
    pub(crate) restored: Arc<latest::Sender<u64>>,
    commit_mark: CommitMark,
    flush_clock: Arc<FlushClock>,
}

impl NodeState {
    pub(crate) fn new(
        me: u64,
        disk_reserve_bytes: u64,
        proposals_max: usize,
        clock: Clock,
        tuning: RaftTuning,
    ) -> NodeState {
        let tuning = LiveTuning::new(tuning);
        NodeState {
            me,
            halt: Halt::default(),
            departure: Departure::default(),
            progress: Arc::default(),
            membership: Arc::default(),
            sole_voter: Arc::new(SoleVoter::new(me)),
            gate: Arc::new(DiskGate::new(disk_reserve_bytes)),
            backlog: Arc::default(),
            compacted: Arc::new(latest::Sender::new(0)),
            proposals: Admission::new(proposals_max),
            reads: Admission::new(proposals_max),
            lease_clock: Arc::new(LeaseClock::new(clock, tuning.clone())),
            tuning,
            metrics: Metrics::new(),
            restored: Arc::new(latest::Sender::new(0)),
            commit_mark: CommitMark::default(),
            flush_clock: Arc::default(),
        }
    }

    /// Refuses everything from now on, and wakes all that wait for what will not come.
    pub(crate) fn close(&self) {
        self.proposals.close();
        self.reads.close();
        self.gate.stop();
        self.sole_voter.close();
        self.backlog.close();
    }
}

/// What is on disk, opened.
pub(crate) struct Opened {
    pub(crate) dir: Arc<DataDir>,
    pub(crate) wal: Wal,
    pub(crate) recovery: Recovery,
    pub(crate) store: Store,
    pub(crate) store_settings: StoreSettings,
    pub(crate) cluster_id: u64,
}

/// The actors behind raft.
pub(crate) struct Tree {
    pub(crate) wal_writer: Addr<WalWriter>,
    pub(crate) store_writer: Addr<StoreWriter>,
    pub(crate) log_store: LogStore,
    pub(crate) state_machine: StateMachine,
    pub(crate) snapshotter: ActorRef<Snapshotter>,
    /// Kept so that the Snapshotter can be started again.
    _snapshotter: Arc<SnapshotterSetup>,
    pub(crate) watch_hub: ActorRef<WatchHub>,
    pub(crate) lessor: ActorRef<Lessor>,
    /// Kept so that the Lessor can be started again.
    pub(crate) lessor_setup: Arc<LessorSetup>,
    /// Keeps the store for actors that are started again.
    _store: Arc<Store>,
}

impl Tree {
    /// Starts the actors, each on its thread, supervised.
    pub(crate) fn start(
        shared: &NodeState,
        opened: Opened,
        threads: &Threads,
        supervisor: &Addr<Supervisor>,
    ) -> Tree {
        let tail = opened.wal.tail();
        let flushed = flushed_end(tail.clone());
        Tree::start_with_flushed(shared, opened, threads, supervisor, flushed)
    }

    /// Like `start`, but with the given source of what counts as flushed.
    pub(crate) fn start_with_flushed(
        shared: &NodeState,
        opened: Opened,
        threads: &Threads,
        supervisor: &Addr<Supervisor>,
        flushed: FlushedEnd,
    ) -> Tree {
        let Opened {
            dir,
            wal,
            recovery,
            store,
            store_settings,
            cluster_id,
        } = opened;
        let tail = wal.tail();
        shared.gate.watch_log(wal.space());
        let wal_writer = start_wal_writer(shared, wal, threads, supervisor);
        let store_writer = start_store_writer(
            shared,
            Arc::clone(&dir),
            store.clone(),
            flushed,
            threads,
            supervisor,
        );
        let outgoing = Sendings::default();
        let kept = Arc::new(SnapshotterSetup {
            store: store.clone(),
            settings: store_settings,
            dir,
            cluster_id,
            gate: Arc::clone(&shared.gate),
            outgoing: outgoing.clone(),
            incoming: Transfers::default(),
            arrivals: Arc::default(),
        });
        let kept_store = Arc::new(store.clone());
        let (watch_hub, feed) = start_watch_hub(shared, &kept_store, threads, supervisor);
        let watchers = feed.hint();
        let lessor_setup = Arc::new(LessorSetup {
            store: store.clone(),
            clock: Arc::clone(&shared.lease_clock),
            metrics: shared.metrics.lease.clone(),
            proposer: OnceLock::new(),
        });
        let lessor = start_lessor(&lessor_setup, threads, supervisor);
        let setup = ApplierSetup {
            store: store.clone(),
            progress: Arc::clone(&shared.progress),
            backlog: Arc::clone(&shared.backlog),
            store_writer: store_writer.clone().recipient(),
            lessor: lessor.clone(),
            feed,
            metrics: shared.metrics.clone(),
            halt: shared.halt.clone(),
            me: shared.me,
            departure: shared.departure.clone(),
            death_watch: core_child(supervisor, APPLIER),
        };
        let applier = threads.apply.start(|| Applier::new(setup));
        let snapshotter = start_snapshotter(&kept, threads, supervisor);
        let log_store = LogStore::new(
            LogStoreSetup {
                tail,
                wal: wal_writer.clone(),
                me: shared.me,
                commit_mark: shared.commit_mark.clone(),
                progress: Arc::clone(&shared.progress),
                sole_voter: Arc::clone(&shared.sole_voter),
                admission: Arc::clone(&shared.proposals),
            },
            &recovery,
        );
        let state_machine = StateMachine {
            store,
            applier,
            store_writer: store_writer.clone(),
            wal_writer: wal_writer.clone(),
            snapshotter: snapshotter.clone(),
            progress: Arc::clone(&shared.progress),
            outgoing,
            watchers,
            restored: Arc::clone(&shared.restored),
            admission: Arc::clone(&shared.proposals),
        };
        Tree {
            wal_writer,
            store_writer,
            log_store,
            state_machine,
            snapshotter,
            _snapshotter: kept,
            watch_hub,
            lessor,
            lessor_setup,
            _store: kept_store,
        }
    }
}

/// The links to other members, with a supervisor of their own. No link exists until raft names
/// members.
pub(crate) fn start_links(
    shared: &NodeState,
    transport: Arc<dyn Transport>,
    threads: &Threads,
    supervisor: &Addr<Supervisor>,
) -> Arc<Links> {
    let (halt, watch) = (shared.halt.clone(), core_child(supervisor, PEERS));
    let peers = threads.peer.start(|| Supervisor::watched(halt, watch));
    Arc::new(Links::new(LinksSetup {
        me: shared.me,
        transport,
        thread: threads.peer.clone(),
        supervisor: peers,
        metrics: shared.metrics.clone(),
        departure: shared.departure.clone(),
    }))
}

/// What RaftNode is started with.
pub(crate) fn raft_node_setup(
    shared: &NodeState,
    tree: &Tree,
    links: Arc<Links>,
    supervisor: &Addr<Supervisor>,
) -> RaftNodeSetup {
    RaftNodeSetup {
        me: shared.me,
        links,
        store: tree.state_machine.store.clone(),
        tuning: shared.tuning.clone(),
        progress: Arc::clone(&shared.progress),
        membership: Arc::clone(&shared.membership),
        sole_voter: Arc::clone(&shared.sole_voter),
        lead: Lead {
            clock: Arc::clone(&shared.lease_clock),
            lessor: tree.lessor.clone(),
        },
        flush_clock: Arc::clone(&shared.flush_clock),
        metrics: shared.metrics.clone(),
        halt: shared.halt.clone(),
        _death_watch: core_child(supervisor, RAFT_NODE),
    }
}

fn flushed_end(tail: LogTail) -> FlushedEnd {
    Box::new(move || tail.flushed())
}

/// A guard for a child whose death halts the node.
fn core_child(supervisor: &Addr<Supervisor>, child: &'static str) -> DeathWatch {
    supervisor.do_send(Supervise {
        child: child.into(),
        policy: Policy::Halt,
        respawn: None,
    });
    DeathWatch::new(child, supervisor.clone().recipient())
}

fn start_wal_writer(
    shared: &NodeState,
    wal: Wal,
    threads: &Threads,
    supervisor: &Addr<Supervisor>,
) -> Addr<WalWriter> {
    let setup = WalWriterSetup {
        wal,
        commit_mark: shared.commit_mark.clone(),
        flush_clock: Arc::clone(&shared.flush_clock),
        metrics: shared.metrics.clone(),
        halt: shared.halt.clone(),
        death_watch: core_child(supervisor, WAL_WRITER),
    };
    threads.wal.start(|| WalWriter::new(setup))
}

fn start_store_writer(
    shared: &NodeState,
    dir: Arc<DataDir>,
    store: Store,
    flushed: FlushedEnd,
    threads: &Threads,
    supervisor: &Addr<Supervisor>,
) -> Addr<StoreWriter> {
    let setup = StoreWriterSetup {
        store,
        dir,
        flushed,
        pace: CheckpointPace::default(),
        gate: Arc::clone(&shared.gate),
        backlog: Arc::clone(&shared.backlog),
        compacted: Arc::clone(&shared.compacted),
        metrics: shared.metrics.clone(),
        halt: shared.halt.clone(),
        _death_watch: core_child(supervisor, STORE_WRITER),
    };
    threads.store.start(|| StoreWriter::new(setup))
}

fn start_lessor(
    setup: &Arc<LessorSetup>,
    threads: &Threads,
    supervisor: &Addr<Supervisor>,
) -> ActorRef<Lessor> {
    let thread = threads.lease.clone();
    let start = move |setup: Arc<LessorSetup>, watch| thread.start(|| Lessor::new(setup, watch));
    restartable(LESSOR, setup, supervisor, start)
}

/// Starts Upkeep on the thread of the leases: both look often and seldom act.
pub(crate) fn start_upkeep(
    setup: &Arc<UpkeepSetup>,
    threads: &Threads,
    supervisor: &Addr<Supervisor>,
) -> ActorRef<Upkeep> {
    let thread = threads.lease.clone();
    let start = move |setup: Arc<UpkeepSetup>, watch| thread.start(|| Upkeep::new(setup, watch));
    restartable(UPKEEP, setup, supervisor, start)
}

fn start_snapshotter(
    setup: &Arc<SnapshotterSetup>,
    threads: &Threads,
    supervisor: &Addr<Supervisor>,
) -> ActorRef<Snapshotter> {
    let thread = threads.snap.clone();
    let start = move |setup: Arc<SnapshotterSetup>, watch| {
        let setup = SnapshotterSetup::clone(&setup);
        thread.start(|| Snapshotter::new(setup, watch))
    };
    restartable(SNAPSHOTTER, setup, supervisor, start)
}

/// Starts the hub, and returns it with the Applier's way to it.
fn start_watch_hub(
    shared: &NodeState,
    store: &Arc<Store>,
    threads: &Threads,
    supervisor: &Addr<Supervisor>,
) -> (ActorRef<WatchHub>, Feed) {
    let thread = threads.watch.clone();
    let attention = Arc::new(Attention::default());
    let (theirs, metrics) = (Arc::clone(&attention), shared.metrics.watch.clone());
    let start = move |store: Arc<Store>, watch| {
        let store = Store::clone(&store);
        let hub = WatchHub::new(store, Arc::clone(&theirs), metrics.clone(), watch);
        thread.start(|| hub)
    };
    let hub = restartable(WATCH_HUB, store, supervisor, start);
    (hub.clone(), Feed::new(hub, attention))
}

/// Starts a child that is started again when it dies. The factory holds `setup` weakly: it lives
/// in the supervisor, which may outlast the node by a moment, and the store's file must be closed
/// when the node is gone.
fn restartable<A: Actor<Context = Context<A>>, P: Send + Sync + 'static>(
    child: &'static str,
    setup: &Arc<P>,
    supervisor: &Addr<Supervisor>,
    start: impl Fn(Arc<P>, DeathWatch) -> Addr<A> + Send + 'static,
) -> ActorRef<A> {
    let watch = DeathWatch::new(child, supervisor.clone().recipient());
    let reference = ActorRef::new(start(Arc::clone(setup), watch));
    let (current, setup) = (reference.clone(), Arc::downgrade(setup));
    supervisor.do_send(Supervise {
        child: child.into(),
        policy: Policy::Restart,
        respawn: Some(Box::new(move |watch| {
            if let Some(setup) = setup.upgrade() {
                current.replace(|| start(setup, watch));
            }
        })),
    });
    reference
}
