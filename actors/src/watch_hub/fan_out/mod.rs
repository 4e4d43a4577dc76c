//! What the hub decides: which watcher is told what, and when. Pure but for the store's history.
//!
//! ```text
//!                 no room in its stream's queue, or a former record that it
//!                 wants cannot be read: behind from that revision
//!   synced <------------------------------------------------------> behind
//!     |  every revision that is fanned out       slices of history, |
//!     |                                          one pass for many  |
//!     '--> its stream's queue <-------------------------------------'--> compacted: ended
//! ```

mod catch_up;
mod collect;
#[cfg(test)]
mod fan_out_test;
#[cfg(test)]
mod held_up_test;
mod progress;
#[cfg(test)]
mod simulation_test;
#[cfg(test)]
mod world;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use althing_api::error::Error;
use althing_api::mvccpb::Event;
use althing_storage::store::{SliceLimits, Store};
use slab::Slab;

use self::collect::Collector;
use self::progress::Question;
use super::event::Events;
use super::feed::Attention;
use super::message::Watch;
use super::outlet::{Deliveries, Notice, Outlet};
use super::watchers::Watchers;

/// How much history is read at once: what a watcher behind may get in one response, as in etcd. Of
/// events with their former records it is less, see `collect`.
const SLICE: SliceLimits = SliceLimits {
    changes_max: 1_000,
    bytes_max: 1 << 20,
};
/// Deliveries of a batch before readers are told of them: enough that a connection wakes up for all
/// its streams, and few enough that it works while the rest of a large batch is delivered.
const DELIVERIES_UNTOLD_MAX: usize = 64;

/// One watch stream.
#[derive(Debug)]
struct Stream {
    outlet: Outlet,
    /// Its watchers by their ids.
    watchers: HashMap<i64, u32>,
    behind: Vec<u32>,
    /// Whether its queue was full; its reader will say when there is room.
    is_blocked: bool,
    /// Whether it is in the line of those that catch up.
    is_queued: bool,
    /// Questions asked while revisions were still to be fanned out, oldest first.
    questions: Vec<Question>,
}

/// The watchers, their streams, and how far events were fanned out.
#[derive(Debug)]
pub(super) struct FanOut {
    store: Store,
    attention: Arc<Attention>,
    watchers_max: usize,
    watchers: Watchers,
    streams: Slab<Stream>,
    by_id: HashMap<u64, u32>,
    /// Every revision up to here was fanned out. Meaningless while there is no watcher.
    current: i64,
    /// Whether revisions above `current` were committed that no notice will tell of.
    has_missed: bool,
    /// Streams with room and with watchers behind, each once.
    queue: VecDeque<u32>,
    behind: usize,
    /// Why some of those behind are held up, and so not waited for in the queue.
    held_up: Option<Error>,
    /// Streams with questions, each once.
    awaiting_progress: Vec<u32>,
    /// Events delivered since the last call of `take_delivered`.
    delivered: u64,
}

impl FanOut {
    pub(super) fn new(store: Store, attention: Arc<Attention>, watchers_max: usize) -> FanOut {
        FanOut {
            store,
            attention,
            watchers_max,
            watchers: Watchers::default(),
            streams: Slab::new(),
            by_id: HashMap::new(),
            current: 0,
            has_missed: false,
            queue: VecDeque::new(),
            behind: 0,
            held_up: None,
            awaiting_progress: Vec::new(),
            delivered: 0,
        }
    }

    pub(super) fn watcher_count(&self) -> usize {
        self.watchers.len()
    }

    pub(super) fn behind_count(&self) -> usize {
        self.behind
    }

    pub(super) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Events delivered since the last call.
    pub(super) fn take_delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }

    pub(super) fn open(&mut self, id: u64, outlet: Outlet) {
        let stream = self.streams.insert(Stream {
            outlet,
            watchers: HashMap::new(),
            behind: Vec::new(),
            is_blocked: false,
            is_queued: false,
            questions: Vec::new(),
        });
        self.by_id.insert(id, stream as u32);
    }

    pub(super) fn close(&mut self, id: u64) {
        let Some(number) = self.by_id.remove(&id) else {
            return;
        };
        let stream = &mut self.streams[number as usize];
        self.behind -= stream.behind.len();
        stream.behind.clear();
        for watcher in std::mem::take(&mut stream.watchers).into_values() {
            if !self.watchers.get(watcher).is_behind {
                self.watchers.unsync(watcher);
            }
            self.watchers.remove(watcher);
        }
        self.queue.retain(|queued| *queued != number);
        self.awaiting_progress.retain(|waiting| *waiting != number);
        self.streams.remove(number as usize);
    }

    /// Adds a watcher. Before the first one is added, the Applier must know that somebody watches.
    pub(super) fn watch(&mut self, watch: Watch) {
        let Some(number) = self.by_id.get(&watch.stream).copied() else {
            return;
        };
        let revisions = self.store.revisions();
        let revision = revisions.current;
        if self.watchers.len() == 0 {
            self.current = revision;
        }
        let watch_id = watch.watch_id;
        let stream = &mut self.streams[number as usize];
        if self.watchers.len() >= self.watchers_max {
            stream.outlet.push(Notice::Refused { watch_id, revision });
            return;
        }
        let next = match watch.start_revision {
            0 => revision + 1,
            start => start,
        };
        let of = (number, watch_id);
        let watcher = self.watchers.add(&watch.range, watch.options, of, next);
        stream.watchers.insert(watch_id, watcher);
        stream.outlet.push(Notice::Created { watch_id, revision });
        // What is held for a hub that lags is not for clients that ask for compacted revisions.
        if next > self.current && next >= revisions.compacted {
            self.watchers.get_mut(watcher).awaits_start = watch.start_revision > revision;
            self.watchers.sync(watcher);
        } else {
            self.fall_behind(watcher, next);
        }
    }

    pub(super) fn cancel(&mut self, id: u64, watch_id: i64) {
        let Some(number) = self.by_id.get(&id).copied() else {
            return;
        };
        if self.forget(number, watch_id) {
            let revision = self.store.revisions().current;
            let stream = &self.streams[number as usize];
            stream.outlet.push(Notice::Cancelled { watch_id, revision });
        }
    }

    fn forget(&mut self, number: u32, watch_id: i64) -> bool {
        let stream = &mut self.streams[number as usize];
        let Some(watcher) = stream.watchers.remove(&watch_id) else {
            return false;
        };
        if self.watchers.get(watcher).is_behind {
            self.leave_behind(watcher)
        } else {
            self.watchers.unsync(watcher)
        }
        self.watchers.remove(watcher);
        if self.streams[number as usize].watchers.is_empty() {
            self.answer_progress();
        }
        true
    }

    /// Puts a watcher that is in no list among those that are behind.
    fn fall_behind(&mut self, watcher: u32, next: i64) {
        let entry = self.watchers.get_mut(watcher);
        let number = entry.stream;
        let stream = &mut self.streams[number as usize];
        (entry.is_behind, entry.next, entry.awaits_start) = (true, next, false);
        entry.is_held_up = false;
        entry.position = stream.behind.len() as u32;
        stream.behind.push(watcher);
        self.behind += 1;
        self.line_up(number);
    }

    fn leave_behind(&mut self, watcher: u32) {
        let entry = self.watchers.get(watcher);
        let position = entry.position;
        let behind = &mut self.streams[entry.stream as usize].behind;
        behind.swap_remove(position as usize);
        if let Some(moved) = behind.get(position as usize) {
            self.watchers.get_mut(*moved).position = position;
        }
        self.behind -= 1;
    }

    fn line_up(&mut self, number: u32) {
        let stream = &mut self.streams[number as usize];
        if !stream.is_queued && !stream.is_blocked && !stream.behind.is_empty() {
            stream.is_queued = true;
            self.queue.push_back(number);
        }
    }

    /// Notes that a stream's queue has room again.
    pub(super) fn has_room(&mut self, id: u64) {
        if let Some(number) = self.by_id.get(&id).copied() {
            self.streams[number as usize].is_blocked = false;
            self.line_up(number);
        }
    }

    /// Notes that revisions were committed that the fan-out was not told of: they must be read.
    pub(super) fn miss(&mut self) {
        self.has_missed |= self.watchers.len() > 0;
    }

    /// Whether [`FanOut::follow`] or [`FanOut::step`] has something to do.
    pub(super) fn has_work(&self) -> bool {
        self.has_missed || !self.queue.is_empty()
    }

    /// Fans out what was committed; `first..=last` are the revisions of `events`. If earlier
    /// revisions were missed, all of this is left to be read.
    pub(super) fn committed(&mut self, first: i64, last: i64, mut events: Vec<Event>) {
        if self.watchers.len() == 0 || last <= self.current {
            return;
        }
        if first > self.current + 1 {
            self.miss();
            return;
        }
        if first <= self.current {
            events.retain(|event| revision_of(event) > self.current);
        }
        self.current = self.fan_out(events, last);
        if self.current < last {
            self.miss();
        }
        self.answer_progress();
    }

    /// Fans out a slice of what was missed, if anything was. Errors: the store cannot be read.
    pub(super) fn follow(&mut self) -> Result<(), Error> {
        let view = self.store.read();
        if self.watchers.len() == 0 || self.current >= view.revision() {
            self.has_missed = false;
        }
        if !self.has_missed {
            return Ok(());
        }
        let is_watched = |key: &[u8]| {
            let mut is_watched = false;
            self.watchers.groups_of(key, |group| {
                is_watched |= !self.watchers.synced(group).is_empty()
            });
            is_watched
        };
        let next = self.current + 1;
        let slice = match view.history(next, SLICE, is_watched) {
            Err(Error::Compacted) => match self.attention.held() {
                Some(held) => held.history(next, SLICE, is_watched),
                None => Err(Error::Compacted),
            },
            read => read,
        };
        match slice {
            Ok(slice) => {
                self.current = self.fan_out(slice.events, slice.next - 1);
            }
            Err(Error::Compacted) => {
                // Another member's state came in between. Watchers that the fan-out tells nothing
                // any more learn it while catching up.
                let mut synced: Vec<u32> = self.watchers.numbers().collect();
                synced.retain(|watcher| !self.watchers.get(*watcher).is_behind);
                self.leave_to_history(synced, view.revision());
                self.current = view.revision();
            }
            Err(error) => return Err(error),
        }
        self.answer_progress();
        Ok(())
    }

    /// Lets go of history that was held for what is fanned out by now.
    pub(super) fn let_go(&self) {
        self.attention.let_go(self.current);
    }

    /// Tells the synced watchers of events that follow what they were last told, up to revision
    /// `last`. Returns how far it came: former records may be too many for one pass.
    fn fan_out(&mut self, events: Vec<Event>, mut last: i64) -> i64 {
        let mut collector = Collector::new(&self.store, Some(&self.attention));
        let mut groups = Vec::new();
        for event in events {
            let revision = revision_of(&event);
            if collector.ends_before(revision) {
                last = revision - 1;
                break;
            }
            groups.clear();
            self.watchers.groups_of(key_of(&event), |group| {
                let options = self.watchers.options(group);
                if options.want(&event) && !self.watchers.synced(group).is_empty() {
                    groups.push((group, options.prev_kv));
                }
            });
            collector.add(event, &groups);
        }
        let by_group = collector.finish();
        let mut told: Vec<(u32, u32, Events)> = Vec::new();
        for (group, events) in by_group.iter() {
            for watcher in self.watchers.synced(group) {
                let entry = self.watchers.get(*watcher);
                let events = from(events, entry.next);
                told.extend(events.map(|events| (entry.stream, *watcher, events)));
            }
        }
        told.sort_by_key(|(stream, ..)| *stream);
        self.deliver_all(told);
        for group in by_group.held_up().keys() {
            self.leave_to_history(self.watchers.synced(*group).to_vec(), last);
        }
        last
    }

    /// Lets synced watchers read from history what comes up to revision `last`, and was not told.
    fn leave_to_history(&mut self, watchers: Vec<u32>, last: i64) {
        for watcher in watchers {
            let next = self.watchers.get(watcher).next.max(self.current + 1);
            if next <= last {
                self.watchers.unsync(watcher);
                self.fall_behind(watcher, next);
            }
        }
    }

    /// Delivers to one stream after the other. Streams of one connection mostly follow each other,
    /// and it is woken once there is something for all of them: then it sends in one write what
    /// would otherwise be a write for each.
    fn deliver_all(&mut self, told: Vec<(u32, u32, Events)>) {
        let mut told = told.into_iter().peekable();
        let mut readers = Readers::default();
        let mut delivered = 0;
        while let Some((number, watcher, events)) = told.next() {
            let mut deliveries = vec![(watcher, events)];
            while let Some((_, watcher, events)) = told.next_if(|(next, ..)| *next == number) {
                deliveries.push((watcher, events));
            }
            delivered += deliveries.len();
            readers.0.extend(self.deliver(number, deliveries));
            if delivered >= DELIVERIES_UNTOLD_MAX {
                delivered = 0;
                readers.wake();
            }
        }
    }

    /// Gives a stream what its watchers are told. Returns its reader if that has to be woken.
    fn deliver(&mut self, number: u32, deliveries: Vec<(u32, Events)>) -> Option<Waker> {
        let stream = &mut self.streams[number as usize];
        stream.is_blocked = stream.is_blocked || !stream.outlet.has_room();
        if stream.is_blocked {
            for (watcher, events) in deliveries {
                self.watchers.unsync(watcher);
                self.fall_behind(watcher, events[0].revision());
            }
            return None;
        }
        let to = self.addressed(deliveries);
        let deliveries = Deliveries { revision: None, to };
        let stream = &self.streams[number as usize];
        stream.outlet.put(Notice::Events(deliveries))
    }

    fn addressed(&mut self, deliveries: Vec<(u32, Events)>) -> Vec<(i64, Events)> {
        let deliveries = deliveries.into_iter();
        let to: Vec<(i64, Events)> = deliveries
            .map(|(watcher, events)| (self.watchers.get(watcher).watch_id, events))
            .collect();
        self.delivered += to
            .iter()
            .map(|(_, events)| events.len() as u64)
            .sum::<u64>();
        to
    }
}

/// Readers to be woken. They are woken even if the hub dies first.
#[derive(Debug, Default)]
struct Readers(Vec<Waker>);

impl Readers {
    fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.wake();
    }
}

fn key_of(event: &Event) -> &[u8] {
    event.kv.as_ref().map_or(&[], |kv| &kv.key)
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// The events of `next` and later revisions; `None` if there are none.
fn from(events: &Events, next: i64) -> Option<Events> {
    let skipped = events.partition_point(|event| event.revision() < next);
    match &events[skipped..] {
        [] => None,
        _ if skipped == 0 => Some(Arc::clone(events)),
        rest => Some(rest.into()),
    }
}
