//! A table of sick data directories, and what is said of each.

use super::*;
use crate::doctor::Severity::{self, Error, Note, Warning};

/// A member that was stopped in order.
fn well() -> DirectoryFacts {
    DirectoryFacts {
        path: PathBuf::from("/d"),
        refusal: None,
        mode: 0o700,
        owner: 5,
        free_bytes: Some(100 << 30),
        disk_bytes: Some(200 << 30),
        strays: Vec::new(),
        held: Some(Held {
            identity: Ok(Some("member a (1) of cluster 2".to_owned())),
            log: Ok(Some(Log {
                first_index: 1,
                last_index: 9,
                torn: None,
            })),
            store: Ok(Some(Stored {
                applied_index: 9,
                revision: 4,
                keys: 2,
                file_bytes: 20 << 20,
                ..Stored::default()
            })),
            mismatch: None,
        }),
    }
}

fn refusal(what: &'static str) -> Refusal {
    Refusal {
        what,
        text: "/d: it is so".to_owned(),
        remedy: "do this".to_owned(),
    }
}

fn held(facts: &mut DirectoryFacts) -> &mut Held {
    facts.held.as_mut().unwrap()
}

type Case = (
    &'static str,
    fn(&mut DirectoryFacts),
    &'static [(&'static str, Severity)],
);

const CASES: [Case; 17] = [
    ("well", |_| {}, &[]),
    (
        "missing",
        |facts| {
            facts.held = None;
            facts.refusal = Some(refusal("directory-missing"));
        },
        &[("directory-missing", Error)],
    ),
    (
        "in use",
        |facts| {
            facts.held = None;
            facts.refusal = Some(refusal("directory-in-use"));
        },
        &[("directory-in-use", Note)],
    ),
    (
        "empty",
        |facts| facts.held = None,
        &[("directory-empty", Note)],
    ),
    (
        "open to others",
        |facts| facts.mode = 0o750,
        &[("directory-open", Warning)],
    ),
    (
        "a full disk",
        |facts| facts.free_bytes = Some(1 << 20),
        &[("disk-nearly-full", Error)],
    ),
    (
        "a disk that is nearly full",
        |facts| facts.free_bytes = Some(200 << 20),
        &[("disk-nearly-full", Warning)],
    ),
    (
        "a small disk with room",
        |facts| {
            facts.free_bytes = Some(100 << 20);
            facts.disk_bytes = Some(500 << 20);
        },
        &[],
    ),
    (
        "strays",
        |facts| {
            let kinds = [Stray::Unfinished, Stray::Foreign, Stray::Unknown];
            facts.strays = kinds.map(|kind| (kind, PathBuf::from("/d/x"))).to_vec();
        },
        &[
            ("wrong-owner", Error),
            ("unknown-file", Warning),
            ("left-over", Note),
        ],
    ),
    (
        "a damaged log",
        |facts| held(facts).log = Err(refusal("wal-damaged")),
        &[("wal-damaged", Error)],
    ),
    (
        "a damaged store",
        |facts| held(facts).store = Err(refusal("store-damaged")),
        &[("store-damaged", Error)],
    ),
    (
        "a damaged identity",
        |facts| held(facts).identity = Err(refusal("identity-damaged")),
        &[("identity-damaged", Error)],
    ),
    (
        "no identity",
        |facts| held(facts).identity = Ok(None),
        &[("identity-missing", Error)],
    ),
    (
        "begun and never run",
        |facts| {
            *held(facts) = Held {
                identity: Ok(None),
                log: Ok(None),
                store: Ok(None),
                mismatch: None,
            };
        },
        &[],
    ),
    (
        "a torn log",
        |facts| {
            if let Ok(Some(log)) = &mut held(facts).log {
                log.torn = Some((PathBuf::from("/d/x.wal"), 80));
            }
        },
        &[("wal-torn", Note)],
    ),
    (
        "a log and a store of two moments",
        |facts| held(facts).mismatch = Some("the store ends at 9, the log at 4".to_owned()),
        &[("wal-and-store-differ", Error)],
    ),
    (
        "an alarm, and a file that is mostly unused",
        |facts| {
            if let Ok(Some(store)) = &mut held(facts).store {
                store.alarms.push("CORRUPT of member 3".to_owned());
                store.file_bytes = 1 << 30;
            }
        },
        &[("alarm", Warning), ("fragmented", Note)],
    ),
];

#[test]
fn each_sickness_has_its_findings_with_a_remedy() {
    for (name, make_sick, expected) in CASES {
        let mut facts = well();
        make_sick(&mut facts);
        let mut findings = judge(&facts);
        findings.sort_by_key(|finding| finding.severity);
        let found = findings
            .iter()
            .map(|finding| (finding.what, finding.severity));
        assert_eq!(found.collect::<Vec<_>>(), expected, "{name}");
        for finding in &findings {
            assert!(!finding.remedy.is_empty(), "{name}: {finding:?}");
            assert_eq!(finding.place, "/d");
        }
    }
}

#[test]
fn what_was_looked_at_is_told() {
    let text = "data directory /d of member a (1) of cluster 2; log from entry 1 to 9; store to \
                entry 9, revision 4, 2 keys, 21 MB";
    assert_eq!(examined(&well()), text);
}
