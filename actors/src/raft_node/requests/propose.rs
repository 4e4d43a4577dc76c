//! The way of a proposal, in its caller's task: admitted, encoded once, sent together with its
//! neighbours to the RaftNode of the leading member; whatever finishes it sends the answer back.
//!
//! A proposal that certainly is not in the log is made again wherever the leader is now, for as
//! long as its caller waits. One that may be in the log is never made again: its outcome is
//! unknown, and the error says so.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use althing_api::commandpb::Command;
use althing_api::error::Error;
use althing_storage::store::Store;
use bytes::Bytes;
use openraft::errors::ClientWriteError;
use prost::Message;
use tokio::sync::oneshot;

use super::outbox::Outbox;
use super::read_index::Reader;
use crate::disk_gate::{DiskGate, Reservation};
use crate::metrics::Metrics;
use crate::node::Applied;
use crate::peer_link::proposal::{Forwarded, answer_in};
use crate::peer_link::{LinkError, Links, Pipe};
use crate::progress::Progress;
use crate::raft_node::message::{MoveLeader, Proposal, ReadIndex};
use crate::raft_node::types::{WriteResult, from_raft_log_id};
use crate::raft_node::{RaftNode, SoleVoter};
use crate::reply::{Admission, Permit, Reply};

/// Pause between two attempts while the members do not agree yet on who leads: at first about as
/// long as a new leader needs to hear its quorum, without which raft refuses its writes; then
/// doubled.
pub(in crate::raft_node) const RETRY_MIN: Duration = Duration::from_millis(1);
const RETRY_MAX: Duration = Duration::from_millis(20);

/// Proposes commands and orders reads. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub(crate) struct Proposer {
    pub(crate) me: u64,
    pub(crate) raft_node: Addr<RaftNode>,
    pub(crate) links: Arc<Links>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) proposals: Arc<Admission>,
    pub(crate) reads: Arc<Admission>,
    pub(crate) gate: Arc<DiskGate>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) sole_voter: Arc<SoleVoter>,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
}

/// What became of a command at one member.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It was committed and applied.
    Applied(Applied),
    /// It is not in the log: another member leads, or nobody does.
    Elsewhere,
}

/// Counts a failed proposal when dropped, and so also one that its caller gives up.
struct Failure<'a>(Option<&'a Metrics>);

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.0 {
            metrics.proposal_failed();
        }
    }
}

impl Proposer {
    /// Proposes a client's command, unless the disk is full.
    pub(crate) async fn propose(&self, command: Command) -> Result<Applied, Error> {
        let permit = self.proposals.admit()?;
        let encoded = Bytes::from(command.encode_to_vec());
        let room = self.gate.reserve(&command, encoded.len()).await?;
        drop(command);
        let outcome = self.propose_anywhere(encoded, permit, Some(room));
        self.counted(outcome).await
    }

    /// Proposes what the member itself needs, which is small and rare.
    pub(crate) async fn propose_ungated(&self, command: &Command) -> Result<Applied, Error> {
        let permit = self.proposals.admit()?;
        let encoded = Bytes::from(command.encode_to_vec());
        self.counted(self.propose_anywhere(encoded, permit, None))
            .await
    }

    async fn counted<T>(
        &self,
        proposal: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut failure = Failure(Some(&self.metrics));
        let outcome = proposal.await;
        if outcome.is_ok() {
            failure.0 = None;
        }
        outcome
    }

    async fn propose_anywhere(
        &self,
        command: Bytes,
        permit: Permit,
        room: Option<Reservation>,
    ) -> Result<Applied, Error> {
        let is_gated = room.is_some();
        let mut admitted = Some((permit, room));
        let mut retry = RETRY_MIN;
        loop {
            let (permit, room) = match admitted.take() {
                Some(admitted) => admitted,
                None => self.admit_again(&command, is_gated).await?,
            };
            let attempt = match self.progress.leader() {
                0 => Attempt::Elsewhere,
                leader if leader == self.me => {
                    self.propose_here(command.clone(), permit, room).await?
                }
                leader => {
                    // Held meanwhile, because the entry comes to this member's log too.
                    let _admitted = (permit, room);
                    self.forward(leader, command.clone()).await?
                }
            };
            match attempt {
                Attempt::Applied(applied) => return Ok(applied),
                Attempt::Elsewhere => self.until_led(&mut retry).await?,
            }
        }
    }

    /// Admits a further attempt, which needs a place like the first one.
    async fn admit_again(
        &self,
        command: &Bytes,
        is_gated: bool,
    ) -> Result<(Permit, Option<Reservation>), Error> {
        let permit = self.proposals.admit()?;
        if !is_gated {
            return Ok((permit, None));
        }
        let decoded = Command::decode(command.clone()).expect("it was encoded here");
        let room = self.gate.reserve(&decoded, command.len()).await?;
        Ok((permit, Some(room)))
    }

    /// Proposes an encoded command to this member's raft.
    pub(crate) async fn propose_here(
        &self,
        command: Bytes,
        permit: Permit,
        room: Option<Reservation>,
    ) -> Result<Attempt, Error> {
        let (reply, answer) = Reply::with_room(permit, room);
        // From here on the proposal goes its way even if the caller stops waiting.
        self.outbox.post(Proposal { command, reply }).await;
        attempt(answer.wait().await?)
    }

    /// Proposes the command to `leader`'s raft, and waits until it is applied here as well, so that
    /// a caller that has the answer can read the write from this member too.
    async fn forward(&self, leader: u64, command: Bytes) -> Result<Attempt, Error> {
        let Some(link) = self.links.to(leader) else {
            return Ok(Attempt::Elsewhere);
        };
        let answer = match link.send(Pipe::Propose, command).await {
            Ok(answer) => answer,
            Err(LinkError::NotSent(_) | LinkError::Refused(_) | LinkError::Removed) => {
                return Ok(Attempt::Elsewhere);
            }
            Err(LinkError::Lost(_)) => return Err(Error::TimeoutDueToConnectionLost),
        };
        match answer_in(answer) {
            Ok(Forwarded::Applied(applied)) => {
                self.until_applied(applied.log_id.index).await?;
                Ok(Attempt::Applied(applied))
            }
            Ok(Forwarded::NotLeader) => Ok(Attempt::Elsewhere),
            Ok(Forwarded::Failed(error)) => Err(error),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Returns once a read of the local store is linearizable.
    pub(crate) async fn read_index(&self) -> Result<(), Error> {
        let mut retry = RETRY_MIN;
        loop {
            if self.sole_voter.is_alone() {
                return Ok(());
            }
            let (reply, answer) = Reply::new(self.reads.admit()?);
            let asked = self.progress.term_leader();
            let reader = Reader::Client;
            self.raft_node.do_send(ReadIndex { reader, reply });
            match answer.wait().await? {
                Ok(index) => {
                    // It may be a new leader's first entry, which is lost if that one dies now.
                    let applied = self.until_applied(index);
                    if let Some(applied) = self.progress.while_leads(asked, applied).await {
                        return applied;
                    }
                }
                Err(Error::Stopped) => return Err(Error::Stopped),
                // Nothing was read yet, so the next leader may be asked.
                Err(_) => {
                    self.metrics.read_index_failed();
                    self.until_led(&mut retry).await?;
                }
            }
        }
    }

    /// Hands the lead over; see `hand_over`.
    pub(crate) async fn move_leader(&self, to: Option<u64>) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.raft_node.do_send(MoveLeader { to, reply });
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Waits until the entry at `index` is applied here. Errors: `Stopped`.
    pub(in crate::raft_node) async fn until_applied(&self, index: u64) -> Result<(), Error> {
        if self.progress.has_applied(index) {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.progress.until_applied(index) => Ok(()),
            () = self.proposals.closed() => Err(Error::Stopped),
        }
    }

    /// Waits until a leader is known; for `retry`, which grows, if one is. Errors: `Stopped`.
    pub(in crate::raft_node) async fn until_led(&self, retry: &mut Duration) -> Result<(), Error> {
        let led = async {
            let leader = self.progress.leader();
            if leader != 0 {
                let other = self.progress.until_leader(|known| known != leader);
                // The known leader may be the right one, and not know yet that it leads.
                let _ = tokio::time::timeout(*retry, other).await;
                *retry = RETRY_MAX.min(*retry * 2);
            }
            self.progress.until_leader(|leader| leader != 0).await;
        };
        tokio::select! {
            biased;
            () = led => Ok(()),
            () = self.proposals.closed() => Err(Error::Stopped),
        }
    }
}

/// Translates raft's answer.
fn attempt(result: WriteResult) -> Result<Attempt, Error> {
    match result {
        Ok(written) => Ok(Attempt::Applied(Applied {
            log_id: from_raft_log_id(written.log_id),
            response: written.data.response,
            revision: written.data.revision,
        })),
        Err(ClientWriteError::ForwardToLeader(_)) => Ok(Attempt::Elsewhere),
        // The entry was replaced by another leader's, which may yet have committed ours elsewhere.
        Err(ClientWriteError::LogEntryDiscarded(_)) => Err(Error::TimeoutDueToLeaderFail),
        Err(error) => unreachable!("no answer to a command: {error}"),
    }
}
