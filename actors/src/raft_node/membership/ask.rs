//! The way of a membership change, in its caller's task: to the leader, which alone knows how the
//! members fare, and back once it is applied here too.

use std::sync::Arc;

use althing_api::error::Error;
use althing_api::id::MemberId;
use tokio::sync::oneshot;

use super::change::{Ask, Change, MemberChange};
use crate::node::MemberStatus;
use crate::peer_link::{Call, LinkError, change as wire};
use crate::raft_node::message::ChangeMembers;
use crate::raft_node::requests::propose::{Proposer, RETRY_MIN};

impl Proposer {
    /// Makes `change` wherever the leader is, and returns the members after it. Errors: the
    /// refusals of etcd's checks, `TooManyRequests`, `Stopped`, or that the outcome is unknown.
    pub(crate) async fn change_members(
        &self,
        change: MemberChange,
    ) -> Result<Vec<MemberStatus>, Error> {
        let _permit = self.proposals.admit()?;
        let (mut ask, mut retry) = (Ask::First, RETRY_MIN);
        loop {
            let made = match self.progress.leader() {
                0 => Change::Elsewhere,
                leader if leader == self.me => self.change_here(change.clone(), ask).await?,
                leader => {
                    let asked = self.ask_for_change(leader, &change, ask).await?;
                    asked.unwrap_or(Change::Elsewhere)
                }
            };
            match made {
                Change::Done { index, members } => {
                    // A member that is removed need not receive the entry any more.
                    if change != MemberChange::Remove(MemberId(self.me)) {
                        self.until_applied(index).await?;
                    }
                    return Ok(members);
                }
                Change::Elsewhere => self.until_led(&mut retry).await?,
                Change::Unsure => {
                    ask = Ask::Again;
                    self.until_led(&mut retry).await?;
                }
            }
        }
    }

    /// Makes `change` here as the leader, or not at all.
    pub(crate) async fn change_here(
        &self,
        change: MemberChange,
        ask: Ask,
    ) -> Result<Change, Error> {
        let (reply, answer) = oneshot::channel();
        self.raft_node.do_send(ChangeMembers { change, ask, reply });
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Asks `leader` to make `change`; `None` if it was not asked.
    async fn ask_for_change(
        &self,
        leader: u64,
        change: &MemberChange,
        ask: Ask,
    ) -> Result<Option<Change>, Error> {
        let Some(link) = Arc::clone(&self.links).to(leader) else {
            return Ok(None);
        };
        let question = wire::question_out(change, ask);
        match link.call(Call::ChangeMembers, question).await {
            Ok(answer) => wire::answer_in(answer)
                .unwrap_or(Err(Error::Timeout))
                .map(Some),
            Err(LinkError::NotSent(_) | LinkError::Refused(_) | LinkError::Removed) => Ok(None),
            Err(LinkError::Lost(_)) => Err(Error::TimeoutDueToConnectionLost),
        }
    }
}
