//! One key's history: its revisions in order, the newest of them at hand, older ones in a list that
//! exists only for keys written more than once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

/// The place of one change: the revision, and the order inside the revision. Packed, because the
/// index keeps one for every revision of every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C, packed(4))]
pub(crate) struct Rev {
    /// The store's revision, at least 2.
    pub main: i64,
    /// Position among the changes of the same revision.
    pub sub: u32,
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rev { main, sub } = *self;
        write!(f, "{main}.{sub}")
    }
}

/// What one revision did to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The place of the change.
    pub rev: Rev,
    /// Whether the revision deleted the key.
    pub tombstone: bool,
    /// Revision of the creation that the key's present life began with; 0 on a tombstone.
    pub create: i64,
    /// Changes since the creation, 1 for the creation itself; 0 on a tombstone.
    pub version: i64,
}

/// How far a key was trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trim {
    /// Only what can be read is left.
    Done,
    /// Nothing is left, the key must go.
    Gone,
    /// There is more to report behind this place, which was reported last. Nothing was dropped.
    More(Rev),
}

/// A key with all revisions that compaction left. `past` is sorted and below `latest`.
#[derive(Debug)]
pub(super) struct KeyHistory {
    pub key: Box<[u8]>,
    latest: Stamp,
    /// Boxed so that the common key, written once, pays one pointer.
    #[allow(clippy::box_collection)]
    past: Option<Box<Vec<Stamp>>>,
    /// The record of `latest` while the cache's budget allows; never a tombstone's.
    pub record: Option<Bytes>,
    /// Whether it was read since the evicting hand last passed. Set under a shared lock.
    hot: AtomicBool,
}

impl KeyHistory {
    pub fn new(key: &[u8], stamp: Stamp) -> KeyHistory {
        KeyHistory {
            key: key.into(),
            latest: stamp,
            past: None,
            record: None,
            hot: AtomicBool::new(false),
        }
    }

    /// The newest change, whether or not it is published yet.
    pub fn latest(&self) -> Stamp {
        self.latest
    }

    /// Whether the key exists after its newest change.
    pub fn is_live(&self) -> bool {
        !self.latest.tombstone
    }

    /// The last change at or below `revision`; it may be a tombstone.
    pub fn at(&self, revision: i64) -> Option<Stamp> {
        if self.latest.rev.main <= revision {
            return Some(self.latest);
        }
        let past = self.past.as_deref()?;
        let after = past.partition_point(|stamp| stamp.rev.main <= revision);
        after.checked_sub(1).map(|position| past[position])
    }

    /// The key's state at `revision`, if it exists then.
    pub fn live_at(&self, revision: i64) -> Option<Stamp> {
        self.at(revision).filter(|stamp| !stamp.tombstone)
    }

    /// The record of `rev`, if it is the one kept inline.
    pub fn record_of(&self, rev: Rev) -> Option<&Bytes> {
        if rev != self.latest.rev {
            return None;
        }
        let record = self.record.as_ref()?;
        // Storing only on change keeps the cache line shared between readers.
        if !self.hot.load(Ordering::Relaxed) {
            self.hot.store(true, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Whether the key was read since the last call.
    pub fn cool(&mut self) -> bool {
        std::mem::take(self.hot.get_mut())
    }

    /// Adds a change newer than all others. The caller replaces the record.
    pub fn push(&mut self, stamp: Stamp) {
        assert!(stamp.rev > self.latest.rev, "a key's revisions only grow");
        let old = std::mem::replace(&mut self.latest, stamp);
        self.past.get_or_insert_default().push(old);
    }

    /// Takes the newest change back. Returns false if it was the only one, so that the key must go.
    pub fn pop(&mut self) -> bool {
        let Some(past) = self.past.as_deref_mut() else {
            return false;
        };
        self.latest = past.pop().expect("an empty past is never kept");
        if past.is_empty() {
            self.past = None;
        }
        true
    }

    /// Whether compaction at `revision` would drop anything.
    pub fn needs_trim(&self, revision: i64) -> bool {
        let oldest = match self.past.as_deref() {
            Some(past) => past[0],
            None => self.latest,
        };
        self.at(revision).is_some_and(|base| {
            base.rev != oldest.rev || (base.tombstone && base.rev.main < revision)
        })
    }

    /// Drops what compaction at `revision` makes unreadable: every change before the last one at or
    /// below `revision`, and that one too if it is a tombstone of an older revision. A tombstone of
    /// `revision` itself stays, because a watch may still start there. The places of the dropped
    /// changes go to `dead`, oldest first and at most `max`, which is not zero; those up to `known`
    /// went there before. All are dropped together, with the last one: unread changes do no harm,
    /// and dropping each alone would move up the rest each time.
    pub fn trim(
        &mut self,
        revision: i64,
        known: Option<Rev>,
        max: usize,
        dead: &mut Vec<Rev>,
    ) -> Trim {
        let Some(base) = self.at(revision) else {
            return Trim::Done;
        };
        let base_goes = base.tombstone && base.rev.main < revision;
        let past = self.past.as_deref().map_or(&[][..], Vec::as_slice);
        let keep_from = past
            .partition_point(|stamp| stamp.rev < base.rev || (base_goes && stamp.rev == base.rev));
        let known = past.partition_point(|stamp| known.is_some_and(|known| stamp.rev <= known));
        let next = past.get(known..keep_from).unwrap_or_default();
        let (told, rest) = next.split_at(next.len().min(max));
        dead.extend(told.iter().map(|stamp| stamp.rev));
        if let (Some(last), false) = (told.last(), rest.is_empty()) {
            return Trim::More(last.rev);
        }
        self.drop_past(keep_from);
        if base_goes && base.rev == self.latest.rev {
            dead.push(base.rev);
            return Trim::Gone;
        }
        Trim::Done
    }

    fn drop_past(&mut self, count: usize) {
        let Some(past) = self.past.as_deref_mut() else {
            return;
        };
        past.drain(..count);
        if past.is_empty() {
            self.past = None;
        } else {
            past.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(main: i64, tombstone: bool) -> Stamp {
        let (create, version) = if tombstone { (0, 0) } else { (main, 1) };
        Stamp {
            rev: Rev { main, sub: 0 },
            tombstone,
            create,
            version,
        }
    }

    fn history(revisions: &[(i64, bool)]) -> KeyHistory {
        let mut all = revisions.iter().map(|(main, gone)| stamp(*main, *gone));
        let mut history = KeyHistory::new(b"k", all.next().unwrap());
        all.for_each(|stamp| history.push(stamp));
        history
    }

    #[test]
    fn a_read_finds_the_last_change_at_or_below_its_revision() {
        let history = history(&[(2, false), (5, false), (7, true), (9, false)]);
        let seen = |revision| history.live_at(revision).map(|stamp| stamp.rev.main);
        assert_eq!(
            [1, 2, 4, 5, 6].map(seen),
            [None, Some(2), Some(2), Some(5), Some(5)]
        );
        assert_eq!([7, 8, 9, 99].map(seen), [None, None, Some(9), Some(9)]);
    }

    #[test]
    fn compaction_keeps_the_last_change_and_a_tombstone_of_its_own_revision() {
        let cases = [
            (1, vec![], Trim::Done),
            (5, vec![2], Trim::Done),
            (6, vec![2], Trim::Done),
            (7, vec![2, 5], Trim::Done),
            (8, vec![2, 5, 7], Trim::Gone),
        ];
        for (revision, expected, left) in cases {
            let mut history = history(&[(2, false), (5, false), (7, true)]);
            let mut dead = Vec::new();
            let trimmed = history.trim(revision, None, usize::MAX, &mut dead);
            assert_eq!(trimmed, left, "at {revision}");
            let dead: Vec<_> = dead.iter().map(|rev| rev.main).collect();
            assert_eq!(dead, expected, "at {revision}");
        }
    }

    #[test]
    fn a_long_life_is_told_in_slices_the_oldest_first_and_stays_readable() {
        let life = [(2, false), (3, false), (5, true), (6, false), (8, true)];
        for (revision, max) in (1..=10).flat_map(|revision| (1..=5).map(move |max| (revision, max)))
        {
            let mut expected = Vec::new();
            history(&life).trim(revision, None, usize::MAX, &mut expected);
            let (untouched, mut sliced) = (history(&life), history(&life));
            let stays_readable = |sliced: &KeyHistory| {
                (revision..=10).all(|later| sliced.live_at(later) == untouched.live_at(later))
            };
            let (mut dead, mut known) = (Vec::new(), None);
            while let Trim::More(last) = sliced.trim(revision, known, max, &mut dead) {
                assert_eq!(dead.len() % max, 0, "a slice at {revision}, {max} at once");
                assert!(stays_readable(&sliced), "at {revision}, {max} at once");
                known = Some(last);
                let next = sliced.latest().rev.main + 10;
                sliced.push(stamp(next, false));
            }
            assert_eq!(dead, expected, "at {revision}, {max} at once");
            assert!(stays_readable(&sliced), "at {revision}, {max} at once");
        }
    }

    #[test]
    fn taking_back_a_change_restores_the_one_before() {
        let mut history = history(&[(2, false), (5, true)]);
        assert!(history.pop());
        assert_eq!(history.latest(), stamp(2, false));
        assert!(!history.pop());
    }
}
