//! The owner of the log runs ahead of the writer: the tail shows the owner's log at every moment,
//! whatever the writer reports late.

use super::plan::Model;
use super::{DIR, all_entries, entry, id, seeds, settings, vote};
use althing_storage::entry::{Entry, LogId};
use althing_storage::wal::faulty_disk::FaultyDisk;
use althing_storage::wal::{Background, LogTail, Wal};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

enum Call {
    Append(Vec<Entry>),
    Truncate(Option<LogId>),
    Purge(LogId),
}

struct Owner {
    random: StdRng,
    tail: LogTail,
    log: Model,
    term: u64,
    queue: VecDeque<Call>,
}

impl Owner {
    fn next_index(&self) -> u64 {
        self.log.last.map_or(0, |id| id.index + 1)
    }

    fn step(&mut self) {
        let held = self.log.entries.len();
        match self.random.random_range(0..8) {
            0 if held > 0 => {
                let keep = self.random.random_range(0..held);
                let kept = keep.checked_sub(1).map(|at| self.log.entries[at].id);
                let last = kept.or(self.log.purged);
                // Sometimes the leader that comes back is the one whose entries were voided.
                self.term += u64::from(self.random.random_bool(0.5));
                self.tail.truncate_after(last);
                self.log.truncate_after(last);
                self.queue.push_back(Call::Truncate(last));
            }
            1 => {
                let upto = match self.random.random_range(0..6) {
                    0 => id(self.term, self.next_index() + 2),
                    _ if held > 0 => self.log.entries[self.random.random_range(0..held)].id,
                    _ => return,
                };
                self.tail.purge(upto);
                self.log.purge(upto);
                self.queue.push_back(Call::Purge(upto));
            }
            _ => {
                let start = self.next_index();
                let count = self.random.random_range(1..4);
                let entries: Vec<_> = (start..start + count)
                    .map(|index| entry(self.term, index, self.random.random_range(0..300)))
                    .collect();
                self.tail.push(&entries);
                entries
                    .iter()
                    .cloned()
                    .for_each(|entry| self.log.push(entry));
                self.queue.push_back(Call::Append(entries));
            }
        }
    }

    /// Lets the writer take some of what waits.
    fn write(&mut self, wal: &mut Wal) {
        for _ in 0..self.random.random_range(0..5) {
            match self.queue.pop_front() {
                Some(Call::Append(entries)) => wal.append(&entries),
                Some(Call::Truncate(last)) => wal.truncate_after(last),
                Some(Call::Purge(upto)) => wal.purge(upto),
                None => break,
            }
        }
        wal.flush().expect("nothing fails here");
    }

    fn check(&self, wal: &Wal) {
        assert_eq!(self.tail.state(), (self.log.purged, self.log.last));
        assert_eq!(all_entries(wal), self.log.entries);
        if let Some(flushed) = self.tail.flushed() {
            let same = self
                .log
                .entries
                .iter()
                .find(|entry| entry.id.index == flushed.index);
            let gone = self
                .log
                .purged
                .is_some_and(|purged| flushed.index <= purged.index);
            assert!(
                gone || same.is_some_and(|entry| entry.id == flushed),
                "{flushed:?}"
            );
        }
    }
}

#[test]
fn the_tail_shows_the_owners_log_however_late_the_writer_is() {
    for seed in seeds(60) {
        eprintln!("SEED={seed}");
        let disk = FaultyDisk::default();
        // Without a budget every flushed entry is read from its file.
        let small = settings(2048, 0);
        let disk = Arc::new(disk);
        let (mut wal, _) = Wal::open_on(
            disk.clone(),
            Path::new(DIR),
            small.clone(),
            Background::Inline,
        )
        .expect("a new log opens");
        wal.save_vote(vote(1));
        let mut owner = Owner {
            random: StdRng::seed_from_u64(seed),
            tail: wal.tail(),
            log: Model::default(),
            term: 1,
            queue: VecDeque::new(),
        };
        for _ in 0..300 {
            owner.step();
            if owner.random.random_bool(0.3) {
                owner.write(&mut wal);
            }
            owner.check(&wal);
        }
        while !owner.queue.is_empty() {
            owner.write(&mut wal);
            owner.check(&wal);
        }
        assert_eq!(owner.tail.flushed(), owner.log.last);
        drop(wal);
        let (wal, _) = Wal::open_on(disk, Path::new(DIR), small, Background::Inline)
            .expect("it was closed in order");
        owner.tail = wal.tail();
        owner.check(&wal);
    }
}
