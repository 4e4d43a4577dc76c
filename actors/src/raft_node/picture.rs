//! The published picture of the cluster: who is a member, as raft's newest configuration says.

use std::collections::BTreeMap;
use std::sync::Arc;

use althing_api::id::MemberId;
use althing_storage::store::MemberRecord;
use parking_lot::RwLock;

use super::types::StoredMembership;
use crate::status::MemberStatus;

/// Written by RaftNode, read by whoever asks for the status.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    membership: RwLock<Arc<StoredMembership>>,
}

impl Picture {
    pub(super) fn set_membership(&self, membership: Arc<StoredMembership>) {
        *self.membership.write() = membership;
    }

    /// Whether `id` is a member without a vote.
    pub(crate) fn is_learner(&self, id: u64) -> bool {
        let membership = Arc::clone(&self.membership.read());
        membership
            .membership()
            .learner_ids()
            .any(|learner| learner == id)
    }

    /// Whether `me` and those of the other voters that `active` counts are a quorum.
    pub(crate) fn has_quorum(&self, me: u64, active: impl Fn(&[u64]) -> usize) -> bool {
        let membership = Arc::clone(&self.membership.read());
        let sets = membership.membership().get_joint_config();
        sets.iter().all(|voters| {
            let others: Vec<u64> = voters.iter().copied().filter(|id| *id != me).collect();
            let own = voters.len() - others.len();
            2 * (own + active(&others)) > voters.len()
        })
    }

    /// The members, by id, with what they published about themselves.
    pub(crate) fn members(&self, published: Vec<MemberRecord>) -> Vec<MemberStatus> {
        let membership = Arc::clone(&self.membership.read());
        let membership = membership.membership();
        let mut published: BTreeMap<u64, MemberRecord> = published
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        let learners: Vec<u64> = membership.learner_ids().collect();
        let status = |(id, node): (&u64, &super::types::PeerNode)| {
            let record = published.remove(id).unwrap_or_default();
            MemberStatus {
                id: MemberId(*id),
                name: record.name,
                // Raft's own list is the one that members are reached by.
                peer_urls: node.peer_urls.clone(),
                client_urls: record.client_urls,
                is_learner: learners.contains(id),
            }
        };
        membership.nodes().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::types::{Membership, PeerNode};
    use super::*;

    #[test]
    fn a_member_that_has_not_published_itself_has_no_name_yet() {
        let node = |url: &str| PeerNode {
            peer_urls: vec![url.into()],
        };
        let nodes = BTreeMap::from([(1, node("http://a")), (2, node("http://b"))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let picture = Picture::default();
        picture.set_membership(Arc::new(StoredMembership::new(None, membership)));
        let record = MemberRecord {
            id: 1,
            name: "one".into(),
            client_urls: vec!["http://c".into()],
            ..MemberRecord::default()
        };
        let members = picture.members(vec![record]);
        assert_eq!(members[0].name, "one");
        assert_eq!(members[0].client_urls, ["http://c"]);
        assert_eq!(members[1].peer_urls, ["http://b"]);
        assert!(members[1].name.is_empty() && members[1].is_learner);
        assert!(picture.is_learner(2) && !picture.is_learner(1));
    }
}
