//! Power cuts at every sync, a disk that fills up, and damaged files.
//!
//! `SEED` replays one seed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_support;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use althing_api::commandpb::{Command, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use althing_storage::apply::{Response, apply};
use althing_storage::entry::LogId;
use althing_storage::snapshot::Source;
use althing_storage::store::{CheckpointError, CompactStep, Medium, Store};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use store_support::seed::seed;
use store_support::sim_disk::SimDisk;
use store_support::{Model, TINY, gen_command};

fn everything(revision: i64) -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    }
}

/// Applies one random command to both.
fn step(store: &Store, model: &mut Model, rng: &mut StdRng, index: u64) {
    let command = gen_command::command(rng, model.current());
    apply_to_both(store, model, &command, index);
}

fn apply_to_both(store: &Store, model: &mut Model, command: &Command, index: u64) {
    let mut txn = store.begin();
    let _ = apply(&mut txn, command.clone());
    txn.commit(LogId { term: 1, index });
    let _ = model.apply(command);
    assert_eq!(store.revisions().current, model.current());
}

/// Checks that every readable revision is as in the model at `current` and `compacted`.
fn check(store: &Store, model: &Model, current: i64, compacted: i64) {
    assert_eq!(store.revisions().current, current);
    assert_eq!(store.revisions().compacted, compacted.max(0));
    let view = store.read();
    for revision in compacted.max(1)..=current {
        let got = view.range(&everything(revision)).unwrap();
        let expected: Vec<_> = model.states[revision as usize].values().cloned().collect();
        assert_eq!(got.kvs, expected, "at {revision}");
    }
}

#[test]
fn after_a_power_cut_at_any_sync_the_file_holds_whole_entries_up_to_the_last_checkpoint() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = SimDisk::crashing(seed);
    let store = Store::open_on(Arc::new(disk.clone()), TINY).unwrap();
    // A file is created beside its place and renamed, so cuts during its creation do not count.
    disk.take_crashes();
    let mut model = Model::default();
    let mut history = Vec::new();
    let mut images = 0;
    for index in 0..120 {
        step(&store, &mut model, &mut rng, index);
        history.push((model.current(), model.compacted));
        if rng.random_ratio(2, 3) {
            continue;
        }
        let before = store.durable();
        let after = store
            .checkpoint(LogId { term: 1, index }, rng.random_range(1..40))
            .unwrap()
            .durable;
        if rng.random() {
            store.compact_step(5).unwrap();
        }
        for image in disk.take_crashes() {
            images += 1;
            let store = Store::open_on(Arc::new(SimDisk::of(image)), TINY).unwrap();
            let durable = store.durable();
            assert!(
                durable >= before && durable <= after,
                "{before:?} {durable:?} {after:?}"
            );
            let known = durable.map_or((1, -1), |id| history[id.index as usize]);
            check(&store, &model, known.0, known.1);
            while let CompactStep::More = store.compact_step(100).unwrap() {}
            check(&store, &model, known.0, known.1);
        }
    }
    assert!(images > 50, "{images}");
}

#[test]
fn a_creation_that_was_cut_short_is_made_good_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(dir.path().join("store.redb.tmp"), b"half a head").unwrap();
    let store = Store::open(&path, TINY).unwrap();
    assert_eq!(store.revisions().current, 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn files_that_are_no_store_are_refused_by_name_and_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let error = Store::open(&path, TINY).unwrap_err().to_string();
    assert!(
        error.contains("store.redb") && error.contains("snapshot"),
        "{error}"
    );

    let foreign = dir.path().join("foreign.redb");
    let db = redb::Database::create(&foreign).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<u8, u8>::new("theirs"))
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = Store::open(&foreign, TINY).unwrap_err().to_string();
    assert!(
        error.contains("foreign.redb") && error.contains("not a store"),
        "{error}"
    );
}

#[test]
fn a_store_of_another_format_is_refused() {
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    drop(Store::open(&path, TINY).unwrap());
    let db = redb::Database::create(&path).unwrap();
    let txn = db.begin_write().unwrap();
    let format = 3u32.to_le_bytes();
    let crc = store_support::crc32c(&[b"format".as_slice(), &format].concat());
    let row = [crc.to_le_bytes(), format].concat();
    txn.open_table(META)
        .unwrap()
        .insert("format", row.as_slice())
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = Store::open(&path, TINY).unwrap_err().to_string();
    assert!(error.contains("store format 3 is not 2"), "{error}");
}

#[test]
fn a_full_disk_fails_checkpoints_and_loses_nothing() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = SimDisk::default();
    let store = Store::open_on(Arc::new(disk.clone()), TINY).unwrap();
    let mut model = Model::default();
    for index in 0..600 {
        step(&store, &mut model, &mut rng, index);
        disk.set_full((index / 100) % 2 == 1);
        if index % 10 != 9 {
            continue;
        }
        let full = (index / 100) % 2 == 1;
        match store.checkpoint(LogId { term: 1, index }, 1000) {
            Ok(_) => {}
            Err(CheckpointError::NoSpace) if full => {}
            Err(error) => panic!("{error}"),
        }
        match store.compact_step(3) {
            Ok(_) => {}
            Err(CheckpointError::NoSpace) if full => {}
            Err(error) => panic!("{error}"),
        }
        check(&store, &model, model.current(), model.compacted);
    }
    // The file may have had room inside all along; here it has none.
    disk.set_full(true);
    let large = PutRequest {
        key: Bytes::from_static(b"large"),
        value: vec![0; 16 << 20].into(),
        ..Default::default()
    };
    let request = Some(command::Request::Put(large));
    apply_to_both(&store, &mut model, &Command { request }, 600);
    let refused = store.checkpoint(LogId::MAX, 1000);
    assert!(matches!(refused, Err(CheckpointError::NoSpace)));
    check(&store, &model, model.current(), model.compacted);
    disk.set_full(false);
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    while let CompactStep::More = store.compact_step(3).unwrap() {}
    check(&store, &model, model.current(), model.compacted);
    drop(store);
    let store = Store::open_on(Arc::new(disk), TINY).unwrap();
    check(&store, &model, model.current(), model.compacted);
}

/// A commit that fails closes the file, at any moment of a read; the read opens it again.
#[test]
fn reads_go_on_while_commits_meet_a_full_disk() {
    let disk = SimDisk::default();
    let store = Store::open_on(Arc::new(disk.clone()), TINY).unwrap();
    let put = |index: u64, value: u8| {
        let mut txn = store.begin();
        apply(&mut txn, large_put(index, value)).unwrap();
        txn.commit(LogId { term: 1, index });
    };
    (0..50).for_each(|index| put(index, 1));
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    let old = store.revisions().current;
    (50..100).for_each(|index| put(index, 2));
    disk.set_full(true);
    let finished = AtomicBool::new(false);
    let read = || {
        let range = store.read().range(&everything(old)).unwrap();
        assert!(range.kvs.iter().all(|kv| kv.value == [1; 5_000].as_slice()));
        range.kvs.len()
    };
    let take_snapshot = || {
        let source = Source::open(&store, 1).unwrap();
        assert_eq!(source.applied().log_id, store.durable());
        1
    };
    // How much each thread has done so far.
    let turns: [AtomicUsize; 5] = Default::default();
    std::thread::scope(|scope| {
        let (finished, read, take_snapshot) = (&finished, &read, &take_snapshot);
        let threads: Vec<_> = (turns.iter().enumerate())
            .map(|(number, turn)| {
                scope.spawn(move || {
                    while !finished.load(Ordering::Relaxed) {
                        let done = if number == 0 { take_snapshot() } else { read() };
                        turn.fetch_add(done, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // On a busy machine one of them may begin late; one that failed is not waited for.
        let is_one_idle = || {
            let is_idle = |turn: &AtomicUsize| turn.load(Ordering::Relaxed) == 0;
            turns.iter().any(is_idle) && !threads.iter().any(ScopedJoinHandle::is_finished)
        };
        let mut commits = Vec::new();
        while commits.len() < 300 || is_one_idle() {
            commits.push(store.checkpoint(LogId::MAX, usize::MAX));
        }
        finished.store(true, Ordering::Relaxed);
        for commit in commits {
            let refused = commit.unwrap_err();
            assert!(matches!(refused, CheckpointError::NoSpace), "{refused}");
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
    disk.set_full(false);
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
}

/// A disk that can be so full that a file on it cannot even be opened.
#[derive(Clone, Debug, Default)]
struct Shut {
    disk: SimDisk,
    is_shut: Arc<AtomicBool>,
}

impl Shut {
    fn set(&self, is_shut: bool) {
        self.disk.set_full(is_shut);
        self.is_shut.store(is_shut, Ordering::Relaxed);
    }
}

impl Medium for Shut {
    fn open(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        if self.is_shut.load(Ordering::Relaxed) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            self.disk.open()
        }
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.disk.allocated_bytes()
    }
}

#[test]
fn a_command_that_a_full_disk_keeps_from_reading_leaves_no_trace_and_is_applied_later() {
    let disk = Shut::default();
    let store = Store::open_on(Arc::new(disk.clone()), TINY).unwrap();
    let put = |index: u64| {
        let mut txn = store.begin();
        apply(&mut txn, large_put(index, 1)).unwrap();
        txn.commit(LogId { term: 1, index });
    };
    (0..50).for_each(put);
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    (50..60).for_each(put);
    disk.set(true);
    let closed = store.checkpoint(LogId::MAX, usize::MAX);
    assert!(matches!(closed, Err(CheckpointError::NoSpace)));

    let before = (store.revisions(), store.key_count());
    // The first keys are still pending, the others are only in the file.
    let delete = DeleteRangeRequest {
        key: "0".into(),
        range_end: "5".into(),
        prev_kv: true,
    };
    let request = Some(command::Request::DeleteRange(delete));
    let command = Command { request };
    for _ in 0..3 {
        let mut txn = store.begin();
        let refused = apply(&mut txn, command.clone()).unwrap_err();
        assert!(txn.is_starved() && refused == Error::NoSpace, "{refused}");
        drop(txn);
        assert_eq!((store.revisions(), store.key_count()), before);
    }
    disk.set(false);
    let mut txn = store.begin();
    let Response::DeleteRange(deleted) = apply(&mut txn, command).unwrap() else {
        panic!("it is a deletion");
    };
    assert!(!txn.is_starved());
    txn.commit(LogId { term: 1, index: 60 });
    assert_eq!(deleted.prev_kvs.len(), 50);
    assert_eq!(store.key_count(), 0);
}

fn large_put(index: u64, value: u8) -> Command {
    let put = PutRequest {
        key: format!("{:02}", index % 50).into(),
        value: vec![value; 5_000].into(),
        ..PutRequest::default()
    };
    Command {
        request: Some(command::Request::Put(put)),
    }
}

#[test]
fn a_flipped_byte_is_refused_or_reported_and_never_read_as_data() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, TINY).unwrap();
    let mut model = Model::default();
    for index in 0..60 {
        // Nothing is deleted or compacted, so most bytes of the file belong to a record.
        let command = gen_command::plain_put(&mut rng);
        let mut txn = store.begin();
        apply(&mut txn, command.clone()).unwrap();
        txn.commit(LogId { term: 1, index });
        let _ = model.apply(&command);
    }
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    drop(store);
    let sound = std::fs::read(&path).unwrap();
    let used: Vec<_> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    let mut found = 0;
    let mut wrong = Vec::new();
    for _ in 0..150 {
        let position = used[rng.random_range(0..used.len())];
        let mut damaged = sound.clone();
        damaged[position] ^= 1 << rng.random_range(0..8);
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Store::open_on(Arc::new(SimDisk::of(damaged)), TINY)
        }));
        let store = match opened.expect("a start never panics") {
            Ok(store) => store,
            Err(error) => {
                found += 1;
                if !error.to_string().contains("simulated.redb") {
                    wrong.push(format!("{position}: {error}"));
                }
                continue;
            }
        };
        // redb's own assertions may fire on a damaged page; what counts is what is returned.
        let read = catch_unwind(AssertUnwindSafe(|| {
            (model.compacted.max(1)..=model.current()).try_for_each(|revision| {
                let range = store.read().range(&everything(revision))?;
                let expected = model.states[revision as usize].values();
                if !range.kvs.iter().eq(expected) {
                    wrong.push(format!("{position}: other data"));
                }
                Ok::<_, Error>(())
            })
        }));
        match read {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                found += 1;
                let failed = store.checkpoint(LogId::MAX, 1);
                if !matches!(failed, Err(CheckpointError::Failed(_))) {
                    wrong.push(format!("{position}: {failed:?} after damage"));
                }
            }
            Err(_) => found += 1,
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(found > 50, "{found}");
}

#[test]
fn what_took_the_place_of_a_durable_entry_is_not_checkpointed_before_it_is_durable_itself() {
    let store = Store::open_on(Arc::new(SimDisk::default()), TINY).unwrap();
    let mut txn = store.begin();
    let request = PutRequest {
        key: Bytes::from_static(b"k"),
        ..Default::default()
    };
    let request = Some(command::Request::Put(request));
    apply(&mut txn, Command { request }).unwrap();
    let applied = LogId { term: 5, index: 4 };
    txn.commit(applied);
    // The entry that is flushed at that index is a former leader's.
    let former = LogId { term: 3, index: 9 };
    assert_eq!(store.checkpoint(former, 1).unwrap().durable, None);
    assert_eq!(store.checkpoint(applied, 1).unwrap().durable, Some(applied));
}
