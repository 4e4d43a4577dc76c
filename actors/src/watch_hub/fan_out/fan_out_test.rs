//! Which watcher is told what, case by case.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use althing_api::mvccpb::Event;
use althing_api::range::KeyRange;
use althing_storage::entry::LogId;
use althing_storage::store::CompactStep;
use parking_lot::Mutex;

use super::super::event::WatchedEvent;
use super::super::message::ProgressOf;
use super::super::outlet::{Inlet, Notice};
use super::super::watchers::WatchOptions;
use super::FanOut;
use super::world::{Told, World};

#[test]
fn a_watcher_is_told_what_happens_to_its_key_from_now_on() {
    let mut world = World::new();
    world.put("k");
    world.open(1);
    world.watch(1, 7, "k", 0);
    world.put("k");
    world.put("other");
    let deleted = world.delete("k", "");
    world.tell(deleted);
    let expected = [
        Told::Created(7),
        Told::Events(7, vec![3]),
        Told::Events(7, vec![5]),
    ];
    assert_eq!(world.read(1), expected);
}

#[test]
fn history_comes_first_and_nothing_comes_twice() {
    let mut world = World::new();
    (0..3).for_each(|_| world.put("k"));
    world.open(1);
    world.watch(1, 0, "k", 3);
    assert_eq!(world.fan_out.behind_count(), 1);
    // Written while the watcher is behind.
    world.put("k");
    world.settle();
    world.put("k");
    let expected = [
        Told::Created(0),
        Told::Events(0, vec![3, 4, 5]),
        Told::Events(0, vec![6]),
    ];
    assert_eq!(world.read(1), expected);
    assert_eq!(world.fan_out.behind_count(), 0);
}

#[test]
fn a_start_in_the_future_is_waited_for() {
    let mut world = World::new();
    world.open(1);
    world.watch(1, 0, "k", 4);
    world.ask_progress(1);
    (0..3).for_each(|_| world.put("k"));
    world.ask_progress(1);
    let expected = [
        Told::Created(0),
        Told::NoProgress,
        Told::Events(0, vec![4]),
        Told::Progress(None, 4),
    ];
    assert_eq!(world.read(1), expected, "no progress before the start");
}

#[test]
fn a_reader_that_does_not_read_costs_a_bound_and_holds_up_nobody() {
    let mut world = World::new();
    world.open(1);
    world.open(2);
    world.watch(1, 0, "k", 0);
    world.watch(2, 0, "k", 0);
    let mut seen = Vec::new();
    for _ in 0..200 {
        let committed = world.put_value("k", 10_000);
        world.tell(committed);
        seen.extend(world.read(2));
    }
    let revisions = |told: &[Told]| -> Vec<i64> {
        let events = told.iter().map(|told| match told {
            Told::Events(_, revisions) => revisions.clone(),
            _ => Vec::new(),
        });
        events.flatten().collect()
    };
    let all: Vec<i64> = (2..202).collect();
    assert_eq!(revisions(&seen), all);
    assert_eq!(world.fan_out.behind_count(), 1);
    let first = world.read(1);
    assert!(first.len() < 40, "some 256 KiB: {}", first.len());
    let mut late = first;
    for _ in 0..20 {
        world.settle();
        late.extend(world.read(1));
    }
    assert_eq!(revisions(&late), all);
    assert_eq!(world.fan_out.behind_count(), 0);
}

#[test]
fn what_the_fan_out_was_not_told_it_reads() {
    let mut world = World::new();
    world.open(1);
    world.watch(1, 0, "k", 0);
    world.put("k");
    drop(world.put_value("k", 3));
    drop(world.put_value("other", 3));
    world.put("k");
    assert!(world.fan_out.has_work(), "it noticed the gap");
    world.settle();
    let told = world.read(1);
    assert_eq!(
        told[1..],
        [Told::Events(0, vec![2]), Told::Events(0, vec![3, 5])]
    );
}

#[test]
fn a_watcher_behind_a_compaction_is_ended_and_the_others_go_on() {
    let mut world = World::new();
    (0..5).for_each(|_| world.put("k"));
    world.compact(4);
    world.open(1);
    world.watch(1, 1, "k", 3);
    world.watch(1, 2, "k", 4);
    world.settle();
    world.put("k");
    let expected = [
        Told::Created(1),
        Told::Created(2),
        Told::Compacted(1, 4),
        Told::Events(2, vec![4, 5, 6]),
        Told::Events(2, vec![7]),
    ];
    assert_eq!(world.read(1), expected);
    assert_eq!(world.fan_out.watcher_count(), 1);
}

#[test]
fn a_compaction_takes_nothing_from_who_was_only_not_told_yet() {
    let mut world = World::new();
    world.open(1);
    world.watch(1, 0, "k", 0);
    world.watch(1, 1, "k", 4);
    world.watch(1, 2, "other", 0);
    (0..2).for_each(|_| drop(world.put_value("k", 3)));
    world.compact(3);
    (0..2).for_each(|_| drop(world.put_value("k", 3)));
    world.compact(5);
    world.store.checkpoint(LogId::MAX, 50).unwrap();
    assert_eq!(world.store.compact_step(50).unwrap(), CompactStep::Waits);
    // As in etcd, it is too late to ask for what is compacted.
    world.watch(1, 3, "k", 4);
    world.fan_out.miss();
    world.settle();
    let expected = [
        Told::Created(0),
        Told::Created(1),
        Told::Created(2),
        Told::Created(3),
        Told::Events(0, vec![2, 3, 4, 5]),
        Told::Events(1, vec![4, 5]),
        Told::Compacted(3, 5),
    ];
    assert_eq!(world.read(1), expected);
    while world.store.compact_step(50).unwrap() == CompactStep::More {}
    assert_eq!(
        world.store.compact_step(50).unwrap(),
        CompactStep::Finished(5)
    );
}

#[test]
fn what_another_members_state_lacks_ends_those_who_wanted_it() {
    let mut world = World::new();
    world.open(1);
    world.watch(1, 0, "k", 0);
    world.watch(1, 1, "k", 4);
    (0..4).for_each(|_| drop(world.put_value("k", 3)));
    world.lose(4);
    world.fan_out.miss();
    world.settle();
    let told = world.read(1);
    assert!(told.contains(&Told::Compacted(0, 4)), "{told:?}");
    assert!(told.contains(&Told::Events(1, vec![4, 5])), "{told:?}");
}

#[test]
fn the_former_record_comes_with_changes_of_what_was_there() {
    let mut world = World::new();
    world.open(1);
    let options = WatchOptions {
        prev_kv: true,
        ..WatchOptions::default()
    };
    world.watch_range(1, 0, KeyRange::One("k".into()), 0, options);
    world.put("k");
    world.put("k");
    let deleted = world.delete("k", "");
    world.tell(deleted);
    world.put("k");
    drop(world.next(1));
    let mut former = Vec::new();
    while let Some(Notice::Events(deliveries)) = world.next(1) {
        let event = deliveries.to[0].1[0].event().clone();
        former.push(event.prev_kv.map(|kv| kv.mod_revision));
    }
    assert_eq!(former, [None, Some(2), Some(3), None]);
}

#[test]
fn a_compaction_takes_no_former_record_from_who_was_only_not_told_yet() {
    for way in ["told", "missed"] {
        let mut world = World::new();
        world.open(1);
        let options = WatchOptions {
            prev_kv: true,
            ..WatchOptions::default()
        };
        world.watch_range(1, 0, KeyRange::One("k".into()), 0, options);
        let committed: Vec<_> = (0..4).map(|_| world.put_value("k", 3)).collect();
        world.compact(5);
        match way {
            "told" => committed.into_iter().for_each(|one| world.tell(one)),
            _ => world.fan_out.miss(),
        }
        world.settle();
        let mut former = Vec::new();
        while let Some(notice) = world.next(1) {
            if let Notice::Events(deliveries) = notice {
                let events = deliveries.to[0].1.iter();
                former.extend(events.map(|event| {
                    let former = event.event().prev_kv.as_ref();
                    former.map(|kv| kv.mod_revision)
                }));
            }
        }
        assert_eq!(former, [None, Some(2), Some(3), Some(4)], "{way}");
    }
}

/// The bytes of former records in a notice, and the revisions of its events.
fn former_of(notice: Notice) -> (usize, Vec<i64>) {
    let Notice::Events(deliveries) = notice else {
        return (0, Vec::new());
    };
    let events = deliveries.to[0].1.iter();
    let former = |event: &Arc<WatchedEvent>| {
        let former = event.event().prev_kv.as_ref();
        former.map_or(0, |kv| kv.value.len())
    };
    (
        events.clone().map(former).sum(),
        events.map(|event| event.revision()).collect(),
    )
}

/// Fifty keys with values of 100 KiB, and their deletions from revision 52 on, ten in the first.
/// Returns the deletions.
fn delete_large_values(world: &mut World) -> Vec<Event> {
    let first = world.delete("k00", "k10");
    let mut events = first.events;
    for number in 10..50 {
        events.extend(world.delete(&format!("k{number}"), "").events);
    }
    events
}

#[test]
fn former_records_come_in_slices_however_the_hub_hears_of_the_deletions() {
    for way in ["told", "missed", "behind"] {
        let mut world = World::new();
        for number in 0..50 {
            drop(world.put_value(&format!("k{number:02}"), 100 * 1024));
        }
        world.open(1);
        let options = WatchOptions {
            prev_kv: true,
            ..WatchOptions::default()
        };
        let range = || KeyRange::new("k".into(), "l".into());
        if way != "behind" {
            world.watch_range(1, 0, range(), 0, options);
        }
        let deletions = delete_large_values(&mut world);
        match way {
            "told" => world.fan_out.committed(52, 92, deletions),
            "missed" => world.fan_out.miss(),
            _ => world.watch_range(1, 0, range(), 52, options),
        }
        let (mut seen, mut notices) = (Vec::new(), 0);
        loop {
            while let Some(notice) = world.next(1) {
                let (bytes, revisions) = former_of(notice);
                assert!(bytes <= 1_000 * 1024, "{way}: {bytes} of {revisions:?}");
                notices += usize::from(!revisions.is_empty());
                seen.extend(revisions);
            }
            if !world.fan_out.has_work() {
                break;
            }
            world.step();
        }
        let expected = [52; 10].into_iter().chain(53..93);
        assert!(seen.iter().copied().eq(expected), "{way}: {seen:?}");
        assert_eq!(notices, 8, "{way}");
    }
}

#[test]
fn progress_is_told_of_those_that_were_told_everything() {
    let mut world = World::new();
    world.put("k");
    world.open(1);
    world.ask_progress(1);
    world.watch(1, 0, "k", 0);
    world.watch(1, 1, "k", 2);
    world.ask_progress(1);
    let of_both = ProgressOf::Watchers(vec![0, 1, 9]);
    world.fan_out.request_progress(1, of_both);
    world.settle();
    world.ask_progress(1);
    let expected = [
        Told::NoProgress,
        Told::Created(0),
        Told::Created(1),
        Told::NoProgress,
        Told::Progress(Some(0), 2),
        Told::Events(1, vec![2]),
        Told::Progress(None, 2),
    ];
    assert_eq!(world.read(1), expected);
    // Committed but not fanned out yet: the answer waits.
    let committed = world.put_value("k", 3);
    world.ask_progress(1);
    assert_eq!(world.read(1), []);
    world.tell(committed);
    assert_eq!(world.read(1).last(), Some(&Told::Progress(None, 3)));
}

#[test]
fn each_question_about_progress_has_an_answer_of_its_own() {
    let mut world = World::new();
    world.open(1);
    world.watch(1, 0, "k", 0);
    let first = world.put_value("other", 3);
    world.ask_progress(1);
    let second = world.put_value("other", 3);
    (0..2).for_each(|_| world.ask_progress(1));
    assert_eq!(world.read(1), [Told::Created(0)]);
    world.tell(first);
    assert_eq!(world.read(1), [Told::Progress(None, 2)]);
    world.tell(second);
    let answer = Told::Progress(None, 3);
    assert_eq!(world.read(1), [answer.clone(), answer]);
    // Nothing more is fanned out once the last watcher goes.
    drop(world.put_value("other", 3));
    world.ask_progress(1);
    world.fan_out.cancel(1, 0);
    world.ask_progress(1);
    let expected = [Told::NoProgress, Told::Cancelled(0), Told::NoProgress];
    assert_eq!(world.read(1), expected);
}

#[test]
fn progress_does_not_go_back_behind_what_was_told_while_catching_up() {
    let mut world = World::new();
    world.put("k");
    world.open(1);
    world.watch(1, 0, "k", 0);
    // Fanned out late, while the other watcher reads all of it from history.
    let asked_at = world.put_value("k", 3);
    world.ask_progress(1);
    let last = world.put_value("k", 3);
    world.watch(1, 1, "k", 2);
    world.settle();
    world.tell(asked_at);
    world.tell(last);
    let told = world.read(1);
    let caught_up = told
        .iter()
        .position(|told| *told == Told::Events(1, vec![2, 3, 4]));
    assert!(caught_up.is_some(), "{told:?}");
    assert_eq!(told.last(), Some(&Told::Progress(None, 4)), "{told:?}");
    let progress = told
        .iter()
        .filter(|told| matches!(told, Told::Progress(..)));
    assert_eq!(progress.count(), 1, "{told:?}");
}

#[test]
fn one_watcher_too_many_is_refused() {
    let mut world = World::new();
    world.fan_out = FanOut::new(world.store.clone(), Arc::default(), 1);
    world.open(1);
    world.watch(1, 0, "k", 0);
    world.watch(1, 1, "k", 0);
    world.fan_out.cancel(1, 0);
    world.fan_out.cancel(1, 0);
    world.watch(1, 1, "k", 0);
    let expected = [
        Told::Created(0),
        Told::Refused(1),
        Told::Cancelled(0),
        Told::Created(1),
    ];
    assert_eq!(world.read(1), expected);
}

/// Checks, when it is woken, whether another stream can read by then.
struct Reader {
    other: Inlet,
    saw: Mutex<Vec<bool>>,
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        let mut cx = Context::from_waker(Waker::noop());
        let is_there = self.other.poll_next(&mut cx).is_ready();
        self.saw.lock().push(is_there);
    }
}

#[test]
fn readers_are_woken_when_each_has_its_part_of_a_batch() {
    let mut world = World::new();
    for stream in [1, 2] {
        world.open(stream);
        world.watch(stream, 0, "k", 0);
        assert_eq!(world.read(stream), [Told::Created(0)]);
    }
    let reader = Arc::new(Reader {
        other: world.inlets.remove(&2).unwrap(),
        saw: Mutex::default(),
    });
    let waker = Waker::from(Arc::clone(&reader));
    let mut cx = Context::from_waker(&waker);
    assert!(world.inlets[&1].poll_next(&mut cx).is_pending());
    world.put("k");
    assert_eq!(*reader.saw.lock(), [true]);
    assert_eq!(world.read(1), [Told::Events(0, vec![2])]);
}
