//! The fan-out over a real store, with readers that read when the test says so.

use std::collections::BTreeMap;
use std::task::Waker;

use althing_api::commandpb::{Command, command::Request};
use althing_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use althing_api::range::KeyRange;
use althing_storage::apply::apply;
use althing_storage::entry::LogId;
use althing_storage::store::{Committed, StoreSettings};
use prometheus::IntGauge;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::outlet::{Inlet, outlet};
use super::super::watchers::WatchOptions;
use super::*;

/// A store, its fan-out, and the streams' readers.
struct World {
    _dir: tempfile::TempDir,
    store: Store,
    fan_out: FanOut,
    entries: u64,
    inlets: BTreeMap<u64, Inlet>,
    /// Everything that ever happened.
    events: Vec<Event>,
}

/// A notice as tests compare it: the watcher, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Created(i64),
    /// Revisions of the events.
    Events(i64, Vec<i64>),
    Progress(Option<i64>, i64),
    Cancelled(i64),
    Compacted(i64, i64),
    Refused(i64),
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            record_cache_bytes: 1 << 20,
            page_cache_bytes: 1 << 20,
            pending_bytes_max: 64 << 20,
        };
        let store = Store::open(&dir.path().join("store.redb"), settings).unwrap();
        World {
            fan_out: FanOut::new(store.clone(), 1_000),
            _dir: dir,
            store,
            entries: 0,
            inlets: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Applies a command, without telling the fan-out.
    fn apply(&mut self, request: Request) -> Committed {
        self.entries += 1;
        let request = Some(request);
        let mut txn = self.store.begin();
        apply(&mut txn, Command { request }).unwrap();
        let index = self.entries;
        let committed = txn.commit(LogId { term: 1, index });
        self.events.extend(committed.events.clone());
        committed
    }

    fn tell(&mut self, committed: Committed) {
        if !committed.events.is_empty() {
            let revision = committed.revision;
            self.fan_out.committed(revision, revision, committed.events);
        }
    }

    fn put_value(&mut self, key: &str, value_bytes: usize) -> Committed {
        self.apply(Request::Put(PutRequest {
            key: key.to_owned().into(),
            value: vec![b'v'; value_bytes].into(),
            ..PutRequest::default()
        }))
    }

    fn put(&mut self, key: &str) {
        let committed = self.put_value(key, 3);
        self.tell(committed);
    }

    fn delete(&mut self, key: &str, end: &str) -> Committed {
        self.apply(Request::DeleteRange(DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..DeleteRangeRequest::default()
        }))
    }

    fn compact(&mut self, revision: i64) {
        self.apply(Request::Compaction(CompactionRequest {
            revision,
            ..CompactionRequest::default()
        }));
    }

    fn open(&mut self, id: u64) {
        let (outlet, inlet) = outlet(IntGauge::new("waiting", "waiting").unwrap());
        self.fan_out.open(id, outlet);
        self.inlets.insert(id, inlet);
    }

    fn watch(&mut self, stream: u64, watch_id: i64, key: &'static str, start_revision: i64) {
        let options = WatchOptions::default();
        self.watch_range(
            stream,
            watch_id,
            KeyRange::One(key.into()),
            start_revision,
            options,
        );
    }

    fn watch_range(
        &mut self,
        stream: u64,
        watch_id: i64,
        range: KeyRange,
        start_revision: i64,
        options: WatchOptions,
    ) {
        self.fan_out.watch(Watch {
            stream,
            watch_id,
            range,
            start_revision,
            options,
        });
    }

    fn settle(&mut self) {
        while self.fan_out.has_work() {
            self.fan_out.follow().unwrap();
            self.fan_out.step().unwrap();
        }
    }

    /// The next notice of a stream, if one is there.
    fn next(&mut self, stream: u64) -> Option<Notice> {
        let mut cx = std::task::Context::from_waker(Waker::noop());
        match self.inlets[&stream].poll_next(&mut cx) {
            std::task::Poll::Ready(Some((notice, has_room))) => {
                if has_room {
                    self.fan_out.has_room(stream);
                }
                Some(notice)
            }
            _ => None,
        }
    }

    /// Everything that waits for a stream.
    fn read(&mut self, stream: u64) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(notice) = self.next(stream) {
            told.extend(tell(notice));
        }
        told
    }
}

fn tell(notice: Notice) -> Vec<Told> {
    match notice {
        Notice::Created { watch_id, .. } => vec![Told::Created(watch_id)],
        Notice::Events(deliveries) => {
            let revisions = |events: &Events| events.iter().map(|event| event.revision()).collect();
            let to = deliveries.to.iter();
            to.map(|(watch_id, events)| Told::Events(*watch_id, revisions(events)))
                .collect()
        }
        Notice::Progress { watch_id, revision } => vec![Told::Progress(watch_id, revision)],
        Notice::Cancelled { watch_id, .. } => vec![Told::Cancelled(watch_id)],
        Notice::Compacted {
            watch_id,
            compact_revision,
        } => vec![Told::Compacted(watch_id, compact_revision)],
        Notice::Refused { watch_id, .. } => vec![Told::Refused(watch_id)],
    }
}

const STREAM_PROGRESS: ProgressOf = ProgressOf {
    stream: true,
    watchers: Vec::new(),
};

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
    // Happens while it is behind.
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
    world.fan_out.request_progress(1, STREAM_PROGRESS);
    (0..3).for_each(|_| world.put("k"));
    world.fan_out.request_progress(1, STREAM_PROGRESS);
    let expected = [
        Told::Created(0),
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
fn a_compaction_of_what_was_missed_ends_those_who_wanted_it() {
    let mut world = World::new();
    world.open(1);
    world.watch(1, 0, "k", 0);
    world.watch(1, 1, "k", 4);
    (0..4).for_each(|_| drop(world.put_value("k", 3)));
    world.compact(4);
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
fn progress_is_told_of_those_that_were_told_everything() {
    let mut world = World::new();
    world.put("k");
    world.open(1);
    world.fan_out.request_progress(1, STREAM_PROGRESS);
    world.watch(1, 0, "k", 0);
    world.watch(1, 1, "k", 2);
    world.fan_out.request_progress(1, STREAM_PROGRESS);
    let of_both = ProgressOf {
        stream: false,
        watchers: vec![0, 1, 9],
    };
    world.fan_out.request_progress(1, of_both);
    world.settle();
    world.fan_out.request_progress(1, STREAM_PROGRESS);
    let expected = [
        Told::Created(0),
        Told::Created(1),
        Told::Progress(Some(0), 2),
        Told::Events(1, vec![2]),
        Told::Progress(None, 2),
    ];
    assert_eq!(world.read(1), expected);
    // Committed, and not fanned out yet: the answer waits.
    let committed = world.put_value("k", 3);
    world.fan_out.request_progress(1, STREAM_PROGRESS);
    assert_eq!(world.read(1), []);
    world.tell(committed);
    assert_eq!(world.read(1).last(), Some(&Told::Progress(None, 3)));
}

#[test]
fn one_watcher_too_many_is_refused() {
    let mut world = World::new();
    world.fan_out = FanOut::new(world.store.clone(), 1);
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

/// What one watcher has to be told, and was.
#[derive(Debug)]
struct Expectation {
    range: KeyRange,
    options: WatchOptions,
    next: i64,
    /// The reader knows of it.
    created: bool,
}

impl Expectation {
    /// Checks events against everything that happened.
    fn told(&mut self, all: &[Event], events: &[Event]) {
        let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
        let last = revision(events.last().unwrap());
        let expected: Vec<&Event> = all
            .iter()
            .filter(|event| (self.next..=last).contains(&revision(event)))
            .filter(|event| self.range.contains(key_of(event)) && self.options.want(event))
            .collect();
        assert_eq!(events.iter().collect::<Vec<_>>(), expected, "{self:?}");
        self.next = last + 1;
    }

    fn misses_something(&self, all: &[Event], upto: i64) -> bool {
        all.iter().any(|event| {
            let revision = event.kv.as_ref().unwrap().mod_revision;
            (self.next..=upto).contains(&revision)
                && self.range.contains(key_of(event))
                && self.options.want(event)
        })
    }
}

struct Simulation {
    world: World,
    rng: StdRng,
    open: BTreeMap<(u64, i64), Expectation>,
    compacted: i64,
    watch_ids: i64,
}

impl Simulation {
    fn check(&mut self, stream: u64, notice: Notice) {
        match notice {
            Notice::Events(deliveries) => {
                for (watch_id, events) in deliveries.to {
                    // A cancelled one may have had events on their way.
                    if let Some(watcher) = self.open.get_mut(&(stream, watch_id)) {
                        assert!(watcher.created);
                        let events: Vec<Event> =
                            events.iter().map(|event| event.event().clone()).collect();
                        watcher.told(&self.world.events, &events);
                    }
                }
            }
            Notice::Progress { watch_id, revision } => {
                for ((of, id), watcher) in &self.open {
                    if *of == stream && watcher.created && watch_id.is_none_or(|asked| asked == *id)
                    {
                        let lost = watcher.misses_something(&self.world.events, revision);
                        assert!(!lost, "progress {revision} ran ahead of {watcher:?}");
                    }
                }
            }
            Notice::Compacted { watch_id, .. } => {
                if let Some(watcher) = self.open.remove(&(stream, watch_id)) {
                    assert!(watcher.next < self.compacted, "{watcher:?}");
                }
            }
            Notice::Created { watch_id, .. } => {
                if let Some(watcher) = self.open.get_mut(&(stream, watch_id)) {
                    watcher.created = true;
                }
            }
            Notice::Cancelled { .. } => {}
            Notice::Refused { .. } => panic!("there are few watchers"),
        }
    }

    fn read(&mut self, stream: u64, count: usize) {
        for _ in 0..count {
            match self.world.next(stream) {
                Some(notice) => self.check(stream, notice),
                None => return,
            }
        }
    }

    fn write(&mut self) {
        let key = ["a", "b", "c", "d"][self.rng.random_range(0..4)];
        let committed = match self.rng.random_range(0..10) {
            0..7 => {
                let bytes = self.rng.random_range(0..20_000);
                self.world.put_value(key, bytes)
            }
            7 => self.world.delete(key, ""),
            _ => self.world.delete(key, "\0"),
        };
        // One notice in ten is lost.
        if self.rng.random_range(0..10) > 0 {
            self.world.tell(committed);
        }
    }

    fn watch(&mut self) {
        let (current, rng) = (self.world.store.revisions().current, &mut self.rng);
        let start = match rng.random_range(0..3) {
            0 => 0,
            1 => rng.random_range(self.compacted.max(1)..=current),
            _ => current + rng.random_range(1..4),
        };
        let ends = ["", "\0", "b", "c", "d"];
        let key = ["a", "b", "c"][rng.random_range(0..3)];
        let range = KeyRange::new(key.into(), ends[rng.random_range(0..5)].into());
        if range.bounds().is_none() {
            return;
        }
        let options = WatchOptions {
            no_put: rng.random_bool(0.2),
            no_delete: rng.random_bool(0.2),
            prev_kv: false,
        };
        let stream = rng.random_range(0..4);
        let watch_id = self.watch_ids;
        self.watch_ids += 1;
        self.world
            .watch_range(stream, watch_id, range.clone(), start, options);
        let next = if start == 0 { current + 1 } else { start };
        let watcher = Expectation {
            range,
            options,
            next,
            created: false,
        };
        self.open.insert((stream, watch_id), watcher);
    }

    fn cancel(&mut self) {
        let position = self.rng.random_range(0..self.open.len().max(1));
        if let Some(key) = self.open.keys().nth(position).copied() {
            self.open.remove(&key);
            self.world.fan_out.cancel(key.0, key.1);
        }
    }

    fn reopen(&mut self) {
        let stream = self.rng.random_range(0..4);
        self.open.retain(|(of, _), _| *of != stream);
        self.world.fan_out.close(stream);
        self.world.open(stream);
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..45 => self.write(),
            45..55 => self.watch(),
            55..59 => self.cancel(),
            59 => self.reopen(),
            60..80 => {
                let (stream, count) = (self.rng.random_range(0..4), self.rng.random_range(0..9));
                self.read(stream, count);
            }
            80..84 => {
                let stream = self.rng.random_range(0..4);
                self.world.fan_out.request_progress(stream, STREAM_PROGRESS);
            }
            84 => {
                let current = self.world.store.revisions().current;
                let revision = self.rng.random_range(1..=current);
                if revision > self.compacted {
                    self.compacted = revision;
                    self.world.compact(revision);
                }
            }
            85 => while self.world.store.checkpoint(u64::MAX, 50).unwrap().remaining > 0 {},
            86 => drop(self.world.store.compact_step(100).unwrap()),
            _ if self.world.fan_out.has_work() => {
                self.world.fan_out.follow().unwrap();
                self.world.fan_out.step().unwrap();
            }
            _ => {}
        }
    }

    /// Lets everybody catch up; then nobody may miss anything.
    fn finish(&mut self) {
        self.world.fan_out.miss();
        loop {
            self.world.settle();
            let before = self.world.fan_out.behind_count();
            (0..4).for_each(|stream| self.read(stream, usize::MAX));
            if before == 0 && !self.world.fan_out.has_work() {
                break;
            }
        }
        for watcher in self.open.values() {
            let lost = watcher.misses_something(&self.world.events, i64::MAX);
            assert!(!lost, "{watcher:?}");
        }
        while let Some(key) = self.open.keys().next().copied() {
            self.open.remove(&key);
            self.world.fan_out.cancel(key.0, key.1);
        }
        assert_eq!(self.world.fan_out.watcher_count(), 0);
        assert_eq!(self.world.fan_out.behind_count(), 0);
    }
}

/// `ALTHING_TEST_SEED` replays one seed, `ALTHING_TEST_RUNS` sets the number of runs.
#[test]
fn no_event_is_lost_repeated_or_out_of_order_whatever_readers_do() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("ALTHING_TEST_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let single = std::env::var("ALTHING_TEST_SEED").is_ok();
    let runs = if single {
        1
    } else {
        number("ALTHING_TEST_RUNS").unwrap_or(20)
    };
    for seed in first..first + runs {
        println!("seed {seed}: replay with ALTHING_TEST_SEED={seed}");
        let mut simulation = Simulation {
            world: World::new(),
            rng: StdRng::seed_from_u64(seed),
            open: BTreeMap::new(),
            compacted: 0,
            watch_ids: 0,
        };
        (0..4).for_each(|stream| simulation.world.open(stream));
        (0..1_500).for_each(|_| simulation.step());
        simulation.finish();
    }
}
