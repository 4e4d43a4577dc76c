//! Random but replayable sequences of calls, and a plain model of their outcome.

use super::{append, entry, vote};
use althing_storage::entry::{Entry, LogId, Vote};
use althing_storage::wal::{Recovery, Wal};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io;

/// The log as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub entries: Vec<Entry>,
}

impl Model {
    fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    fn first_index(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    pub fn push(&mut self, entry: Entry) {
        self.last = Some(entry.id);
        self.entries.push(entry);
    }

    pub fn truncate_after(&mut self, last: Option<LogId>) {
        self.entries
            .retain(|entry| last.is_some_and(|last| entry.id.index <= last.index));
        self.last = self.entries.last().map(|entry| entry.id).or(self.purged);
    }

    pub fn purge(&mut self, upto: LogId) {
        self.entries.retain(|entry| entry.id.index > upto.index);
        self.purged = Some(upto);
        self.last = self.entries.last().map(|entry| entry.id).or(self.purged);
    }
}

/// A model, and every state that the WAL may have after power loss: those since the last flush that
/// returned.
#[derive(Debug)]
pub struct Player {
    random: StdRng,
    pub now: Model,
    /// One state per record written since the last flush, the flushed one first.
    pub possible: Vec<Model>,
    pub committed: Option<LogId>,
    pub possible_committed: Vec<Option<LogId>>,
    largest: usize,
}

impl Player {
    pub fn new(seed: u64, largest: usize) -> Player {
        Player {
            random: StdRng::seed_from_u64(seed),
            now: Model::default(),
            possible: vec![Model::default()],
            committed: None,
            possible_committed: vec![None],
            largest,
        }
    }

    /// A number below `n`, drawn from the same seed.
    pub fn choose(&mut self, n: u64) -> u64 {
        self.random.random_range(0..n)
    }

    /// Makes one random call on the WAL and on the model.
    pub fn step(&mut self, wal: &mut Wal) -> io::Result<()> {
        match self.choose(20) {
            0..8 => self.append(wal),
            8 => self.vote(wal),
            9 | 10 => self.truncate(wal),
            11 | 12 => self.purge(wal),
            13 => self.commit(wal),
            _ => {
                let last = wal.flush()?;
                assert_eq!(last, self.now.last);
                self.possible = vec![self.now.clone()];
                self.possible_committed = vec![self.committed];
                return Ok(());
            }
        }
        Ok(())
    }

    fn append(&mut self, wal: &mut Wal) {
        if self.now.vote.is_none() {
            self.vote(wal);
        }
        let term = self.now.vote.map_or(1, |vote| vote.term);
        let count = self.random.random_range(1..5);
        let start = self.now.next_index();
        let mut entries = Vec::new();
        for index in start..start + count {
            let bytes = self.random.random_range(0..=self.largest);
            let entry = entry(term, index, bytes);
            self.now.push(entry.clone());
            self.possible.push(self.now.clone());
            entries.push(entry);
        }
        append(wal, &entries);
    }

    fn vote(&mut self, wal: &mut Wal) {
        let term = self.now.vote.map_or(1, |vote| vote.term + 1);
        let vote = vote(term);
        wal.save_vote(vote);
        self.now.vote = Some(vote);
        self.possible.push(self.now.clone());
    }

    /// A conflict: a later leader voids the end of the log.
    fn truncate(&mut self, wal: &mut Wal) {
        let held = self.now.entries.len();
        if held == 0 || self.choose(2) == 0 {
            return;
        }
        let keep = self.random.random_range(0..held);
        let last = keep
            .checked_sub(1)
            .map(|at| self.now.entries[at].id)
            .or(self.now.purged);
        self.vote(wal);
        wal.tail().truncate_after(last);
        wal.truncate_after(last);
        self.now.truncate_after(last);
        if self
            .committed
            .is_some_and(|id| id.index >= self.now.next_index())
        {
            self.committed = self.now.last;
            self.possible_committed.push(self.committed);
        }
        self.possible.push(self.now.clone());
    }

    fn purge(&mut self, wal: &mut Wal) {
        let first = self.now.first_index();
        let upto = match self.choose(8) {
            // Installs a snapshot from elsewhere.
            0 if self.now.vote.is_some() => {
                let term = self.now.vote.map_or(1, |vote| vote.term);
                super::id(term, self.now.next_index() + self.choose(5))
            }
            _ => {
                let held = self.now.next_index() - first;
                if held == 0 {
                    return;
                }
                let position = usize::try_from(self.choose(held)).expect("small");
                self.now.entries[position].id
            }
        };
        wal.tail().purge(upto);
        wal.purge(upto);
        self.now.purge(upto);
        self.possible.push(self.now.clone());
    }

    fn commit(&mut self, wal: &mut Wal) {
        if let Some(last) = self.now.last {
            wal.save_committed(last);
            self.committed = Some(last);
            self.possible_committed.push(self.committed);
        }
    }

    /// Checks what recovery found, and goes on from there.
    pub fn recovered(&mut self, wal: &Wal, recovery: &Recovery) {
        let found = Model {
            vote: recovery.vote,
            purged: recovery.purged,
            last: recovery.last,
            entries: super::all_entries(wal),
        };
        assert_eq!(wal.tail().state(), (found.purged, found.last));
        assert_eq!(wal.tail().flushed(), found.last);
        assert!(
            self.possible.contains(&found),
            "lost or revived: found {found:#?}\nof possible {:#?}",
            self.possible
        );
        let known = |committed: &Option<LogId>| match (committed, found.last) {
            (Some(committed), Some(last)) if committed.index > last.index => Some(last),
            (committed, last) => committed.and_then(|committed| last.map(|_| committed)),
        };
        assert!(
            self.possible_committed
                .iter()
                .any(|c| known(c) == recovery.committed),
            "commit mark {:?} of possible {:?}",
            recovery.committed,
            self.possible_committed
        );
        self.now = found;
        self.possible = vec![self.now.clone()];
        self.committed = recovery.committed;
        self.possible_committed = vec![self.committed];
    }

    /// Checks that the tail reads what the model holds, flushed or not.
    pub fn check_reads(&mut self, wal: &Wal) {
        let tail = wal.tail();
        assert_eq!(tail.state(), (self.now.purged, self.now.last));
        assert_eq!(super::all_entries(wal), self.now.entries);
        let (first, next) = (self.now.first_index(), self.now.next_index());
        let start = first + self.choose(next - first + 1);
        let end = start + self.choose(6);
        let max_bytes = usize::try_from(self.choose(400)).expect("small");
        let some = tail
            .read(start..end, max_bytes)
            .expect("entries can be read");
        let held = self
            .now
            .entries
            .iter()
            .filter(|e| (start..end).contains(&e.id.index));
        let expected: Vec<_> = held.take(some.len()).cloned().collect();
        assert_eq!(some, expected);
        assert_eq!(
            some.is_empty(),
            start.max(first) >= end.min(next),
            "{start}..{end}"
        );
    }
}
