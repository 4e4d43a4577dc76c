//! Random commands against a model that keeps every state: responses, events, ranges at random
//! revisions and hashes must agree, through checkpoints, compaction windows and crashes.
//!
//! `SEED` replays one seed, `RUNS` sets the number of runs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_support;

use std::path::Path;

use althing_api::commandpb::Command;
use althing_api::error::Error;
use althing_api::mvccpb::Event;
use althing_api::mvccpb::event::EventType;
use althing_api::range::KeyRange;
use althing_storage::apply::{apply, read_txn};
use althing_storage::entry::LogId;
use althing_storage::store::{CompactStep, ReadView, SliceLimits, Store};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use store_support::{Change, Model, TINY, gen_command};

#[derive(Clone, Debug)]
enum Logged {
    Command(Box<Command>),
    Membership(Bytes),
    Blank,
}

struct Run<'a> {
    path: &'a Path,
    store: Store,
    model: Model,
    log: Vec<Logged>,
    rng: StdRng,
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = rand::random::<u32>().into();
            (first..first + number("RUNS").unwrap_or(12)).collect()
        }
    }
}

fn slice_limits(rng: &mut StdRng) -> SliceLimits {
    SliceLimits {
        changes_max: rng.random_range(1..20),
        bytes_max: rng.random_range(1..5000),
    }
}

fn id(index: usize) -> LogId {
    LogId {
        term: 1,
        index: index as u64,
    }
}

impl Run<'_> {
    fn apply_logged(&self, index: usize) -> Option<(Result<String, Error>, Vec<Change>, i64)> {
        match &self.log[index] {
            Logged::Blank => self.store.apply_blank(id(index)),
            Logged::Membership(payload) => {
                self.store
                    .apply_membership(id(index), payload.clone(), Vec::new());
            }
            Logged::Command(command) => {
                let mut txn = self.store.begin();
                let response = apply(&mut txn, Command::clone(command));
                let committed = txn.commit(id(index));
                let events = committed.events.iter().enumerate();
                let changes = events.map(|(sub, event)| {
                    let mut kv = event.kv.clone().unwrap();
                    let tombstone = event.r#type() == EventType::Delete;
                    let main = kv.mod_revision;
                    if tombstone {
                        kv.mod_revision = 0;
                    }
                    Change {
                        main,
                        sub: sub as u64,
                        tombstone,
                        kv,
                    }
                });
                let response = response.map(|response| format!("{response:?}"));
                return Some((response, changes.collect(), committed.revision));
            }
        }
        None
    }

    fn command(&mut self) {
        let command = gen_command::command(&mut self.rng, self.model.current());
        self.log.push(Logged::Command(Box::new(command.clone())));
        let got = self.apply_logged(self.log.len() - 1).unwrap();
        let (response, changes) = self.model.apply(&command);
        let response = response.map(|response| format!("{response:?}"));
        assert_eq!(got.0, response, "{command:?}");
        assert_eq!(format!("{:?}", got.1), format!("{changes:?}"));
        assert_eq!(got.2, self.model.current());
    }

    fn refused_command(&mut self) {
        // Applied and then dropped: this must leave no trace.
        let command = gen_command::command(&mut self.rng, self.model.current());
        let mut txn = self.store.begin();
        let _ = apply(&mut txn, command);
        drop(txn);
        assert_eq!(self.store.revisions().current, self.model.current());
    }

    fn reads(&mut self) {
        let view = self.store.read();
        assert_eq!(view.revision(), self.model.current());
        for _ in 0..4 {
            let request = gen_command::range(&mut self.rng, self.model.current());
            assert_eq!(
                view.range(&request),
                self.model.range(&request),
                "{request:?}"
            );
        }
        let txn = gen_command::txn(&mut self.rng, self.model.current(), 0, true);
        assert_eq!(read_txn(&view, &txn), self.model.read_txn(&txn), "{txn:?}");
        assert_eq!(self.store.key_count(), self.model.state().len() as u64);
        self.leases();
        self.scan();
        self.history();
    }

    fn leases(&self) {
        let leases: Vec<_> = self.model.leases.values().copied().collect();
        assert_eq!(self.store.leases(), leases);
        for id in 0..6 {
            let expected = if self.model.leases.contains_key(&id) {
                self.model.lease_keys(id)
            } else {
                Vec::new()
            };
            assert_eq!(self.store.lease_keys(id), expected, "lease {id}");
        }
    }

    fn scan(&mut self) {
        let mut request = gen_command::range(&mut self.rng, self.model.current());
        (request.sort_order, request.sort_target) = (0, 0);
        (request.min_mod_revision, request.max_mod_revision) = (0, 0);
        (request.min_create_revision, request.max_create_revision) = (0, 0);
        let expected = self.model.range(&request);
        match self.store.read().scan(&request) {
            Err(error) => assert_eq!(Err(error), expected),
            Ok(mut scan) => {
                let expected = expected.unwrap();
                assert_eq!((scan.count(), scan.more()), (expected.count, expected.more));
                let mut kvs = Vec::new();
                loop {
                    let bytes_max = self.rng.random_range(1..2_000);
                    let keys_max = self.rng.random_range(1..5);
                    let chunk = scan.next_chunk(keys_max, bytes_max).unwrap();
                    if chunk.is_empty() {
                        break;
                    }
                    kvs.extend(chunk);
                }
                assert_eq!(kvs, expected.kvs, "{request:?}");
            }
        }
    }

    fn history(&mut self) {
        let (current, compacted) = (self.model.current(), self.model.compacted.max(0));
        let view = self.store.read();
        if compacted > 0 {
            let refused = view.history(compacted - 1, slice_limits(&mut self.rng), |_| true);
            assert_eq!(refused.unwrap_err(), Error::Compacted);
        }
        let request = gen_command::range(&mut self.rng, current);
        let keys = KeyRange::new(request.key, request.range_end);
        // The compacted revision itself is whole unless it wrote one key twice.
        let first = self.model.first_whole_revision();
        let first = self.rng.random_range(first..=current + 1);
        let mut got = Vec::new();
        let mut from = first;
        while from <= current {
            let limits = slice_limits(&mut self.rng);
            let slice = view.history(from, limits, |key| keys.contains(key));
            let slice = slice.unwrap();
            let of_slice = |event: &Event| {
                let revision = event.kv.as_ref().unwrap().mod_revision;
                (from..slice.next).contains(&revision)
            };
            assert!(slice.next > from && slice.events.iter().all(of_slice));
            from = slice.next;
            got.extend(slice.events);
        }
        assert_eq!(from, current + 1);
        let expected = self.model.events(first, |key| keys.contains(key));
        assert_eq!(got, expected, "from {first} of {keys:?}");
        for event in got {
            self.former_value(&view, &event);
        }
    }

    fn former_value(&self, view: &ReadView, event: &Event) {
        let kv = event.kv.as_ref().unwrap();
        let before = kv.mod_revision - 1;
        let expected = if before < self.model.compacted {
            Err(Error::Compacted)
        } else {
            Ok(self.model.states[before as usize]
                .get(kv.key.as_ref())
                .cloned())
        };
        assert_eq!(view.key_at(&kv.key, before), expected);
    }

    fn hashes(&mut self) {
        let current = self.model.current();
        let asked = self.rng.random_range(0..current + 2);
        let got = self.store.hash_kv(asked);
        let revision = if asked == 0 { current } else { asked };
        if asked > current {
            assert_eq!(got.unwrap_err(), Error::FutureRevision);
        } else if asked > 0 && asked < self.model.compacted {
            assert_eq!(got.unwrap_err(), Error::Compacted);
        } else {
            let got = got.unwrap();
            assert_eq!(got.hash, self.model.hash_kv(revision), "at {revision}");
            assert_eq!(got.compact_revision, self.model.compacted);
            assert_eq!(got.hash_revision, revision);
        }
    }

    fn checkpoint(&mut self) {
        let flushed = self.rng.random_range(0..self.log.len().max(1) as u64 + 1);
        let records = self.rng.random_range(1..20);
        let before = self.store.hash().unwrap();
        let flushed = LogId {
            term: 1,
            index: flushed,
        };
        let checkpoint = self.store.checkpoint(flushed, records).unwrap();
        assert!(
            checkpoint
                .durable
                .is_none_or(|durable| durable <= flushed || Some(durable) == self.store.durable())
        );
        assert_eq!(self.store.hash().unwrap(), before);
    }

    fn compact_fully(&mut self) {
        let everything = LogId::MAX;
        while self.store.checkpoint(everything, 1000).unwrap().remaining > 0 {}
        self.store.checkpoint(everything, 1000).unwrap();
        let target = self.model.compacted.max(0);
        for _ in 0..10_000 {
            if let CompactStep::Finished(revision) = self.store.compact_step(3).unwrap() {
                assert_eq!(revision, target);
                return;
            }
        }
        panic!("compaction does not end");
    }

    /// Crashes: what no checkpoint covered comes back from the log.
    fn crash(self) -> Self {
        let Run {
            path,
            store,
            model,
            log,
            rng,
        } = self;
        let durable = store.durable_mark();
        drop(store);
        let store = Store::open(path, TINY).unwrap();
        assert_eq!(store.applied(), durable);
        let run = Run {
            path,
            store,
            model,
            log,
            rng,
        };
        let first = durable.log_id.map_or(0, |id| id.index as usize + 1);
        for index in first..run.log.len() {
            run.apply_logged(index);
        }
        run.check_whole();
        run
    }

    fn check_whole(&self) {
        self.leases();
        assert_eq!(self.store.revisions().current, self.model.current());
        assert_eq!(
            self.store.revisions().compacted,
            self.model.compacted.max(0)
        );
        let last = self
            .log
            .iter()
            .rposition(|entry| matches!(entry, Logged::Membership(_)));
        let membership = last.map(|index| match &self.log[index] {
            Logged::Membership(payload) => (id(index), payload.clone()),
            _ => unreachable!(),
        });
        assert_eq!(self.store.applied().membership, membership);
        let first = self.model.compacted.max(1);
        for revision in first..=self.model.current() {
            let request = althing_api::etcdserverpb::RangeRequest {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                revision,
                ..Default::default()
            };
            let got = self.store.read().range(&request);
            assert_eq!(got, self.model.range(&request), "at {revision}");
        }
    }

    fn entry(&mut self, entry: Logged) {
        self.log.push(entry);
        self.apply_logged(self.log.len() - 1);
    }
}

fn run(seed: u64) {
    println!("seed {seed}: replay with SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut run = Run {
        path: &path,
        store: Store::open(&path, TINY).unwrap(),
        model: Model::default(),
        log: Vec::new(),
        rng: StdRng::seed_from_u64(seed),
    };
    for step in 0..400 {
        match run.rng.random_range(0..100) {
            0..55 => run.command(),
            55..58 => run.refused_command(),
            58..74 => run.reads(),
            74..78 => run.hashes(),
            78..80 => run.entry(Logged::Blank),
            80..82 => run.entry(Logged::Membership(format!("voters {step}").into())),
            82..92 => run.checkpoint(),
            92..97 => drop(run.store.compact_step(3).unwrap()),
            97 => run.compact_fully(),
            _ => run = run.crash(),
        }
    }
    run.check_whole();
    run.compact_fully();
    run.crash().check_whole();
}

#[test]
fn the_store_agrees_with_a_model_that_keeps_every_state() {
    seeds().into_iter().for_each(run);
}
