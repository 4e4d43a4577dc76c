//! What a run shows, and what must hold at every moment of it.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};

use althing_actors::testing::voter_sets;
use althing_api::mvccpb::Event;
use althing_api::mvccpb::event::EventType;
use althing_storage::entry::{Entry, EntryKind};
use bytes::Bytes;
use tokio::time::Instant;

use crate::history::{Fact, History, Op};
use crate::holders;
use crate::machine::Live;
use crate::orders;
use crate::promises::Promises;
use crate::trace::Trace;

/// Shared by everything that runs.
#[derive(Default)]
pub struct Record {
    violation: RefCell<Option<String>>,
    history: RefCell<History>,
    moment: Cell<u64>,
    promises: RefCell<Promises>,
    /// The term and the content of each entry that some member has applied, by index.
    applied: RefCell<BTreeMap<u64, (u64, u64)>>,
    /// The voter sets of those entries that carry some.
    configurations: RefCell<BTreeMap<u64, Vec<BTreeSet<u64>>>>,
    /// How far each member's log was compared with them.
    compared: RefCell<BTreeMap<u64, u64>>,
    /// The newest state that each member has shown.
    shown: RefCell<BTreeMap<u64, i64>>,
}

impl Record {
    /// Notes that something happened that must never happen; the first note is kept.
    pub fn violated(&self, what: String) {
        self.violation.borrow_mut().get_or_insert(what);
    }

    pub fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    /// Returns the next moment.
    pub fn now(&self) -> u64 {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    pub fn did(&self, op: Op) {
        self.history.borrow_mut().ops.push(op);
    }

    /// What the holders of leases were promised.
    pub fn leases(&self) -> RefMut<'_, Promises> {
        self.promises.borrow_mut()
    }

    /// Notes that the holder of lease `id` was told that it has `lock`.
    pub fn takes_lock(&self, lock: &Bytes, id: i64) -> Result<(), String> {
        self.leases().takes(lock, id, Instant::now())
    }

    /// Notes that a compaction up to `revision` was asked for.
    pub fn compacts(&self, revision: i64) {
        let mut history = self.history.borrow_mut();
        history.compacted = history.compacted.max(revision);
    }

    /// Notes that `member` showed its state of `revision` to a client. It must never go back.
    pub fn showed(&self, member: u64, revision: i64) {
        let mut shown = self.shown.borrow_mut();
        let newest = shown.entry(member).or_default();
        if revision < *newest {
            self.violated(format!(
                "member {member} shows revision {revision} after {newest}"
            ));
        }
        *newest = revision;
    }

    /// Notes that `member` told its watcher of everything, which wanted `next`, about these events.
    /// Returns what it wants then.
    pub fn watched(&self, member: u64, mut next: i64, events: &[Event]) -> i64 {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for events in events.chunk_by(|one, other| revision(one) == revision(other)) {
            let revision = revision(&events[0]);
            if revision != next {
                self.violated(format!(
                    "member {member} told of revision {revision}, its watcher waited for {next}"
                ));
            }
            self.saw(member, revision, events.iter().map(fact).collect());
            next = revision + 1;
        }
        next
    }

    fn saw(&self, member: u64, revision: i64, facts: Vec<Fact>) {
        let mut history = self.history.borrow_mut();
        let known = history.facts.entry(revision).or_insert_with(|| {
            self.saw_first(&facts);
            facts.clone()
        });
        if *known != facts {
            self.violated(format!(
                "revision {revision} is {facts:?} at member {member}, and {known:?} elsewhere"
            ));
        }
    }

    fn saw_first(&self, facts: &[Fact]) {
        let deleted = facts.iter().filter(|fact| fact.value.is_none());
        for lease in deleted.filter_map(|fact| holders::lease_of(&fact.key)) {
            if let Err(what) = self.leases().ended(lease, Instant::now()) {
                self.violated(what);
            }
        }
    }

    /// Notes that `member` told its watcher, which wanted `next`, that revisions below `first` are
    /// gone.
    pub fn skipped(&self, member: u64, next: i64, first: i64) {
        if first <= next || first > self.history.borrow().compacted {
            self.violated(format!(
                "member {member} has lost revisions {next} to {first}, which nobody compacted"
            ));
        }
    }

    /// Compares what `member` has applied since the last look with what others have. Entries that
    /// its log has let go of are in its store on disk.
    pub fn compare(&self, member: u64, live: &Live) {
        let (purged, last) = live.log.state();
        let durable = live.handles.store().durable();
        if purged > durable {
            self.violated(format!(
                "the log of member {member} is purged to {purged:?}, \
                 its store is safe to {durable:?}"
            ));
        }
        let Some(last) = last else { return };
        let applied = live.handles.applied_index();
        let mut compared = self.compared.borrow_mut();
        let next = compared.entry(member).or_default();
        let first = purged.map_or(0, |purged| purged.index + 1).max(*next);
        let end = (applied + 1).min(last.index + 1);
        if live.handles.store().applied().log_id.is_none() || first >= end {
            return;
        }
        let Ok(entries) = live.log.read(first..end, usize::MAX) else {
            return self.violated(format!("member {member} cannot read its log"));
        };
        for entry in entries {
            self.compare_entry(member, &entry);
        }
        *next = end;
    }

    fn compare_entry(&self, member: u64, entry: &Entry) {
        let mut content = Trace::default();
        content.add((entry.kind as u8, entry.payload.as_ref()));
        let (index, entry_here) = (entry.id.index, (entry.id.term, content.hash()));
        let mut all = self.applied.borrow_mut();
        let known = *all.entry(index).or_insert(entry_here);
        if known != entry_here {
            self.violated(format!(
                "entry {index} of member {member} is {entry_here:x?}, elsewhere {known:x?}"
            ));
        }
        if entry.kind == EntryKind::Membership {
            let sets = voter_sets(&entry.payload);
            self.configurations.borrow_mut().insert(index, sets);
        }
    }

    /// Notes that a member starts again: its log is compared from the beginning.
    pub fn starts(&self, member: u64) {
        self.compared.borrow_mut().remove(&member);
    }

    /// Checks that the leader of `term` has every entry of earlier terms that was applied anywhere.
    pub fn complete(&self, member: u64, term: u64, live: &Live) {
        let (purged, last) = live.log.state();
        let first = purged.map_or(0, |purged| purged.index + 1);
        let committed = self.applied.borrow();
        let newest = committed.iter().rev().find(|(_, (of, _))| *of < term);
        let Some((newest, (of, _))) = newest else {
            return;
        };
        if *newest < first {
            return;
        }
        let here = live.log.read(*newest..newest + 1, usize::MAX);
        let here = here
            .ok()
            .and_then(|entries| entries.first().map(|entry| entry.id.term));
        if last.is_none_or(|last| last.index < *newest) || here != Some(*of) {
            self.violated(format!(
                "member {member} leads in term {term} without entry {newest} of term {of}"
            ));
        }
    }

    /// Whether what clients saw matches what became visible, and each configuration its neighbours.
    pub fn check(&self) -> Result<(), String> {
        let configurations = self.configurations.borrow();
        let entries = self.applied.borrow();
        let entries = entries
            .keys()
            .map(|index| (*index, configurations.get(index).cloned()));
        orders::follow(&entries.collect())?;
        self.history.borrow().check()
    }

    /// The number of operations and of revisions.
    pub fn size(&self) -> (usize, usize) {
        let history = self.history.borrow();
        (history.ops.len(), history.facts.len())
    }

    /// The number of configurations that were applied, the first included.
    pub fn configurations(&self) -> usize {
        self.configurations.borrow().len()
    }
}

fn fact(event: &Event) -> Fact {
    let kv = event.kv.clone().unwrap_or_default();
    Fact {
        key: kv.key,
        value: (event.r#type() == EventType::Put).then_some(kv.value),
        create_revision: kv.create_revision,
        version: kv.version,
    }
}
