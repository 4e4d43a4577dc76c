//! Leases and the keys attached to them. The leases are a table of the store's file; which keys are
//! attached follows from the keys' newest records, so it is derived at start-up and kept in memory
//! only.
//!
//! There is no clock here: a lease is a promise in seconds, and the leader alone counts them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// A lease as the log made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Chosen by the client or assigned; never zero.
    pub id: i64,
    /// Time to live as granted, in seconds.
    pub ttl: i64,
    /// Seconds left as of the last checkpoint; 0 means the whole time to live.
    pub remaining: i64,
    /// Tells this lease from earlier ones with the same id, and the time after a logged renewal
    /// from the time before.
    pub generation: u64,
    /// Whether the lease belongs to the key it was made with: it ends when its last key goes.
    pub bound: bool,
}

/// What an entry did to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseFact {
    /// The lease exists now, with this time to live in seconds.
    Granted(i64),
    /// The remaining time of the lease was noted.
    Checkpointed,
    /// The lease is gone, and its keys with it.
    Ended,
}

/// The last change of each lease by some entries: the lease, or `None` for an ended one.
pub(crate) type LeaseChanges = BTreeMap<i64, Option<LeaseRecord>>;

/// Roughly the bytes that a lease takes in the store's file.
pub(super) const LEASE_BYTES: u64 = 64;

#[derive(Debug)]
struct Held {
    record: LeaseRecord,
    keys: BTreeSet<Bytes>,
}

/// All leases, and the lease of each attached key.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<i64, Held>,
    lease_of: BTreeMap<Bytes, i64>,
}

/// What one change of a key means for its attachment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touch<'a> {
    pub key: &'a Bytes,
    /// The lease's id; 0 if the key has no lease or is deleted.
    pub lease: i64,
}

impl Leases {
    /// Notes a change read at start-up, in the order of revisions.
    pub fn note(&mut self, touch: Touch<'_>) {
        if touch.lease != 0 {
            // A copy, so that the key does not keep its whole record in memory.
            let key = Bytes::copy_from_slice(touch.key);
            self.lease_of.insert(key, touch.lease);
        } else if !self.lease_of.is_empty() {
            self.lease_of.remove(touch.key);
        }
    }

    /// Attaches each noted key to its lease, which is one of `records`. Called once all changes
    /// were noted.
    pub fn attach_noted(&mut self, records: Vec<LeaseRecord>) {
        for record in records {
            self.set(record);
        }
        let held = &mut self.held;
        self.lease_of.retain(|key, lease| {
            let lease = held.get_mut(lease);
            lease.is_some_and(|lease| lease.keys.insert(key.clone()))
        });
    }

    pub fn get(&self, id: i64) -> Option<LeaseRecord> {
        self.held.get(&id).map(|held| held.record)
    }

    /// The keys attached to `id`, in order.
    pub fn keys(&self, id: i64) -> Vec<Bytes> {
        let held = self.held.get(&id);
        held.map_or_else(Vec::new, |held| held.keys.iter().cloned().collect())
    }

    pub fn all(&self) -> Vec<LeaseRecord> {
        self.held.values().map(|held| held.record).collect()
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no key is attached to any lease.
    pub fn is_detached(&self) -> bool {
        self.lease_of.is_empty()
    }

    /// Makes an entry's changes: new leases, then its keys in order, then ended leases. Bound
    /// leases that lost their last key end too, and are added to `changes`. Returns what happened.
    pub fn commit<'a>(
        &mut self,
        changes: &mut LeaseChanges,
        touches: impl Iterator<Item = Touch<'a>>,
    ) -> Vec<(i64, LeaseFact)> {
        let mut facts = Vec::with_capacity(changes.len());
        for record in changes.values().flatten() {
            let fact = if self.held.contains_key(&record.id) {
                LeaseFact::Checkpointed
            } else {
                LeaseFact::Granted(record.ttl)
            };
            facts.push((record.id, fact));
            self.set(*record);
        }
        let mut emptied = BTreeSet::new();
        for touch in touches {
            self.touch(touch, &mut emptied);
        }
        for id in emptied {
            // A later change in the same entry may have attached a key again.
            if self.held.get(&id).is_some_and(|held| held.keys.is_empty()) {
                changes.insert(id, None);
            }
        }
        for (id, change) in changes {
            if change.is_none() {
                self.remove(*id);
                facts.push((*id, LeaseFact::Ended));
            }
        }
        facts
    }

    fn set(&mut self, record: LeaseRecord) {
        let held = self.held.entry(record.id);
        let held = held.or_insert_with(|| Held {
            record,
            keys: BTreeSet::new(),
        });
        held.record = record;
    }

    /// Removes an ended lease. The same entry deleted its keys; what is left would be attached to
    /// nothing.
    fn remove(&mut self, id: i64) {
        for key in self.held.remove(&id).into_iter().flat_map(|held| held.keys) {
            self.lease_of.remove(&key);
        }
    }

    fn touch(&mut self, Touch { key, lease }: Touch<'_>, emptied: &mut BTreeSet<i64>) {
        let former = self.lease_of.get(key).copied();
        if former == Some(lease) {
            return;
        }
        if let Some(former) = former {
            self.lease_of.remove(key);
            if let Some(held) = self.held.get_mut(&former) {
                held.keys.remove(key);
                if held.keys.is_empty() && held.record.bound {
                    emptied.insert(former);
                }
            }
        }
        if let Some(held) = self.held.get_mut(&lease) {
            let key = Bytes::copy_from_slice(key);
            held.keys.insert(key.clone());
            self.lease_of.insert(key, lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64, bound: bool) -> LeaseRecord {
        LeaseRecord {
            id,
            ttl: 10,
            remaining: 0,
            generation: 1,
            bound,
        }
    }

    fn holding(records: Vec<LeaseRecord>) -> Leases {
        let mut leases = Leases::default();
        leases.attach_noted(records);
        leases
    }

    fn commit(leases: &mut Leases, touches: &[(&'static str, i64)]) -> LeaseChanges {
        let mut changes = LeaseChanges::new();
        let keys: Vec<_> = touches
            .iter()
            .map(|(key, lease)| (Bytes::from(*key), *lease))
            .collect();
        let touches = keys.iter().map(|(key, lease)| Touch { key, lease: *lease });
        leases.commit(&mut changes, touches);
        changes
    }

    #[test]
    fn a_key_belongs_to_the_lease_of_its_last_put() {
        let mut leases = holding(vec![lease(1, false), lease(2, false)]);
        commit(&mut leases, &[("b", 1), ("a", 1), ("c", 2)]);
        assert_eq!(leases.keys(1), ["a", "b"]);
        commit(&mut leases, &[("a", 2), ("b", 0)]);
        assert!(leases.keys(1).is_empty());
        assert_eq!(leases.keys(2), ["a", "c"]);
        assert_eq!(leases.len(), 2);
    }

    #[test]
    fn a_bound_lease_ends_with_its_last_key_and_not_when_it_gets_it_back() {
        let mut leases = holding(vec![lease(1, true), lease(2, false)]);
        commit(&mut leases, &[("a", 1), ("b", 2)]);
        assert!(commit(&mut leases, &[("a", 0), ("a", 1)]).is_empty());
        let changes = commit(&mut leases, &[("a", 0), ("b", 0)]);
        assert_eq!(changes, LeaseChanges::from([(1, None)]));
        assert_eq!(leases.all(), [lease(2, false)]);
        assert!(leases.is_detached());
    }

    #[test]
    fn start_up_attaches_what_the_newest_records_say() {
        let mut leases = Leases::default();
        let keys = ["a", "b", "a", "c"].map(Bytes::from);
        for (key, lease) in keys.iter().zip([1, 1, 0, 9]) {
            leases.note(Touch { key, lease });
        }
        leases.attach_noted(vec![lease(1, false)]);
        assert_eq!(leases.keys(1), ["b"]);
        assert_eq!(
            leases.lease_of.len(),
            1,
            "a lease that is not there holds no key"
        );
    }
}
