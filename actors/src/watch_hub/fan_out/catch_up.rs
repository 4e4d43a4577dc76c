//! Watchers that are behind catch up: one slice of history at a time, read once for all it
//! concerns.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use althing_api::error::Error;
use althing_storage::store::{HistorySlice, ReadView};

use super::super::outlet::{Deliveries, Notice};
use super::collect::{ByGroup, Collector};
use super::{FanOut, SLICE, from, revision_of};

impl FanOut {
    /// Lets one stream catch up by one slice of history, and with it every watcher that the slice
    /// concerns. Those who want a former record that cannot be read are held up, and out of the
    /// way of all others. Errors: history cannot be read.
    pub(in crate::watch_hub) fn step(&mut self) -> Result<(), Error> {
        self.clear_queue();
        let Some(first) = self.queue.pop_front() else {
            return Ok(());
        };
        // Last in line from now on, so that a stream far behind delays no others.
        self.queue.push_back(first);
        let view = self.store.read();
        self.end_compacted(view.compacted_revision());
        let behind = self.streams[first as usize].behind.iter();
        let behind = behind.map(|watcher| self.watchers.get(*watcher));
        let next = behind.filter(|entry| !entry.is_held_up);
        let next = next.map(|entry| entry.next);
        if let Some(start) = next.min() {
            let (slice, by_group) = match self.read(&view, start) {
                // A compaction came in between: the next step sees it.
                Err(Error::Compacted) => return Ok(()),
                read => read?,
            };
            for number in self.queue.clone() {
                self.catch_up(number, &by_group, start..slice.next, view.revision());
            }
        }
        self.clear_queue();
        Ok(())
    }

    /// Why some watchers are held up, if any are.
    pub(in crate::watch_hub) fn held_up(&self) -> Option<Error> {
        self.held_up
    }

    /// Lets those who were held up try again.
    pub(in crate::watch_hub) fn read_again(&mut self) {
        self.held_up = None;
        let mut streams = Vec::new();
        for (number, stream) in &self.streams {
            for watcher in &stream.behind {
                let entry = self.watchers.get_mut(*watcher);
                if std::mem::take(&mut entry.is_held_up) {
                    streams.push(number as u32);
                }
            }
        }
        for number in streams {
            self.line_up(number);
        }
    }

    /// Removes the streams that have nothing to catch up with, or no room for it.
    fn clear_queue(&mut self) {
        let (streams, watchers) = (&mut self.streams, &self.watchers);
        self.queue.retain(|number| {
            let stream = &mut streams[*number as usize];
            let mut behind = stream.behind.iter();
            let goes_on = behind.any(|watcher| !watchers.get(*watcher).is_held_up);
            stream.is_queued = goes_on && !stream.is_blocked;
            stream.is_queued
        });
    }

    /// Ends the watchers behind that still want compacted revisions.
    fn end_compacted(&mut self, compact_revision: i64) {
        for number in self.queue.clone() {
            let behind = self.streams[number as usize].behind.iter();
            let lost: Vec<i64> = behind
                .map(|watcher| self.watchers.get(*watcher))
                .filter(|entry| entry.next < compact_revision)
                .map(|entry| entry.watch_id)
                .collect();
            for watch_id in lost {
                self.forget(number, watch_id);
                let notice = Notice::Compacted {
                    watch_id,
                    compact_revision,
                };
                self.streams[number as usize].outlet.push(notice);
            }
        }
    }

    /// Reads a slice of what the watchers in line want.
    fn read(&self, view: &ReadView, start: i64) -> Result<(HistorySlice, ByGroup), Error> {
        let mut active: HashSet<u32> = HashSet::new();
        for number in &self.queue {
            let behind = self.streams[*number as usize].behind.iter();
            let behind = behind.map(|watcher| self.watchers.get(*watcher));
            let behind = behind.filter(|entry| !entry.is_held_up);
            active.extend(behind.map(|entry| entry.group));
        }
        let active_groups = |key: &[u8]| {
            let mut groups = Vec::new();
            self.watchers.groups_of(key, |group| {
                if active.contains(&group) {
                    groups.push(group);
                }
            });
            groups
        };
        let mut wanted = VecDeque::new();
        let mut slice = view.history(start, SLICE, |key| {
            let groups = active_groups(key);
            let is_wanted = !groups.is_empty();
            if is_wanted {
                wanted.push_back(groups);
            }
            is_wanted
        })?;
        let mut collector = Collector::new(&self.store, None);
        for event in std::mem::take(&mut slice.events) {
            let revision = revision_of(&event);
            if collector.ends_before(revision) {
                slice.next = revision;
                break;
            }
            let groups = wanted.pop_front().expect("one for each wanted event");
            let options = |group: u32| (group, self.watchers.options(group));
            let groups = groups.into_iter().map(options);
            let groups: Vec<(u32, bool)> = groups
                .filter(|(_, options)| options.want(&event))
                .map(|(group, options)| (group, options.prev_kv))
                .collect();
            collector.add(event, &groups);
        }
        Ok((slice, collector.finish()))
    }

    /// Gives a stream's watchers that are behind what a slice has for them.
    fn catch_up(&mut self, number: u32, by_group: &ByGroup, read: Range<i64>, revision: i64) {
        let mut deliveries = Vec::new();
        for watcher in self.streams[number as usize].behind.clone() {
            let entry = self.watchers.get_mut(watcher);
            if entry.is_held_up || !read.contains(&entry.next) {
                continue;
            }
            if let Some(held_up) = by_group.held_up().get(&entry.group) {
                // Of those that are further, the next step may tell.
                if entry.next <= held_up.revision {
                    entry.is_held_up = true;
                    self.held_up = Some(held_up.error);
                }
                continue;
            }
            if let Some(events) = by_group.get(entry.group) {
                deliveries.extend(from(events, entry.next).map(|events| (watcher, events)));
            }
            entry.next = read.end;
            if read.end > self.current {
                self.leave_behind(watcher);
                self.watchers.sync(watcher);
            }
        }
        if deliveries.is_empty() {
            return;
        }
        let deliveries = Deliveries {
            revision: Some(revision),
            to: self.addressed(deliveries),
        };
        let stream = &mut self.streams[number as usize];
        stream.outlet.push(Notice::Events(deliveries));
        stream.is_blocked = !stream.outlet.has_room();
    }
}
