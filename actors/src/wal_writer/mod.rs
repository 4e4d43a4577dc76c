//! WalWriter: makes log entries and votes durable, in one order, with one fsync for all that wait.
//!
//! ```text
//!        Append                                              Flush, or batch full
//!  idle --------> batch open, Flush queued behind the mailbox -----> committed, idle
//!                   ^------------ Append ------------------'        (one write, one fdatasync)
//!  any --disk full--> the batch is kept, Flush again a little later
//!  any --I/O error--> failed: every waiter is told, the node halts
//! ```
//! Owns: the WAL, alone; it has a thread of its own and may block there.
//! Waits for: nobody.
//! Fails: commands are admitted only while the log has room for them; if entries come that find no
//! room (another leader's), that shows before anything is written and may pass. An error of a write
//! or an fsync is final. It is reported to raft, trips the halt switch, and is never retried: after
//! a failed fsync nobody knows what the disk holds.

mod batch;
mod flush_clock;
mod message;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use althing_storage::entry::LogId;
use althing_storage::wal::Wal;
use parking_lot::Mutex;

pub use self::batch::{Batch, BatchLimits};
pub(crate) use self::flush_clock::FlushClock;
use self::message::Flush;
pub(crate) use self::message::{Append, NoteElected, Purge, SaveVote, Sync, Truncate};
use crate::ground::{self, FlushTime};
use crate::halt::Halt;
use crate::metrics::Metrics;
use crate::raft_node::types::Flushed;
use crate::supervisor::DeathWatch;

/// A flush that takes longer is logged, as in etcd.
const SLOW_FLUSH: Duration = Duration::from_secs(1);

/// Pause between two attempts to write to a full disk.
const FULL_DISK_RETRY: Duration = Duration::from_millis(100);

/// The newest commit mark that is not in the WAL yet. It goes along with the next commit: a lost
/// mark only makes start-up apply less of the log until raft commits it again.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommitMark(Arc<Mutex<Option<LogId>>>);

impl CommitMark {
    pub(crate) fn set(&self, committed: LogId) {
        *self.0.lock() = Some(committed);
    }

    fn take(&self) -> Option<LogId> {
        self.0.lock().take()
    }
}

/// What WalWriter shares with the rest of the node.
#[derive(Debug)]
pub(crate) struct WalWriterSetup {
    pub(crate) wal: Wal,
    pub(crate) commit_mark: CommitMark,
    pub(crate) flush_clock: Arc<FlushClock>,
    pub(crate) metrics: Metrics,
    pub(crate) halt: Halt,
    pub(crate) death_watch: DeathWatch,
}

/// The actor.
pub(crate) struct WalWriter {
    wal: Wal,
    batch: Batch<Flushed>,
    /// Whether something was written that is not flushed.
    dirty: bool,
    /// Whether a `Flush` to this actor is on its way.
    flush_queued: bool,
    commit_mark: CommitMark,
    flush_clock: Arc<FlushClock>,
    metrics: Metrics,
    halt: Halt,
    _death_watch: DeathWatch,
}

impl WalWriter {
    pub(crate) fn new(setup: WalWriterSetup) -> WalWriter {
        WalWriter {
            wal: setup.wal,
            batch: Batch::new(BatchLimits::default()),
            dirty: false,
            flush_queued: false,
            commit_mark: setup.commit_mark,
            flush_clock: setup.flush_clock,
            metrics: setup.metrics,
            halt: setup.halt,
            _death_watch: setup.death_watch,
        }
    }

    fn flush_after_the_mailbox(&mut self, ctx: &mut Context<Self>) {
        self.dirty = true;
        if !self.flush_queued {
            self.flush_queued = true;
            match ground::flush_time() {
                None => ctx.notify(Flush),
                Some(FlushTime::Behind(delay)) => {
                    ctx.notify_later(Flush, delay);
                }
                Some(FlushTime::Before(delay)) => {
                    let passed = tokio::time::sleep(delay).into_actor(self);
                    ctx.wait(passed.map(|(), writer, ctx| writer.handle(Flush, ctx)));
                }
            }
        }
    }

    fn flush(&mut self, ctx: &mut Context<Self>) -> io::Result<()> {
        if let Some(committed) = self.commit_mark.take() {
            self.wal.save_committed(committed);
        }
        self.dirty = false;
        let (bytes, _) = self.batch.size();
        let began = Instant::now();
        self.flush_clock.begins();
        let result = self.wal.flush();
        self.flush_clock.ended();
        let took = began.elapsed();
        self.metrics.wal_flushed(took, bytes);
        if took > SLOW_FLUSH {
            tracing::warn!(
                ?took,
                expected_duration = ?SLOW_FLUSH,
                bytes,
                "slow fdatasync: the disk of the write-ahead log is slow or overloaded"
            );
        }
        match result {
            Ok(_) => {
                for flushed in self.batch.end() {
                    flushed.io_completed(Ok(()));
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.dirty = true;
                if !self.flush_queued {
                    self.flush_queued = true;
                    ctx.notify_later(Flush, FULL_DISK_RETRY);
                }
                Err(error)
            }
            Err(error) => {
                self.halt.trip(format!("wal: {error}"));
                for flushed in self.batch.end() {
                    flushed.io_completed(Err(copy_of(&error)));
                }
                ctx.stop();
                Err(error)
            }
        }
    }
}

/// `io::Error` is not `Clone`, so every waiter gets a copy of kind and text.
fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

impl Actor for WalWriter {
    type Context = Context<Self>;
}

impl Handler<Append> for WalWriter {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Context<Self>) {
        let bytes = append.entries.iter().map(|entry| entry.payload.len()).sum();
        self.wal.append(&append.entries);
        if self.batch.add(append.entries.len(), bytes, append.flushed) {
            // The waiters in the batch have been told about the error, and the node halts.
            let _ = self.flush(ctx);
        } else {
            self.flush_after_the_mailbox(ctx);
        }
    }
}

impl Handler<Flush> for WalWriter {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) {
        self.flush_queued = false;
        // A batch that became full in between has been flushed already.
        if self.dirty {
            // As above: the waiters have been told.
            let _ = self.flush(ctx);
        }
    }
}

impl Handler<SaveVote> for WalWriter {
    type Result = io::Result<()>;

    fn handle(&mut self, SaveVote(vote): SaveVote, ctx: &mut Context<Self>) -> io::Result<()> {
        self.wal.save_vote(vote);
        self.flush(ctx)
    }
}

impl Handler<NoteElected> for WalWriter {
    type Result = ();

    /// Nobody waits for this note: it is flushed with what comes next, the new leader's first
    /// entry, which would otherwise wait for two flushes.
    fn handle(&mut self, NoteElected(vote): NoteElected, _: &mut Context<Self>) {
        self.wal.save_vote(vote);
        self.dirty = true;
    }
}

impl Handler<Truncate> for WalWriter {
    type Result = ();

    fn handle(&mut self, truncate: Truncate, ctx: &mut Context<Self>) {
        self.wal.truncate_after(truncate.after);
        self.flush_after_the_mailbox(ctx);
    }
}

impl Handler<Purge> for WalWriter {
    type Result = ();

    fn handle(&mut self, purge: Purge, ctx: &mut Context<Self>) {
        self.wal.purge(purge.upto);
        self.flush_after_the_mailbox(ctx);
    }
}

impl Handler<Sync> for WalWriter {
    type Result = io::Result<()>;

    fn handle(&mut self, _: Sync, ctx: &mut Context<Self>) -> io::Result<()> {
        self.flush(ctx)
    }
}
