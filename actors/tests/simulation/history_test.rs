//! Histories that are right, and one for each way of being wrong.

use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Ask {
    Ask::Put {
        keys: vec![bytes(key)],
        value: bytes(value),
    }
}

fn op(began: u64, ended: u64, ask: Ask, told: Told) -> Op {
    Op {
        ask,
        began,
        ended,
        told,
    }
}

fn done(revision: i64) -> Told {
    Told::Done {
        revision,
        changed: true,
    }
}

fn state(revision: i64, state: &[(&str, &str)]) -> Told {
    let state = state.iter().map(|(key, value)| (bytes(key), bytes(value)));
    Told::State {
        revision,
        state: state.collect(),
    }
}

fn fact(key: &str, value: &str, create_revision: i64, version: i64) -> Fact {
    Fact {
        key: bytes(key),
        value: Some(bytes(value)),
        create_revision,
        version,
    }
}

/// Two puts of one key, and a read between them.
fn right() -> History {
    let read = Ask::Read { fresh: true };
    History {
        facts: BTreeMap::from([
            (2, vec![fact("k", "a", 2, 1)]),
            (3, vec![fact("k", "b", 2, 2)]),
        ]),
        ops: vec![
            op(1, 2, put("k", "a"), done(2)),
            op(3, 4, read.clone(), state(2, &[("k", "a")])),
            op(5, 6, put("k", "b"), done(3)),
            op(7, 8, read, state(3, &[("k", "b")])),
        ],
        compacted: 0,
    }
}

#[test]
fn a_right_history_is_right() {
    assert_eq!(right().check(), Ok(()));
}

#[test]
fn each_way_to_be_wrong_is_found() {
    type Harm = fn(&mut History);
    let wrong: [(&str, Harm); 11] = [
        ("an acknowledged write is lost", |all| {
            all.facts.remove(&3);
        }),
        ("a write in the middle is lost", |all| {
            all.ops.remove(0);
            all.ops.remove(0);
            all.facts.remove(&2);
        }),
        ("another value is there", |all| {
            all.facts.insert(3, vec![fact("k", "a", 2, 2)]);
        }),
        ("nobody wrote it", |all| {
            all.ops.remove(0);
        }),
        ("what was refused is visible", |all| {
            all.ops[2].told = Told::Refused
        }),
        ("a write is applied twice", |all| {
            all.facts.insert(4, vec![fact("k", "b", 2, 3)]);
        }),
        ("a read is stale", |all| {
            all.ops[3].told = state(2, &[("k", "a")]);
        }),
        ("a read sees another state", |all| {
            all.ops[3].told = state(3, &[("k", "a")]);
        }),
        ("a read sees a part", |all| all.ops[3].told = state(3, &[])),
        ("a version is skipped", |all| {
            all.facts.insert(3, vec![fact("k", "b", 2, 3)]);
        }),
        ("two writes have one revision", |all| {
            all.ops[2].told = done(2);
        }),
    ];
    for (what, harm) in wrong {
        let mut history = right();
        harm(&mut history);
        assert!(history.check().is_err(), "{what}");
    }
}

#[test]
fn a_swap_happens_exactly_where_its_condition_holds() {
    let swap = |expected: &str, told| {
        let ask = Ask::Swap {
            key: bytes("k"),
            expected: bytes(expected),
            value: bytes("b"),
        };
        let mut history = right();
        history.ops[2] = op(5, 6, ask, told);
        history.check()
    };
    assert_eq!(swap("a", done(3)), Ok(()));
    assert!(swap("z", done(3)).is_err());
    let not = |expected: &str| {
        let mut history = right();
        let ask = Ask::Swap {
            key: bytes("k"),
            expected: bytes(expected),
            value: bytes("c"),
        };
        let told = Told::Done {
            revision: 3,
            changed: false,
        };
        history.ops.push(op(9, 10, ask, told));
        history.check()
    };
    assert_eq!(not("a"), Ok(()));
    assert!(not("b").is_err());
}

#[test]
fn a_read_that_need_not_be_fresh_may_be_old_but_not_invented() {
    let read = |told| {
        let mut history = right();
        history
            .ops
            .push(op(9, 10, Ask::Read { fresh: false }, told));
        history.check()
    };
    assert_eq!(read(state(2, &[("k", "a")])), Ok(()));
    assert!(read(state(2, &[("k", "b")])).is_err());
}

#[test]
fn what_was_compacted_before_anybody_saw_it_is_not_missed() {
    let mut history = right();
    history.facts.remove(&2);
    assert!(history.check().is_err());
    history.compacted = 3;
    assert_eq!(history.check(), Ok(()));
}
