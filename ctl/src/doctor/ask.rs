//! Asks a cluster for the facts: each endpoint that the operator names, and then each client URL of
//! the members that those did not reach. Judges nothing; a member that stays silent stops nothing.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::{Member, MemberListRequest, RangeRequest};
use bytes::Bytes;
use futures_util::future::join_all;

use super::cluster::{Answer, ClusterFacts, Probe};
use super::page::{self, PageFacts};
use crate::client::{Client, metric};
use crate::failure::Failure;
use crate::flags::Settings;

/// An answer that took longer says nothing about the member's clock.
const ANSWER_PROMPT: Duration = Duration::from_secs(1);

/// Asks the cluster behind the endpoints of `settings`.
pub async fn cluster(settings: &Settings) -> ClusterFacts {
    let named = &settings.endpoints;
    let mut facts = ClusterFacts {
        probes: join_all(named.iter().map(|endpoint| probe(settings, endpoint))).await,
        ..ClusterFacts::default()
    };
    let Some(endpoint) = answering(&facts).next().map(str::to_owned) else {
        return facts;
    };
    facts.listed = members(&settings.with_endpoint(&endpoint)).await;
    let silent = silent(&facts);
    let probes = silent.iter().map(|endpoint| probe(settings, endpoint));
    let probes = join_all(probes).await;
    facts.probes.extend(probes);
    let endpoint = answering(&facts).next().unwrap_or(&endpoint);
    if let Ok(mut client) = Client::open(&settings.with_endpoint(endpoint)).await
        && let Ok(answer) = client.alarms().await
    {
        facts.alarms = answer.alarms;
    }
    hash(settings, &mut facts).await;
    facts
}

fn answering(facts: &ClusterFacts) -> impl Iterator<Item = &str> {
    // A learner refuses most questions.
    let answers = facts.answers().into_iter();
    let (learners, voters): (Vec<_>, Vec<_>) =
        answers.partition(|(_, answer)| answer.status.is_learner);
    voters
        .into_iter()
        .chain(learners)
        .map(|(endpoint, _)| endpoint)
}

/// The client URLs of members that have not answered yet, without those that were tried.
fn silent(facts: &ClusterFacts) -> Vec<String> {
    let heard: BTreeSet<u64> = facts
        .answers()
        .iter()
        .map(|(_, answer)| answer.member_id())
        .collect();
    let silent = facts.listed.iter().filter(|one| !heard.contains(&one.id));
    let tried = |url: &String| facts.probes.iter().any(|probe| probe.endpoint == *url);
    let urls = silent.flat_map(|member| &member.client_ur_ls);
    urls.filter(|url| !tried(url)).cloned().collect()
}

/// The members as this endpoint's leader knows them, or, without a leader, as it does itself.
async fn members(settings: &Settings) -> Vec<Member> {
    for linearizable in [true, false] {
        let Ok(mut client) = Client::open(settings).await else {
            continue;
        };
        let request = MemberListRequest { linearizable };
        if let Ok(answer) = client.member_list(request).await {
            return answer.members;
        }
    }
    Vec::new()
}

async fn probe(settings: &Settings, endpoint: &str) -> Probe {
    let settings = settings.with_endpoint(endpoint);
    Probe {
        endpoint: endpoint.to_owned(),
        answer: answer(&settings, endpoint)
            .await
            .map_err(|failure| cause(&failure)),
    }
}

/// The reason behind a deadline, if one is known.
fn cause(failure: &Failure) -> String {
    let reason = failure.notes.last().unwrap_or(&failure.text);
    // A note begins with the endpoint, which the finding names anyway.
    let short = reason
        .split_once(": ")
        .filter(|_| !failure.notes.is_empty());
    short.map_or(reason.as_str(), |(_, short)| short).to_owned()
}

async fn answer(settings: &Settings, endpoint: &str) -> Result<Answer, Failure> {
    let status = Client::open(settings).await?.status().await?;
    let read = match status.leader {
        0 => None,
        _ if status.is_learner => None,
        _ => read(settings).await.err().map(|failure| cause(&failure)),
    };
    Ok(Answer {
        status,
        read,
        hash: None,
        page: page(endpoint).await,
    })
}

/// Reads a key that need not exist: an answer proves that the member can reach consensus.
async fn read(settings: &Settings) -> Result<(), Failure> {
    let request = RangeRequest {
        key: Bytes::from_static(b"health"),
        ..RangeRequest::default()
    };
    let answer = Client::open(settings).await?.range(request).await;
    match answer {
        // Denying access to the key takes consensus as well.
        Err(failure) if failure.text == ApiError::PermissionDenied.text() => Ok(()),
        answer => answer.map(drop),
    }
}

/// Metrics and the clock, where they can be had over plain HTTP.
async fn page(endpoint: &str) -> Option<PageFacts> {
    let before = SystemTime::now();
    let page = metric::page(endpoint).await.ok()?;
    let after = SystemTime::now();
    let mut facts = PageFacts::read(&page.body);
    let date = page.date;
    let is_prompt = after
        .duration_since(before)
        .is_ok_and(|took| took <= ANSWER_PROMPT);
    let date = date.filter(|_| is_prompt);
    facts.ahead_seconds = date.map(|date| page::ahead_seconds(date, before, after));
    Some(facts)
}

/// Asks the voters for the hash of their keys at the last revision that all of them have.
async fn hash(settings: &Settings, facts: &mut ClusterFacts) {
    let voters = facts.probes.iter().filter_map(|probe| {
        let answer = probe.answer.as_ref().ok()?;
        (!answer.status.is_learner).then_some(answer)
    });
    let revisions = voters.map(|answer| answer.status.header.unwrap_or_default().revision);
    let Some(revision) = revisions.min() else {
        return;
    };
    let hashes = facts.probes.iter_mut().filter_map(|probe| {
        let answer = probe.answer.as_mut().ok()?;
        let settings = settings.with_endpoint(&probe.endpoint);
        (!answer.status.is_learner).then_some(async move {
            if let Ok(mut client) = Client::open(&settings).await {
                answer.hash = client.hash_kv(revision).await.ok();
            }
        })
    });
    join_all(hashes).await;
}
