//! Adapter: openraft's state machine on the Applier (applying) and the Snapshotter (snapshots).

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use althing_storage::entry::{Entry, LogId};
use althing_storage::store::{AppliedMark, Store};
use futures_util::stream::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use super::full_disk::{outlast, pause, sync};
use super::types::{
    RaftLogId, Snapshot, SnapshotMeta, StoredMembership, Types, Waiter, to_raft_log_id,
};
use crate::applier::{Applier, Apply};
use crate::latest;
use crate::progress::Progress;
use crate::raft_node::membership;
use crate::raft_node::requests::inbound::Refusal;
use crate::reply::Admission;
use crate::snapshotter::{
    OpenSnapshot, Outgoing, Receive, Received, Sendings, SnapshotData, Snapshotter,
};
use crate::store_writer::{Checkpoint, Restore, StoreWriter};
use crate::supervisor::ActorRef;
use crate::wal_writer::WalWriter;
use crate::watch_hub::Hint;

/// Entries of one message to the Applier; bounds the memory of a long catch-up.
const APPLY_ENTRIES_MAX: usize = 4_096;

/// Pause between two attempts to have the Snapshotter open a snapshot.
const RETRY: Duration = Duration::from_millis(100);

/// The state machine. Clones share it.
#[derive(Clone, Debug)]
pub struct StateMachine {
    pub(crate) store: Store,
    pub(crate) applier: Addr<Applier>,
    pub(crate) store_writer: Addr<StoreWriter>,
    pub(crate) wal_writer: Addr<WalWriter>,
    pub(crate) snapshotter: ActorRef<Snapshotter>,
    pub(crate) progress: Arc<Progress>,
    /// Snapshots on their way out.
    pub(crate) outgoing: Sendings,
    /// Makes watchers read from the store what a snapshot brought.
    pub(crate) watchers: Hint,
    /// Counts the states of other members that took the place of this one's.
    pub(crate) restored: Arc<latest::Sender<u64>>,
    /// Closed when the node ends.
    pub(crate) admission: Arc<Admission>,
}

impl StateMachine {
    async fn open_snapshot(&self) -> io::Result<Snapshot> {
        loop {
            match self.snapshotter.send(OpenSnapshot).await {
                // Only a full disk keeps the store's file closed: nothing is lost, and raft, which
                // takes every error for the end, is made to wait.
                Ok(Err(error)) if error.kind() == io::ErrorKind::StorageFull => {}
                Ok(outgoing) => return to_snapshot(outgoing?),
                // Its mailbox is closed for the moment until the supervisor has replaced it; should
                // it die too often, the node halts and this task with it.
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Hands committed entries to the Applier, in order.
    ///
    /// If clients wait for them the Applier answers them, and the raft thread need not wake up for
    /// it: admission bounds how many there are, and if one fails the node halts. Raft may thus
    /// believe that an entry is applied that soon will be; code that needs the truth asks the store
    /// or waits for `Progress`.
    async fn hand_over(&self, entries: Vec<(Entry, Option<Waiter>)>) -> io::Result<()> {
        if entries.iter().any(|(_, waiter)| waiter.is_some()) {
            self.applier.do_send(Apply { entries });
            return Ok(());
        }
        self.apply_and_wait(entries).await
    }

    async fn apply_and_wait(&self, entries: Vec<(Entry, Option<Waiter>)>) -> io::Result<()> {
        let applied = self.applier.send(Apply { entries }).await;
        applied.map_err(|_| io::Error::other("the applier is gone"))?
    }

    async fn checkpoint(&self) -> io::Result<()> {
        let checkpointed = self.store_writer.send(Checkpoint).await;
        checkpointed
            .map(drop)
            .map_err(|_| io::Error::other("the store's writer is gone"))
    }

    /// Waits while the disk is too full: after a restart all of it would have to be sent again.
    async fn put_in_place(&self, mut received: Received) -> io::Result<()> {
        let mut waits = false;
        loop {
            let restored = self.store_writer.send(Restore { received }).await;
            let gone = |_| io::Error::other("the store's writer is gone");
            let Some(again) = restored.map_err(gone)?? else {
                return Ok(());
            };
            if !mem::replace(&mut waits, true) {
                tracing::warn!("the disk is full; the state of another member waits for space");
            }
            if !pause(&self.admission).await {
                return Err(io::ErrorKind::StorageFull.into());
            }
            received = again;
        }
    }

    /// The slow part was done when the snapshot was received.
    async fn restore(&self, received: Received) -> io::Result<()> {
        let applied = received.applied().log_id;
        // What raft cut off the log before this must be gone from the disk first: the store must
        // never stand beside entries that contradict it.
        let sync = || sync(&self.wal_writer);
        outlast(&self.admission, sync().await, sync).await?;
        self.put_in_place(received).await?;
        if let Some(LogId { index, .. }) = applied {
            self.progress.commit(index);
            self.progress.apply(index);
            self.progress.applied_a_batch();
        }
        self.restored.send_modify(|count| *count += 1);
        self.watchers.missed();
        Ok(())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = StateMachine;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        let applied = self.store.applied();
        let membership = to_stored_membership(applied.membership)?;
        Ok((applied.log_id.map(to_raft_log_id), membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut chunk = Vec::new();
        while let Some((entry, waiter)) = entries.try_next().await? {
            chunk.push((entry.into_stored(), waiter));
            if chunk.len() == APPLY_ENTRIES_MAX {
                self.hand_over(mem::take(&mut chunk)).await?;
            }
        }
        self.hand_over(chunk).await
    }

    /// While a member is being sent a snapshot, the log behind that snapshot is kept: a newer one
    /// would let raft purge what the member needs next.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<StateMachine> {
        (force || !self.outgoing.are_under_way()).then(|| self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        self.clone()
    }

    /// Takes over the snapshot of another member.
    async fn install_snapshot(&mut self, _: &SnapshotMeta, data: SnapshotData) -> io::Result<()> {
        let received = match data {
            SnapshotData::Received(received) => received,
            // A snapshot handed over within one process takes the same way.
            SnapshotData::Outgoing(outgoing) => {
                let body = outgoing.stream(|_| ());
                let received = self.snapshotter.send(Receive { body }).await;
                let received = received.map_err(io::Error::other)?;
                received.map_err(io::Error::other)?
            }
        };
        // What was handed to the Applier is applied before the store changes under it.
        self.apply_and_wait(Vec::new()).await?;
        self.restore(received).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshot = self.open_snapshot().await?;
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = SnapshotData;

    /// A checkpoint and its mark. If the disk is full the mark is an older one, which is a valid
    /// snapshot too; it only lets less of the log be purged.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        self.checkpoint().await?;
        self.open_snapshot().await
    }
}

fn to_snapshot(outgoing: Outgoing) -> io::Result<Snapshot> {
    Ok(Snapshot {
        meta: to_meta(outgoing.applied())?,
        snapshot: SnapshotData::Outgoing(outgoing),
    })
}

/// A snapshot that was received, as raft takes it.
pub(in crate::raft_node) fn to_received(received: Received) -> Result<Snapshot, Refusal> {
    let meta = to_meta(received.applied().clone());
    Ok(Snapshot {
        meta: meta.map_err(|error| Refusal::Malformed(error.to_string()))?,
        snapshot: SnapshotData::Received(received),
    })
}

fn to_meta(applied: AppliedMark) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: applied.log_id.map(to_raft_log_id),
        last_membership: to_stored_membership(applied.membership)?,
    })
}

fn to_stored_membership(stored: Option<(LogId, bytes::Bytes)>) -> io::Result<StoredMembership> {
    let Some((at, payload)) = stored else {
        return Ok(StoredMembership::default());
    };
    let membership = membership::decode(&payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok(StoredMembership::new(Some(to_raft_log_id(at)), membership))
}
