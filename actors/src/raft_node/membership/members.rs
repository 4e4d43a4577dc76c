//! Who is a member: by raft's newest configuration, as RaftNode publishes it, and as applied to the
//! store.

use std::collections::BTreeMap;
use std::sync::Arc;

use althing_api::id::MemberId;
use althing_storage::store::{MemberRecord, Store};
use parking_lot::RwLock;

use super::encoding;
use crate::node::MemberStatus;
use crate::raft_node::types::{Membership, PeerNode, StoredMembership};

/// Raft's newest configuration. Written by RaftNode, read by all that tell the status.
#[derive(Debug, Default)]
pub(crate) struct PublishedMembership {
    newest: RwLock<Arc<StoredMembership>>,
}

impl PublishedMembership {
    pub(in crate::raft_node) fn publish(&self, newest: Arc<StoredMembership>) {
        *self.newest.write() = newest;
    }

    /// Whether `id` is a member that is meant to have no vote.
    pub(crate) fn is_learner(&self, id: u64) -> bool {
        let newest = Arc::clone(&self.newest.read());
        learners(newest.membership()).contains(&id)
    }

    /// How many voters are in touch with `me`, itself included if it is one, and how many there are
    /// by raft's newest configuration, even before anything is applied. `active` counts those of
    /// the others that are.
    pub(crate) fn voters_heard(&self, me: u64, active: impl Fn(&[u64]) -> usize) -> (usize, usize) {
        let newest = Arc::clone(&self.newest.read());
        let mut others: Vec<u64> = newest.membership().voter_ids().collect();
        let voters = others.len();
        others.retain(|id| *id != me);
        let own = voters - others.len();
        (own + active(&others), voters)
    }

    /// Whether `me` and the other voters that `active` counts form a quorum.
    pub(crate) fn has_quorum(&self, me: u64, active: impl Fn(&[u64]) -> usize) -> bool {
        let newest = Arc::clone(&self.newest.read());
        let sets = newest.membership().get_joint_config();
        sets.iter().all(|voters| {
            let others: Vec<u64> = voters.iter().copied().filter(|id| *id != me).collect();
            let own = voters.len() - others.len();
            2 * (own + active(&others)) > voters.len()
        })
    }
}

/// Members without a vote, as clients see them: one that was added as a voter counts as a voter.
fn learners(membership: &Membership) -> Vec<u64> {
    without_vote(membership, |node| !node.wants_vote)
}

/// Members that wait for the vote that they were added with.
pub(super) fn joining(membership: &Membership) -> Vec<u64> {
    without_vote(membership, |node| node.wants_vote)
}

fn without_vote(membership: &Membership, is_one: impl Fn(&PeerNode) -> bool) -> Vec<u64> {
    let mut ids: Vec<u64> = membership.learner_ids().collect();
    ids.retain(|id| membership.get_node(id).is_some_and(&is_one));
    ids
}

/// The members by id, as applied to `store`.
pub(crate) fn applied_members(store: &Store) -> Vec<MemberStatus> {
    let Some((_, payload)) = store.applied().membership else {
        return Vec::new();
    };
    let membership = encoding::decode(&payload).expect("the applier has read it before");
    members(&membership, store.members())
}

/// The members by id, with what they published about themselves.
fn members(membership: &Membership, published: Vec<MemberRecord>) -> Vec<MemberStatus> {
    let mut published: BTreeMap<u64, MemberRecord> = published
        .into_iter()
        .map(|record| (record.id, record))
        .collect();
    let learners = learners(membership);
    let status = |(id, node): (&u64, &PeerNode)| {
        let record = published.remove(id).unwrap_or_default();
        MemberStatus {
            id: MemberId(*id),
            name: record.name,
            // Members are reached by the URLs of raft's own list.
            peer_urls: node.peer_urls.clone(),
            client_urls: record.client_urls,
            is_learner: learners.contains(id),
        }
    };
    membership.nodes().map(status).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn who_has_no_vote_is_not_counted_among_the_voters_that_are_heard() {
        let published = PublishedMembership::default();
        assert_eq!(
            published.voters_heard(1, |others| others.len()),
            (0, 0),
            "it knows nobody"
        );
        let nodes: BTreeMap<u64, PeerNode> = (1..=4).map(|id| (id, PeerNode::default())).collect();
        let membership = Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).unwrap();
        published.publish(Arc::new(StoredMembership::new(None, membership)));
        assert_eq!(published.voters_heard(1, |_| 1), (2, 3));
        assert_eq!(published.voters_heard(4, |_| 1), (1, 3), "a learner");
    }

    #[test]
    fn a_member_has_no_name_before_it_publishes_itself_and_joins_as_a_voter() {
        let node = |url: &str| PeerNode {
            peer_urls: vec![url.into()],
            wants_vote: url == "http://c",
        };
        let nodes = [(1, "http://a"), (2, "http://b"), (3, "http://c")];
        let nodes: BTreeMap<u64, PeerNode> =
            nodes.into_iter().map(|(id, url)| (id, node(url))).collect();
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let published = PublishedMembership::default();
        let newest = StoredMembership::new(None, membership.clone());
        published.publish(Arc::new(newest));
        let record = MemberRecord {
            id: 1,
            name: "one".into(),
            client_urls: vec!["http://c".into()],
            ..MemberRecord::default()
        };
        let members = members(&membership, vec![record]);
        assert_eq!(members[0].name, "one");
        assert_eq!(members[0].client_urls, ["http://c"]);
        assert_eq!(members[1].peer_urls, ["http://b"]);
        assert!(members[1].name.is_empty() && members[1].is_learner);
        assert!(published.is_learner(2) && !published.is_learner(1));
        assert!(
            !members[2].is_learner && !published.is_learner(3),
            "it joins"
        );
        assert_eq!(joining(&membership), [3]);
    }
}
