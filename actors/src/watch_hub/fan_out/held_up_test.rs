//! Watchers that want a former record which cannot be read, and their neighbours.

use althing_api::error::Error;
use althing_api::range::KeyRange;
use althing_storage::entry::LogId;

use super::super::watchers::WatchOptions;
use super::world::{Told, World};

const FORMER: WatchOptions = WatchOptions {
    no_put: false,
    no_delete: false,
    prev_kv: true,
};

/// A world whose record of "k", of revision 2, cannot be read.
fn damaged() -> World {
    let mut world = World::new();
    // Neither in the index nor in redb's cache.
    drop(world.put_value("k", 8 << 20));
    world.store.checkpoint(LogId::MAX, 50).unwrap();
    world.damage_values();
    world
}

#[test]
fn a_former_record_that_cannot_be_read_holds_up_only_those_who_want_it() {
    let mut world = damaged();
    (1..=3).for_each(|stream| world.open(stream));
    world.watch_range(1, 0, KeyRange::One("k".into()), 0, FORMER);
    world.watch(1, 1, "k", 0);
    world.watch_range(2, 0, KeyRange::One("other".into()), 0, FORMER);
    world.put("k");
    world.put("other");
    // Behind as well, but it wants no former record.
    world.watch(3, 0, "other", 4);
    for _ in 0..3 {
        world.settle();
        assert_eq!(world.fan_out.held_up(), Some(Error::Corrupt));
        world.fan_out.read_again();
    }
    let first = [Told::Created(0), Told::Created(1), Told::Events(1, vec![3])];
    assert_eq!(world.read(1), first);
    for stream in [2, 3] {
        let told = [Told::Created(0), Told::Events(0, vec![4])];
        assert_eq!(world.read(stream), told);
    }
    // Nobody expects a record that is compacted.
    world.compact(3);
    world.settle();
    assert_eq!(world.read(1), [Told::Events(0, vec![3])]);
    assert_eq!(world.fan_out.held_up(), None);
}

#[test]
fn others_of_a_stream_catch_up_far_beyond_what_holds_one_up() {
    let mut world = damaged();
    world.put("k");
    (0..2_500).for_each(|_| world.put("other"));
    world.open(1);
    world.watch_range(1, 0, KeyRange::One("k".into()), 3, FORMER);
    world.watch(1, 1, "other", 3);
    // Of the same group as the first, but beyond what cannot be read.
    world.watch_range(1, 2, KeyRange::One("k".into()), 4, FORMER);
    let mut seen = Vec::new();
    loop {
        for told in world.read(1) {
            if let Told::Events(watcher, revisions) = told {
                assert_eq!(watcher, 1);
                seen.extend(revisions);
            }
        }
        if !world.fan_out.has_work() {
            break;
        }
        world.step();
    }
    assert!(seen.iter().copied().eq(4..2_504), "{seen:?}");
    assert_eq!(world.fan_out.behind_count(), 1, "the one that is held up");
}
