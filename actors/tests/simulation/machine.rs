//! One simulated machine: a disk, and a node whose tasks live in a set of their own. Dropping the
//! set is the crash; not polling it is the pause.

mod port;
mod power;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use althing_actors::node::{Clock, Handles, NodeSettings, RaftTuning, StartError, WatchEnd};
use althing_actors::testing::{KeptClock, Simulated, launch_simulated, one_of};
use althing_api::range::KeyRange;
use althing_storage::wal::faulty_disk::FaultyDisk;
use althing_storage::wal::{self, LogTail, Recovery, WalSettings};
use bytes::Bytes;
use rand::Rng;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::Instant;

use self::power::Power;
use crate::network::Network;
use crate::record::Record;
use crate::world::Dice;

const HEARTBEAT: Duration = Duration::from_millis(50);
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);
const LEARNERS_MAX: usize = 2;
/// A running node.
#[derive(Clone)]
pub struct Live {
    pub handles: Handles,
    pub log: LogTail,
}

pub struct Machine {
    pub number: u64,
    founders: u64,
    /// The tuning of its node, from its next start on at the latest.
    tuning: Cell<RaftTuning>,
    dir: TempDir,
    disk: RefCell<FaultyDisk>,
    /// Whether the disk's next failure means that the process died there.
    dies: Cell<bool>,
    /// Whether the power can no longer go.
    is_safe: Cell<bool>,
    set: RefCell<Option<LocalSet>>,
    /// The clock of its node's raft.
    clock: RefCell<KeptClock>,
    is_paused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    live: RefCell<Option<Live>>,
    is_ready: Cell<bool>,
    /// Whether it was started once.
    was_up: Cell<bool>,
    /// Whether it was told that it was removed.
    has_departed: Cell<bool>,
    /// Whether nobody starts it again.
    is_broken: Cell<bool>,
    /// Why it stopped by itself, if it did.
    has_halted: RefCell<Option<String>>,
    /// The revision at which the watcher of everything goes on.
    watched: Cell<i64>,
    snapshots: Cell<u64>,
    stopping: RefCell<Option<oneshot::Sender<oneshot::Sender<()>>>>,
    network: Network,
    record: Rc<Record>,
    dice: Dice,
}

/// What all machines are made of.
#[derive(Clone)]
pub struct Parts {
    /// The number of founding members; machines with higher numbers join.
    pub founders: u64,
    pub snapshot_count: u64,
    pub network: Network,
    pub record: Rc<Record>,
    pub dice: Dice,
}

impl Machine {
    pub fn new(number: u64, parts: &Parts) -> Rc<Machine> {
        Rc::new(Machine {
            number,
            founders: parts.founders,
            tuning: Cell::new(RaftTuning {
                heartbeat_interval: HEARTBEAT,
                election_timeout: ELECTION_TIMEOUT,
                snapshot_count: parts.snapshot_count,
                learners_max: LEARNERS_MAX,
            }),
            dir: data_dir(),
            disk: RefCell::default(),
            dies: Cell::new(false),
            is_safe: Cell::new(false),
            set: RefCell::default(),
            clock: RefCell::default(),
            is_paused: Cell::new(false),
            waker: RefCell::default(),
            live: RefCell::default(),
            is_ready: Cell::new(false),
            was_up: Cell::new(false),
            has_departed: Cell::new(false),
            is_broken: Cell::new(false),
            has_halted: RefCell::default(),
            watched: Cell::new(2),
            snapshots: Cell::new(0),
            stopping: RefCell::default(),
            network: parts.network.clone(),
            record: Rc::clone(&parts.record),
            dice: parts.dice.clone(),
        })
    }

    /// Runs the node's tasks, forever.
    pub fn power(self: &Rc<Machine>) -> impl Future<Output = ()> + use<> {
        Power::new(self)
    }

    pub fn is_up(&self) -> bool {
        self.set.borrow().is_some()
    }

    pub fn live(&self) -> Option<Live> {
        self.live.borrow().clone()
    }

    /// The node, once it serves.
    pub fn ready(&self) -> Option<Handles> {
        let live = self.live.borrow();
        let handles = live.as_ref().map(|live| live.handles.clone());
        handles.filter(|_| self.is_ready.get())
    }

    /// Whether its node serves and takes itself for the leader.
    pub fn leads(&self) -> bool {
        self.ready()
            .is_some_and(|handles| handles.leader().0 == self.number)
    }

    /// Why the node stopped by itself, if it did.
    pub fn halted(&self) -> Option<String> {
        self.has_halted.borrow().clone()
    }

    pub fn was_up(&self) -> bool {
        self.was_up.get()
    }

    pub fn has_departed(&self) -> bool {
        self.has_departed.get()
    }

    /// Ends it, and keeps it from being started again for now.
    pub fn break_down(&self) {
        self.is_broken.set(true);
        if self.is_up() {
            self.crash(true);
        }
    }

    pub fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    pub fn mend(&self) {
        self.is_broken.set(false);
    }

    /// A description for finding out what went wrong.
    pub fn describe(&self) -> String {
        let status = self.live().map(|live| {
            let handles = live.handles;
            let revision = handles.store().revisions().current;
            let (term, leader) = (handles.term(), handles.leader().0);
            let applied = handles.applied_index();
            let version = handles.store().cluster_version();
            let members = handles.store().members().len();
            format!(
                "term {term}, leader {leader}, applied {applied}, revision {revision}, \
                 watched {}, version {version:?}, {members} published, log {:?}",
                self.watched.get(),
                live.log.state()
            )
        });
        let is_ready = self.is_ready.get();
        format!("\n  member {}: ready {is_ready}, {status:?}", self.number)
    }

    /// The revision that its watcher of everything waits for.
    pub fn watched(&self) -> i64 {
        self.watched.get()
    }

    /// The number of other members' snapshots that it took over, in all its lives.
    pub fn snapshots(&self) -> u64 {
        self.snapshots.get()
    }

    pub fn is_paused(&self) -> bool {
        self.is_paused.get()
    }

    pub fn pause(&self) {
        self.is_paused.set(true);
    }

    pub fn resume(&self) {
        self.is_paused.set(false);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Cuts the power during one of the disk's next changes of the log.
    pub fn power_off_soon(&self, changes: u64) {
        if self.is_safe.get() {
            return;
        }
        let disk = self.disk.borrow();
        disk.power_off_at(disk.operations() + changes);
        self.dies.set(false);
    }

    /// Kills the process during one of those changes: what it wrote is in the page cache.
    pub fn die_soon(&self, changes: u64) {
        self.power_off_soon(changes);
        self.dies.set(true);
    }

    /// Keeps the power on after all, unless it has gone.
    pub fn keep_power(&self) {
        self.disk.borrow().power_off_at(u64::MAX);
        self.is_safe.set(true);
    }

    /// Whether the disk has failed its node, by a power cut or by the death of the process.
    pub fn lost_power(&self) -> bool {
        self.disk.borrow().is_off()
    }

    /// Ends the node at once. If the power goes, some of what was not synced is lost.
    pub fn crash(&self, power_goes: bool) {
        self.network.close_door(self.number);
        let set = self.set.borrow_mut().take();
        let live = self.live.borrow_mut().take();
        if let Some(live) = &live {
            let taken_over = live.handles.snapshots_taken_over();
            self.snapshots.set(self.snapshots.get() + taken_over);
        }
        drop((set, live));
        self.clock.replace(KeptClock::default());
        self.is_ready.set(false);
        self.stopping.replace(None);
        self.has_halted.replace(None);
        if !power_goes && self.lost_power() && self.dies.get() {
            let after = self.disk.borrow().after_process_death();
            self.disk.replace(after);
        } else if power_goes || self.lost_power() {
            let dice = self.dice.clone();
            let mut choose = |below: u64| dice.borrow_mut().random_range(0..below);
            let after = self.disk.borrow().after_power_loss(&mut choose);
            self.disk.replace(after);
        }
        self.resume();
    }

    /// Starts the node again.
    pub fn launch(self: &Rc<Machine>) {
        assert!(!self.is_up(), "one node on a machine");
        let set = LocalSet::new();
        set.spawn_local(Rc::clone(self).run());
        self.set.replace(Some(set));
        self.was_up.set(true);
        self.wake();
    }

    fn settings(&self) -> NodeSettings {
        let mut settings = one_of(self.number, self.founders);
        if self.number > self.founders {
            settings.founders.clear();
            settings.joins = true;
        }
        NodeSettings {
            raft: self.tuning.get(),
            clock: Clock::new(|| Instant::now().into_std()),
            wal: WalSettings {
                segment_bytes: 192 << 10,
                tail_bytes: 8 << 10,
            },
            ..settings
        }
    }

    async fn run(self: Rc<Machine>) {
        let settings = self.settings();
        let disk = self.disk.borrow().clone();
        let transport = self.network.transport(self.number);
        let found = |found: &Recovery| self.look_at_the_log(&disk, found);
        let on = Arc::new(disk.clone());
        let launched = launch_simulated(on, self.dir.path(), &settings, transport, found).await;
        let Simulated {
            mut node,
            handles,
            log,
        } = match launched {
            Ok(launched) => launched,
            Err(StartError::Removed) => return self.departs(),
            Err(error) => return self.fails(format!("it does not start: {error}")),
        };
        let arrivals = self.network.open_door(self.number);
        actix_spawn(port::serve(arrivals, handles.clone()));
        actix_spawn(watch_all(Rc::clone(&self), handles.clone()));
        self.live.replace(Some(Live {
            handles: handles.clone(),
            log,
        }));
        match node.ready(&handles, &settings).await {
            Ok(()) => self.is_ready.set(true),
            Err(StartError::Removed) => {
                self.departs();
                return node.stop().await;
            }
            Err(error) => return self.fails(format!("it does not come to serve: {error}")),
        }
        let (stop, stops) = oneshot::channel();
        self.stopping.replace(Some(stop));
        let removed = node.removed();
        let stopped = tokio::select! {
            biased;
            cause = node.halted() => return self.fails(format!("it halts: {}", cause.0)),
            () = removed => {
                self.departs();
                return node.stop().await;
            }
            Ok(stopped) = stops => stopped,
        };
        self.is_ready.set(false);
        node.stop().await;
        self.has_halted.replace(Some("it was stopped".into()));
        let _ = stopped.send(());
    }

    /// Checks that what a start found in its log is there after the next power loss too.
    fn look_at_the_log(&self, disk: &FaultyDisk, found: &Recovery) {
        let dir = self.dir.path().join("member/wal");
        let what_stands = |found: &Recovery| (found.vote, found.purged, found.last);
        let kept = wal::look_on(&disk.only_synced(), &dir);
        match kept.as_ref().map(what_stands) {
            Ok(kept) if kept == what_stands(found) => {}
            kept => self.record.violated(format!(
                "member {} starts on {found:?}, of which a power loss leaves {kept:?}",
                self.number
            )),
        }
    }

    /// Sets another heartbeat interval, with another election timeout, and another distance between
    /// snapshots; in force at once if the node runs.
    pub fn retune(&self, heartbeat_interval: Duration, snapshot_count: u64) {
        let tuning = RaftTuning {
            heartbeat_interval,
            election_timeout: 6 * heartbeat_interval,
            snapshot_count,
            ..self.tuning.get()
        };
        self.tuning.set(tuning);
        if let Some(live) = self.live() {
            live.handles.retune(tuning);
        }
    }

    /// Stops a node that serves, in good order. Returns whether it stopped.
    pub async fn stop(&self) -> bool {
        let Some(stopping) = self.stopping.borrow_mut().take() else {
            return false;
        };
        let (stopped, stops) = oneshot::channel();
        stopping.send(stopped).is_ok() && stops.await.is_ok()
    }

    fn departs(&self) {
        self.is_ready.set(false);
        self.has_departed.set(true);
    }

    fn fails(&self, why: String) {
        self.is_ready.set(false);
        if !self.lost_power() {
            self.record
                .violated(format!("member {}: {why}", self.number));
        }
        self.has_halted.replace(Some(why));
    }

    /// Runs something inside the node, as its HTTP workers do. `None` if the node ended meanwhile.
    pub async fn inside<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        match &*self.set.borrow() {
            Some(set) => set.spawn_local(async move {
                let _ = sender.send(task.await);
            }),
            None => return None,
        };
        receiver.await.ok()
    }
}

fn actix_spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

/// A directory in memory if the machine has such a place, because the store syncs often.
fn data_dir() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn everything() -> KeyRange {
    KeyRange::From(Bytes::from_static(&[0]))
}

/// Watches every key, from where the machine's last watcher was.
async fn watch_all(machine: Rc<Machine>, handles: Handles) {
    loop {
        let mut watch = handles.watch(everything(), machine.watched.get());
        loop {
            match watch.next().await {
                Ok(events) => {
                    let next = machine.watched.get();
                    let next = machine.record.watched(machine.number, next, &events);
                    machine.watched.set(next);
                }
                Err(WatchEnd::Compacted(first)) => {
                    machine
                        .record
                        .skipped(machine.number, machine.watched.get(), first);
                    machine.watched.set(first.max(machine.watched.get()));
                    break;
                }
                Err(WatchEnd::Stopped | WatchEnd::Refused) => return,
            }
        }
    }
}
