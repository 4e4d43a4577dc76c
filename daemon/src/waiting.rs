//! What the log says while a member waits for its cluster, at its first start or a later one: how
//! many members answer, and why each other does not.

use std::convert::Infallible;
use std::time::Duration;

use althing_actors::node::{Handles, NodeSettings};
use althing_actors::peer_link::Peer;
use althing_api::id::MemberId;
use tokio::time::Instant;

use crate::service;

/// A cluster that has a leader within this time needs no words.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(3);

/// Logs what the member waits for, whenever that has changed, until the future is dropped.
pub(crate) async fn tell(handles: &Handles, settings: &NodeSettings) -> Infallible {
    let mut looks = tokio::time::interval_at(Instant::now() + FIRST_LOOK, INTERVAL);
    let mut told = None;
    loop {
        looks.tick().await;
        // With a leader it has only to catch up.
        if handles.leader() != MemberId(0) {
            continue;
        }
        let silent = handles.silent_members();
        let silent: Vec<String> = silent
            .iter()
            .map(|(peer, why)| shown(peer, &name_of(peer.id, handles, settings), why))
            .collect();
        let waits = (service::state(handles), silent.join("; "));
        if told.as_ref() != Some(&waits) {
            tracing::info!(silent = waits.1, "{}", waits.0);
            told = Some(waits);
        }
    }
}

/// The name of a member; empty if it is not known.
fn name_of(id: MemberId, handles: &Handles, settings: &NodeSettings) -> String {
    let published = handles.members().into_iter();
    let published = published.map(|member| (member.id, member.name));
    let founders = settings.founders.iter();
    let founders = founders.map(|member| (member.id, member.name.clone()));
    let mut named = published.chain(founders);
    let found = named.find(|(known, name)| *known == id && !name.is_empty());
    found.map(|(_, name)| name).unwrap_or_default()
}

fn shown(peer: &Peer, name: &str, why: &str) -> String {
    let (id, urls) = (peer.id, peer.urls.join(","));
    match name {
        "" => format!("{id} at {urls}: {why}"),
        name => format!("{name} ({id}) at {urls}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_member_is_shown_with_its_place_and_the_reason() {
        let peer = Peer {
            id: MemberId(0x1f),
            urls: vec!["http://b:1".to_owned(), "http://c:1".to_owned()],
        };
        let text = shown(&peer, "b", "refused: cluster ID mismatch");
        let expected = "b (1f) at http://b:1,http://c:1: refused: cluster ID mismatch";
        assert_eq!(text, expected);
        assert!(shown(&peer, "", "not asked yet").starts_with("1f at http://b:1"));
    }
}
