//! Asks the members of a cluster who its members are, before this one takes part.

use std::time::Duration;

use althing_api::id::{ClusterId, MemberId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Method, StatusCode};

use super::MemberJson;
use super::dial::{collect, dial_one, whole};
use super::path::CLUSTER_HEADER;

/// How long one member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// More than any list of members takes.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a running member knows of its cluster.
#[derive(Clone, Debug)]
pub struct Known {
    /// The URL at which it was asked.
    pub url: String,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its members.
    pub members: Vec<KnownMember>,
}

/// A member of a running cluster.
#[derive(Clone, Debug)]
pub struct KnownMember {
    /// Its id.
    pub id: MemberId,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// Whether it has run: it told the cluster how clients reach it.
    pub published: bool,
}

/// Asks all of `urls` at once; the first answer counts. Error: what the last one said.
pub async fn ask(urls: Vec<String>) -> Result<Known, String> {
    let mut asking: FuturesUnordered<_> = urls.into_iter().map(ask_one).collect();
    let mut failure = "there is none".to_owned();
    while let Some(answer) = asking.next().await {
        match answer {
            Ok(known) if !known.members.is_empty() => return Ok(known),
            Ok(known) => failure = format!("{}: it does not know its cluster yet", known.url),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn ask_one(url: String) -> Result<Known, String> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, members_at(&url));
    let answer = answer
        .await
        .unwrap_or_else(|_| Err("no answer in time".into()));
    answer.map_err(|error| format!("{url}: {error}"))
}

async fn members_at(url: &str) -> Result<Known, String> {
    let mut connection = dial_one(url).await?;
    let request = connection.request(Method::GET, "/members", whole(bytes::Bytes::new()));
    let answer = connection.send(request).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answers {}", answer.status()));
    }
    let cluster = answer.headers().get(CLUSTER_HEADER);
    let cluster = cluster.and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok());
    let cluster = cluster.ok_or("it does not name its cluster")?;
    let body = collect(answer.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|error| error.to_string())?;
    let members: Vec<MemberJson> =
        serde_json::from_slice(&body).map_err(|error| format!("not a list of members: {error}"))?;
    let known = |member: MemberJson| KnownMember {
        id: MemberId(member.id),
        peer_urls: member.peer_urls,
        published: !member.client_urls.is_empty(),
    };
    Ok(Known {
        url: url.to_owned(),
        cluster_id: ClusterId(cluster),
        members: members.into_iter().map(known).collect(),
    })
}
