//! A table of sick clusters, and what is said of each.

use althing_api::etcdserverpb::{DowngradeInfo, ResponseHeader};

use super::*;
use crate::doctor::Severity;

fn member(id: u64, name: &str) -> Member {
    Member {
        id,
        name: name.to_owned(),
        peer_ur_ls: vec![format!("http://peer{id}")],
        client_ur_ls: vec![format!("http://{name}:1")],
        is_learner: false,
    }
}

fn answer(id: u64) -> Answer {
    Answer {
        status: StatusResponse {
            header: Some(ResponseHeader {
                cluster_id: 9,
                member_id: id,
                revision: 7,
                raft_term: 2,
            }),
            version: "3.7.0".to_owned(),
            db_size: 20 << 20,
            db_size_in_use: 10 << 20,
            db_size_quota: 2 << 30,
            leader: 1,
            raft_index: 100,
            raft_applied_index: 100,
            raft_term: 2,
            ..StatusResponse::default()
        },
        read: None,
        hash: Some(HashKvResponse {
            hash: 5,
            compact_revision: -1,
            hash_revision: 7,
            ..HashKvResponse::default()
        }),
        page: Some(PageFacts {
            fsync_seconds: Some(0.008),
            ahead_seconds: Some(0.3),
            ..PageFacts::default()
        }),
    }
}

/// Three members, all well.
fn well() -> ClusterFacts {
    let names = [(1, "a"), (2, "b"), (3, "c")];
    let probe = |(id, name)| Probe {
        endpoint: format!("http://{name}:1"),
        answer: Ok(answer(id)),
    };
    ClusterFacts {
        listed: names.map(|(id, name)| member(id, name)).to_vec(),
        alarms: Vec::new(),
        probes: names.map(probe).to_vec(),
    }
}

fn silence(facts: &mut ClusterFacts, position: usize) {
    facts.probes[position].answer = Err("connection refused".to_owned());
}

fn change(facts: &mut ClusterFacts, position: usize, change: impl FnOnce(&mut Answer)) {
    change(facts.probes[position].answer.as_mut().unwrap());
}

fn page(facts: &mut ClusterFacts, position: usize, change_page: impl FnOnce(&mut PageFacts)) {
    change(facts, position, |answer| {
        change_page(answer.page.as_mut().unwrap())
    });
}

/// A sickness and the findings it must have: kind and severity, the worst first.
type Case = (
    &'static str,
    fn(&mut ClusterFacts),
    &'static [(&'static str, Severity)],
);

use Severity::{Error, Note, Warning};

const OF_MEMBERS: [Case; 12] = [
    ("well", |_| {}, &[]),
    (
        "one is down",
        |facts| silence(facts, 2),
        &[("unreachable", Error), ("quorum-at-risk", Warning)],
    ),
    (
        "the majority is down",
        |facts| {
            silence(facts, 0);
            silence(facts, 1);
            change(facts, 2, |answer| answer.status.leader = 0);
        },
        &[
            ("unreachable", Error),
            ("unreachable", Error),
            ("quorum-lost", Error),
            ("no-leader", Error),
        ],
    ),
    (
        "nobody answers",
        |facts| {
            facts.listed.clear();
            (0..3).for_each(|position| silence(facts, position));
        },
        &[("unreachable", Error); 3],
    ),
    (
        "two of five are down",
        |facts| {
            for (id, name) in [(4, "d"), (5, "e")] {
                facts.listed.push(member(id, name));
            }
            silence(facts, 0);
            facts.probes.push(Probe {
                endpoint: "http://d:1".to_owned(),
                answer: Ok(answer(4)),
            });
            facts.probes.push(Probe {
                endpoint: "http://e:1".to_owned(),
                answer: Ok(answer(5)),
            });
        },
        &[("unreachable", Error), ("quorum-at-risk", Warning)],
    ),
    (
        "added and never started",
        |facts| {
            let mut added = member(4, "");
            added.client_ur_ls.clear();
            facts.listed.push(added);
        },
        &[("unstarted", Warning), ("quorum-at-risk", Warning)],
    ),
    (
        "an endpoint that is nobody's",
        |facts| {
            facts.probes.push(Probe {
                endpoint: "x:1".to_owned(),
                answer: Err("no such host".to_owned()),
            });
        },
        &[("unreachable", Error)],
    ),
    (
        "another URL of a member that answers",
        |facts| {
            facts.listed[0]
                .client_ur_ls
                .push("http://10.9.9.9:1".to_owned());
            facts.probes.push(Probe {
                endpoint: "http://10.9.9.9:1".to_owned(),
                answer: Err("timed out".to_owned()),
            });
        },
        &[],
    ),
    (
        "a read that fails",
        |facts| {
            change(facts, 1, |answer| {
                answer.read = Some("timed out".to_owned())
            })
        },
        &[("read-failed", Error)],
    ),
    (
        "a learner that is behind",
        |facts| {
            facts.listed[2].is_learner = true;
            change(facts, 2, |answer| {
                answer.status.is_learner = true;
                answer.status.raft_applied_index = 80;
                answer.hash = None;
            });
        },
        &[("learner-behind", Warning)],
    ),
    (
        "a learner that has caught up",
        |facts| {
            facts.listed[2].is_learner = true;
            change(facts, 2, |answer| answer.status.is_learner = true);
        },
        &[("learner", Note)],
    ),
    (
        "a follower that is behind",
        |facts| change(facts, 0, |answer| answer.status.raft_index = 50_000),
        &[("behind", Warning); 3],
    ),
];

const OF_STATE: [Case; 12] = [
    (
        "alarms",
        |facts| {
            for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
                facts.alarms.push(AlarmMember {
                    member_id: 2,
                    alarm: kind as i32,
                });
            }
        },
        &[("alarm-nospace", Error), ("alarm-corrupt", Error)],
    ),
    (
        "two clusters",
        |facts| {
            change(facts, 1, |answer| {
                answer.status.header.as_mut().unwrap().cluster_id = 8;
                answer.status.version = "3.5.1".to_owned();
            });
        },
        &[("cluster-ids-differ", Error)],
    ),
    (
        "two leaders",
        |facts| change(facts, 1, |answer| answer.status.leader = 2),
        &[("leaders-differ", Warning)],
    ),
    (
        "two versions",
        |facts| {
            change(facts, 1, |answer| {
                answer.status.version = "3.6.0".to_owned()
            })
        },
        &[("versions-differ", Warning)],
    ),
    (
        "two hashes",
        |facts| change(facts, 1, |answer| answer.hash.as_mut().unwrap().hash = 6),
        &[("hash-differs", Error)],
    ),
    (
        "hashes that cannot be compared",
        |facts| {
            change(facts, 1, |answer| {
                let hash = answer.hash.as_mut().unwrap();
                (hash.hash, hash.compact_revision) = (6, 3);
            });
        },
        &[],
    ),
    (
        "a clock that is ahead of the others",
        |facts| page(facts, 1, |page| page.ahead_seconds = Some(9.0)),
        &[("clock-skew", Warning)],
    ),
    (
        "a quota that is nearly used up",
        |facts| {
            change(facts, 1, |answer| {
                answer.status.db_size = 1_900 << 20;
                answer.status.db_size_in_use = 1_800 << 20;
            });
        },
        &[("quota-nearly-full", Warning)],
    ),
    (
        "a file that is nearly as large as the quota, and mostly unused",
        |facts| {
            change(facts, 1, |answer| {
                answer.status.db_size_quota = 0;
                answer.status.db_size = 1_900 << 20;
            });
            page(facts, 1, |page| page.quota_bytes = Some(2e9));
        },
        &[("fragmented", Warning)],
    ),
    (
        "a file that is mostly unused",
        |facts| change(facts, 1, |answer| answer.status.db_size = 100 << 20),
        &[("fragmented", Note)],
    ),
    (
        "a slow disk, and many connections",
        |facts| {
            page(facts, 1, |page| {
                page.fsync_seconds = Some(f64::INFINITY);
                page.commit_seconds = Some(2.0);
                page.descriptors_part = Some(0.9);
            });
        },
        &[
            ("slow-disk", Warning),
            ("slow-disk", Warning),
            ("descriptors-nearly-used", Warning),
        ],
    ),
    (
        "a downgrade",
        |facts| {
            change(facts, 1, |answer| {
                answer.status.downgrade_info = Some(DowngradeInfo {
                    enabled: true,
                    target_version: "3.6.0".to_owned(),
                });
            });
        },
        &[("downgrade", Note)],
    ),
];

#[test]
fn each_sickness_has_its_findings_with_a_remedy() {
    for (name, make_sick, expected) in OF_MEMBERS.into_iter().chain(OF_STATE) {
        let mut facts = well();
        make_sick(&mut facts);
        let report = judge(&facts);
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|finding| (finding.what, finding.severity))
            .collect();
        assert_eq!(found, expected, "{name}");
        let harmless = expected.iter().all(|(_, severity)| *severity == Note);
        assert_eq!(report.healthy, harmless, "{name}");
        for finding in &report.findings {
            assert!(!finding.remedy.is_empty(), "{name}: {finding:?}");
            assert!(!finding.place.is_empty() && !finding.text.is_empty());
        }
    }
}

#[test]
fn findings_name_the_member_and_what_it_said() {
    let mut facts = well();
    silence(&mut facts, 1);
    let report = judge(&facts);
    let first = &report.findings[0];
    assert_eq!(first.place, "b (2) at http://b:1");
    assert_eq!(first.text, "does not answer: connection refused");
    assert!(first.remedy.contains("althingctl member remove 2"));
    let sentence = "cluster 9: 3 members, 2 of them answered; leader a (1), revision 7";
    assert_eq!(report.examined, [sentence]);
    let mut facts = well();
    facts.alarms.push(AlarmMember {
        member_id: 77,
        alarm: AlarmType::Corrupt as i32,
    });
    let remedy = &judge(&facts).findings[0].remedy;
    assert!(remedy.starts_with("no member has this id"), "{remedy}");
    let mut facts = well();
    page(&mut facts, 2, |page| page.ahead_seconds = Some(-60.0));
    let text = "its clock is 60 s behind the other members'";
    assert_eq!(judge(&facts).findings[0].text, text);
    assert_eq!(judge(&facts).findings[0].place, "c (3)");
}
