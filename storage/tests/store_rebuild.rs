//! The store's file is copied into a smaller one while the store is used.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_support;

use std::path::PathBuf;

use althing_api::commandpb::Command;
use althing_api::commandpb::command::Request;
use althing_api::etcdserverpb::*;
use althing_storage::apply::apply;
use althing_storage::entry::LogId;
use althing_storage::snapshot::Source;
use althing_storage::store::{CompactStep, RebuildStep, Store, StoreSettings};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use store_support::{Model, TINY, gen_command};

const MIB: u64 = 1 << 20;

struct World {
    store: Store,
    place: PathBuf,
    arrived: PathBuf,
    index: u64,
}

impl World {
    fn new(dir: &tempfile::TempDir, settings: StoreSettings) -> World {
        let place = dir.path().join("store.redb");
        World {
            store: Store::open(&place, settings).unwrap(),
            place,
            arrived: dir.path().join("copy.redb"),
            index: 0,
        }
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        let mut txn = self.store.begin();
        // The model judges whether it is refused.
        let _ = apply(&mut txn, command);
        let (term, index) = (1, self.index);
        txn.commit(LogId { term, index });
    }

    fn checkpoint(&self) {
        while self.store.checkpoint(LogId::MAX, 500).unwrap().remaining > 0 {}
    }

    fn compact_all(&self) {
        while self.store.compact_step(2_000).unwrap() == CompactStep::More {}
    }
}

/// Copies a window; returns whether more of them follow.
fn has_more(store: &Store, bytes_max: usize) -> bool {
    match store.step_rebuild(bytes_max).unwrap() {
        RebuildStep::More => true,
        RebuildStep::Finished(_) => false,
        step => panic!("{step:?}"),
    }
}

fn put(key: u64, value: &[u8]) -> Command {
    let request = Request::Put(PutRequest {
        key: format!("key-{key:06}").into(),
        value: value.to_vec().into(),
        ..Default::default()
    });
    Command {
        request: Some(request),
    }
}

fn compaction(revision: i64) -> Command {
    let request = Request::Compaction(CompactionRequest {
        revision,
        physical: false,
    });
    Command {
        request: Some(request),
    }
}

#[test]
fn a_copy_made_under_random_commands_and_compaction_is_the_same_store() {
    for seed in 0..8 {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(&dir, TINY);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut model = Model::default();
        let mut finished = 0;
        world
            .store
            .begin_rebuild(&world.arrived, &world.place)
            .unwrap();
        for _ in 0..400 {
            let command = gen_command::command(&mut rng, model.current());
            world.apply(command.clone());
            let _ = model.apply(&command);
            match rng.random_range(0..8) {
                0 => drop(world.store.checkpoint(LogId::MAX, 20).unwrap()),
                1 => drop(world.store.compact_step(5).unwrap()),
                2 => {
                    let window = rng.random_range(1..3_000);
                    if !has_more(&world.store, window) {
                        finished += 1;
                        world
                            .store
                            .begin_rebuild(&world.arrived, &world.place)
                            .unwrap();
                    }
                }
                _ => {}
            }
        }
        world.checkpoint();
        while has_more(&world.store, 2_000) {}
        assert!(finished > 0, "some copies were made on the way");
        world.compact_all();
        let (hash, kept) = (world.store.hash().unwrap(), world.store.hash_kv(0).unwrap());
        let World { store, place, .. } = world;
        drop(store);
        assert!(!dir.path().join("copy.redb").exists());
        let again = Store::open(&place, TINY).unwrap();
        assert_eq!(again.hash().unwrap(), hash);
        assert_eq!(again.hash_kv(0).unwrap(), kept);
        assert_eq!(again.revisions().current, model.current());
        assert_eq!(again.leases().len(), model.leases.len());
    }
}

#[test]
fn the_copy_takes_about_what_the_rows_take_and_views_opened_before_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        record_cache_bytes: 0,
        page_cache_bytes: 4 << 20,
        pending_bytes_max: 64 << 20,
    };
    let mut world = World::new(&dir, settings);
    let value = vec![7; 2_000];
    for round in 0..6 {
        for key in 0..2_000 {
            world.apply(put(key, &value));
        }
        world.checkpoint();
        println!("round {round}: {:?}", world.store.sizes());
    }
    world.apply(compaction(world.store.revisions().current));
    world.checkpoint();
    world.compact_all();
    let before = world.store.sizes();
    let view = world.store.read();
    let source = Source::open(&world.store, 7).unwrap();
    world
        .store
        .begin_rebuild(&world.arrived, &world.place)
        .unwrap();
    let mut windows = 1;
    while has_more(&world.store, 1 << 20) {
        windows += 1;
        world.apply(put(windows, &value));
        world.checkpoint();
    }
    let after = world.store.sizes();
    println!("before {before:?}, after {after:?}, {windows} windows");
    assert!(windows > 3);
    assert!(before.allocated > 20 * MIB);
    assert!(after.allocated < after.in_use * 3 / 2, "{after:?}");
    let all = RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        ..Default::default()
    };
    let read = view.range(&all).unwrap();
    assert_eq!(read.kvs.len(), 2_000);
    assert!(read.kvs.iter().all(|kv| kv.value == value));
    // A snapshot on its way to another member, and a backup, read the former file to its end.
    let mark = source.export(&mut Vec::new()).unwrap();
    assert_eq!(mark.records, 2_000);
}

#[test]
fn the_file_takes_little_more_than_the_values_in_it_whatever_their_size() {
    for len in [1_100, 2_100, 4_200, 9_000, 16_384, 66_000, 600_000] {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(&dir, TINY);
        let value: Vec<u8> = (0..len).map(|n: usize| (n / 7) as u8).collect();
        let count = (12 << 20) / len;
        let total = (count * len) as u64;
        for key in 0..count {
            world.apply(put(key as u64, &value));
            if key * len % (1 << 20) < len {
                world.checkpoint();
            }
        }
        world.checkpoint();
        let World { store, place, .. } = world;
        let sizes = store.sizes();
        println!("values of {len} bytes: {sizes:?}");
        assert!(sizes.allocated < total * 14 / 10, "{sizes:?}");
        assert!(sizes.in_use > total, "{sizes:?}");
        drop(store);
        let store = Store::open(&place, TINY).unwrap();
        let all = RangeRequest {
            key: "key".into(),
            range_end: "l".into(),
            ..Default::default()
        };
        let read = store.read().range(&all).unwrap();
        assert_eq!(read.kvs.len(), count);
        assert!(read.kvs.iter().all(|kv| kv.value == value));
    }
}

#[test]
fn a_copy_that_is_given_up_leaves_the_store_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(&dir, TINY);
    for key in 0..100 {
        world.apply(put(key, b"value"));
    }
    world.checkpoint();
    let hash = world.store.hash().unwrap();
    // Left by an attempt that the process did not live to end.
    std::fs::write(&world.arrived, b"half a file").unwrap();
    world
        .store
        .begin_rebuild(&world.arrived, &world.place)
        .unwrap();
    assert!(has_more(&world.store, 100));
    assert!(world.arrived.exists());
    let World {
        store,
        place,
        arrived,
        ..
    } = world;
    drop(store);
    assert!(!arrived.exists());
    let store = Store::open(&place, TINY).unwrap();
    assert_eq!(store.hash().unwrap(), hash);
    let step = store.step_rebuild(100).unwrap();
    assert!(matches!(step, RebuildStep::Gone), "{step:?}");
}
