//! The watchers of the member and what they watch. Watchers of the same range with the same options
//! form a group; a key finds its groups by its hash and by a tree of ranges, never by a walk over
//! all, and what a group is told is put together once for all its watchers.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use althing_api::mvccpb::Event;
use althing_api::mvccpb::event::EventType;
use althing_api::range::KeyRange;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use super::range_tree::{RangeEnd, RangeTree};

/// Stands for no group.
const NONE: u32 = u32::MAX;

/// Which of a range's events a watcher is told, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Leaves out puts.
    pub no_put: bool,
    /// Leaves out deletions.
    pub no_delete: bool,
    /// Adds to each event the record that was there before.
    pub prev_kv: bool,
}

impl WatchOptions {
    /// Whether an event of this kind is told.
    pub(super) fn want(self, event: &Event) -> bool {
        match event.r#type() {
            EventType::Put => !self.no_put,
            EventType::Delete => !self.no_delete,
        }
    }
}

/// Where a watcher stands. Synced: everything below `max(next, current + 1)` was delivered or did
/// not concern it, where `current` is the last revision that the hub fanned out. Behind: everything
/// below `next` was delivered or did not concern it.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) stream: u32,
    pub(super) group: u32,
    /// Its position in its group's list of synced watchers, or in its stream's list of those
    /// behind.
    pub(super) position: u32,
    pub(super) is_behind: bool,
    /// Whether it is behind and wants a former record that cannot be read now.
    pub(super) is_held_up: bool,
    /// Whether it was asked to begin at `next`, which was still to come.
    pub(super) awaits_start: bool,
    pub(super) watch_id: i64,
    pub(super) next: i64,
}

/// What a group watches. It owns its bytes: a key of a request shares the whole request's buffer.
/// Most groups watch one key, so a range is kept apart.
#[derive(Debug)]
enum Watched {
    One(Box<[u8]>),
    Range(Box<(Arc<[u8]>, RangeEnd)>),
}

impl Watched {
    fn new(range: &KeyRange) -> Watched {
        let span = |start: &[u8], end| Watched::Range(Box::new((Arc::from(start), end)));
        match range {
            KeyRange::One(key) => Watched::One(Box::from(key.as_ref())),
            KeyRange::Span { start, end } => span(start, Some(Arc::from(end.as_ref()))),
            KeyRange::From(start) => span(start, None),
        }
    }

    fn is_one(&self, key: &[u8]) -> bool {
        matches!(self, Watched::One(one) if **one == *key)
    }
}

#[derive(Debug)]
struct Group {
    watched: Watched,
    options: WatchOptions,
    synced: SmallVec<[u32; 2]>,
    members: u32,
    /// The next group of the same range, in a ring.
    next: u32,
}

/// All watchers, by number.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    watchers: Slab<Watcher>,
    groups: Slab<Group>,
    /// The first group of each single key, by the key's hash; the key is in the group.
    keys: HashTable<u32>,
    hasher: RandomState,
    /// The first group of any other range.
    ranges: RangeTree,
}

fn number(position: usize) -> u32 {
    u32::try_from(position).expect("watchers are limited far below 4 G")
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.watchers.len()
    }

    pub(super) fn get(&self, watcher: u32) -> &Watcher {
        &self.watchers[watcher as usize]
    }

    pub(super) fn get_mut(&mut self, watcher: u32) -> &mut Watcher {
        &mut self.watchers[watcher as usize]
    }

    pub(super) fn options(&self, group: u32) -> WatchOptions {
        self.groups[group as usize].options
    }

    /// The synced watchers of a group.
    pub(super) fn synced(&self, group: u32) -> &[u32] {
        &self.groups[group as usize].synced
    }

    /// The numbers of all watchers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.watchers.iter().map(|(position, _)| number(position))
    }

    /// Adds a watcher that is neither synced nor behind yet.
    pub(super) fn add(
        &mut self,
        range: &KeyRange,
        options: WatchOptions,
        (stream, watch_id): (u32, i64),
        next: i64,
    ) -> u32 {
        let group = self.group(range, options);
        self.groups[group as usize].members += 1;
        number(self.watchers.insert(Watcher {
            stream,
            group,
            position: 0,
            is_behind: false,
            is_held_up: false,
            awaits_start: false,
            watch_id,
            next,
        }))
    }

    /// Makes a watcher synced.
    pub(super) fn sync(&mut self, watcher: u32) {
        let entry = &mut self.watchers[watcher as usize];
        let synced = &mut self.groups[entry.group as usize].synced;
        (entry.is_behind, entry.position) = (false, number(synced.len()));
        synced.push(watcher);
    }

    /// Takes a synced watcher out of its group's list.
    pub(super) fn unsync(&mut self, watcher: u32) {
        let entry = &self.watchers[watcher as usize];
        let position = entry.position;
        let synced = &mut self.groups[entry.group as usize].synced;
        synced.swap_remove(position as usize);
        if let Some(moved) = synced.get(position as usize) {
            self.watchers[*moved as usize].position = position;
        }
    }

    /// Forgets a watcher that is in no list.
    pub(super) fn remove(&mut self, watcher: u32) {
        let entry = self.watchers.remove(watcher as usize);
        let group = &mut self.groups[entry.group as usize];
        group.members -= 1;
        if group.members == 0 {
            self.remove_group(entry.group);
        }
    }

    /// Calls `visit` with every group whose range contains `key`.
    pub(super) fn groups_of(&self, key: &[u8], mut visit: impl FnMut(u32)) {
        let mut visit_chain = |mut group: u32| {
            while group != NONE {
                visit(group);
                group = self.groups[group as usize].next;
            }
        };
        if let Some(first) = self.first_of_key(key) {
            visit_chain(first);
        }
        self.ranges.containing(key, &mut visit_chain);
    }

    fn first_of_key(&self, key: &[u8]) -> Option<u32> {
        let is_of_key = |group: &u32| self.groups[*group as usize].watched.is_one(key);
        self.keys
            .find(self.hasher.hash_one(key), is_of_key)
            .copied()
    }

    fn first_group(&self, watched: &Watched) -> Option<u32> {
        match watched {
            Watched::One(key) => self.first_of_key(key),
            Watched::Range(range) => self.ranges.get(&range.0, range.1.as_deref()),
        }
    }

    fn group(&mut self, range: &KeyRange, options: WatchOptions) -> u32 {
        let watched = Watched::new(range);
        let first = self.first_group(&watched).unwrap_or(NONE);
        let mut at = first;
        while at != NONE {
            let group = &self.groups[at as usize];
            if group.options == options {
                return at;
            }
            at = group.next;
        }
        let added = number(self.groups.insert(Group {
            watched,
            options,
            synced: SmallVec::new(),
            members: 0,
            next: first,
        }));
        self.set_first(added, added);
        added
    }

    /// Makes `first` the first group of what the group `of` watches; `NONE` leaves no group.
    fn set_first(&mut self, of: u32, first: u32) {
        let (groups, hasher) = (&self.groups, &self.hasher);
        let watched = |group: u32| &groups[group as usize].watched;
        let key = match watched(of) {
            Watched::One(key) => key,
            Watched::Range(range) if first == NONE => {
                return self.ranges.remove(&range.0, range.1.as_deref());
            }
            Watched::Range(range) => {
                let (start, end) = (**range).clone();
                return self.ranges.insert(start, end, first);
            }
        };
        let hash_of = |group: &u32| match watched(*group) {
            Watched::One(key) => hasher.hash_one(&**key),
            Watched::Range(_) => unreachable!("single keys only are found by their hash"),
        };
        let hash = hasher.hash_one(&**key);
        let is_of_key = |group: &u32| watched(*group).is_one(key);
        match self.keys.find_entry(hash, is_of_key) {
            Ok(found) if first == NONE => drop(found.remove()),
            Ok(mut found) => *found.get_mut() = first,
            Err(_) => drop(self.keys.insert_unique(hash, first, hash_of)),
        }
    }

    fn remove_group(&mut self, removed: u32) {
        let group = &self.groups[removed as usize];
        let next = group.next;
        let first = self.first_group(&group.watched);
        let mut at = first.expect("a group is reached by its range");
        if at == removed {
            self.set_first(removed, next);
        } else {
            while self.groups[at as usize].next != removed {
                at = self.groups[at as usize].next;
            }
            self.groups[at as usize].next = next;
        }
        self.groups.remove(removed as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: WatchOptions = WatchOptions {
        no_put: false,
        no_delete: false,
        prev_kv: false,
    };
    const PREV: WatchOptions = WatchOptions {
        prev_kv: true,
        ..PLAIN
    };

    fn span(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(start.into(), end.into())
    }

    /// The watch ids of the synced watchers that are told about `key`.
    fn told(watchers: &Watchers, key: &str) -> Vec<i64> {
        let mut ids = Vec::new();
        watchers.groups_of(key.as_bytes(), |group| {
            let synced = watchers.synced(group).iter();
            ids.extend(synced.map(|watcher| watchers.get(*watcher).watch_id));
        });
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_key_finds_watchers_of_itself_and_of_ranges_around_it() {
        let mut watchers = Watchers::default();
        let ranges = [
            (span("b", ""), PLAIN),
            (span("b", ""), PREV),
            (span("a", "c"), PLAIN),
            (span("a", "c"), PREV),
            (span("b", "\0"), PLAIN),
            (span("b", ""), PLAIN),
        ];
        let numbers: Vec<u32> = (0..)
            .zip(&ranges)
            .map(|(id, (range, options))| {
                let watcher = watchers.add(range, *options, (0, id), 1);
                watchers.sync(watcher);
                watcher
            })
            .collect();
        assert_eq!(told(&watchers, "b"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(told(&watchers, "a"), [2, 3]);
        assert_eq!(told(&watchers, "c"), [4]);
        for (gone, left) in [
            (0, &[1, 2, 3, 4, 5][..]),
            (3, &[1, 2, 4, 5]),
            (2, &[1, 4, 5]),
            (1, &[4, 5]),
            (4, &[5]),
            (5, &[]),
        ] {
            watchers.unsync(numbers[gone]);
            watchers.remove(numbers[gone]);
            assert_eq!(told(&watchers, "b"), left);
        }
        assert!(watchers.keys.is_empty() && watchers.groups.is_empty());
        assert_eq!(watchers.ranges.get(b"a", Some(b"c")), None);
    }

    #[test]
    fn watchers_of_one_range_share_a_group_and_leave_it_in_any_order() {
        let mut watchers = Watchers::default();
        let range = span("k", "");
        let numbers: Vec<u32> = (0..4)
            .map(|id| watchers.add(&range, PLAIN, (0, id), 1))
            .collect();
        numbers.iter().for_each(|watcher| watchers.sync(*watcher));
        assert_eq!(watchers.groups.len(), 1);
        watchers.unsync(numbers[0]);
        watchers.unsync(numbers[3]);
        assert_eq!(told(&watchers, "k"), [1, 2]);
        watchers.sync(numbers[3]);
        assert_eq!(told(&watchers, "k"), [1, 2, 3]);
    }

    #[test]
    fn filters_drop_one_kind_of_event() {
        let event = |kind: EventType| Event {
            r#type: kind.into(),
            ..Event::default()
        };
        let no_put = WatchOptions {
            no_put: true,
            ..PLAIN
        };
        let no_delete = WatchOptions {
            no_delete: true,
            ..PLAIN
        };
        assert!(!no_put.want(&event(EventType::Put)) && no_put.want(&event(EventType::Delete)));
        assert!(
            no_delete.want(&event(EventType::Put)) && !no_delete.want(&event(EventType::Delete))
        );
    }
}
