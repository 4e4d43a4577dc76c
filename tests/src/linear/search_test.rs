//! Histories made by hand: those that one correct store could give, and those that it could not.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use super::history::{Action, Answer, Operation, Outcome, Record, Seen};
use super::search::faults;

const KEY: u32 = 1;

/// An operation from `called` to `ended`.
fn operation(called: u64, ended: u64, action: Action, outcome: Outcome) -> Operation {
    Operation {
        client: 0,
        member: 0,
        action,
        called,
        ended,
        outcome,
    }
}

fn answer(changed: bool, seen: Seen) -> Outcome {
    // The search does not believe revisions, so any will do.
    Outcome::Done(Answer {
        revision: 7,
        changed,
        seen,
    })
}

fn saw(value: Option<u64>) -> Seen {
    value.map_or(Seen::Absent, |value| {
        Seen::Record(Record {
            value,
            created: 0,
            modified: 0,
            version: 0,
        })
    })
}

fn put(called: u64, ended: u64, value: u64) -> Operation {
    let done = answer(true, Seen::Nothing);
    operation(called, ended, Action::Put(KEY, value), done)
}

fn lost_put(called: u64, value: u64) -> Operation {
    let action = Action::Put(KEY, value);
    operation(called, called, action, Outcome::Unknown)
}

fn get(called: u64, ended: u64, value: Option<u64>) -> Operation {
    operation(called, ended, Action::Get(KEY), answer(false, saw(value)))
}

fn replace(called: u64, expected: Option<u64>, value: u64, outcome: Outcome) -> Operation {
    let action = Action::Replace {
        key: KEY,
        expected,
        value,
    };
    operation(called, called + 1, action, outcome)
}

fn is_good(history: &[Operation]) -> bool {
    faults(history).is_empty()
}

#[test]
fn one_after_the_other_is_explained() {
    assert!(is_good(&[
        get(0, 1, None),
        put(2, 3, 1),
        get(4, 5, Some(1)),
        put(6, 7, 2),
        get(8, 9, Some(2)),
    ]));
}

#[test]
fn a_read_of_what_was_overwritten_before_it_began_is_found() {
    assert!(!is_good(&[put(0, 1, 1), put(2, 3, 2), get(4, 5, Some(1))]));
    assert!(!is_good(&[put(0, 1, 1), get(2, 3, None)]));
}

#[test]
fn reads_beside_a_write_may_see_it_or_not_but_never_go_back() {
    let write = put(0, 10, 1);
    assert!(is_good(&[
        write.clone(),
        get(1, 2, None),
        get(3, 4, Some(1))
    ]));
    assert!(!is_good(&[write, get(1, 2, Some(1)), get(3, 4, None)]));
}

#[test]
fn a_write_without_an_answer_may_take_place_late_or_never() {
    assert!(is_good(&[lost_put(0, 1), get(5, 6, None)]));
    assert!(is_good(&[
        lost_put(0, 1),
        get(5, 6, None),
        get(7, 8, Some(1))
    ]));
    let history = [
        lost_put(0, 1),
        get(5, 6, Some(1)),
        put(7, 8, 2),
        get(9, 10, Some(1)),
    ];
    assert!(!is_good(&history), "it cannot take place twice");
    assert!(
        !is_good(&[get(0, 1, Some(1)), lost_put(2, 1)]),
        "nor before its call"
    );
}

#[test]
fn a_failed_write_that_is_seen_is_found() {
    let failed = operation(0, 1, Action::Put(KEY, 1), Outcome::Failed);
    assert!(is_good(&[failed.clone(), get(2, 3, None)]));
    assert!(!is_good(&[failed, get(2, 3, Some(1))]));
}

#[test]
fn two_replacements_of_one_value_are_found() {
    let done = answer(true, Seen::Nothing);
    let first = replace(2, Some(1), 2, done);
    assert!(is_good(&[put(0, 1, 1), first.clone()]));
    let second = replace(2, Some(1), 3, done);
    assert!(!is_good(&[put(0, 1, 1), first.clone(), second]));
    let told = replace(4, Some(1), 3, answer(false, saw(Some(2))));
    assert!(is_good(&[put(0, 1, 1), first.clone(), told]));
    let wrong = replace(4, Some(2), 3, answer(false, saw(Some(2))));
    assert!(!is_good(&[put(0, 1, 1), first, wrong]));
}

#[test]
fn a_value_that_only_a_comparison_tells_of_counts_as_seen() {
    let followed = replace(2, Some(1), 2, answer(true, Seen::Nothing));
    assert!(is_good(&[lost_put(0, 1), followed]));
}

#[test]
fn deletes_are_judged_by_whether_there_was_something() {
    let delete = |called, changed, seen| {
        operation(
            called,
            called + 1,
            Action::Delete(KEY),
            answer(changed, seen),
        )
    };
    assert!(is_good(&[put(0, 1, 1), delete(2, true, saw(Some(1)))]));
    assert!(!is_good(&[put(0, 1, 1), delete(2, false, Seen::Nothing)]));
    assert!(!is_good(&[delete(2, true, Seen::Nothing)]));
    assert!(is_good(&[lost_put(0, 1), delete(2, true, Seen::Nothing)]));
    let lost = operation(2, 3, Action::Delete(KEY), Outcome::Unknown);
    assert!(is_good(&[
        put(0, 1, 1),
        lost.clone(),
        get(4, 5, Some(1)),
        get(6, 7, None)
    ]));
    assert!(!is_good(&[
        put(0, 1, 1),
        lost,
        get(4, 5, None),
        get(6, 7, Some(1))
    ]));
}

#[test]
fn keys_do_not_explain_each_other() {
    let mut other = put(0, 1, 1);
    other.action = Action::Put(KEY + 1, 1);
    assert!(!is_good(&[other, get(2, 3, Some(1))]));
}

#[test]
fn many_lost_writes_beside_many_readers_are_decided_soon() {
    let mut history = Vec::new();
    for number in 0..400 {
        history.push(lost_put(number * 10, number));
        history.push(get(number * 10 + 1, number * 10 + 15, Some(number)));
    }
    assert!(is_good(&history));
    history.push(get(9_000, 9_001, Some(7)));
    assert!(!is_good(&history));
}
