//! What one writer did to keys that nobody else writes: every acknowledged change with its
//! revision, and at most one change whose answer never came. From that follows what each of its
//! keys must hold at any revision, and what may be true of the last change after a crash.

use std::collections::BTreeMap;

use althing_api::mvccpb::KeyValue;
use bytes::Bytes;

/// One request that changes keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A Put.
    Put(Bytes, Bytes),
    /// A Txn that puts one value under two keys.
    PutBoth([Bytes; 2], Bytes),
    /// A Txn that deletes one key and puts another.
    Replace(Bytes, Bytes, Bytes),
    /// A DeleteRange of one key.
    Delete(Bytes),
}

/// The keys of one writer at one revision.
pub type State = BTreeMap<Bytes, KeyValue>;

/// One writer's changes.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Changes in the order of their revisions; only those that had an effect.
    settled: Vec<(i64, Change)>,
    state: State,
    /// A change that was sent, and neither answered nor looked for since.
    pub unanswered: Option<Change>,
}

impl Change {
    /// Carries the change out at `revision`; false if there was nothing to do.
    fn apply(&self, state: &mut State, revision: i64) -> bool {
        let mut put = |key: &Bytes, value: &Bytes| {
            let record = state.entry(key.clone()).or_insert_with(|| KeyValue {
                key: key.clone(),
                create_revision: revision,
                ..KeyValue::default()
            });
            record.mod_revision = revision;
            record.version += 1;
            record.value = value.clone();
        };
        match self {
            Change::Put(key, value) => put(key, value),
            Change::PutBoth([one, other], value) => {
                put(one, value);
                put(other, value);
            }
            Change::Replace(gone, key, value) => {
                put(key, value);
                state.remove(gone);
            }
            Change::Delete(key) => return state.remove(key).is_some(),
        }
        true
    }
}

impl Ledger {
    /// The keys as the acknowledged changes left them.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The revisions of all settled changes.
    pub fn revisions(&self) -> impl Iterator<Item = i64> {
        self.settled.iter().map(|(revision, _)| *revision)
    }

    /// The keys as they were at `revision`.
    pub fn state_at(&self, revision: i64) -> State {
        let mut state = State::new();
        for (at, change) in &self.settled {
            if *at <= revision {
                change.apply(&mut state, *at);
            }
        }
        state
    }

    /// Whether the change would have an effect now.
    pub fn is_effective(&self, change: &Change) -> bool {
        change.apply(&mut self.state.clone(), i64::MAX)
    }

    /// Notes that a change was acknowledged, or found carried out, at `revision`.
    ///
    /// # Errors
    /// When the revision is not after those before.
    pub fn settle(&mut self, change: Change, revision: i64) -> Result<(), String> {
        let last = self.settled.last().map_or(1, |(last, _)| *last);
        if revision <= last {
            return Err(format!(
                "{change:?} at revision {revision}, behind one at {last}"
            ));
        }
        if change.apply(&mut self.state, revision) {
            self.settled.push((revision, change));
        }
        Ok(())
    }

    /// Decides from the present keys whether the unanswered change was carried out, and returns it
    /// if so. Its revision is 0 if the keys do not tell it.
    ///
    /// # Errors
    /// When the keys match neither its absence nor its effect.
    pub fn judge(&self, found: &State) -> Result<Option<(Change, i64)>, String> {
        if *found == self.state {
            return Ok(None);
        }
        let Some(change) = &self.unanswered else {
            return Err(self.explain(found, "after acknowledged changes only"));
        };
        let revision = match change {
            Change::Put(key, _) | Change::Replace(_, key, _) | Change::PutBoth([key, _], _) => {
                found.get(key).map_or(0, |record| record.mod_revision)
            }
            Change::Delete(_) => 0,
        };
        let mut with = self.state.clone();
        change.apply(&mut with, revision);
        if *found == with {
            Ok(Some((change.clone(), revision)))
        } else {
            Err(self.explain(found, &format!("with or without {change:?}")))
        }
    }

    fn explain(&self, found: &State, when: &str) -> String {
        let mut text = format!("keys are not as expected {when}:");
        for key in self.state.keys().chain(found.keys()) {
            let (expected, found) = (self.state.get(key), found.get(key));
            if expected != found {
                text.push_str(&format!("\n  expected {expected:?}\n  found    {found:?}"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Change {
        Change::Put(key.into(), value.into())
    }

    fn both(value: &'static str) -> Change {
        Change::PutBoth(["l".into(), "r".into()], value.into())
    }

    #[test]
    fn a_lost_acknowledged_change_is_found() {
        let mut ledger = Ledger::default();
        ledger.settle(put("a", "1"), 2).unwrap();
        let before = ledger.state().clone();
        ledger.settle(put("a", "2"), 3).unwrap();
        assert!(ledger.judge(&before).is_err());
        ledger.unanswered = Some(put("b", "3"));
        assert!(ledger.judge(&before).is_err());
    }

    #[test]
    fn an_unanswered_change_is_whole_or_absent() {
        let mut ledger = Ledger::default();
        ledger.settle(both("1"), 2).unwrap();
        ledger.unanswered = Some(both("2"));
        assert_eq!(ledger.judge(&ledger.state_at(2)), Ok(None));

        let mut whole = ledger.clone();
        whole.settle(both("2"), 5).unwrap();
        assert_eq!(ledger.judge(whole.state()), Ok(Some((both("2"), 5))));

        let mut half = ledger.state().clone();
        half.insert("l".into(), whole.state()[&Bytes::from("l")].clone());
        assert!(ledger.judge(&half).is_err());
    }

    #[test]
    fn a_revision_that_goes_back_is_found() {
        let mut ledger = Ledger::default();
        ledger.settle(put("a", "1"), 5).unwrap();
        assert!(ledger.settle(put("a", "2"), 5).is_err());
    }

    #[test]
    fn history_is_what_the_changes_up_to_a_revision_made() {
        let mut ledger = Ledger::default();
        ledger.settle(put("a", "1"), 2).unwrap();
        ledger.settle(Change::Delete("a".into()), 4).unwrap();
        assert_eq!(ledger.state_at(3).len(), 1);
        assert!(ledger.state_at(4).is_empty());
    }
}
