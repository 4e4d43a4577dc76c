//! Collects events for groups of watchers.

use std::collections::BTreeMap;
use std::sync::Arc;

use althing_api::error::Error;
use althing_api::mvccpb::{Event, KeyValue};
use althing_storage::store::{ReadView, Store, held_bytes};

use super::super::event::{Events, WatchedEvent, is_creation};
use super::super::feed::Attention;
use super::revision_of;

/// How much of events with their former records is told at once. The revision that exceeds it is
/// told too, with a value and a former one of the largest size: clients take 4 MiB in a message. A
/// revision of several changes may exceed that; it is never cut.
const WITH_FORMER_BYTES_MAX: usize = 512 << 10;

/// What the watchers of each group are told, in the order of the groups' numbers.
#[derive(Debug)]
pub(super) struct ByGroup {
    told: Vec<(u32, Events)>,
    held_up: BTreeMap<u32, HeldUp>,
}

/// What a group cannot be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldUp {
    /// The first change whose former record cannot be read.
    pub(super) revision: i64,
    /// Why.
    pub(super) error: Error,
}

impl ByGroup {
    /// What one group is told.
    pub(super) fn get(&self, group: u32) -> Option<&Events> {
        let found = self.told.binary_search_by_key(&group, |(group, _)| *group);
        found.ok().map(|at| &self.told[at].1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Events)> {
        self.told.iter().map(|(group, events)| (*group, events))
    }

    /// Groups that are told nothing, because a former record that they want cannot be read. Nobody
    /// else waits for it.
    pub(super) fn held_up(&self) -> &BTreeMap<u32, HeldUp> {
        &self.held_up
    }
}

/// Gives events to groups, with the former record for those that want it. Former records come on
/// top of what a slice of history holds and may weigh far more: a deletion has nothing else.
pub(super) struct Collector<'a> {
    store: &'a Store,
    /// Where former records are found that were compacted before they were told; `None` for
    /// watchers that read history themselves: as in etcd, they are too late.
    attention: Option<&'a Attention>,
    view: Option<ReadView>,
    /// Events for groups, in the order of the events.
    told: Vec<(u32, Arc<WatchedEvent>)>,
    held_up: BTreeMap<u32, HeldUp>,
    with_former_bytes: usize,
    /// The revision of the last event.
    revision: i64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(store: &'a Store, attention: Option<&'a Attention>) -> Collector<'a> {
        Collector {
            store,
            attention,
            view: None,
            told: Vec::new(),
            held_up: BTreeMap::new(),
            with_former_bytes: 0,
            revision: 0,
        }
    }

    /// Whether the former records are enough for one slice and `revision` has not begun yet: then
    /// it and later ones are left for another slice. Revisions are never cut.
    pub(super) fn ends_before(&self, revision: i64) -> bool {
        self.with_former_bytes >= WITH_FORMER_BYTES_MAX && revision > self.revision
    }

    /// Adds an event; `groups` says for each group whether it wants the former record. If that
    /// cannot be read, they are held up.
    pub(super) fn add(&mut self, event: Event, groups: &[(u32, bool)]) {
        self.revision = revision_of(&event);
        let goes_on = |group: &u32| !self.held_up.contains_key(group);
        let wants = |former: bool| {
            let mut groups = groups.iter();
            groups.any(|(group, prev_kv)| *prev_kv == former && goes_on(group))
        };
        let (wants_former, wants_plain) = (wants(true), wants(false));
        let mut with_former = None;
        if wants_former {
            match self.with_former(event.clone()) {
                Ok(event) => with_former = Some(Arc::new(event)),
                Err(error) => {
                    let revision = self.revision;
                    for (group, _) in groups.iter().filter(|(_, prev_kv)| *prev_kv) {
                        let held_up = self.held_up.entry(*group);
                        held_up.or_insert(HeldUp { revision, error });
                    }
                }
            }
        }
        let plain = wants_plain.then(|| Arc::new(WatchedEvent::new(event)));
        for (group, prev_kv) in groups {
            let event = if *prev_kv { &with_former } else { &plain };
            self.told.extend(event.clone().map(|event| (*group, event)));
        }
    }

    /// The events of each group.
    pub(super) fn finish(self) -> ByGroup {
        let Collector {
            mut told, held_up, ..
        } = self;
        // Revisions are never cut, so they get none of this slice.
        told.retain(|(group, _)| !held_up.contains_key(group));
        // A stable sort: the events of a group stay in their order.
        told.sort_by_key(|(group, _)| *group);
        let groups = told.chunk_by(|(one, _), (other, _)| one == other);
        let events = |of_group: &[(u32, Arc<WatchedEvent>)]| {
            let events = of_group.iter().map(|(_, event)| Arc::clone(event));
            (of_group[0].0, events.collect())
        };
        let told = groups.map(events).collect();
        ByGroup { told, held_up }
    }

    /// Adds the former record, unless there was none or it was compacted.
    fn with_former(&mut self, mut event: Event) -> Result<WatchedEvent, Error> {
        if let Some(kv) = &event.kv {
            let former = if is_creation(&event) {
                None
            } else {
                self.former(kv)?
            };
            self.with_former_bytes += held_bytes(kv) + former.as_ref().map_or(0, held_bytes);
            event.prev_kv = former;
        }
        Ok(WatchedEvent::new(event))
    }

    fn former(&mut self, kv: &KeyValue) -> Result<Option<KeyValue>, Error> {
        let view = self.view.get_or_insert_with(|| self.store.read());
        let revision = kv.mod_revision - 1;
        let held = || self.attention.and_then(Attention::held);
        let former = match view.key_at(&kv.key, revision) {
            Err(Error::Compacted) => held().map_or(Ok(None), |held| held.key_at(&kv.key, revision)),
            read => read,
        };
        match former {
            Err(Error::Compacted) => Ok(None),
            former => former,
        }
    }
}
