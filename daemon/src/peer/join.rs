//! `--join`: a new machine asks any member of a running cluster to be added, and learns the ids.
//!
//! Added and not started yet is a state like any other: a machine that asks again, after a crash in
//! between, finds itself by its peer URLs.

use std::time::{Duration, Instant};

use althing_api::id::{ClusterId, MemberId};
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::dial::{collect, dial_one, whole};
use super::survey::{self, ANSWER_BYTES_MAX, Known, KnownMember};

/// How long one answer may take: a member gives up on a change after about as long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a list that is useful but not needed may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a cluster that cannot take a member in yet is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// gRPC's code of a failure that may pass in a moment.
const UNAVAILABLE: i32 = 14;
/// etcd sends this text with the code of an unknown error.
const NOT_ENOUGH_STARTED: &str = "not enough started members";
/// What a learner says.
const NOT_OF_A_LEARNER: &str = "rpc not supported for learner";
/// Texts that refuse an addition that was made already.
const EXISTING: [&str; 2] = ["Peer URLs already exists", "member ID already exist"];

/// What a cluster told about a member that it has taken in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The id that the new member has from now on.
    pub member_id: MemberId,
    /// All members, the new one included.
    pub members: Vec<KnownMember>,
}

/// Why one try failed.
enum Failure {
    /// A failure that may pass in a moment.
    Later(String),
    /// This URL is of no use, but another may be.
    Elsewhere(String),
    Final(String),
}

#[derive(Deserialize)]
struct Header {
    #[serde(deserialize_with = "number")]
    cluster_id: u64,
}

#[derive(Deserialize)]
struct ApiMember {
    #[serde(rename = "ID", deserialize_with = "number")]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct MemberList {
    header: Header,
    members: Vec<ApiMember>,
}

#[derive(Deserialize)]
struct MemberAdded {
    header: Header,
    member: ApiMember,
    members: Vec<ApiMember>,
}

#[derive(Deserialize)]
struct RefusalJson {
    message: String,
    #[serde(default)]
    code: i32,
}

#[derive(Deserialize)]
struct Version {
    althing: Option<String>,
}

/// 64-bit numbers are strings in JSON.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Has the cluster of the members at `client_urls` take in a member that listens at `peer_urls`.
/// Asks again for a while if it cannot yet, and logs why whenever that changes. Error: the reasons,
/// with the URLs that gave them.
pub async fn join(client_urls: &[String], peer_urls: &[String]) -> Result<Admitted, String> {
    let deadline = Instant::now() + PATIENCE;
    let (mut has_asked, mut told) = (false, String::new());
    loop {
        let (mut reasons, mut is_final, mut is_useless) = (Vec::new(), false, true);
        for url in client_urls {
            let failure = match ask(url, peer_urls, &mut has_asked).await {
                Ok(admitted) => return Ok(admitted),
                Err(failure) => failure,
            };
            // A member at another URL may be able to.
            is_final |= matches!(failure, Failure::Final(_));
            is_useless &= matches!(failure, Failure::Elsewhere(_));
            reasons.push(format!("{url}: {}", explained(failure, url).await));
        }
        let why = reasons.join("; ");
        if is_final || is_useless {
            return Err(why);
        }
        if Instant::now() >= deadline {
            let patience = PATIENCE.as_secs();
            return Err(format!(
                "nobody took this member in for {patience} s: {why}"
            ));
        }
        if told != why {
            tracing::warn!(
                why,
                "the cluster cannot take this member in yet; asks again"
            );
            told = why;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What `failure` says, and for one that may pass, which members may be its cause.
async fn explained(failure: Failure, url: &str) -> String {
    match failure {
        Failure::Elsewhere(why) | Failure::Final(why) => why,
        Failure::Later(why) => {
            let absent = absent(url).await;
            if absent.is_empty() {
                why
            } else {
                format!("{why} ({})", absent.join("; "))
            }
        }
    }
}

/// The members that the one at `url` lists and that do not answer here, and what to do about each.
async fn absent(url: &str) -> Vec<String> {
    let listing = tokio::time::timeout(LIST_TIMEOUT, list(url, false));
    let Ok(Ok(known)) = listing.await else {
        return Vec::new();
    };
    let voters = known.members.iter().filter(|member| !member.is_learner);
    let looks = voters.map(|member| async move {
        let is_started = !member.client_urls.is_empty();
        let silence = if is_started {
            Some(survey::ask(member.peer_urls.clone()).await.err()?)
        } else {
            None
        };
        Some(blame(member, silence.as_deref()))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// Names a member because of which a cluster may refuse to grow: one that is silent, or was never
/// started.
fn blame(member: &ApiMember, silence: Option<&str>) -> String {
    let (id, name) = (MemberId(member.id), &member.name);
    let problem = match silence {
        Some(why) => format!("member {name:?}, {id}, does not answer: {why}"),
        None => {
            let urls = member.peer_urls.join(",");
            format!("member {id} at {urls} was added and has never started")
        }
    };
    format!("{problem}; start it, or take it out: althingctl member remove {id}")
}

/// `has_asked` tells whether an addition was sent, by this call or an earlier one.
async fn ask(url: &str, peer_urls: &[String], has_asked: &mut bool) -> Result<Admitted, Failure> {
    let asking = ask_patiently(url, peer_urls, has_asked);
    let asking = tokio::time::timeout(ANSWER_TIMEOUT, asking);
    let silence = || Failure::Later("no answer in time".to_owned());
    asking.await.unwrap_or_else(|_| Err(silence()))
}

async fn ask_patiently(
    url: &str,
    peer_urls: &[String],
    has_asked: &mut bool,
) -> Result<Admitted, Failure> {
    // A member of another program would be harmed by one that does not speak its protocol.
    let version: Version = request(url, Method::GET, "/version", Bytes::new()).await?;
    if version.althing.is_none() {
        let text = "a member of Althing cannot join a cluster of another program";
        return Err(Failure::Final(text.to_owned()));
    }
    // What is final shows in a local list already, which needs no quorum.
    find(&list(url, false).await?.members, peer_urls)?;
    let known = list(url, true).await?;
    if let Some(own) = find(&known.members, peer_urls)? {
        return Ok(Admitted {
            cluster_id: ClusterId(known.header.cluster_id),
            member_id: own,
            members: known.members.into_iter().map(as_told).collect(),
        });
    }
    let wish = serde_json::json!({ "peerURLs": peer_urls }).to_string();
    let asked_before = std::mem::replace(has_asked, true);
    let added = request(url, Method::POST, "/v3/cluster/member/add", wish.into()).await;
    let added: MemberAdded = added.map_err(|failure| {
        if asked_before {
            perhaps_made(failure)
        } else {
            failure
        }
    })?;
    tracing::info!(url, member_id = %MemberId(added.member.id), "the cluster took this member in");
    Ok(Admitted {
        cluster_id: ClusterId(added.header.cluster_id),
        member_id: MemberId(added.member.id),
        members: added.members.into_iter().map(as_told).collect(),
    })
}

fn as_told(member: ApiMember) -> KnownMember {
    KnownMember {
        id: MemberId(member.id),
        peer_urls: member.peer_urls,
        published: !member.client_urls.is_empty(),
    }
}

/// The cluster, as the first of the members at `client_urls` that answers knows it; `None` if none
/// of them answers.
pub async fn known(client_urls: &[String]) -> Option<Known> {
    for url in client_urls {
        let asking = tokio::time::timeout(LIST_TIMEOUT, list(url, false));
        if let Ok(Ok(known)) = asking.await {
            return Some(Known {
                url: url.clone(),
                cluster_id: ClusterId(known.header.cluster_id),
                members: known.members.into_iter().map(as_told).collect(),
            });
        }
    }
    None
}

async fn list(url: &str, linearizable: bool) -> Result<MemberList, Failure> {
    let question = serde_json::json!({ "linearizable": linearizable }).to_string();
    request(
        url,
        Method::POST,
        "/v3/cluster/member/list",
        question.into(),
    )
    .await
}

/// The member with these peer URLs, if there is one. Error: it has run before.
fn find(members: &[ApiMember], peer_urls: &[String]) -> Result<Option<MemberId>, Failure> {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort_unstable();
        urls
    };
    let ours = sorted(peer_urls);
    let mut same = members
        .iter()
        .filter(|member| sorted(&member.peer_urls) == ours);
    let Some(own) = same.next() else {
        return Ok(None);
    };
    let id = MemberId(own.id);
    if own.client_urls.is_empty() {
        return Ok(Some(id));
    }
    let urls = ours.join(",");
    Err(Failure::Final(format!(
        "member {id} has the peer URLs {urls} and has run before; bring its data back, remove it \
         from the cluster, or set --initial-advertise-peer-urls to URLs of this machine"
    )))
}

async fn request<T: DeserializeOwned>(
    url: &str,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<T, Failure> {
    let mut connection = dial_one(url).await.map_err(Failure::Later)?;
    let mut request = connection.request(method, path, whole(body));
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json);
    let later = |error: &dyn std::fmt::Display| Failure::Later(error.to_string());
    let answer = connection.send(request).await.map_err(|e| later(&e))?;
    let status = answer.status();
    let body = collect(answer.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|error| later(&error))?;
    if status == StatusCode::OK {
        let unreadable =
            |error| Failure::Final(format!("{path}: not the answer expected: {error}"));
        return serde_json::from_slice(&body).map_err(unreadable);
    }
    Err(refused(path, status, &body))
}

fn refused(path: &str, status: StatusCode, body: &[u8]) -> Failure {
    let Ok(RefusalJson { message, code }) = serde_json::from_slice(body) else {
        return Failure::Elsewhere(format!(
            "{path}: {status}; name a client URL of a member that serves JSON"
        ));
    };
    if message.contains(NOT_OF_A_LEARNER) {
        return Failure::Elsewhere(format!("{message}; name a client URL of a voter"));
    }
    if code == UNAVAILABLE || message.contains(NOT_ENOUGH_STARTED) {
        Failure::Later(message)
    } else {
        Failure::Final(message)
    }
}

/// Judges the refusal of an addition after an earlier one that got no answer: that one may have
/// been made since, and then the member finds itself.
fn perhaps_made(failure: Failure) -> Failure {
    match failure {
        Failure::Final(why) if EXISTING.iter().any(|text| why.contains(text)) => {
            Failure::Later(why)
        }
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str, client_urls: &[&str]) -> ApiMember {
        ApiMember {
            id,
            name: format!("m{id}"),
            peer_urls: vec![url.to_owned()],
            client_urls: client_urls.iter().map(|url| (*url).to_owned()).collect(),
            is_learner: false,
        }
    }

    #[test]
    fn a_member_that_was_added_and_never_ran_finds_itself() {
        let members = [
            member(1, "http://a:1", &["http://a:2"]),
            member(2, "http://b:1", &[]),
        ];
        let found = |url: &str| find(&members, &[url.to_owned()]);
        assert!(matches!(found("http://b:1"), Ok(Some(MemberId(2)))));
        assert!(matches!(found("http://c:1"), Ok(None)));
        assert!(matches!(found("http://a:1"), Err(Failure::Final(why)) if why.contains("has run")));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_told() {
        let refusal = |body: &str| refused("/path", StatusCode::BAD_REQUEST, body.as_bytes());
        let unhealthy = r#"{"code":14,"message":"etcdserver: unhealthy cluster"}"#;
        assert!(matches!(refusal(unhealthy), Failure::Later(_)));
        let learner = format!(r#"{{"code":9,"message":"etcdserver: {NOT_OF_A_LEARNER}"}}"#);
        let unstarted = format!(r#"{{"code":2,"message":"failed due to {NOT_ENOUGH_STARTED}"}}"#);
        assert!(matches!(refusal(&unstarted), Failure::Later(_)));
        assert!(matches!(refusal(&learner), Failure::Elsewhere(why) if why.contains("voter")));
        let exists = r#"{"code":9,"message":"etcdserver: Peer URLs already exists"}"#;
        assert!(matches!(refusal(exists), Failure::Final(_)));
        assert!(matches!(perhaps_made(refusal(exists)), Failure::Later(_)));
        assert!(matches!(refusal("<html>"), Failure::Elsewhere(why) if why.contains("JSON")));
    }

    #[test]
    fn who_may_be_to_blame_is_named_with_what_to_do() {
        let told = blame(&member(0x1f, "http://a:1", &[]), None);
        let expected = "member 1f at http://a:1 was added and has never started; start it, or \
                        take it out: althingctl member remove 1f";
        assert_eq!(told, expected);
        let silent = member(0x1f, "http://a:1", &["http://a:2"]);
        let told = blame(&silent, Some("http://a:1: Connection refused"));
        let expected = "member \"m31\", 1f, does not answer: http://a:1: Connection refused; start \
                        it, or take it out: althingctl member remove 1f";
        assert_eq!(told, expected);
    }

    #[test]
    fn answers_carry_numbers_as_text() {
        let answer = r#"{"header":{"cluster_id":"18446744073709551615","raft_term":"2"},
            "member":{"ID":"7","peerURLs":["http://a:1"]},"members":[]}"#;
        let added: MemberAdded = serde_json::from_str(answer).unwrap();
        assert_eq!((added.header.cluster_id, added.member.id), (u64::MAX, 7));
    }
}
