//! What is wrong with a cluster as a whole: members that are away, a quorum that hangs by a thread,
//! alarms, and members that do not agree.

use std::collections::{BTreeMap, BTreeSet};

use althing_api::etcdserverpb::{AlarmMember, AlarmType, HashKvResponse, Member, StatusResponse};

use super::member::{self, Site};
use super::page::PageFacts;
use super::{Finding, Report};
use crate::print::counted;

/// What was learned about a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterFacts {
    /// The members that the cluster says it has; empty if nobody could say.
    pub listed: Vec<Member>,
    /// Active alarms.
    pub alarms: Vec<AlarmMember>,
    /// The result of asking each endpoint.
    pub probes: Vec<Probe>,
}

/// One endpoint that was asked.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The endpoint as the operator or the cluster names it.
    pub endpoint: String,
    /// What it said, or why it did not.
    pub answer: Result<Answer, String>,
}

/// What a member said.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its state.
    pub status: StatusResponse,
    /// Why it could not answer a linearizable read.
    pub read: Option<String>,
    /// The hash of its keys, at the revision that all were asked for.
    pub hash: Option<HashKvResponse>,
    /// What its metrics say.
    pub page: Option<PageFacts>,
}

impl Answer {
    /// The member that answered.
    pub fn member_id(&self) -> u64 {
        self.status.header.unwrap_or_default().member_id
    }

    fn cluster_id(&self) -> u64 {
        self.status.header.unwrap_or_default().cluster_id
    }
}

impl ClusterFacts {
    /// The answers, each member's once.
    pub fn answers(&self) -> Vec<(&str, &Answer)> {
        let mut seen = BTreeSet::new();
        let answers = self.probes.iter().filter_map(|probe| {
            let answer = probe.answer.as_ref().ok()?;
            Some((probe.endpoint.as_str(), answer))
        });
        answers
            .filter(|(_, answer)| seen.insert(answer.member_id()))
            .collect()
    }

    fn has_answered(&self, member: &Member) -> bool {
        let mut answers = self.answers().into_iter();
        answers.any(|(_, answer)| answer.member_id() == member.id)
    }

    /// A member's name, if it has one, and its id.
    fn called(&self, id: u64) -> String {
        let listed = self.listed.iter().find(|member| member.id == id);
        match listed {
            Some(member) if !member.name.is_empty() => format!("{} ({id:x})", member.name),
            _ => format!("{id:x}"),
        }
    }

    fn voters(&self) -> Vec<&Member> {
        let voters = self.listed.iter().filter(|member| !member.is_learner);
        voters.collect()
    }
}

/// Everything that is to be said about a cluster.
pub fn judge(facts: &ClusterFacts) -> Report {
    let mut findings = absent(facts);
    findings.extend(quorum(facts));
    findings.extend(alarms(facts));
    findings.extend(disagreements(facts));
    findings.extend(hashes(facts));
    findings.extend(clocks(facts));
    let answers = facts.answers();
    let last = answers.iter().map(|(_, answer)| answer.status.raft_index);
    let last = last.max().unwrap_or(0);
    for (endpoint, answer) in answers {
        let site = Site {
            endpoint,
            place: format!("{} at {endpoint}", facts.called(answer.member_id())),
            last_index: last,
        };
        findings.extend(member::judge(&site, answer));
    }
    Report::new(vec![examined(facts)], findings)
}

fn examined(facts: &ClusterFacts) -> String {
    let answers = facts.answers();
    let Some((_, first)) = answers.first() else {
        let endpoints = counted(facts.probes.len() as u64, "endpoint");
        return format!("{endpoints}, none of which answered");
    };
    let leader = answers.iter().map(|(_, answer)| answer.status.leader);
    let leader = leader.max().filter(|leader| *leader != 0);
    let leader = leader.map_or("none".to_owned(), |leader| facts.called(leader));
    let revision = answers
        .iter()
        .map(|(_, answer)| answer.status.header.unwrap_or_default().revision)
        .max();
    let members = facts.listed.len().max(answers.len());
    format!(
        "cluster {:x}: {}, {} of them answered; leader {leader}, revision {}",
        first.cluster_id(),
        counted(members as u64, "member"),
        answers.len(),
        revision.unwrap_or(0)
    )
}

/// Members that do not answer, and endpoints that belong to no member.
fn absent(facts: &ClusterFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = BTreeSet::new();
    for member in &facts.listed {
        let tried = facts
            .probes
            .iter()
            .filter(|probe| probe.answer.is_err() && member.client_ur_ls.contains(&probe.endpoint));
        let tried: Vec<&Probe> = tried.collect();
        told.extend(tried.iter().map(|probe| probe.endpoint.as_str()));
        if facts.has_answered(member) {
            continue;
        }
        let (called, id) = (facts.called(member.id), member.id);
        if member.client_ur_ls.is_empty() {
            let text = "was added to the cluster and has never started";
            findings.push(
                Finding::warning("unstarted", called, text)
                    .because("a voter that does not run counts against the quorum all the same")
                    .so(format!(
                        "start it with --initial-cluster-state existing and the peer URL {}, or \
                         take it back: althingctl member remove {id:x}",
                        member.peer_ur_ls.join(",")
                    )),
            );
            continue;
        }
        let causes = tried.iter().filter_map(|probe| probe.answer.as_ref().err());
        let causes: Vec<&str> = causes.map(String::as_str).collect();
        let urls = member.client_ur_ls.join(", ");
        let text = format!("does not answer: {}", causes.join("; "));
        findings.push(
            Finding::error("unreachable", format!("{called} at {urls}"), text)
                .because("the cluster lacks a copy, and stops when a majority of voters is away")
                .so(format!(
                    "on its machine: systemctl status althing; journalctl -u althing; when it does \
                     not start: althingctl doctor --data-dir DIR. If the machine is lost for good: \
                     althingctl member remove {id:x}, then add another"
                )),
        );
    }
    for probe in &facts.probes {
        if let Err(cause) = &probe.answer
            && !told.contains(probe.endpoint.as_str())
        {
            let text = format!("does not answer: {cause}");
            findings.push(
                Finding::error("unreachable", &probe.endpoint, text)
                    .because("whether a member runs there cannot be told from here")
                    .so(
                        "see whether althingd runs there and listens (--listen-client-urls), and \
                         whether --endpoints, certificates and firewalls are right",
                    ),
            );
        }
    }
    findings
}

/// How many more members may fail.
fn quorum(facts: &ClusterFacts) -> Option<Finding> {
    let voters = facts.voters();
    let needed = voters.len() / 2 + 1;
    let alive = voters.iter().filter(|voter| facts.has_answered(voter));
    let alive = alive.count();
    if voters.is_empty() || alive == voters.len() {
        return None;
    }
    let place = "cluster";
    let text = format!(
        "{alive} of {} voters answer, {needed} are needed",
        voters.len()
    );
    if alive < needed {
        let finding = Finding::error("quorum-lost", place, text);
        return Some(
            finding
                .because("nothing can be written, nor read but by --consistency=s")
                .so(
                    "start members that are down. Only if their disks are lost: save a snapshot \
                     of a member that runs (althingctl snapshot save), and begin a new cluster \
                     from it (althingctl snapshot restore)",
                ),
        );
    }
    let spare = alive - needed;
    let why = match spare {
        0 => "the next member that fails stops the cluster".to_owned(),
        _ => format!("{spare} more may fail before the cluster stops"),
    };
    let finding = Finding::warning("quorum-at-risk", place, text).because(why);
    Some(finding.so("start the members that are down before anything else is changed"))
}

fn alarms(facts: &ClusterFacts) -> Vec<Finding> {
    let one = |alarm: &AlarmMember| {
        let place = facts.called(alarm.member_id);
        match alarm.alarm() {
            AlarmType::Nospace => {
                let text = "raised the alarm NOSPACE: its quota is used up";
                Finding::error("alarm-nospace", place, text)
                    .because("the whole cluster refuses to write; deletion and compaction work")
                    .so(
                        "delete what is not needed, then althingctl compaction REVISION and \
                         althingctl defrag --cluster, or raise --quota-backend-bytes and reload. \
                         The alarm then ends by itself; with etcd's servers: althingctl alarm \
                         disarm",
                    )
            }
            AlarmType::Corrupt => {
                let text = "raised the alarm CORRUPT: its keys differ from the majority's";
                Finding::error("alarm-corrupt", place, text)
                    .because("the whole cluster refuses to write, so that damage does not spread")
                    .so(format!(
                        "save a snapshot of a good member (althingctl snapshot save); then \
                         althingctl member remove {:x}, empty its data directory, add it again, \
                         and when all agree: althingctl alarm disarm",
                        alarm.member_id
                    ))
            }
            AlarmType::None => Finding::warning("alarm-unknown", place, "raised an unknown alarm")
                .so("ask with the client of the version that the members run"),
        }
    };
    let is_gone = |id| !facts.listed.is_empty() && facts.listed.iter().all(|one| one.id != id);
    let told = |alarm: &AlarmMember| {
        if is_gone(alarm.member_id) {
            one(alarm).so(
        "no member has this id any more, so that nobody ends the alarm; if its cause is gone: \
         althingctl alarm disarm",
    )
        } else {
            one(alarm)
        }
    };
    facts.alarms.iter().map(told).collect()
}

/// Which members say what, where they should say the same; empty when they do.
fn split<T: Ord>(facts: &ClusterFacts, fact: impl Fn(&Answer) -> Option<T>) -> Vec<(T, String)> {
    let mut said: BTreeMap<T, Vec<String>> = BTreeMap::new();
    for (_, answer) in facts.answers() {
        if let Some(value) = fact(answer) {
            let who = facts.called(answer.member_id());
            said.entry(value).or_default().push(who);
        }
    }
    match said.len() {
        0 | 1 => Vec::new(),
        _ => said
            .into_iter()
            .map(|(value, who)| (value, who.join(", ")))
            .collect(),
    }
}

fn joined<T>(said: &[(T, String)], show: impl Fn(&T) -> String) -> String {
    let one = |(value, who): &(T, String)| format!("{} at {who}", show(value));
    said.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn disagreements(facts: &ClusterFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let clusters = split(facts, |answer| Some(answer.cluster_id()));
    if !clusters.is_empty() {
        let text = joined(&clusters, |id| format!("cluster {id:x}"));
        findings.push(
            Finding::error("cluster-ids-differ", "endpoints", text)
                .because("what is written to one of them is never seen at the other")
                .so(
                    "name the endpoints of one cluster; a member that began alone by mistake is \
                     stopped, its data directory emptied, and added with althingctl member add",
                ),
        );
        return findings;
    }
    let leaders = split(facts, |answer| {
        let leader = answer.status.leader;
        (leader != 0).then_some(leader)
    });
    if !leaders.is_empty() {
        let text = joined(&leaders, |id| format!("leader {}", facts.called(*id)));
        findings.push(
            Finding::warning("leaders-differ", "cluster", text)
                .because("a change of leaders is under way, or members cannot reach each other")
                .so(
                    "ask again; if it stays so, see that each member reaches the peer URLs of all \
                     others (althingctl member list)",
                ),
        );
    }
    let versions = split(facts, |answer| Some(answer.status.version.clone()));
    if !versions.is_empty() {
        let text = joined(&versions, |version| format!("version {version}"));
        findings.push(
            Finding::warning("versions-differ", "cluster", text)
                .because("the cluster does what its oldest member can do")
                .so("end the upgrade, one member after the other"),
        );
    }
    findings
}

/// Compares hashes, which mean something only at the same revision and after the same compaction.
fn hashes(facts: &ClusterFacts) -> Option<Finding> {
    let mut kinds: BTreeMap<(i64, i64), BTreeSet<u32>> = BTreeMap::new();
    for (_, answer) in facts.answers() {
        if let Some(hash) = &answer.hash {
            let kind = (hash.compact_revision, hash.hash_revision);
            kinds.entry(kind).or_default().insert(hash.hash);
        }
    }
    let (kind, _) = kinds.into_iter().find(|(_, hashes)| hashes.len() > 1)?;
    let said = split(facts, |answer| {
        let hash = answer.hash.as_ref()?;
        let same = (hash.compact_revision, hash.hash_revision) == kind;
        same.then_some(hash.hash)
    });
    let text = joined(&said, |hash| format!("hash {hash}"));
    let finding = Finding::error("hash-differs", "cluster", text);
    Some(
        finding
            .because("members hold different keys for the same revision: one of them is damaged")
            .so(
                "stop writing; find the odd one (althingctl endpoint hashkv --cluster); save a \
                 snapshot of a good member, then remove the odd one, empty its data directory and \
                 add it again",
            ),
    )
}

/// Clocks that differ by more than `Date` can be wrong by, in seconds.
const AHEAD_SECONDS_MAX: f64 = 2.0;
/// From this many clocks on, the odd one is told from the others rather than from ours.
const CLOCKS_MIN: usize = 3;

fn clocks(facts: &ClusterFacts) -> Vec<Finding> {
    let answers = facts.answers();
    let ahead = |answer: &Answer| answer.page.as_ref()?.ahead_seconds;
    let mut known: Vec<f64> = answers.iter().filter_map(|(_, one)| ahead(one)).collect();
    known.sort_by(f64::total_cmp);
    let (reference, whose) = match known.len() {
        CLOCKS_MIN.. => (known[known.len() / 2], "the other members'"),
        _ => (0.0, "this machine's"),
    };
    let mut findings = Vec::new();
    for (_, answer) in answers {
        let Some(seconds) = ahead(answer).map(|ahead| ahead - reference) else {
            continue;
        };
        if seconds.abs() > AHEAD_SECONDS_MAX {
            let side = if seconds > 0.0 { "ahead of" } else { "behind" };
            let text = format!("its clock is {:.0} s {side} {whose}", seconds.abs());
            findings.push(
                Finding::warning("clock-skew", facts.called(answer.member_id()), text)
                    .because(
                        "certificates and tokens expire by it, and logs cannot be compared; \
                              leases and consensus do not depend on it",
                    )
                    .so("set up time synchronisation: timedatectl set-ntp true"),
            );
        }
    }
    findings
}

#[cfg(test)]
#[path = "cluster_test.rs"]
mod tests;
