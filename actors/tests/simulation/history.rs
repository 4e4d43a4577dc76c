//! What clients did and what became visible, and whether the two match. Pure.
//!
//! The store numbers its states: the revision. So a history is linearizable if, in the order of
//! revisions, each write does what it was answered, each read sees the state of its revision, and
//! nothing that began after an answer is ordered before what was answered. This is more than
//! linearizability of each key, and needs no search.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// One change of one key: a value, or `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub key: Bytes,
    pub value: Option<Bytes>,
    pub create_revision: i64,
    pub version: i64,
}

/// What a client asked for. Every value is written by one operation only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// One value under several keys, in one revision.
    Put {
        keys: Vec<Bytes>,
        value: Bytes,
    },
    /// Puts `value` with a lease if there is no such key.
    Create {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
    },
    /// Puts `value` if the key has the `expected` one.
    Swap {
        key: Bytes,
        expected: Bytes,
        value: Bytes,
    },
    /// Reads all keys; `fresh` means linearizable.
    Read {
        fresh: bool,
    },
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was done, or not done, at this revision.
    Done { revision: i64, changed: bool },
    /// The state at this revision.
    State {
        revision: i64,
        state: BTreeMap<Bytes, Bytes>,
    },
    /// It was certainly not done.
    Refused,
    /// The client was told nothing.
    Unknown,
}

/// An operation. Moments are numbers that grow.
#[derive(Clone, Debug)]
pub struct Op {
    pub ask: Ask,
    pub began: u64,
    /// When the client was told, or gave up.
    pub ended: u64,
    pub told: Told,
}

#[derive(Debug, Default)]
pub struct History {
    /// What changed, by revision, as watchers saw it.
    pub facts: BTreeMap<i64, Vec<Fact>>,
    pub ops: Vec<Op>,
    /// Revisions below this may never have been seen by anybody.
    pub compacted: i64,
}

impl History {
    /// Errors: what does not match.
    pub fn check(&self) -> Result<(), String> {
        self.each_value_once()?;
        self.answers_are_true()?;
        self.time_never_goes_back()?;
        self.states_are_whole()
    }

    /// Every visible value was asked for, before it became visible, and became visible once.
    fn each_value_once(&self) -> Result<(), String> {
        let mut asked: BTreeMap<&Bytes, &Op> = BTreeMap::new();
        for op in &self.ops {
            match &op.ask {
                Ask::Put { value, .. } | Ask::Create { value, .. } | Ask::Swap { value, .. } => {
                    asked.insert(value, op)
                }
                Ask::Delete { .. } | Ask::Read { .. } => None,
            };
        }
        let mut seen: BTreeMap<&Bytes, i64> = BTreeMap::new();
        for (revision, facts) in &self.facts {
            for value in facts.iter().filter_map(|fact| fact.value.as_ref()) {
                let before = *seen.entry(value).or_insert(*revision);
                if before != *revision {
                    return Err(format!(
                        "{value:?} was written at {before} and at {revision}"
                    ));
                }
                match asked.get(value) {
                    None => return Err(format!("{value:?} at {revision}: nobody wrote it")),
                    Some(op) if op.told == Told::Refused => {
                        return Err(format!("{op:?} was refused and is visible at {revision}"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Each acknowledged write is there, at its revision, as it was asked for.
    fn answers_are_true(&self) -> Result<(), String> {
        for op in &self.ops {
            let Told::Done {
                revision,
                changed: true,
            } = op.told
            else {
                continue;
            };
            let Some(facts) = self.facts.get(&revision) else {
                if revision < self.compacted {
                    continue;
                }
                return Err(format!("{op:?}: there is no revision {revision}"));
            };
            let found: Vec<(&Bytes, Option<&Bytes>)> = facts
                .iter()
                .map(|fact| (&fact.key, fact.value.as_ref()))
                .collect();
            let asked: Vec<(&Bytes, Option<&Bytes>)> = match &op.ask {
                Ask::Put { keys, value } => keys.iter().map(|key| (key, Some(value))).collect(),
                Ask::Create { key, value, .. } | Ask::Swap { key, value, .. } => {
                    vec![(key, Some(value))]
                }
                Ask::Delete { key } => vec![(key, None)],
                Ask::Read { .. } => continue,
            };
            if found != asked {
                return Err(format!("{op:?}: revision {revision} is {found:?}"));
            }
        }
        Ok(())
    }

    /// An operation that begins after an answer sees at least what the answer said.
    fn time_never_goes_back(&self) -> Result<(), String> {
        let mut answered: Vec<(u64, i64, &Op)> = Vec::new();
        let mut asked: Vec<(u64, i64, bool, &Op)> = Vec::new();
        for op in &self.ops {
            let (revision, writes) = match (&op.ask, &op.told) {
                (_, Told::Done { revision, changed }) => (*revision, *changed),
                (Ask::Read { fresh: true }, Told::State { revision, .. }) => (*revision, false),
                _ => continue,
            };
            answered.push((op.ended, revision, op));
            asked.push((op.began, revision, writes, op));
        }
        answered.sort_by_key(|(ended, ..)| *ended);
        asked.sort_by_key(|(began, ..)| *began);
        let mut answered = answered.into_iter().peekable();
        let mut newest: Option<(i64, &Op)> = None;
        for (began, revision, writes, op) in asked {
            while let Some((_, revision, op)) = answered.next_if(|(ended, ..)| *ended < began) {
                if newest.is_none_or(|(before, _)| revision > before) {
                    newest = Some((revision, op));
                }
            }
            if let Some((before, earlier)) = newest
                && (revision < before || (writes && revision == before))
            {
                return Err(format!(
                    "{op:?} is at {revision}, though before it ended {earlier:?}"
                ));
            }
        }
        Ok(())
    }

    /// Each state that was read, and each condition, matches its revision. Versions count.
    fn states_are_whole(&self) -> Result<(), String> {
        let mut by_revision: Vec<(i64, &Op)> = Vec::new();
        for op in &self.ops {
            match &op.told {
                Told::Done { revision, .. } | Told::State { revision, .. } => {
                    by_revision.push((*revision, op));
                }
                Told::Refused | Told::Unknown => {}
            }
        }
        by_revision.sort_by_key(|(revision, _)| *revision);
        let mut ops = by_revision.into_iter().peekable();
        let mut state: BTreeMap<Bytes, Fact> = BTreeMap::new();
        let mut expected = 2;
        let last = self.facts.keys().next_back().copied().unwrap_or(1);
        for revision in 1..=last {
            let former = state.clone();
            match self.facts.get(&revision) {
                Some(facts) => follow(&mut state, revision, facts)?,
                None if revision < expected => {}
                // Compacted before anybody saw it: from here on nothing is known.
                None if revision < self.compacted => return Ok(()),
                None => return Err(format!("nobody was told of revision {revision}")),
            }
            expected = revision + 1;
            while let Some((_, op)) = ops.next_if(|(at, _)| *at == revision) {
                fits(op, &former, &state)?;
            }
        }
        match ops.next() {
            Some((revision, op)) => Err(format!("{op:?}: revision {revision} is not there")),
            None => Ok(()),
        }
    }
}

fn follow(state: &mut BTreeMap<Bytes, Fact>, revision: i64, facts: &[Fact]) -> Result<(), String> {
    let mut touched = BTreeSet::new();
    for fact in facts {
        let former = state.get(&fact.key);
        let (create, version) = match (former, &fact.value) {
            (None, None) => return Err(format!("{fact:?} at {revision}: it was not there")),
            (_, None) => (0, 0),
            (Some(former), Some(_)) => (former.create_revision, former.version + 1),
            (None, Some(_)) => (revision, 1),
        };
        if (fact.create_revision, fact.version) != (create, version) {
            return Err(format!("{fact:?} at {revision} follows {former:?}"));
        }
        if !touched.insert(fact.key.clone()) {
            return Err(format!("{fact:?} at {revision}: twice in one revision"));
        }
        match fact.value {
            Some(_) => state.insert(fact.key.clone(), fact.clone()),
            None => state.remove(&fact.key),
        };
    }
    Ok(())
}

fn fits(
    op: &Op,
    former: &BTreeMap<Bytes, Fact>,
    state: &BTreeMap<Bytes, Fact>,
) -> Result<(), String> {
    let value = |state: &BTreeMap<Bytes, Fact>, key: &Bytes| {
        state.get(key).and_then(|fact| fact.value.clone())
    };
    let is_true = match (&op.ask, &op.told) {
        (Ask::Swap { key, expected, .. }, Told::Done { changed: true, .. }) => {
            value(former, key).as_ref() == Some(expected)
        }
        (Ask::Swap { key, expected, .. }, Told::Done { changed: false, .. }) => {
            value(state, key).as_ref() != Some(expected)
        }
        (Ask::Create { key, .. }, Told::Done { changed: true, .. }) => !former.contains_key(key),
        (Ask::Create { key, .. }, Told::Done { changed: false, .. }) => state.contains_key(key),
        (Ask::Delete { key }, Told::Done { changed: false, .. }) => !state.contains_key(key),
        (Ask::Read { .. }, Told::State { state: read, .. }) => {
            let expected = state.values();
            let expected: BTreeMap<Bytes, Bytes> = expected
                .filter_map(|fact| Some((fact.key.clone(), fact.value.clone()?)))
                .collect();
            *read == expected
        }
        _ => true,
    };
    if is_true {
        Ok(())
    } else {
        Err(format!("{op:?} does not fit the state {state:?}"))
    }
}

#[cfg(test)]
#[path = "history_test.rs"]
mod tests;
