//! Random writes, watchers, readers, losses and compactions against a list of all that happened.

use std::collections::BTreeMap;

use althing_api::mvccpb::Event;
use althing_api::range::KeyRange;
use althing_storage::entry::LogId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::outlet::Notice;
use super::super::watchers::WatchOptions;
use super::key_of;
use super::world::World;

/// What one watcher must be told, and how much of it was.
#[derive(Debug)]
struct Expectation {
    range: KeyRange,
    options: WatchOptions,
    next: i64,
    /// Whether the reader knows of it.
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
    /// Questions about the progress of each stream that have no answer yet.
    asked: [usize; 4],
}

impl Simulation {
    fn check(&mut self, stream: u64, notice: Notice) {
        match notice {
            Notice::Events(deliveries) => {
                for (watch_id, events) in deliveries.to {
                    // A cancelled watcher may have had events on their way.
                    if let Some(watcher) = self.open.get_mut(&(stream, watch_id)) {
                        assert!(watcher.created);
                        let events: Vec<Event> =
                            events.iter().map(|event| event.event().clone()).collect();
                        watcher.told(&self.world.events, &events);
                    }
                }
            }
            Notice::NoProgress => self.asked[stream as usize] -= 1,
            Notice::Progress { watch_id, revision } => {
                assert_eq!(watch_id, None, "nobody asks of single watchers");
                self.asked[stream as usize] -= 1;
                for ((of, _), watcher) in &self.open {
                    if *of == stream && watcher.created {
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
        self.asked[stream as usize] = 0;
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
                self.world.ask_progress(stream);
                self.asked[stream as usize] += 1;
            }
            84 => {
                let current = self.world.store.revisions().current;
                let revision = self.rng.random_range(1..=current);
                if revision > self.compacted {
                    self.compacted = revision;
                    self.world.compact(revision);
                }
            }
            85 => {
                while self
                    .world
                    .store
                    .checkpoint(LogId::MAX, 50)
                    .unwrap()
                    .remaining
                    > 0
                {}
            }
            86 => drop(self.world.store.compact_step(100).unwrap()),
            _ if self.world.fan_out.has_work() => self.world.step(),
            _ => self.world.fan_out.let_go(),
        }
    }

    /// Lets every watcher catch up; then none may have missed anything.
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
        assert_eq!(self.asked, [0; 4], "each question has an answer");
        assert_eq!(self.world.fan_out.watcher_count(), 0);
        assert_eq!(self.world.fan_out.behind_count(), 0);
    }
}

/// `SEED` replays one seed, `RUNS` sets the number of runs.
#[test]
fn no_event_is_lost_repeated_or_out_of_order_whatever_readers_do() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let single = std::env::var("SEED").is_ok();
    let runs = if single {
        1
    } else {
        number("RUNS").unwrap_or(20)
    };
    for seed in first..first + runs {
        println!("seed {seed}: replay with SEED={seed}");
        let mut simulation = Simulation {
            world: World::new(),
            rng: StdRng::seed_from_u64(seed),
            open: BTreeMap::new(),
            compacted: 0,
            watch_ids: 0,
            asked: [0; 4],
        };
        (0..4).for_each(|stream| simulation.world.open(stream));
        (0..1_500).for_each(|_| simulation.step());
        simulation.finish();
    }
}
