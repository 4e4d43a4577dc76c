//! Collects the linearizable reads that wait into one round, of our raft or of the leader's.
//!
//! One round is outstanding at most: readers that come meanwhile wait for the next one, because a
//! round only vouches for reads that began before it. More rounds at once would gain nothing and
//! break the runs of client writes that openraft merges.

use althing_api::error::Error;
use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};

use super::types::RaftHandle;
use crate::peer_link::{Call, Link, wire};

/// One round of our raft: the entry that must be applied before a read that began earlier.
pub(super) async fn here(raft: &RaftHandle) -> Result<u64, Error> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(Error::NoLeader),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Error::Timeout),
        Err(RaftError::Fatal(_)) => Err(Error::Stopped),
    }
}

/// The same of the leader's raft.
pub(super) async fn ask(leader: &Link) -> Result<u64, Error> {
    let answer = leader.call(Call::ReadIndex, Bytes::new()).await;
    let answer = answer.map_err(|_| Error::NoLeader)?;
    match wire::read_index_answer_in(answer).map_err(|_| Error::NoLeader)? {
        // That member stops; this one does not.
        Err(Error::Stopped) => Err(Error::NoLeader),
        answer => answer,
    }
}

/// Readers by the round that will answer them.
#[derive(Debug)]
pub(super) struct ReadRounds<R> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
