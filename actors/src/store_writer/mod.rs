//! StoreWriter: carries what was applied in memory into the store's file, in the background.
//!
//! ```text
//!        tick, Pending, Checkpoint                 nothing left
//!  idle ---------------------------> committing -----------------> compacting --done--> idle
//!   ^                                     |
//!   '--- disk full (the gate closes), or the rest is not in the log on disk yet
//!  idle --Defragment, or much of the file is unused--> copying, a window at a time --> idle
//!  idle --Restore--> the file of another member's state is moved to its place --> idle
//!                      '-- the disk is full: the state is given back
//! ```
//! Owns: the store's file, as its only writer, on a low-priority thread where it may block.
//! Waits for: nobody. A commit covers at most what the log has flushed, so that the store on disk
//! never runs ahead of the log on disk (raft would refuse to start); StoreWriter reads that mark
//! and never asks for a flush.
//! Fails: a full disk is no failure, the commit is repeated at each tick; anything else halts the
//! node, and the log replays from the last commit.

mod checkpoint;
mod message;
mod rebuild;
mod reclaim;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use althing_storage::data_dir::DataDir;
use althing_storage::entry::LogId;
use althing_storage::store::{CheckpointError, CompactStep, Former, Store};

pub use self::checkpoint::{CheckpointPace, Next, next};
pub use self::message::Pending;
pub(crate) use self::message::{Checkpoint, Defragment, Restore};
use self::message::{StepCommit, StepCompaction, StepRebuild};
use self::rebuild::Copying;
use crate::applier::Backlog;
use crate::arbiters::low_priority_thread;
use crate::disk_gate::DiskGate;
use crate::halt::Halt;
use crate::latest;
use crate::metrics::Metrics;
use crate::snapshotter::Received;
use crate::supervisor::DeathWatch;

/// Tells how far the log is flushed.
pub(crate) type FlushedEnd = Box<dyn Fn() -> Option<LogId> + Send>;

/// Pause between two windows of compaction. What an actor tells itself without a pause comes before
/// the timers of its thread and before its end.
const TURN: Duration = Duration::from_millis(1);

/// What StoreWriter shares with the rest of the node.
pub(crate) struct StoreWriterSetup {
    pub(crate) store: Store,
    pub(crate) dir: Arc<DataDir>,
    pub(crate) flushed: FlushedEnd,
    pub(crate) pace: CheckpointPace,
    pub(crate) gate: Arc<DiskGate>,
    pub(crate) backlog: Arc<Backlog>,
    /// The revision below which physical compaction is done.
    pub(crate) compacted: Arc<latest::Sender<i64>>,
    pub(crate) metrics: Metrics,
    pub(crate) halt: Halt,
    pub(crate) _death_watch: DeathWatch,
}

/// The actor.
pub(crate) struct StoreWriter {
    setup: StoreWriterSetup,
    /// Whether a `StepCommit` to this actor is on its way.
    committing: bool,
    /// Whether a `StepCompaction` to this actor is on its way.
    compacting: bool,
    /// The state that replaced the store, until the log on disk reaches as far.
    replacing: Option<LogId>,
    copying: Copying,
    /// When the compaction under way did its first window.
    compaction_began: Option<Instant>,
}

impl fmt::Debug for StoreWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreWriter")
            .field("compacting", &self.compacting)
            .finish_non_exhaustive()
    }
}

impl StoreWriter {
    pub(crate) fn new(setup: StoreWriterSetup) -> StoreWriter {
        StoreWriter {
            replacing: setup.dir.replacing(),
            copying: Copying::new(&setup.dir),
            setup,
            committing: false,
            compacting: false,
            compaction_began: None,
        }
    }

    fn measure(&self) {
        match self.setup.dir.free_bytes() {
            Ok(free) => self.setup.gate.free_bytes_measured(free),
            // This is no reason to stop: the commit itself still meets a full disk.
            Err(error) => tracing::warn!(%error, "cannot measure the free disk space"),
        }
    }

    /// Forgets that the store was replaced, once the log on disk reaches as far.
    fn end_replacing(&mut self) {
        let Some(state) = self.replacing else { return };
        if (self.setup.flushed)().is_some_and(|flushed| flushed >= state) {
            match self.setup.dir.end_replacing() {
                Ok(()) => self.replacing = None,
                Err(error) => tracing::warn!(%error, "a mark of the snapshot stays for now"),
            }
        }
    }

    fn restore(&mut self, received: Received) -> io::Result<Option<Received>> {
        if let Some(state) = received.applied().log_id {
            match self.setup.dir.begin_replacing(state) {
                Err(error) if is_full(&error) => return Ok(Some(received)),
                noted => noted?,
            }
            self.replacing = Some(state);
        }
        let former = self.setup.store.replace(received.into_replacement())?;
        self.setup.backlog.checkpoint_ended(false);
        tracing::info!("the store is that of the snapshot now");
        let_go(former);
        Ok(None)
    }

    /// Commits what is applied now, as far as allowed. What is applied meanwhile comes next time,
    /// so that under endless writes everything else gets its turn too.
    fn commit_all(&mut self, ctx: &mut Context<Self>) {
        self.end_replacing();
        let target = self.setup.store.applied().log_id;
        loop {
            self.measure();
            let before = self.setup.store.durable();
            if before >= target {
                return self.compact(ctx);
            }
            let Some(flushed) = (self.setup.flushed)() else {
                return;
            };
            let began = Instant::now();
            match self
                .setup
                .store
                .checkpoint(flushed, self.setup.pace.records_max)
            {
                Ok(done) => {
                    let progressed = done.durable > before;
                    if progressed {
                        self.setup.metrics.checkpointed(began.elapsed());
                    }
                    self.checkpoint_ended(false);
                    if progressed && let Err(error) = self.keep_pace(ctx) {
                        return self.failed(error, ctx);
                    }
                    match next(done.durable < target, progressed) {
                        Next::Commit => {}
                        Next::WaitForLog => return,
                        Next::Compact => return self.compact(ctx),
                    }
                }
                Err(error) => return self.failed(error, ctx),
            }
        }
    }

    /// Closes the gate before the Applier goes on, so that little more comes to it.
    fn checkpoint_ended(&self, disk_full: bool) {
        self.setup.gate.checkpoint_ended(disk_full);
        self.setup.backlog.checkpoint_ended(disk_full);
    }

    fn failed(&mut self, error: CheckpointError, ctx: &mut Context<Self>) {
        match error {
            CheckpointError::NoSpace => self.checkpoint_ended(true),
            CheckpointError::Failed(cause) => {
                self.setup.halt.trip(format!("store: {cause}"));
                ctx.stop();
            }
        }
    }

    fn compact(&mut self, ctx: &mut Context<Self>) {
        if !self.compacting {
            self.compacting = true;
            ctx.notify_later(StepCompaction, TURN);
        }
    }

    /// Compacts between two commits: otherwise a client that overwrites faster than this thread
    /// works would leave compaction no turn, and the file would grow until the quota is used up.
    fn keep_pace(&mut self, ctx: &mut Context<Self>) -> Result<(), CheckpointError> {
        for _ in 0..self.setup.pace.compact_windows_max {
            if !self.compact_window(ctx)? {
                break;
            }
        }
        Ok(())
    }

    fn step_compaction(&mut self, ctx: &mut Context<Self>) {
        self.compacting = false;
        match self.compact_window(ctx) {
            Ok(true) => self.compact(ctx),
            Ok(false) => {}
            Err(error) => self.failed(error, ctx),
        }
    }

    /// Compacts one window; returns whether there is more to do now.
    fn compact_window(&mut self, ctx: &mut Context<Self>) -> Result<bool, CheckpointError> {
        let began = Instant::now();
        let step = (self.setup.store).compact_step(self.setup.pace.compact_revisions_max)?;
        if step != CompactStep::Waits {
            self.checkpoint_ended(false);
        }
        match step {
            // The next commit or the next tick tries again.
            CompactStep::Waits => Ok(false),
            CompactStep::More => {
                self.setup.metrics.compaction.window(began.elapsed());
                self.compaction_began.get_or_insert(began);
                Ok(true)
            }
            CompactStep::Finished(revision) => {
                let finished = *self.setup.compacted.borrow();
                let first = self.compaction_began.take();
                if revision > finished {
                    self.setup
                        .metrics
                        .compaction
                        .finished(first.unwrap_or(began));
                }
                self.setup.compacted.send_if_modified(|finished| {
                    let advanced = revision > *finished;
                    *finished = revision.max(*finished);
                    advanced
                });
                self.reclaim(ctx);
                Ok(false)
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Drops what another state or file replaced, on another thread: raft waits for the one, commits
/// wait for the other.
fn let_go(former: Former) {
    if let Err(error) = low_priority_thread("store-drop", move || drop(former)) {
        tracing::warn!(%error, "a former store was not dropped beside everything else");
    }
}

impl Actor for StoreWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.commit_all(ctx);
        ctx.run_interval(self.setup.pace.interval, StoreWriter::commit_all);
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        // Without a StoreWriter the backlog never shrinks, so nothing may wait for it.
        self.setup.backlog.close();
    }
}

impl Handler<Pending> for StoreWriter {
    type Result = ();

    /// While clients write, another `Pending` arrives during each commit; if the commit were made
    /// here, what this actor told itself would never have its turn.
    fn handle(&mut self, _: Pending, ctx: &mut Context<Self>) {
        if !self.committing {
            self.committing = true;
            ctx.notify(StepCommit);
        }
    }
}

impl Handler<StepCommit> for StoreWriter {
    type Result = ();

    fn handle(&mut self, _: StepCommit, ctx: &mut Context<Self>) {
        self.committing = false;
        self.commit_all(ctx);
    }
}

impl Handler<Checkpoint> for StoreWriter {
    type Result = actix::MessageResult<Checkpoint>;

    fn handle(&mut self, _: Checkpoint, ctx: &mut Context<Self>) -> Self::Result {
        self.commit_all(ctx);
        actix::MessageResult(self.setup.store.durable())
    }
}

impl Handler<Restore> for StoreWriter {
    type Result = io::Result<Option<Received>>;

    fn handle(&mut self, Restore { received }: Restore, _: &mut Context<Self>) -> Self::Result {
        self.restore(received)
    }
}

impl Handler<Defragment> for StoreWriter {
    type Result = ();

    fn handle(&mut self, Defragment { reply }: Defragment, ctx: &mut Context<Self>) {
        self.defragment(reply, ctx);
    }
}

impl Handler<StepRebuild> for StoreWriter {
    type Result = ();

    fn handle(&mut self, _: StepRebuild, ctx: &mut Context<Self>) {
        self.step_copy(ctx);
    }
}

impl Handler<StepCompaction> for StoreWriter {
    type Result = ();

    fn handle(&mut self, _: StepCompaction, ctx: &mut Context<Self>) {
        self.step_compaction(ctx);
    }
}
