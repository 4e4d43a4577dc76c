//! What only tests use: settings of a small node, and the storage adapters alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Addr};
use althing_api::id::{ClusterId, MemberId};
use althing_storage::data_dir::DataDir;
use althing_storage::entry::LogId;
use althing_storage::store::{Store, StoreSettings};
use althing_storage::wal::{Background, Disk, Wal, WalSettings};

mod ended_hub;
mod hanging_disk;
mod loopback;
mod simulated;

pub use self::ended_hub::end_watch_hub;
pub use self::hanging_disk::HangingDisk;
pub use self::loopback::Loopback;
pub use self::simulated::{Simulated, launch_simulated, pass, simulate, voter_sets};
use crate::arbiters::Arbiters;
use crate::node::tree::{NodeState, Opened, Tree};
use crate::node::{
    self, Clock, Handles, MemberAddress, Node, NodeSettings, RaftTuning, StartError, UpkeepSettings,
};
use crate::peer_link::Transport;
pub use crate::raft_node::types::Types;
pub use crate::raft_node::{KeptClock, LogStore, StateMachine};
use crate::supervisor::{RetireAll, Supervisor};

/// Settings of a one-member cluster with a small log.
pub fn one_member() -> NodeSettings {
    let id = MemberId(0x8e9e_05c5_2164_694d);
    NodeSettings {
        name: "default".into(),
        member_id: id,
        cluster_id: ClusterId(0xcdf8_18d1_4e3e_5d3a),
        peer_urls: vec!["http://localhost:2380".into()],
        joins: false,
        known_members: Vec::new(),
        founders: vec![MemberAddress {
            id,
            name: "default".into(),
            peer_urls: vec!["http://localhost:2380".into()],
        }],
        client_urls: vec!["http://localhost:2379".into()],
        raft: RaftTuning {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_count: 10_000,
            learners_max: 1,
        },
        proposals_max: 4_096,
        disk_reserve_bytes: 0,
        upkeep: UpkeepSettings::default(),
        clock: Clock::default(),
        wal: WalSettings {
            segment_bytes: 1 << 20,
            tail_bytes: 1 << 20,
        },
        store: StoreSettings {
            record_cache_bytes: 1 << 20,
            page_cache_bytes: 1 << 20,
            pending_bytes_max: 1 << 20,
        },
    }
}

/// Settings of member `number` (from 1) of a cluster of `members`.
pub fn one_of(number: u64, members: u64) -> NodeSettings {
    let founder = |number: u64| MemberAddress {
        id: MemberId(number),
        name: format!("m{number}"),
        peer_urls: vec![format!("http://m{number}:2380")],
    };
    NodeSettings {
        name: format!("m{number}"),
        member_id: MemberId(number),
        peer_urls: founder(number).peer_urls,
        founders: (1..=members).map(founder).collect(),
        client_urls: vec![format!("http://m{number}:2379")],
        ..one_member()
    }
}

/// Starts the only member of a cluster and waits until it serves.
pub async fn start_alone(
    dir: DataDir,
    settings: NodeSettings,
) -> Result<(Node, Handles), StartError> {
    let transport = Loopback::default().transport(settings.member_id.0);
    let (node, handles) = Node::launch(dir, &settings, transport).await?;
    node.ready(&handles, &settings).await?;
    Ok((node, handles))
}

/// Like [`Node::launch`], with the log on a disk of the test's own.
pub async fn launch_on(
    disk: Arc<dyn Disk>,
    dir: DataDir,
    settings: &NodeSettings,
    transport: Arc<dyn Transport>,
) -> Result<(Node, Handles), StartError> {
    let background = Background::Thread;
    let log = Wal::open_on(disk, &dir.wal(), settings.wal.clone(), background)?;
    let opened = node::open_beside(log, dir, settings)?;
    Node::launch_opened(opened, settings, transport).await
}

/// Pause between two looks of [`until`].
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long [`until`] looks: nothing in a test takes this long, even where many share a machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
/// If it never holds; the message names `what` was waited for.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Waits until `look` finds something, and returns it.
///
/// # Panics
/// Like [`until`].
pub async fn find<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Repeats `attempt` until it gives something, and returns that.
///
/// # Panics
/// Like [`until`].
pub async fn attempt<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(given) = attempt().await {
            return given;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// A clock that stands still until it is advanced. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: Instant,
    passed_ms: Arc<AtomicU64>,
}

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock {
            start: Instant::now(),
            passed_ms: Arc::default(),
        }
    }
}

impl ManualClock {
    /// The clock for a node's settings.
    pub fn clock(&self) -> Clock {
        let (start, passed_ms) = (self.start, Arc::clone(&self.passed_ms));
        Clock::new(move || start + Duration::from_millis(passed_ms.load(Ordering::SeqCst)))
    }

    /// Lets `time` pass.
    pub fn advance(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).expect("a test lasts less than an age");
        self.passed_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

/// The adapters to openraft's storage traits, and the actors behind them, without raft.
#[derive(Debug)]
pub struct Storage {
    shared: NodeState,
    supervisor: Addr<Supervisor>,
    arbiters: Option<Arbiters>,
    _dir: Arc<DataDir>,
}

impl Storage {
    /// Opens `path`. The store may run ahead of the log here: a conformance suite applies entries
    /// that its log never held.
    pub fn open(path: &Path) -> (Storage, LogStore, StateMachine) {
        let settings = one_member();
        let dir = Arc::new(DataDir::open(path).expect("an empty directory"));
        let (wal, recovery) = Wal::open(&dir.wal(), settings.wal).expect("an empty directory");
        let store = Store::open(&dir.store(), settings.store.clone()).expect("an empty directory");
        let me = settings.member_id.0;
        let shared = NodeState::new(me, 0, settings.proposals_max, settings.clock, settings.raft);
        let arbiters = Arbiters::start().expect("threads");
        let supervisor = Supervisor::new(shared.halt.clone()).start();
        let opened = Opened {
            dir: Arc::clone(&dir),
            wal,
            recovery,
            store,
            store_settings: settings.store,
            cluster_id: settings.cluster_id.0,
        };
        let all_flushed = Box::new(|| Some(LogId::MAX));
        let threads = arbiters.threads();
        let tree = Tree::start_with_flushed(&shared, opened, &threads, &supervisor, all_flushed);
        let storage = Storage {
            shared,
            supervisor,
            arbiters: Some(arbiters),
            _dir: dir,
        };
        (storage, tree.log_store, tree.state_machine)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.shared.close();
        self.supervisor.do_send(RetireAll);
        if let Some(arbiters) = self.arbiters.take() {
            arbiters.stop_and_join();
        }
    }
}
