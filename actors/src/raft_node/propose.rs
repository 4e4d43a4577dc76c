//! The way of a proposal, in its caller's task: admitted, encoded once, sent to RaftNode together
//! with those of its neighbours; the answer comes back from whoever finishes it.

use std::sync::Arc;

use actix::Addr;
use althing_api::commandpb::Command;
use althing_api::error::Error;
use althing_storage::store::Store;
use bytes::Bytes;
use openraft::errors::ClientWriteError;
use prost::Message;

use super::message::Proposal;
use super::types::{WriteResult, from_raft_log_id};
use super::{Outbox, RaftNode, ReadIndex, SoleVoter};
use crate::disk_gate::{DiskGate, Reservation};
use crate::metrics::Metrics;
use crate::node::Applied;
use crate::progress::Progress;
use crate::reply::{Admission, Permit, Reply};

/// Proposes commands and orders reads. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub(crate) struct Proposer {
    pub(crate) raft_node: Addr<RaftNode>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) proposals: Arc<Admission>,
    pub(crate) reads: Arc<Admission>,
    pub(crate) gate: Arc<DiskGate>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) sole_voter: Arc<SoleVoter>,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
}

impl Proposer {
    /// Proposes a client's command, unless the disk is full.
    pub(crate) async fn propose(&self, command: Command) -> Result<Applied, Error> {
        let permit = self.proposals.admit()?;
        let encoded = Bytes::from(command.encode_to_vec());
        let room = self.gate.reserve(&command, encoded.len()).await?;
        drop(command);
        self.submit(encoded, permit, Some(room)).await
    }

    /// Proposes what the member itself needs to start, which is small and rare.
    pub(crate) async fn propose_ungated(&self, command: &Command) -> Result<Applied, Error> {
        let permit = self.proposals.admit()?;
        let encoded = Bytes::from(command.encode_to_vec());
        self.submit(encoded, permit, None).await
    }

    async fn submit(
        &self,
        command: Bytes,
        permit: Permit,
        room: Option<Reservation>,
    ) -> Result<Applied, Error> {
        let (reply, answer) = Reply::with_room(permit, room);
        // From here on the proposal goes its way even if our caller stops waiting.
        self.outbox.post(Proposal { command, reply }).await;
        let applied = answer.wait().await.and_then(applied);
        if applied.is_err() {
            self.metrics.proposal_failed();
        }
        applied
    }

    /// Returns once a read of the local store is linearizable.
    pub(crate) async fn read_index(&self) -> Result<(), Error> {
        if self.sole_voter.is_alone() {
            return Ok(());
        }
        let (reply, answer) = Reply::new(self.reads.admit()?);
        self.raft_node.do_send(ReadIndex { reply });
        let index = answer.wait().await?;
        match index {
            Ok(index) => {
                self.progress.until_applied(index).await;
                Ok(())
            }
            Err(error) => {
                self.metrics.read_index_failed();
                Err(error)
            }
        }
    }
}

/// What raft answered, in our words.
fn applied(result: WriteResult) -> Result<Applied, Error> {
    match result {
        Ok(written) => Ok(Applied {
            log_id: from_raft_log_id(written.log_id),
            response: written.data.response,
            revision: written.data.revision,
        }),
        Err(ClientWriteError::ForwardToLeader(_)) => Err(Error::NoLeader),
        // The entry was replaced by another leader's, which may yet have committed ours elsewhere.
        Err(ClientWriteError::LogEntryDiscarded(_)) => Err(Error::TimeoutDueToLeaderFail),
        Err(error) => unreachable!("no answer to a command: {error}"),
    }
}
