//! Applier: applies committed entries to the store in memory and answers the clients that wait.
//!
//! ```text
//!  idle --Apply--> entry by entry: decode, change the store, answer --> idle
//!                    |-- store backlogged --> blocks until StoreWriter has caught up
//!                    |-- a full disk keeps closed what it has to read --> blocks, tries again
//!                    '-- events --> WatchHub, at the end of the batch, if anybody watches
//! ```
//! Owns: the right to change the store's memory; it is the only one that does.
//! Waits for: a checkpoint, when `pending_bytes_max` is reached, or for space (its own thread
//! blocks; raft's does not).
//! Fails: an entry that does not decode, or a death, halts the node; the log replays at start.

mod backlog;
mod message;

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Recipient};
use althing_api::commandpb::Command;
use althing_api::commandpb::command::Request;
use althing_api::error::Error;
use althing_api::mvccpb::event::EventType;
use althing_storage::apply::{Response, apply_in};
use althing_storage::entry::{Entry, EntryKind};
use althing_storage::store::{Committed, LeaseFact, Store, WriteTxn};
use prost::Message as _;

pub(crate) use self::backlog::Backlog;
pub(crate) use self::message::Apply;
pub use self::message::Outcome;
use crate::departure::Departure;
use crate::halt::Halt;
use crate::lessor::{LeasesChanged, Lessor};
use crate::log_limit::LogLimit;
use crate::metrics::{Metrics, Op};
use crate::progress::Progress;
use crate::raft_node::membership;
use crate::raft_node::types::Waiter;
use crate::store_writer::Pending;
use crate::supervisor::{ActorRef, DeathWatch};
use crate::watch_hub::Feed;

/// Entries after which StoreWriter is told that there is work, ahead of its own tick.
const HINT_ENTRIES: usize = 2_000;

/// Answers given at once: enough that a worker wakes up for many of them, and few enough that it
/// works while the rest of a long batch is applied.
const ANSWERS_MAX: usize = 64;

/// What the Applier shares with the rest of the node.
pub(crate) struct ApplierSetup {
    pub(crate) store: Store,
    pub(crate) progress: Arc<Progress>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) store_writer: Recipient<Pending>,
    pub(crate) feed: Feed,
    pub(crate) lessor: ActorRef<Lessor>,
    pub(crate) metrics: Metrics,
    pub(crate) halt: Halt,
    pub(crate) me: u64,
    /// Tripped when an entry removes this member.
    pub(crate) departure: Departure,
    pub(crate) death_watch: DeathWatch,
}

/// The actor.
pub(crate) struct Applier {
    store: Store,
    progress: Arc<Progress>,
    backlog: Arc<Backlog>,
    store_writer: Recipient<Pending>,
    /// Tells WatchHub, without delaying the answers.
    feed: Feed,
    lessor: ActorRef<Lessor>,
    metrics: Metrics,
    /// Entries applied since StoreWriter was last told.
    since_hint: usize,
    halt: Halt,
    me: u64,
    departure: Departure,
    /// Whether an entry was not applied, so that none behind it may be.
    failed: bool,
    slow_lines: LogLimit,
    _death_watch: DeathWatch,
}

/// Changes of one batch, counted here and added to the metrics once.
#[derive(Debug, Default)]
struct Tally {
    puts: u64,
    deletes: u64,
    txns: u64,
    put_bytes: u64,
    leases: Vec<(i64, LeaseFact)>,
}

impl Tally {
    fn add(&mut self, committed: &mut Committed) {
        self.leases.append(&mut committed.leases);
        for event in &committed.events {
            if event.r#type() == EventType::Delete {
                self.deletes += 1;
            } else if let Some(kv) = &event.kv {
                self.puts += 1;
                self.put_bytes += (kv.key.len() + kv.value.len()) as u64;
            }
        }
        self.txns += u64::from(!committed.events.is_empty());
    }
}

impl Applier {
    pub(crate) fn new(setup: ApplierSetup) -> Applier {
        Applier {
            store: setup.store,
            progress: setup.progress,
            backlog: setup.backlog,
            store_writer: setup.store_writer,
            feed: setup.feed,
            lessor: setup.lessor,
            metrics: setup.metrics,
            since_hint: 0,
            halt: setup.halt,
            me: setup.me,
            departure: setup.departure,
            failed: false,
            slow_lines: LogLimit::default(),
            _death_watch: setup.death_watch,
        }
    }

    /// Applies one entry; `None` for entries that carry no command.
    fn apply(&mut self, entry: Entry, tally: &mut Tally) -> io::Result<Option<Outcome>> {
        match entry.kind {
            EntryKind::Blank => self.store.apply_blank(entry.id),
            EntryKind::Membership => self.apply_membership(entry),
            EntryKind::Command => {
                let began = Instant::now();
                let (op, txn, response) = self.run(&entry)?;
                // A refusal has changed nothing, so its commit moves only the applied id.
                let mut committed = txn.commit(entry.id);
                let took = began.elapsed();
                self.metrics.apply.applied(op, took, response.is_ok());
                if took > self.metrics.apply.slow_apply() {
                    self.tell_of_slow(op, took, &committed);
                }
                tally.add(&mut committed);
                let revision = committed.revision;
                self.feed.add(committed);
                return Ok(Some(Outcome { response, revision }));
            }
        }
        Ok(None)
    }

    /// Runs a command, repeating it while a full disk keeps the store's file closed: other members
    /// have applied the entry, so this one must too.
    fn run(&mut self, entry: &Entry) -> io::Result<(Op, WriteTxn, Result<Response, Error>)> {
        let mut waits = false;
        loop {
            let command = Command::decode(entry.payload.clone()).map_err(|error| {
                let (term, index) = (entry.id.term, entry.id.index);
                let text = format!("entry {index} of term {term} does not decode: {error}");
                self.halt.trip(format!("applier: {text}"));
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            if let Some(Request::Compaction(_)) = command.request {
                self.feed.hold_history(&self.store);
            }
            let op = Op::of(command.request.as_ref());
            let mut txn = self.store.begin();
            let response = apply_in(&mut txn, command, entry.id.term);
            if !txn.is_starved() {
                return Ok((op, txn, response));
            }
            drop(txn);
            if !mem::replace(&mut waits, true) {
                let index = entry.id.index;
                tracing::warn!(index, "an entry waits for a full disk: the store is closed");
            }
            if !self.backlog.pause() {
                return Err(io::Error::other("the node stops"));
            }
        }
    }

    /// Applies a membership. Members that it no longer has are remembered: their ids are never used
    /// again.
    fn apply_membership(&self, entry: Entry) {
        let before = self.store.applied().membership;
        let before = before.map(|(_, payload)| payload).unwrap_or_default();
        let removed = membership::removed(&before, &entry.payload)
            .expect("a membership entry of the log holds a membership");
        let leaves = removed.contains(&self.me);
        self.store
            .apply_membership(entry.id, entry.payload, removed);
        if leaves {
            self.departure.trip("the log");
        }
    }

    /// Logs a slow command: at most one line a second, with how many were left out.
    fn tell_of_slow(&mut self, op: Op, took: Duration, committed: &Committed) {
        let Some(left_out) = self.slow_lines.pass(Instant::now()) else {
            return;
        };
        tracing::warn!(
            ?took,
            expected_duration = ?self.metrics.apply.slow_apply(),
            request = op.name(),
            changes = committed.events.len(),
            revision = committed.revision,
            left_out,
            "apply request took too long"
        );
    }

    /// Applies a batch in order and answers the clients that wait. Errors: an entry that does not
    /// decode, which halts the node, or a node that stops.
    fn apply_all(&mut self, batch: Apply) -> io::Result<()> {
        let count = batch.entries.len();
        let mut tally = Tally::default();
        let mut compacted = false;
        let mut answers = Vec::with_capacity(count.min(ANSWERS_MAX));
        for (entry, waiter) in batch.entries {
            self.wait_for_the_store()?;
            let index = entry.id.index;
            let outcome = self.apply(entry, &mut tally)?;
            self.progress.apply(index);
            let outcome = outcome.unwrap_or_else(|| Outcome {
                response: Ok(Response::Done),
                revision: self.store.revisions().current,
            });
            compacted |= matches!(outcome.response, Ok(Response::Compaction(_)));
            if let Some(waiter) = waiter {
                answers.push((waiter, outcome));
                if answers.len() == ANSWERS_MAX {
                    answer(&mut answers);
                }
            }
        }
        self.metrics.applied(tally.puts, tally.deletes, tally.txns);
        self.metrics.put_bytes(tally.put_bytes);
        if !tally.leases.is_empty() {
            let leases = tally.leases.into_iter();
            let ids = leases.inspect(|(_, fact)| self.metrics.lease.applied(*fact));
            let ids = ids.map(|(id, _)| id).collect();
            self.lessor.addr().do_send(LeasesChanged(ids));
        }
        answer(&mut answers);
        self.progress.applied_a_batch();
        self.feed.flush();
        self.hint(count, compacted);
        Ok(())
    }

    fn wait_for_the_store(&mut self) -> io::Result<()> {
        if !self.store.is_backlogged() {
            return Ok(());
        }
        self.store_writer.do_send(Pending);
        if self.backlog.wait_while(|| self.store.is_backlogged()) {
            Ok(())
        } else {
            Err(io::Error::other("the node stops"))
        }
    }

    fn hint(&mut self, applied: usize, compacted: bool) {
        self.since_hint += applied;
        if compacted || self.since_hint >= HINT_ENTRIES {
            self.since_hint = 0;
            self.store_writer.do_send(Pending);
        }
    }
}

fn answer(answers: &mut Vec<(Waiter, Outcome)>) {
    for (waiter, outcome) in answers.drain(..) {
        waiter.send(outcome);
    }
}

impl Actor for Applier {
    type Context = Context<Self>;
}

impl Handler<Apply> for Applier {
    type Result = io::Result<()>;

    fn handle(&mut self, batch: Apply, _: &mut Context<Self>) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier entry was not applied"));
        }
        let result = self.apply_all(batch);
        self.failed = result.is_err();
        result
    }
}
