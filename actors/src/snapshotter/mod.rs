//! Snapshotter: opens the current snapshot, and takes in those of other members. A snapshot is a
//! view of what the store's file durably holds; bytes move only when they are needed.
//!
//! ```text
//!  idle --OpenSnapshot--> a view of the file, with its log position --> idle
//!  idle --Receive--> into a file of its own, verified, opened, indexed --> ready to be used
//!                      '-- cut, damaged, of another cluster, no room: the file is removed
//! ```
//! Owns: the files in `snap/`; one snapshot is taken in at a time.
//! Waits for: nobody; files are written and read on blocking threads, never on its own.
//! Fails: it is started again; raft asks again, and the other member sends again.

mod message;
mod sendings;
mod stream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, Context, Handler, ResponseFuture};
use althing_storage::data_dir::DataDir;
use althing_storage::snapshot::{Arrival, SnapshotError, Source, import};
use althing_storage::store::{CheckpointError, Store, StoreSettings};

use self::message::Under;
pub(crate) use self::message::{OpenSnapshot, Receive, Transfers};
pub use self::message::{Outgoing, Received, SnapshotData};
pub(crate) use self::sendings::Sendings;
use self::stream::Incoming;
use crate::disk_gate::DiskGate;
use crate::ground;
use crate::peer_link::SnapshotBytes;
use crate::raft_node::Refusal;
use crate::supervisor::DeathWatch;

/// What the Snapshotter works with. Kept for a new value of the actor.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotterSetup {
    pub(crate) store: Store,
    pub(crate) settings: StoreSettings,
    pub(crate) dir: Arc<DataDir>,
    pub(crate) cluster_id: u64,
    /// Knows how much of the disk must stay free.
    pub(crate) gate: Arc<DiskGate>,
    /// Snapshots on their way out.
    pub(crate) outgoing: Sendings,
    /// Snapshots on their way in, or taken in and not used yet.
    pub(crate) incoming: Transfers,
    /// Tells the files in `snap/` apart.
    pub(crate) arrivals: Arc<AtomicU64>,
}

/// The actor.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    setup: SnapshotterSetup,
    _death_watch: DeathWatch,
}

impl Snapshotter {
    pub(crate) fn new(setup: SnapshotterSetup, watch: DeathWatch) -> Snapshotter {
        Snapshotter {
            setup,
            _death_watch: watch,
        }
    }
}

impl SnapshotterSetup {
    /// Blocks until the snapshot is on disk and its index is built.
    fn take_in(&self, body: SnapshotBytes, place: Under) -> Result<Received, Refusal> {
        let number = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let arrived = self.dir.arrival(number);
        let began = std::time::Instant::now();
        let arrival = Arrival {
            arrived: &arrived,
            place: &self.dir.store(),
            settings: &self.settings,
            cluster_id: self.cluster_id,
        };
        let taken = import(
            &mut Incoming::new(body, |more| self.seek_room(more)),
            &arrival,
        );
        let (mark, replacement) = taken.map_err(|error| refused(&error))?;
        tracing::info!(
            revision = mark.revision,
            records = mark.records,
            applied_index = mark.applied.log_id.map(|id| id.index),
            took = ?began.elapsed(),
            "received a snapshot"
        );
        Ok(Received::new(replacement, place))
    }

    /// Errors: with `more` bytes more on it, the disk would have less free than its reserve, and
    /// writes would be refused.
    fn seek_room(&self, more: u64) -> io::Result<()> {
        let needed = self.gate.reserve_bytes().saturating_add(more);
        // Not knowing the free bytes is no reason to stop: writing still meets a full disk.
        match self.dir.free_bytes() {
            Ok(free) if free < needed => {
                let text = format!(
                    "the disk has {free} bytes free, and it would take the reserve \
                     (--disk-reserve-bytes)"
                );
                Err(io::Error::new(io::ErrorKind::StorageFull, text))
            }
            _ => Ok(()),
        }
    }
}

/// A full disk is told apart from other errors, because it passes.
fn is_full(error: &SnapshotError) -> bool {
    match error {
        SnapshotError::Store(CheckpointError::NoSpace) => true,
        SnapshotError::Io(error) => error.kind() == io::ErrorKind::StorageFull,
        _ => false,
    }
}

fn unopened(error: SnapshotError) -> io::Error {
    let kind = if is_full(&error) {
        io::ErrorKind::StorageFull
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error)
}

fn refused(error: &SnapshotError) -> Refusal {
    tracing::warn!(%error, "a snapshot of another member was not taken in");
    if is_full(error) {
        Refusal::Busy("the disk has no room for a snapshot")
    } else {
        Refusal::Malformed(error.to_string())
    }
}

impl Actor for Snapshotter {
    type Context = Context<Self>;
}

impl Handler<OpenSnapshot> for Snapshotter {
    type Result = io::Result<Outgoing>;

    fn handle(&mut self, _: OpenSnapshot, _: &mut Context<Self>) -> Self::Result {
        let source = Source::open(&self.setup.store, self.setup.cluster_id);
        Ok(Outgoing {
            source: Box::new(source.map_err(unopened)?),
            sendings: self.setup.outgoing.clone(),
        })
    }
}

impl Handler<Receive> for Snapshotter {
    type Result = ResponseFuture<Result<Received, Refusal>>;

    fn handle(&mut self, Receive { body }: Receive, _: &mut Context<Self>) -> Self::Result {
        if self.setup.incoming.are_under_way() {
            let busy = Refusal::Busy("another snapshot is on its way in");
            return Box::pin(std::future::ready(Err(busy)));
        }
        let (setup, place) = (self.setup.clone(), self.setup.incoming.begin());
        let taken = ground::offload(move || setup.take_in(body, place));
        // The work is lost only when it panics, or when the node ends.
        Box::pin(async { taken.await.unwrap_or(Err(Refusal::Stopped)) })
    }
}
