//! Logs and histories made by hand: each fault that revisions can show, and none in correct ones.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use super::history::{Action, Answer, Event, Operation, Outcome, Record, Seen};
use super::{check, revisions};

/// The outcome of `log`, and a history in which each step comes after the one before.
struct Told {
    log: Vec<Event>,
    history: Vec<Operation>,
}

impl Told {
    /// 2: key 1 = 10; 3: key 2 = 20; 4: key 1 = 11; 5: key 2 is deleted; 6: key 2 = 21.
    fn new() -> Told {
        let event = |revision, key, value| Event {
            revision,
            key,
            value,
        };
        Told {
            log: vec![
                event(2, 1, Some(10)),
                event(3, 2, Some(20)),
                event(4, 1, Some(11)),
                event(5, 2, None),
                event(6, 2, Some(21)),
            ],
            history: Vec::new(),
        }
    }

    fn then(mut self, action: Action, outcome: Outcome) -> Told {
        let called = 10 * self.history.len() as u64;
        self.history.push(Operation {
            client: 0,
            member: 0,
            action,
            called,
            ended: called + 5,
            outcome,
        });
        self
    }

    /// The whole log, acknowledged.
    fn written(self) -> Told {
        self.then(Action::Put(1, 10), wrote(2))
            .then(Action::Put(2, 20), wrote(3))
            .then(Action::Put(1, 11), wrote(4))
            .then(Action::Delete(2), wrote(5))
            .then(Action::Put(2, 21), wrote(6))
    }

    fn faults(&self) -> Vec<String> {
        revisions::faults(&self.history, &self.log)
    }

    fn assert_fault(&self, text: &str) {
        let faults = self.faults();
        let found = faults.iter().any(|fault| fault.contains(text));
        assert!(found, "{text:?} is not in {faults:#?}");
    }
}

fn wrote(revision: i64) -> Outcome {
    Outcome::Done(Answer {
        revision,
        changed: true,
        seen: Seen::Nothing,
    })
}

fn read(revision: i64, seen: Seen) -> Outcome {
    Outcome::Done(Answer {
        revision,
        changed: false,
        seen,
    })
}

fn record(value: u64, created: i64, modified: i64, version: i64) -> Seen {
    Seen::Record(Record {
        value,
        created,
        modified,
        version,
    })
}

#[test]
fn a_true_history_has_no_fault() {
    let told = Told::new()
        .written()
        .then(Action::Get(1), read(6, record(11, 2, 4, 2)))
        .then(Action::Get(2), read(6, record(21, 6, 6, 1)))
        .then(Action::Get(3), read(6, Seen::Absent));
    assert_eq!(told.faults(), Vec::<String>::new());
    check(&told.history, &told.log).unwrap();
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    let mut told = Told::new().written();
    told.log.pop();
    told.assert_fault("the log ends at 5: lost");
    let mut told = Told::new().written();
    told.log[2].value = Some(12);
    told.assert_fault("lost or doubled");
}

#[test]
fn two_writes_of_one_revision_are_found() {
    let mut told = Told::new().written();
    let mut copy = told.history[4].clone();
    copy.client = 1;
    told.history.push(copy);
    told.assert_fault("two writes of one revision");
}

#[test]
fn a_hole_in_the_log_and_a_write_that_nobody_asked_for_are_found() {
    let mut told = Told::new().written();
    told.log.remove(1);
    told.assert_fault("behind revision 2");
    let mut told = Told::new().written();
    told.history.remove(3);
    told.assert_fault("nobody asked for");
    let mut told = Told::new().written();
    told.history.remove(4);
    told.assert_fault("nobody asked for");
}

#[test]
fn writes_without_an_answer_explain_what_nobody_claims() {
    let mut told = Told::new().written();
    told.history[3].outcome = Outcome::Unknown;
    told.history[4].outcome = Outcome::Unknown;
    let told = told.then(Action::Delete(2), Outcome::Unknown);
    assert_eq!(told.faults(), Vec::<String>::new());
}

#[test]
fn a_failed_write_that_took_place_is_found() {
    let mut told = Told::new().written();
    told.history[4].outcome = Outcome::Failed;
    told.assert_fault("-> failed");
    let mut told = Told::new().written();
    told.history[3].outcome = Outcome::Failed;
    told.assert_fault("nobody asked for");
}

#[test]
fn an_answer_that_is_not_the_state_at_its_revision_is_found() {
    let stale = read(6, record(10, 2, 2, 1));
    Told::new()
        .written()
        .then(Action::Get(1), stale)
        .assert_fault("the key was");
    let version = read(6, record(11, 2, 4, 1));
    Told::new()
        .written()
        .then(Action::Get(1), version)
        .assert_fault("the key was");
    let mut told = Told::new().written();
    told.history[2].action = Action::Replace {
        key: 1,
        expected: Some(20),
        value: 11,
    };
    told.assert_fault("decided wrongly");
}

#[test]
fn a_revision_that_goes_back_in_time_is_found() {
    let old = read(3, record(10, 2, 2, 1));
    let told = Told::new().written().then(Action::Get(1), old);
    told.assert_fault("although before it");
    let mut told = Told::new().written();
    let early = told.history[0].called;
    // The last write is over before the first one begins.
    told.history[0].called = 1_000;
    told.history[0].ended = 1_001;
    told.assert_fault("although before it");
    told.history[0].called = early;
    assert_eq!(told.faults(), Vec::<String>::new());
}

#[test]
fn a_lost_write_that_was_called_too_late_for_its_revision_is_found() {
    let mut told = Told::new().written();
    told.history[2].outcome = Outcome::Unknown;
    told.history[2].called = 1_000;
    told.assert_fault("although before it");
}
