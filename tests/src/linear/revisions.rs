//! The order that revisions claim, checked against the log, the answers and the clock.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::history::{Action, Answer, Event, Operation, Outcome, Record, Seen};

/// The first revision that a write can have; the empty store is at the one before.
const FIRST: i64 = 2;

/// Everything that is wrong; a sentence for each fault. The log begins with the first write of the
/// store and holds every one since.
pub fn faults(history: &[Operation], log: &[Event]) -> Vec<String> {
    let mut faults = Vec::new();
    let states = States::replay(log, &mut faults);
    let mut owners = Owners::default();
    for (number, operation) in history.iter().enumerate() {
        if let Some(answer) = operation.answer() {
            if let Err(what) = states.agree(operation.action, answer) {
                faults.push(format!("{operation}: {what}"));
            }
            if answer.changed {
                owners.claim(answer.revision, number, history, &mut faults);
            }
        }
    }
    owners.adopt(history, log, &mut faults);
    backward(history, &owners, &mut faults);
    faults
}

/// Every key at every revision.
struct States {
    /// For each key its records by revision; `None` if the key was deleted.
    keys: HashMap<u32, BTreeMap<i64, Option<Record>>>,
    log: HashMap<i64, Event>,
    last: i64,
}

impl States {
    fn replay(log: &[Event], faults: &mut Vec<String>) -> States {
        let mut keys: HashMap<u32, BTreeMap<i64, Option<Record>>> = HashMap::new();
        let mut written = HashSet::new();
        let mut last = FIRST - 1;
        for event in log {
            let revision = event.revision;
            if revision != last + 1 {
                faults.push(format!("the log has {event:?} behind revision {last}"));
            }
            last = revision;
            let versions = keys.entry(event.key).or_default();
            let before = versions.last_key_value().and_then(|(_, record)| *record);
            if event.value.is_none() && before.is_none() {
                faults.push(format!("the log deletes what is not there: {event:?}"));
            }
            if event.value.is_some_and(|value| !written.insert(value)) {
                faults.push(format!("the log writes a value again: {event:?}"));
            }
            let record = event.value.map(|value| Record {
                value,
                created: before.map_or(revision, |record| record.created),
                modified: revision,
                version: before.map_or(0, |record| record.version) + 1,
            });
            versions.insert(revision, record);
        }
        let log = log.iter().map(|event| (event.revision, *event)).collect();
        States { keys, log, last }
    }

    /// A key at a revision.
    fn at(&self, key: u32, revision: i64) -> Option<Record> {
        let versions = self.keys.get(&key)?;
        *versions.range(..=revision).next_back()?.1
    }

    /// Compares an answer with the state at its revision.
    fn agree(&self, action: Action, answer: Answer) -> Result<(), String> {
        let (key, revision) = (action.key(), answer.revision);
        if revision > self.last {
            return Err(format!("the log ends at {}: lost", self.last));
        }
        if answer.changed {
            let event = self.log.get(&revision);
            let wanted = action.value();
            if event.is_none_or(|event| event.key != key || event.value != wanted) {
                return Err(format!("that revision is {event:?}: lost or doubled"));
            }
        }
        let before = if answer.changed {
            self.at(key, revision - 1)
        } else {
            self.at(key, revision)
        };
        let told = match answer.seen {
            Seen::Nothing => true,
            Seen::Absent => before.is_none(),
            Seen::Record(record) => before == Some(record),
        };
        if !told {
            return Err(format!("the key was {before:?}"));
        }
        let held = match action {
            Action::Replace { expected, .. } => {
                answer.changed == (before.map(|record| record.value) == expected)
            }
            Action::Delete(_) => answer.changed == before.is_some(),
            Action::Put(..) => answer.changed,
            Action::Get(_) => !answer.changed,
        };
        if held {
            Ok(())
        } else {
            Err(format!("the key was {before:?}: decided wrongly"))
        }
    }
}

/// Which operation wrote which revision.
#[derive(Default)]
struct Owners {
    by_revision: HashMap<i64, usize>,
    by_operation: HashMap<usize, i64>,
}

impl Owners {
    fn claim(
        &mut self,
        revision: i64,
        number: usize,
        history: &[Operation],
        faults: &mut Vec<String>,
    ) {
        if let Some(other) = self.by_revision.insert(revision, number) {
            let (one, two) = (&history[other], &history[number]);
            faults.push(format!("two writes of one revision: {one}; {two}"));
        }
        self.by_operation.insert(number, revision);
    }

    /// For each revision that no operation claims, finds one whose outcome is unknown.
    fn adopt(&mut self, history: &[Operation], log: &[Event], faults: &mut Vec<String>) {
        let by_value: HashMap<u64, usize> = history
            .iter()
            .enumerate()
            .filter_map(|(number, operation)| Some((operation.action.value()?, number)))
            .collect();
        for event in log {
            let Some(value) = event.value else { continue };
            if self.by_revision.contains_key(&event.revision) {
                continue;
            }
            match by_value.get(&value) {
                Some(number) if may_have_written(&history[*number], event) => {
                    self.claim(event.revision, *number, history, faults);
                }
                Some(number) => faults.push(format!("{event:?} is of {}", history[*number])),
                None => faults.push(format!("nobody asked for {event:?}")),
            }
        }
        self.adopt_deletes(history, log, faults);
    }

    /// Deletes carry no value: the earliest called that is left is as good as any for the earliest
    /// revision that is left, since none of them has an end that limits it.
    fn adopt_deletes(&mut self, history: &[Operation], log: &[Event], faults: &mut Vec<String>) {
        let mut left: HashMap<u32, Vec<usize>> = HashMap::new();
        for (number, operation) in history.iter().enumerate() {
            if let (Action::Delete(key), Outcome::Unknown) = (operation.action, operation.outcome) {
                left.entry(key).or_default().push(number);
            }
        }
        for numbers in left.values_mut() {
            // The last one is taken first.
            numbers.sort_by_key(|number| std::cmp::Reverse(history[*number].called));
        }
        for event in log.iter().filter(|event| event.value.is_none()) {
            if self.by_revision.contains_key(&event.revision) {
                continue;
            }
            match left.get_mut(&event.key).and_then(Vec::pop) {
                Some(number) => self.claim(event.revision, number, history, faults),
                None => faults.push(format!("nobody asked for {event:?}")),
            }
        }
    }
}

fn may_have_written(operation: &Operation, event: &Event) -> bool {
    operation.outcome == Outcome::Unknown && operation.action.key() == event.key
}

/// Looks for operations that began after another ended, and yet have an earlier revision.
fn backward(history: &[Operation], owners: &Owners, faults: &mut Vec<String>) {
    let mut placed: Vec<(&Operation, i64, bool)> = Vec::new();
    for (number, operation) in history.iter().enumerate() {
        let wrote = owners.by_operation.get(&number);
        let read = operation.answer().map(|answer| answer.revision);
        if let Some(revision) = wrote.copied().or(read) {
            placed.push((operation, revision, wrote.is_some()));
        }
    }
    let mut ends: Vec<(u64, i64, &Operation)> = placed
        .iter()
        .filter(|(operation, ..)| operation.answer().is_some())
        .map(|(operation, revision, _)| (operation.ended, *revision, *operation))
        .collect();
    ends.sort_by_key(|(ended, ..)| *ended);
    placed.sort_by_key(|(operation, ..)| operation.called);
    let mut ends = ends.into_iter().peekable();
    let mut highest: Option<(i64, &Operation)> = None;
    for (operation, revision, wrote) in placed {
        while let Some((_, at, other)) = ends.next_if(|(ended, ..)| *ended < operation.called) {
            if highest.is_none_or(|(highest, _)| at > highest) {
                highest = Some((at, other));
            }
        }
        let Some((at, other)) = highest else { continue };
        if revision < at || (wrote && revision == at) {
            faults.push(format!(
                "revision {revision} of [{operation}] although before it [{other}]"
            ));
        }
    }
}
