//! Whether the cluster dials this member where it can be reached. What it advertises counts at its
//! first start; from then on the cluster dials the URLs that it knows, until it is told others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use althing_actors::node::{Handles, MemberStatus, NodeSettings};
use futures_util::future::join_all;

use crate::peer::survey;

/// How long the name of a host may take to resolve.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// A URL, and the addresses that it leads to.
type Place = (String, BTreeSet<SocketAddr>);

/// Warns if the cluster dials the member elsewhere: its peer URL was changed here alone, or this is
/// the data directory of another member. It may never be heard.
pub(crate) async fn tell_of_other_urls(handles: Handles, settings: NodeSettings) {
    let advertised = &settings.peer_urls;
    let Some(dialled) = dialled(&handles, &settings).await else {
        return;
    };
    // Names need not resolve if they are the same.
    if BTreeSet::from_iter(&dialled) == BTreeSet::from_iter(advertised)
        || are_same(&places(&dialled).await, &places(advertised).await)
    {
        return;
    }
    tracing::warn!(
        dialled = dialled.join(","),
        advertised = advertised.join(","),
        "as far as this member knows, the cluster dials it at other peer URLs than it advertises: \
        if it has moved and the cluster was not told yet, use `althingctl member update`; if it \
        has not, correct --initial-advertise-peer-urls; if the data directory is another \
        member's, use this member's own"
    );
}

/// Where the cluster dials this member, as another member says; if none does, as this one knew when
/// it ran last.
async fn dialled(handles: &Handles, settings: &NodeSettings) -> Option<Vec<String>> {
    let me = settings.member_id;
    let members = handles.members().into_iter();
    let (own, others): (Vec<MemberStatus>, Vec<MemberStatus>) =
        members.partition(|member| member.id == me);
    let others = others.into_iter().flat_map(|member| member.peer_urls);
    match survey::ask(others.collect()).await {
        Ok(known) if known.cluster_id == settings.cluster_id => {
            let mut members = known.members.into_iter();
            let own = members.find(|member| member.id == me)?;
            Some(own.peer_urls)
        }
        _ => own.into_iter().map(|member| member.peer_urls).next(),
    }
}

/// The members of a cluster that was found in DNS are known by other names than they advertise, so
/// addresses count.
async fn places(urls: &[String]) -> Vec<Place> {
    let place = |url: &String| {
        let url = url.clone();
        async move {
            let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
            let looking = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(host));
            let addresses: BTreeSet<SocketAddr> = match looking.await {
                Ok(Ok(found)) => found.collect(),
                // A name that leads nowhere is like no other.
                Ok(Err(_)) | Err(_) => BTreeSet::new(),
            };
            (url, addresses)
        }
    };
    join_all(urls.iter().map(place)).await
}

/// Whether each URL of either list leads to where one of the other does.
fn are_same(one: &[Place], other: &[Place]) -> bool {
    let is_in = |(url, addresses): &Place, list: &[Place]| {
        let mut list = list.iter();
        list.any(|(known, theirs)| known == url || !addresses.is_disjoint(theirs))
    };
    one.iter().all(|place| is_in(place, other)) && other.iter().all(|place| is_in(place, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str, addresses: &[&str]) -> Place {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        (url.to_owned(), addresses.collect())
    }

    #[test]
    fn urls_are_the_same_if_they_lead_to_the_same_addresses() {
        let found = place("http://a.example:1", &["10.0.0.1:1", "[fd00::1]:1"]);
        let advertised = place("http://10.0.0.1:1", &["10.0.0.1:1"]);
        let elsewhere = place("http://10.0.0.2:1", &["10.0.0.2:1"]);
        let unresolved = place("http://b.example:1", &[]);
        let same = |one: &[&Place], other: &[&Place]| {
            let list = |places: &[&Place]| places.iter().map(|place| (*place).clone()).collect();
            let (one, other): (Vec<Place>, Vec<Place>) = (list(one), list(other));
            are_same(&one, &other)
        };
        assert!(same(&[&found], &[&advertised]));
        assert!(same(&[&unresolved, &found], &[&advertised, &unresolved]));
        assert!(!same(&[&found], &[&elsewhere]));
        assert!(!same(&[&found, &elsewhere], &[&advertised]));
        assert!(!same(&[&advertised], &[&elsewhere, &found]));
        assert!(!same(&[&unresolved], &[&advertised]));
    }
}
