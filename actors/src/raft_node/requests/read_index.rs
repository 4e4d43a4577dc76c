//! Collects the linearizable reads that wait into one round, of our raft or of the leader's.
//!
//! One round is outstanding at most: readers that come meanwhile wait for the next one, because a
//! round only vouches for reads that began before it. More rounds at once would gain nothing and
//! break the runs of client writes that openraft merges.
//!
//! A member that asks its leader tells which vote it holds. It had granted no later one then, nor
//! has the leader when it looks. Where the two are a quorum, nobody else was elected before the
//! question was asked, so the question itself is the round: the leader need not send a heartbeat.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use althing_api::error::Error;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{RaftState, ReadPolicy};

use crate::peer_link::{Call, Link, wire};
use crate::raft_node::RaftNode;
use crate::raft_node::message::{BeginReadRound, ReadIndex};
use crate::raft_node::types::{RaftHandle, RaftVote, Types};

/// Who needs a read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A client of this member; the leader is asked if that is another one.
    Client,
    /// Another member, which takes this one for the leader. Nobody else is asked for it.
    Member(Option<Asker>),
}

/// A member that asks its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) member: u64,
    /// Its vote, read after the reads began that it asks for.
    pub(crate) vote: RaftVote,
}

/// One round of our raft: the entry that must be applied before a read that began earlier.
pub(in crate::raft_node) async fn here(raft: &RaftHandle) -> Result<u64, Error> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(Error::NoLeader),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Error::Timeout),
        Err(RaftError::Fatal(_)) => Err(Error::Stopped),
    }
}

/// The same without a round, if `asker` and this member are a quorum that had elected nobody else
/// when the question was asked.
async fn vouched_by(raft: &RaftHandle, asker: Asker, me: u64) -> Option<u64> {
    let looked = raft.with_raft_state(move |state| vouched(state, asker, me));
    looked.await.ok().flatten()
}

fn vouched(state: &RaftState<Types>, asker: Asker, me: u64) -> Option<u64> {
    let (ours, committed) = (state.vote_ref(), state.local_committed()?);
    let leads = ours.committed && ours.leader_id.voted_for == me;
    // Before an entry of its own term is committed a leader does not know what was acknowledged.
    // One that led in that term before it was restarted would not either, but leads no more
    // (`config`).
    let knows = committed.committed_leader_id().term == ours.leader_id.term;
    let configs = state.membership_state.effective().membership();
    let is_round = asker.vote == *ours && is_quorum([asker.member, me], configs.get_joint_config());
    (leads && knows && is_round).then_some(committed.index())
}

/// Whether two members are a majority of each of these sets of voters.
fn is_quorum(pair: [u64; 2], configs: &[BTreeSet<u64>]) -> bool {
    let pair = BTreeSet::from(pair);
    configs
        .iter()
        .all(|voters| 2 * voters.intersection(&pair).count() > voters.len())
}

/// Asks the leader for what `here` returns.
async fn ask(leader: &Link, raft: &RaftHandle, me: u64) -> Result<u64, Error> {
    // Of the core itself: raft publishes a vote after it has been given to somebody.
    let vote = raft.with_raft_state(|state| *state.vote_ref()).await;
    let vote = vote.map_err(|_| Error::Stopped)?;
    let question = wire::read_index_question_out(&Asker { member: me, vote });
    let answer = leader.call(Call::ReadIndex, question).await;
    let answer = answer.map_err(|_| Error::NoLeader)?;
    match wire::read_index_answer_in(answer).map_err(|_| Error::NoLeader)? {
        // That member stops; this one does not.
        Err(Error::Stopped) => Err(Error::NoLeader),
        answer => answer,
    }
}

/// Readers by the round that will answer them.
#[derive(Debug)]
pub(in crate::raft_node) struct ReadRounds<R> {
    waiting: Vec<R>,
    under_way: bool,
}

impl<R> Default for ReadRounds<R> {
    fn default() -> Self {
        ReadRounds {
            waiting: Vec::new(),
            under_way: false,
        }
    }
}

impl<R> ReadRounds<R> {
    /// A reader came. Returns whether a round must be begun.
    #[must_use]
    pub(super) fn add(&mut self, reader: R) -> bool {
        self.waiting.push(reader);
        // The first one begins it; those behind it in the mailbox join.
        !self.under_way && self.waiting.len() == 1
    }

    /// A round begins for all who wait.
    pub(super) fn begin(&mut self) -> Vec<R> {
        assert!(!self.under_way, "one round at a time");
        self.under_way = true;
        std::mem::take(&mut self.waiting)
    }

    /// The round ended. Returns whether the next one must be begun.
    #[must_use]
    pub(super) fn end(&mut self) -> bool {
        assert!(self.under_way, "only what began ends");
        self.under_way = false;
        !self.waiting.is_empty()
    }
}

impl Handler<ReadIndex> for RaftNode {
    type Result = ();

    fn handle(&mut self, read: ReadIndex, ctx: &mut Context<Self>) {
        let Reader::Member(Some(asker)) = read.reader else {
            return self.share_round(read, ctx);
        };
        let (raft, me) = (self.raft.clone(), self.setup.me);
        let vouching = async move { vouched_by(&raft, asker, me).await };
        let vouching = vouching.into_actor(self);
        ctx.spawn(vouching.map(move |index, node, ctx| match index {
            Some(index) => read.reply.send(Ok(index)),
            None => node.share_round(read, ctx),
        }));
    }
}

impl RaftNode {
    fn share_round(&mut self, read: ReadIndex, ctx: &mut Context<Self>) {
        if self.reads.add(read) {
            ctx.notify(BeginReadRound);
        }
    }
}

impl Handler<BeginReadRound> for RaftNode {
    type Result = ();

    fn handle(&mut self, _: BeginReadRound, ctx: &mut Context<Self>) {
        let readers = self.reads.begin();
        let (me, asked) = (self.setup.me, self.setup.progress.term_leader());
        let link = self.setup.links.to(asked.leader);
        let (raft, progress) = (self.raft.clone(), Arc::clone(&self.setup.progress));
        let round = async move {
            match link {
                Some(link) => {
                    let asking = ask(&link, &raft, me);
                    let answer = progress.while_leads(asked, asking).await;
                    (true, answer.unwrap_or(Err(Error::NoLeader)))
                }
                None => (false, here(&raft).await),
            }
        };
        let round = round.into_actor(self);
        ctx.spawn(round.map(move |(of_leader, result), node, ctx| {
            for ReadIndex { reader, reply } in readers {
                reply.send(if of_leader && reader != Reader::Client {
                    Err(Error::NoLeader)
                } else {
                    result
                });
            }
            if node.reads.end() {
                ctx.notify(BeginReadRound);
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_members_are_a_quorum_of_at_most_three_voters_and_of_both_sets_while_they_change() {
        let sets = |sets: &[&[u64]]| -> Vec<BTreeSet<u64>> {
            sets.iter()
                .map(|set| set.iter().copied().collect())
                .collect()
        };
        assert!(is_quorum([1, 2], &sets(&[&[1, 2]])));
        assert!(is_quorum([1, 2], &sets(&[&[1, 2, 3]])));
        assert!(!is_quorum([1, 2], &sets(&[&[1, 2, 3, 4]])));
        assert!(!is_quorum([1, 9], &sets(&[&[1, 2, 3]])), "a learner asks");
        assert!(!is_quorum([1, 1], &sets(&[&[1, 2, 3]])), "itself");
        assert!(is_quorum([1, 2], &sets(&[&[1, 2, 3], &[1, 2, 4]])));
        assert!(!is_quorum([1, 2], &sets(&[&[1, 2, 3], &[1, 3, 4]])));
    }

    #[test]
    fn readers_share_a_round_and_late_ones_take_the_next() {
        let mut rounds = ReadRounds::default();
        assert!(rounds.add('a'), "the first begins a round");
        assert!(!rounds.add('b'), "the second joins it");
        assert_eq!(rounds.begin(), ['a', 'b']);
        assert!(
            !rounds.add('c'),
            "a round is under way and does not vouch for c"
        );
        assert!(rounds.end(), "c waits");
        assert_eq!(rounds.begin(), ['c']);
        assert!(!rounds.end());
        assert!(rounds.add('d'));
    }
}
