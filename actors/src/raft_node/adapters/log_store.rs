//! Adapter: openraft's log storage on [`LogTail`] (reading) and WalWriter (making durable).
//!
//! openraft awaits each of these calls in its core, so none may wait for the disk, except the vote.
//! Entries are readable as soon as `append` returns and durable when its callback is completed.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use actix::Addr;
use althing_storage::entry::{Entry as StoredEntry, LogId, Vote};
use althing_storage::wal::{LogTail, Recovery};
use futures_util::stream::{self, Stream};
use openraft::OptionalSend;
use openraft::storage::{LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;

use super::entry::Entry;
use super::full_disk::{outlast, sync};
use super::types::{
    Flushed, RaftLogId, RaftVote, Types, from_raft_log_id, from_raft_vote, to_raft_log_id,
    to_raft_vote,
};
use crate::ground;
use crate::progress::Progress;
use crate::raft_node::lead::sole_voter::SoleVoter;
use crate::reply::Admission;
use crate::wal_writer::{Append, CommitMark, NoteElected, Purge, SaveVote, Truncate, WalWriter};

/// Bytes of payload, roughly, that one read for replication returns.
const READ_MAX_BYTES: usize = 1024 * 1024;

/// The log store, which is also its own reader. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    tail: LogTail,
    wal: Addr<WalWriter>,
    me: u64,
    marks: Arc<Mutex<Marks>>,
    commit_mark: CommitMark,
    progress: Arc<Progress>,
    sole_voter: Arc<SoleVoter>,
    admission: Arc<Admission>,
}

#[derive(Debug, Default)]
struct Marks {
    vote: Option<Vote>,
    committed: Option<LogId>,
}

/// What the log store shares with the rest of the node.
pub(crate) struct LogStoreSetup {
    pub(crate) tail: LogTail,
    pub(crate) wal: Addr<WalWriter>,
    pub(crate) me: u64,
    pub(crate) commit_mark: CommitMark,
    pub(crate) progress: Arc<Progress>,
    pub(crate) sole_voter: Arc<SoleVoter>,
    /// Closed when the node ends.
    pub(crate) admission: Arc<Admission>,
}

/// Whether `vote` differs from `kept` only in that its candidate won. That need not be durable
/// before anything else: the promise to vote for nobody else in the term is in `kept`, and nothing
/// was appended since, because no entry is taken from a leader before its election is known. The
/// entries that follow are flushed behind it. This saves an election two of its flushes.
fn is_same_but_for_the_election(kept: Vote, vote: Vote) -> bool {
    let elected = Vote {
        committed: true,
        ..kept
    };
    vote == elected
}

impl LogStore {
    /// The log as recovery found it.
    pub(crate) fn new(setup: LogStoreSetup, recovered: &Recovery) -> LogStore {
        let marks = Marks {
            vote: recovered.vote,
            committed: recovered.committed,
        };
        LogStore {
            tail: setup.tail,
            wal: setup.wal,
            me: setup.me,
            marks: Arc::new(Mutex::new(marks)),
            commit_mark: setup.commit_mark,
            progress: setup.progress,
            sole_voter: setup.sole_voter,
            admission: setup.admission,
        }
    }

    /// The last entry purged.
    #[cfg(test)]
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.tail.state().0
    }

    /// The index of the last entry; `None` for a log that never had one.
    pub(in crate::raft_node) fn last_index(&self) -> Option<u64> {
        self.tail.state().1.map(|last| last.index)
    }

    /// Reads entries of `start..end` from the start: at least one, and at most about `max_bytes`.
    async fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<StoredEntry>> {
        if self.tail.holds(start) {
            return self.tail.read(start..end, max_bytes);
        }
        let tail = self.tail.clone();
        let read = move || tail.read(start..end, max_bytes);
        ground::offload(read).await?
    }

    /// The part of `range` that may exist.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let (_, last) = self.tail.state();
        (start, end.min(last.map_or(0, |last| last.index + 1)))
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut next, end) = self.bounds(&range);
        let mut entries = Vec::new();
        while next < end {
            let chunk = self.read(next, end, usize::MAX).await?;
            let Some(last) = chunk.last() else { break };
            next = last.id.index + 1;
            entries.extend(chunk.into_iter().map(Entry::from));
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.marks.lock().vote.map(to_raft_vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (start, end) = self.bounds(&(start..end));
        if start >= end {
            return Ok(Vec::new());
        }
        let entries = self.read(start, end, READ_MAX_BYTES).await?;
        Ok(entries.into_iter().map(Entry::from).collect())
    }

    /// What apply reads, in pieces, so that a long catch-up never holds the whole log in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (next, end) = self.bounds(&range);
        let pieces = Pieces {
            log: self.clone(),
            next,
            end,
            piece: Vec::new().into_iter(),
        };
        stream::try_unfold(pieces, Pieces::advance)
    }
}

/// A read of the log that is under way.
struct Pieces {
    log: LogStore,
    next: u64,
    end: u64,
    piece: std::vec::IntoIter<StoredEntry>,
}

impl Pieces {
    async fn advance(mut self) -> io::Result<Option<(Entry, Pieces)>> {
        if self.piece.len() == 0 {
            if self.next >= self.end {
                return Ok(None);
            }
            self.piece = self
                .log
                .read(self.next, self.end, READ_MAX_BYTES)
                .await?
                .into_iter();
        }
        let Some(entry) = self.piece.next() else {
            return Ok(None);
        };
        self.next = entry.id.index + 1;
        Ok(Some((Entry::from(entry), self)))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (purged, last) = self.tail.state();
        Ok(LogState {
            last_purged_log_id: purged.map(to_raft_log_id),
            last_log_id: last.map(to_raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let vote = from_raft_vote(vote);
        if vote.voted_for != Some(self.me) {
            self.sole_voter.follow();
        }
        let kept = self.marks.lock().vote;
        if kept.is_some_and(|kept| is_same_but_for_the_election(kept, vote)) {
            self.wal.do_send(NoteElected(vote));
        } else {
            let saved = self.wal.send(SaveVote(vote)).await;
            let saved = saved.map_err(|_| wal_is_gone())?;
            // The vote is in the batch, behind entries that may find no room.
            outlast(&self.admission, saved, || sync(&self.wal)).await?;
        }
        self.marks.lock().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        let committed = committed.map(from_raft_log_id);
        self.marks.lock().committed = committed;
        if let Some(committed) = committed {
            self.progress.commit(committed.index);
            // Other members may have made an entry durable, and so committed it, before this
            // member's disk has it. A mark must never point beyond what this disk has after a
            // crash.
            let flushed = self.tail.flushed();
            if let Some(mark) = flushed.map(|flushed| flushed.min(committed)) {
                self.commit_mark.set(mark);
            }
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.marks.lock().committed.map(to_raft_log_id))
    }

    async fn append<I>(&mut self, entries: I, flushed: Flushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut stored = Vec::new();
        for entry in entries {
            if let Some(membership) = entry.membership() {
                self.sole_voter.appended(entry.id(), &membership);
            }
            stored.push(entry.into_stored());
        }
        self.tail.push(&stored);
        if !self.wal.connected() {
            return Err(wal_is_gone());
        }
        self.wal.do_send(Append {
            entries: stored,
            flushed,
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.sole_voter.truncated();
        let after = last.map(from_raft_log_id);
        self.tail.truncate_after(after);
        self.wal.do_send(Truncate { after });
        Ok(())
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = from_raft_log_id(upto);
        self.tail.purge(upto);
        self.wal.do_send(Purge { upto });
        Ok(())
    }
}

fn wal_is_gone() -> io::Error {
    io::Error::other("the WAL's writer is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_news_of_an_election_need_not_be_waited_for() {
        let vote = |term, candidate, committed| Vote {
            term,
            voted_for: Some(candidate),
            committed,
        };
        let kept = vote(5, 1, false);
        assert!(is_same_but_for_the_election(kept, vote(5, 1, true)));
        let others = [
            vote(5, 2, true),
            vote(6, 1, true),
            vote(6, 1, false),
            vote(5, 1, false),
        ];
        for other in others {
            assert!(!is_same_but_for_the_election(kept, other), "{other:?}");
        }
    }
}
