//! Adapter: openraft's state machine on the Applier (applying) and the Snapshotter (snapshots).

use std::io;
use std::mem;
use std::time::Duration;

use actix::Addr;
use althing_storage::entry::Entry;
use althing_storage::store::Store;
use futures_util::stream::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use super::membership;
use super::types::{
    RaftLogId, Snapshot, SnapshotMeta, StoredMembership, Types, Waiter, from_raft_log_id,
    to_raft_log_id,
};
use crate::applier::{Applier, Apply};
use crate::snapshotter::{OpenSnapshot, SnapshotMark, Snapshotter};
use crate::store_writer::{Checkpoint, StoreWriter};
use crate::supervisor::ActorRef;

/// Entries of one message to the Applier; bounds the memory of a long catch-up.
const APPLY_ENTRIES_MAX: usize = 4_096;

/// Between two tries to reach the Snapshotter.
const RETRY: Duration = Duration::from_millis(100);

/// A store before the first write is at this revision.
const EMPTY_REVISION: i64 = 1;

/// The state machine. Clones share it.
#[derive(Clone, Debug)]
pub struct StateMachine {
    pub(crate) store: Store,
    pub(crate) applier: Addr<Applier>,
    pub(crate) store_writer: Addr<StoreWriter>,
    pub(crate) snapshotter: ActorRef<Snapshotter>,
}

impl StateMachine {
    async fn open_snapshot(&self) -> io::Result<Snapshot> {
        loop {
            match self.snapshotter.send(OpenSnapshot).await {
                Ok(mark) => return to_snapshot(mark),
                // Its mailbox is closed for the moment until the supervisor has replaced it; should
                // it die too often, the node halts and this task with it.
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Hands committed entries to the Applier, in order.
    ///
    /// If clients wait for them the Applier answers them, and the raft thread need not wake up for
    /// it: admission bounds how many there are, and should one fail, the node halts. Raft may so
    /// believe that an entry is applied which soon will be; whoever needs the truth asks the store
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
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotMark;
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

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<StateMachine> {
        Some(self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        self.clone()
    }

    /// Takes over the snapshot of another member. So far there is no transfer between members, so
    /// the only snapshot that can be taken over is one without any data.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        mark: SnapshotMark,
    ) -> io::Result<()> {
        // What was handed to the Applier is applied before this returns.
        self.apply_and_wait(Vec::new()).await?;
        let ours = self.store.revisions().current;
        if mark.view.revision() != EMPTY_REVISION || ours != EMPTY_REVISION {
            let text = "this member cannot take over another member's data yet";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if let Some(at) = meta.last_membership.log_id() {
            let payload = membership::encode(meta.last_membership.membership());
            self.store.apply_membership(from_raft_log_id(*at), payload);
        }
        if let Some(last) = meta.last_log_id {
            self.store.apply_blank(from_raft_log_id(last));
        }
        self.checkpoint().await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshot = self.open_snapshot().await?;
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = SnapshotMark;

    /// A checkpoint and its mark. If the disk is full the mark is an older one, which is a valid
    /// snapshot too: less of the log can be purged.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        self.checkpoint().await?;
        self.open_snapshot().await
    }
}

fn to_snapshot(mark: SnapshotMark) -> io::Result<Snapshot> {
    let meta = SnapshotMeta {
        last_log_id: mark.log_id.map(to_raft_log_id),
        last_membership: to_stored_membership(mark.membership.clone())?,
    };
    Ok(Snapshot {
        meta,
        snapshot: mark,
    })
}

fn to_stored_membership(
    stored: Option<(althing_storage::entry::LogId, bytes::Bytes)>,
) -> io::Result<StoredMembership> {
    let Some((at, payload)) = stored else {
        return Ok(StoredMembership::default());
    };
    let membership = membership::decode(&payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok(StoredMembership::new(Some(to_raft_log_id(at)), membership))
}
