//! A raft membership as bytes, as a membership entry of the log and the store carry it.

use std::collections::{BTreeMap, BTreeSet};

use althing_api::commandpb::{self, MemberNode, VoterSet};
use bytes::Bytes;
use prost::Message;

use crate::raft_node::types::{Membership, PeerNode};

/// Why bytes are not a membership.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    /// The bytes are not such a message.
    #[error("not a membership: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A voter has no node, or there is no voter.
    #[error("not a valid membership: {0}")]
    Invalid(String),
}

pub(in crate::raft_node) fn encode(membership: &Membership) -> Bytes {
    let voters = membership
        .get_joint_config()
        .iter()
        .map(|set| VoterSet {
            ids: set.iter().copied().collect(),
        })
        .collect();
    let members = membership
        .nodes()
        .map(|(id, node)| MemberNode {
            id: *id,
            peer_urls: node.peer_urls.clone(),
            wants_vote: node.wants_vote,
        })
        .collect();
    let record = commandpb::Membership { voters, members };
    record.encode_to_vec().into()
}

/// The empty payload is the membership of a log that has none yet.
pub(crate) fn decode(payload: &[u8]) -> Result<Membership, MembershipError> {
    let record = commandpb::Membership::decode(payload)?;
    let voters: Vec<BTreeSet<u64>> = record
        .voters
        .into_iter()
        .map(|set| set.ids.into_iter().collect())
        .collect();
    let nodes: BTreeMap<u64, PeerNode> = record
        .members
        .into_iter()
        .map(|member| {
            (
                member.id,
                PeerNode {
                    peer_urls: member.peer_urls,
                    wants_vote: member.wants_vote,
                },
            )
        })
        .collect();
    Membership::new(voters, nodes).map_err(|error| MembershipError::Invalid(error.to_string()))
}

/// The members of `before` that `after` lacks. The payloads are those of log entries; the empty one
/// stands for a log without a membership.
pub(crate) fn removed(before: &[u8], after: &[u8]) -> Result<Vec<u64>, MembershipError> {
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let (before, after) = (decode(before)?, decode(after)?);
    let gone = before
        .nodes()
        .filter(|(id, _)| after.get_node(id).is_none());
    Ok(gone.map(|(id, _)| *id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(url: &str) -> PeerNode {
        PeerNode {
            peer_urls: vec![url.into()],
            wants_vote: url == "http://b",
        }
    }

    fn joint() -> Membership {
        let nodes = BTreeMap::from([(1, node("http://a")), (2, node("http://b")), (3, node("c"))]);
        Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes).unwrap()
    }

    #[test]
    fn a_joint_membership_with_a_learner_survives_encoding() {
        let membership = joint();
        assert_eq!(decode(&encode(&membership)).unwrap(), membership);
    }

    #[test]
    fn the_bytes_of_a_membership_are_fixed() {
        let nodes = BTreeMap::from([(1, node("u"))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let expected: &[u8] =
            b"\x0a\x0a\x0a\x08\x01\0\0\0\0\0\0\0\x12\x0c\x09\x01\0\0\0\0\0\0\0\x12\x01u";
        assert_eq!(encode(&membership), expected);
    }

    #[test]
    fn bytes_that_are_no_membership_are_refused() {
        assert!(decode(b"\xff\xff").is_err());
        let voter_without_node = commandpb::Membership {
            voters: vec![VoterSet { ids: vec![9] }],
            members: vec![],
        };
        assert!(decode(&voter_without_node.encode_to_vec()).is_err());
    }

    #[test]
    fn who_is_in_the_membership_no_more_was_removed() {
        let after = BTreeMap::from([(1, node("http://a")), (4, node("http://d"))]);
        let after = Membership::new(vec![BTreeSet::from([1])], after).unwrap();
        let gone = removed(&encode(&joint()), &encode(&after)).unwrap();
        assert_eq!(gone, [2, 3]);
        assert_eq!(removed(b"", &encode(&after)).unwrap(), [0; 0]);
        assert!(removed(b"\xff\xff", &encode(&after)).is_err());
    }
}
