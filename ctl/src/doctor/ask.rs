//! Asks a cluster for the facts: each endpoint that the operator names, and each client URL of the
//! members that these know of. Judges nothing; a member that stays silent stops nothing.
//!
//! A member that is away takes the whole time of the command, and so does each question that needs
//! a quorum where there is none. So nothing that can be asked at once waits for another answer.

use std::time::{Duration, SystemTime};

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::{AlarmMember, Member, MemberListRequest, RangeRequest};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};

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
    let known = async {
        let members = first(settings, known_members).await.unwrap_or_default();
        let probes = probe_all(settings, unasked(&members, named)).await;
        (members, probes)
    };
    let (mut probes, (known, others), agreed, alarms) = tokio::join!(
        probe_all(settings, named.clone()),
        known,
        first(settings, agreed_members),
        first(settings, alarms),
    );
    probes.extend(others);
    let listed = agreed.unwrap_or(known);
    // A member that lags does not know of all.
    let asked: Vec<String> = probes.iter().map(|probe| probe.endpoint.clone()).collect();
    probes.extend(probe_all(settings, unasked(&listed, &asked)).await);
    let mut facts = ClusterFacts {
        listed,
        alarms: alarms.unwrap_or_default(),
        probes,
    };
    hash(settings, &mut facts).await;
    facts
}

/// Asks all endpoints that the operator names at once, and returns the first answer. A learner
/// refuses most questions.
async fn first<T, R>(settings: &Settings, question: impl Fn(Client) -> R) -> Option<T>
where
    R: Future<Output = Result<T, Failure>>,
{
    let question = &question;
    let ask = |endpoint: &String| {
        let settings = settings.with_endpoint(endpoint);
        async move {
            let client = Client::open(&settings).await.ok()?;
            question(client).await.ok()
        }
    };
    let mut asking: FuturesUnordered<_> = settings.endpoints.iter().map(ask).collect();
    while let Some(answer) = asking.next().await {
        if answer.is_some() {
            return answer;
        }
    }
    None
}

/// The members as the leader knows them.
async fn agreed_members(client: Client) -> Result<Vec<Member>, Failure> {
    members(client, true).await
}

/// The members as the one that is asked knows them, which needs no quorum.
async fn known_members(client: Client) -> Result<Vec<Member>, Failure> {
    members(client, false).await
}

async fn members(mut client: Client, linearizable: bool) -> Result<Vec<Member>, Failure> {
    let request = MemberListRequest { linearizable };
    Ok(client.member_list(request).await?.members)
}

async fn alarms(mut client: Client) -> Result<Vec<AlarmMember>, Failure> {
    Ok(client.alarms().await?.alarms)
}

/// The client URLs of `members` that are not among those that were asked.
fn unasked(members: &[Member], asked: &[String]) -> Vec<String> {
    let urls = members.iter().flat_map(|member| &member.client_ur_ls);
    urls.filter(|url| !asked.contains(url)).cloned().collect()
}

async fn probe_all(settings: &Settings, endpoints: Vec<String>) -> Vec<Probe> {
    join_all(endpoints.iter().map(|one| probe(settings, one))).await
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
    let read = async {
        match status.leader {
            0 => None,
            _ if status.is_learner => None,
            _ => read(settings).await.err().map(|failure| cause(&failure)),
        }
    };
    let (read, page) = tokio::join!(read, page(endpoint));
    Ok(Answer {
        status,
        read,
        hash: None,
        page,
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
