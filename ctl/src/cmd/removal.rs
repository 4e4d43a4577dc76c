//! What `member remove` would do to a cluster: whether those that are left still make decisions.

use std::io::Write;

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::Member;

use crate::doctor::ask;
use crate::doctor::cluster::ClusterFacts;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;

/// The voters before the removal, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Voters {
    all: usize,
    /// How many of them answered.
    alive: usize,
}

impl Voters {
    fn of<'a>(members: impl Iterator<Item = &'a Member>, alive: &[u64]) -> Voters {
        let voters: Vec<u64> = members
            .filter(|member| !member.is_learner)
            .map(|member| member.id)
            .collect();
        Voters {
            all: voters.len(),
            alive: voters.iter().filter(|id| alive.contains(id)).count(),
        }
    }

    fn needed(self) -> usize {
        self.all / 2 + 1
    }

    fn told(self) -> String {
        let Voters { all, alive } = self;
        format!(
            "{all} voters, {alive} of which answer and {} are needed",
            self.needed()
        )
    }
}

/// Asks the cluster, and reports the effect.
pub(super) async fn foresee(
    id: u64,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let facts = ask::cluster(settings).await;
    let told = told(id, &facts)?;
    Ok(writeln!(out, "{told}; nothing was changed")?)
}

/// The effect in a sentence. Errors: there is no such member, or the cluster would stop.
fn told(id: u64, facts: &ClusterFacts) -> Result<String, Failure> {
    if facts.listed.is_empty() {
        let text = "no endpoint tells who the members are; see althingctl doctor";
        return Err(Failure::new(ERROR, text));
    }
    let member = facts.listed.iter().find(|member| member.id == id);
    let member = member.ok_or_else(|| Failure::new(ERROR, ApiError::MemberNotFound.text()))?;
    let answers = facts.answers().into_iter();
    let alive: Vec<u64> = answers.map(|(_, answer)| answer.member_id()).collect();
    let before = Voters::of(facts.listed.iter(), &alive);
    let left = facts.listed.iter().filter(|member| member.id != id);
    let after = Voters::of(left, &alive);
    let what = if member.is_learner {
        "learner"
    } else {
        "voter"
    };
    let effect = format!(
        "would remove {what} {id:x} {}: from {} to {}",
        member.name,
        before.told(),
        after.told()
    );
    if after.all == 0 || after.alive < after.needed() {
        let text = format!("{effect}: the cluster would stop; start other members first");
        return Err(Failure::new(ERROR, text));
    }
    Ok(effect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::cluster::{Answer, Probe};
    use althing_api::etcdserverpb::{ResponseHeader, StatusResponse};

    fn facts(voters: u64, learners: u64, alive: &[u64]) -> ClusterFacts {
        let member = |id| Member {
            id,
            is_learner: id > voters,
            ..Member::default()
        };
        let probe = |id: &u64| {
            let header = ResponseHeader {
                member_id: *id,
                ..ResponseHeader::default()
            };
            let status = StatusResponse {
                header: Some(header),
                ..StatusResponse::default()
            };
            Probe {
                endpoint: id.to_string(),
                answer: Ok(Answer {
                    status,
                    ..Answer::default()
                }),
            }
        };
        ClusterFacts {
            listed: (1..=voters + learners).map(member).collect(),
            alarms: Vec::new(),
            probes: alive.iter().map(probe).collect(),
        }
    }

    #[test]
    fn a_removal_is_safe_when_those_left_are_enough() {
        let safe = [
            (facts(3, 0, &[1, 2, 3]), 3),
            (facts(3, 0, &[1, 2]), 3),
            (facts(1, 1, &[1]), 2),
            (facts(5, 0, &[1, 2, 3]), 5),
        ];
        for (facts, id) in safe {
            let told = told(id, &facts);
            assert!(told.is_ok(), "{told:?}");
        }
        let stops = [
            (facts(3, 0, &[1, 2]), 1),
            (facts(1, 0, &[1]), 1),
            (facts(2, 0, &[1]), 1),
            (facts(3, 0, &[1, 2, 3]), 9),
        ];
        for (facts, id) in stops {
            let told = told(id, &facts);
            assert!(told.is_err(), "{told:?}");
        }
        let told = told(3, &facts(3, 0, &[1, 3])).unwrap_err();
        assert_eq!(
            told.text,
            "would remove voter 3 : from 3 voters, 2 of which answer and 2 are needed to 2 voters, \
             1 of which answer and 2 are needed: the cluster would stop; start other members first"
        );
    }
}
