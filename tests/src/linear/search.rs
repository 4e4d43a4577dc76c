//! Looks for an order of the operations on one key that explains every answer: each takes place at
//! one moment between its call and its end. The search is that of Wing and Gong with Lowe's memory
//! of what was tried; revisions only say where to look first.

use std::collections::{BTreeMap, HashSet};

use super::history::{Action, Answer, Operation, Outcome, Seen};

/// Steps after which the search of one key gives up; they take some seconds.
const STEPS_MAX: u64 = 5_000_000;
/// Operations of an unexplained history that are shown.
const SHOWN_MAX: usize = 12;

/// Everything that no order explains; a sentence for each key.
pub fn faults(history: &[Operation]) -> Vec<String> {
    let mut keys: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        let key = operation.action.key();
        keys.entry(key).or_default().push(operation);
    }
    let judged = keys.into_iter().filter_map(|(key, operations)| {
        let mut search = Search::new(what_matters(operations));
        let what = match search.run() {
            Verdict::Explained => return None,
            Verdict::Unexplained => "no order explains",
            Verdict::Undecided => "the search gave up on",
        };
        Some(format!("{what} key {key}: {}", search.furthest()))
    });
    judged.collect()
}

/// What may matter to an answer. A write without an answer whose value nobody saw is left out: if
/// there is an order with it, there is one without it. (A comparison that fails tells what it
/// found, so it hides nothing; a delete that does not tell may have deleted any value, so then all
/// are kept.)
fn what_matters(mut operations: Vec<&Operation>) -> Vec<&Operation> {
    let is_blind = |operation: &&Operation| {
        let deleted = matches!(operation.action, Action::Delete(_)) && operation.wrote();
        deleted
            && operation
                .answer()
                .is_some_and(|answer| answer.seen == Seen::Nothing)
    };
    let blind = operations.iter().any(is_blind);
    let seen: HashSet<u64> = operations.iter().filter_map(|o| seen_value(o)).collect();
    operations.retain(|operation| match (operation.outcome, operation.action) {
        (Outcome::Done(_), _) => true,
        (Outcome::Failed, _) | (Outcome::Unknown, Action::Get(_)) => false,
        (Outcome::Unknown, Action::Delete(_)) => true,
        (Outcome::Unknown, Action::Put(_, value) | Action::Replace { value, .. }) => {
            blind || seen.contains(&value)
        }
    });
    operations
}

/// The value that an operation found, or may have found.
fn seen_value(operation: &Operation) -> Option<u64> {
    let told = operation.answer().and_then(|answer| answer.seen.record());
    match operation.action {
        Action::Replace { expected, .. } => told.map(|record| record.value).or(expected),
        _ => told.map(|record| record.value),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Explained,
    Unexplained,
    Undecided,
}

/// The search of one key.
struct Search<'a> {
    /// The operations, in the order of their calls.
    operations: Vec<&'a Operation>,
    /// The operations that took place, as bits.
    done: Vec<u64>,
    /// How many of those that must take place have not yet.
    left: usize,
    state: Option<u64>,
    /// What was tried in vain.
    tried: HashSet<(Vec<u64>, Option<u64>)>,
    /// The path to here: which operation took place, and the state before it.
    path: Vec<(usize, Option<u64>)>,
    /// The longest path so far, to be shown.
    longest: Vec<usize>,
    steps: u64,
}

impl<'a> Search<'a> {
    fn new(mut operations: Vec<&'a Operation>) -> Search<'a> {
        operations.sort_by_key(|operation| operation.called);
        let left = operations.iter().filter(|o| o.answer().is_some()).count();
        Search {
            done: vec![0; operations.len().div_ceil(64)],
            left,
            state: None,
            tried: HashSet::new(),
            path: Vec::new(),
            longest: Vec::new(),
            steps: 0,
            operations,
        }
    }

    fn run(&mut self) -> Verdict {
        // The candidates that remain for each step of the path.
        let mut choices = vec![self.candidates()];
        while self.left > 0 {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Verdict::Undecided;
            }
            let Some(remaining) = choices.last_mut() else {
                return Verdict::Unexplained;
            };
            match remaining.pop() {
                Some(next) => {
                    if self.take(next) {
                        choices.push(self.candidates());
                    }
                }
                None => {
                    choices.pop();
                    self.give_back();
                }
            }
        }
        Verdict::Explained
    }

    /// The operations that may take place next: those called before the first end of those that are
    /// left. The last one is tried first.
    fn candidates(&self) -> Vec<usize> {
        let open = |number: &usize| self.done[number / 64] & (1 << (number % 64)) == 0;
        let mut first_end = u64::MAX;
        let mut found = Vec::new();
        for number in (0..self.operations.len()).filter(open) {
            let operation = self.operations[number];
            if operation.called > first_end {
                break;
            }
            found.push(number);
            if operation.answer().is_some() {
                first_end = first_end.min(operation.ended);
            }
        }
        found.retain(|number| self.operations[*number].called <= first_end);
        // One delete without an answer is as good as any other.
        let mut deletes = 0;
        found.retain(|number| {
            let operation = self.operations[*number];
            let lost =
                matches!(operation.action, Action::Delete(_)) && operation.answer().is_none();
            deletes += usize::from(lost);
            !lost || deletes == 1
        });
        // An operation without an answer is tried if nothing else explains the next answer.
        let place = |number: &usize| match self.operations[*number].answer() {
            Some(answer) => (false, answer.revision, !answer.changed),
            None => (true, 0, false),
        };
        found.sort_by_key(|number| std::cmp::Reverse(place(number)));
        found
    }

    /// Lets an operation take place if its answer agrees and this was not tried yet.
    fn take(&mut self, number: usize) -> bool {
        let operation = self.operations[number];
        let Some(after) = outcome(operation, self.state) else {
            return false;
        };
        self.done[number / 64] |= 1 << (number % 64);
        if !self.tried.insert((self.done.clone(), after)) {
            self.done[number / 64] &= !(1 << (number % 64));
            return false;
        }
        self.path.push((number, self.state));
        self.state = after;
        self.left -= usize::from(operation.answer().is_some());
        if self.path.len() > self.longest.len() {
            self.longest = self.path.iter().map(|(number, _)| *number).collect();
        }
        true
    }

    fn give_back(&mut self) {
        if let Some((number, before)) = self.path.pop() {
            self.done[number / 64] &= !(1 << (number % 64));
            self.state = before;
            self.left += usize::from(self.operations[number].answer().is_some());
        }
    }

    /// How far the best attempt came: its end, and what could not follow.
    fn furthest(&self) -> String {
        let mut lines = vec![String::new()];
        let from = self.longest.len().saturating_sub(SHOWN_MAX);
        for number in &self.longest[from..] {
            lines.push(format!("  explained: {}", self.operations[*number]));
        }
        let open = (0..self.operations.len()).filter(|number| !self.longest.contains(number));
        for number in open.take(SHOWN_MAX) {
            lines.push(format!("  left:      {}", self.operations[number]));
        }
        lines.join("\n")
    }
}

/// The value after an operation on a key that has `state`; `None` if it cannot have been so.
fn outcome(operation: &Operation, state: Option<u64>) -> Option<Option<u64>> {
    let answer = operation.answer();
    if answer.is_some_and(|answer| !agrees(answer, state)) {
        return None;
    }
    let changed = match operation.action {
        Action::Get(_) => false,
        Action::Put(..) => true,
        Action::Delete(_) => state.is_some(),
        Action::Replace { expected, .. } => state == expected,
    };
    // Without an answer and without an effect it need not take place.
    if answer.map_or(!changed, |answer| answer.changed != changed) {
        return None;
    }
    if changed {
        Some(operation.action.value())
    } else {
        Some(state)
    }
}

fn agrees(answer: Answer, state: Option<u64>) -> bool {
    match answer.seen {
        Seen::Nothing => true,
        Seen::Absent => state.is_none(),
        Seen::Record(record) => state == Some(record.value),
    }
}
